"""How many objects a detector covers with some box, whatever it takes them for (Darknet's ``detector recall``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.boxes import iou, suppress
from darkpy.errors import Problem
from darkpy.evaluation.report import check_options
from darkpy.evaluation.sweep import sweep

if TYPE_CHECKING:
    from darkpy.data.dataset import Dataset
    from darkpy.network import Network


@dataclass(frozen=True)
class Recall:
    """What came of it. overlap: the sum over the objects of the best IoU that any box has with each."""

    thresh: float
    iou_thresh: float
    pictures: int
    proposals: int
    objects: int
    found: int
    overlap: float
    skipped: tuple[Problem, ...] = ()

    @property
    def recall(self) -> float:
        """Share of the objects that a box covers."""
        return self.found / self.objects if self.objects else 0.0

    @property
    def average_iou(self) -> float:
        """Mean over the objects of the best IoU."""
        return self.overlap / self.objects if self.objects else 0.0

    @property
    def proposals_per_picture(self) -> float:
        """Boxes, right and wrong."""
        return self.proposals / self.pictures if self.pictures else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All numbers by name, ready for json."""
        return {
            "thresh": self.thresh,
            "iou_thresh": self.iou_thresh,
            "pictures": self.pictures,
            "skipped": [str(problem) for problem in self.skipped],
            "proposals": self.proposals,
            "proposals_per_picture": self.proposals_per_picture,
            "objects": self.objects,
            "found": self.found,
            "average_iou": self.average_iou,
            "recall": self.recall,
        }

    def text(self) -> str:
        """One line, with the words of Darknet's."""
        return (
            f"{self.pictures:,} pictures   {self.found:,} of {self.objects:,} objects   "
            f"RPs/Img: {self.proposals_per_picture:.2f}   IOU: {100 * self.average_iou:.2f}%   "
            f"Recall: {100 * self.recall:.2f}%"
        )


def measure_recall(
    network: Network,
    dataset: Dataset,
    *,
    thresh: float = 0.001,
    iou_thresh: float = 0.5,
    nms: float = 0.4,
    letter_box: bool = False,
    tta: bool = False,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Recall:
    """Count the objects that some box covers by more than ``iou_thresh``, whatever its class.

    thresh: least objectness of a box. nms: overlap from which the box with less objectness is dropped. Difficult
    objects are left out. For the others see :func:`~darkpy.evaluation.detector.evaluate`. Darknet stretches pictures
    here even if the cfg has letter_box=1.
    """
    check_options(thresh, iou_thresh, 0)
    pictures = proposals = objects = found = 0
    overlap = 0.0
    skipped: list[Problem] = []
    looking = sweep(network, dataset, thresh=thresh, batch=batch, letter_box=letter_box, tta=tta, progress=progress)
    for looked in looking:
        if looked.problem is not None:
            skipped.append(looked.problem)
        if looked.found is None:
            continue
        objectness = looked.found.objectness[:, None]
        kept = (suppress(looked.found.boxes, objectness, nms) if nms else objectness)[:, 0] > thresh
        truth = looked.labels.boxes[~looked.labels.difficult, 1:]
        best = np.nan_to_num(iou(truth, looked.found.boxes[kept])).max(axis=1, initial=0)
        pictures += 1
        proposals += int(np.count_nonzero(kept))
        objects += len(truth)
        found += int(np.count_nonzero(best > iou_thresh))
        overlap += float(best.sum(dtype=np.float64))
    return Recall(thresh, iou_thresh, pictures, proposals, objects, found, overlap, tuple(skipped))
