"""Comparing what a detector finds in a data set with the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from darkpy.data.coco import to_pixels
from darkpy.data.dataset import Labels, PixelBoxes
from darkpy.errors import Problem
from darkpy.evaluation.coco import Pixels
from darkpy.evaluation.matching import Predictions, Truths
from darkpy.evaluation.report import Evaluation, assess, check_options
from darkpy.evaluation.sweep import check, sweep

if TYPE_CHECKING:
    from darkpy.data.dataset import Dataset
    from darkpy.network import Network

RANKING_THRESH = 0.005
"""Probability from which detections are ranked for the average precision, as in Darknet."""

MOST_PER_PICTURE = 10_000
"""Detections ranked per picture. A trained network is far below; an untrained one would fill the memory."""


def evaluate(
    network: Network,
    dataset: Dataset,
    *,
    thresh: float = 0.25,
    iou_thresh: float = 0.5,
    points: int = 0,
    letter_box: bool = False,
    nms: float = 0.45,
    tta: bool = False,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Detect on every picture of a data set and measure how well that fits the truth (Darknet's ``detector map``).

    thresh: probability over which detections count for precision, recall, F1 and average IoU. The average precision
    ranks all those over 0.005.
    iou_thresh: a detection has found an object of its class if their IoU is greater.
    points: see :func:`~darkpy.evaluation.average_precision.average_precision`.
    letter_box: pad pictures instead of stretching them; also where the cfg says so.
    nms: overlap for non-maximum suppression, 0 for none.
    tta: look at the mirror image of each picture too, before the suppression.
    batch: pictures per forward pass, the network's by default. It does not change the result.
    progress: called with (pictures done, pictures in all).

    Pictures are decoded in background threads. One that cannot be read, or whose labels cannot, is left out, and the
    result's ``skipped`` says why. Raises :class:`~darkpy.errors.InputError` for options, a network or a data set that
    cannot be used.

    The numbers are Darknet's, but for these defects of validate_detector_map: its ``-letter_box`` flag has no effect,
    only the cfg's key has; a detection of a difficult object counts as wrong at ``thresh``, although the ranking
    leaves it out; among several detections of one object, the one that counts at ``thresh`` is not the most probable
    but the first in an order left over from sorting by other classes, even if it is below ``thresh``, so that a right
    one may count as wrong, and the average IoU takes another one's; without any detection it reads outside its arrays.
    """
    check_options(thresh, iou_thresh, points)
    check(network, dataset, batch)
    claims: list[Predictions] = []
    used: list[int] = []
    exact: list[PixelBoxes] = []
    skipped: list[Problem] = []
    sizes = np.zeros((len(dataset), 2), np.int64)
    looking = sweep(
        network, dataset, thresh=RANKING_THRESH, nms=nms, batch=batch, letter_box=letter_box, tta=tta, progress=progress
    )
    for looked in looking:
        if looked.problem is not None:
            skipped.append(looked.problem)
        if looked.kept is None:
            continue
        claims.append(Predictions.of_kept(looked.index, looked.kept, MOST_PER_PICTURE))
        exact.append(_in_pixels(looked.labels, looked.width, looked.height))
        sizes[looked.index] = looked.width, looked.height
        used.append(looked.index)
    return assess(
        Predictions.concatenate(claims),
        Truths.concatenate(
            used,
            [dataset.boxes(index) for index in used],
            [dataset.difficult(index) for index in used],
        ),
        dataset.names,
        pictures=len(used),
        thresh=thresh,
        iou_thresh=iou_thresh,
        points=points,
        skipped=skipped,
        pixels=Pixels(sizes, _joined(exact)),
    )


def _in_pixels(labels: Labels, width: int, height: int) -> PixelBoxes:
    if labels.exact is not None:
        return labels.exact
    boxes = to_pixels(labels.boxes[:, 1:], width, height)
    return PixelBoxes(boxes, boxes[:, 2] * boxes[:, 3], np.zeros(len(boxes), np.bool_))


def _joined(parts: list[PixelBoxes]) -> PixelBoxes:
    return PixelBoxes(
        np.concatenate([np.empty((0, 4)), *(part.box for part in parts)]),
        np.concatenate([np.empty(0), *(part.area for part in parts)]),
        np.concatenate([np.empty(0, np.bool_), *(part.crowd for part in parts)]),
    )
