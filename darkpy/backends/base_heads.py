"""What the operations of [region], [Gaussian_yolo], [detection] and [contrastive] take, in every backend.

All are named tuples of numbers and arrays, because compiled code reads them as they are. What they share with [yolo]
(truth, the parts of a loss) is in :mod:`.base_yolo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from darkpy.backends.base_yolo import PackedTruth, YoloDecode, YoloLoss, object_rows, pack_truth

EVERYWHERE = 100_000
"""An object whose centre lies further out than this, both ways, has a class but no place in the picture."""


class ClassTree(NamedTuple):
    """A hierarchy of classes, such as animal > dog > terrier; classes that compete with each other form a group.

    ``parents`` (classes,): the class above each, -1 at the top, always an earlier one. ``starts`` (groups,): the first
    class of each group; groups are stretches of neighbouring classes with one parent. ``first`` and ``last``
    (classes,): the group of each class is first:last. A tree of no classes stands for "no hierarchy".
    """

    parents: np.ndarray
    starts: np.ndarray
    first: np.ndarray
    last: np.ndarray


def class_tree(parents: Sequence[int] | np.ndarray = ()) -> ClassTree:
    """The tree of these parents, one per class (Darknet, read_tree)."""
    above = np.asarray(parents, np.int64)
    starts = np.flatnonzero(np.r_[True, above[1:] != above[:-1]][: len(above)])
    sizes = np.diff(np.r_[starts, len(above)])
    first = np.repeat(starts, sizes)
    return ClassTree(above, starts, first, first + np.repeat(sizes, sizes))


class RegionSettings(NamedTuple):
    """Everything a [region] head depends on; the fields bear the names of the cfg keys.

    ``anchors`` (a, 2) in cells. ``prior_scale`` weighs the pull of every box towards its anchor, which ends when the
    backend's clock (:meth:`Backend.set_clock`), the pictures seen, has come to ``prior_until``.
    """

    anchors: np.ndarray
    classes: int
    tree: ClassTree
    softmax: bool
    coord_scale: float
    object_scale: float
    noobject_scale: float
    class_scale: float
    prior_scale: float
    prior_until: int
    thresh: float
    classfix: int
    rescore: bool
    bias_match: bool
    focal_loss: bool
    max_boxes: int


class RegionTruth(NamedTuple):
    """The objects of a mini-batch, and per picture the class that it shows somewhere, -1 for none (n,)."""

    objects: PackedTruth
    shown: np.ndarray


def split_placeless(truth: Sequence[np.ndarray], settings: RegionSettings) -> RegionTruth:
    """The objects that have a place, and what pictures show somewhere.

    A picture with an object that has no place (see EVERYWHERE) teaches that class and nothing else; only hierarchies
    know such objects (Darknet, forward_region_layer).
    """
    shown = np.full(len(truth), -1, np.int64)
    placed = [object_rows(rows) for rows in truth]
    if len(settings.tree.parents):
        for picture, rows in enumerate(placed):
            # The list of objects ends at the first centre x of 0.
            ends = np.flatnonzero(rows[:, 1] == 0)
            listed = (rows[: ends[0]] if len(ends) else rows)[: settings.max_boxes]
            somewhere = listed[(listed[:, 1] > EVERYWHERE) & (listed[:, 2] > EVERYWHERE)]
            if len(somewhere) and 0 <= somewhere[0, 0] < settings.classes:
                shown[picture], placed[picture] = int(somewhere[0, 0]), rows[:0]
    return RegionTruth(pack_truth(placed, settings.classes, settings.max_boxes), shown)


class YoloPoint(IntEnum):
    """The point of a box that x and y of [Gaussian_yolo] predict."""

    CENTER = 0
    LEFT_TOP = 1
    RIGHT_BOTTOM = 2


@dataclass(frozen=True)
class GaussianDecode(YoloDecode):
    """What turns a [Gaussian_yolo] head's output into boxes: as [yolo]'s, from the ``point`` of a box."""

    point: YoloPoint = YoloPoint.CENTER


class GaussianLoss(NamedTuple):
    """Everything a [Gaussian_yolo] head depends on: what [yolo] does, and the keys of its own."""

    yolo: YoloLoss
    uc_normalizer: float
    point: YoloPoint

    def decode(self) -> GaussianDecode:
        """The part that turns outputs into boxes."""
        head = self.yolo
        return GaussianDecode(head.anchors[head.mask], head.classes, head.width, head.height, point=self.point)


class DetectionSettings(NamedTuple):
    """Everything a [detection] head depends on; the fields bear the names of the cfg keys."""

    side: int
    num: int
    classes: int
    softmax: bool
    sqrt: bool
    rescore: bool
    forced: bool
    coord_scale: float
    object_scale: float
    noobject_scale: float
    class_scale: float


Decoding = YoloDecode | RegionSettings | DetectionSettings
"""What turns a head's output into boxes; of [Gaussian_yolo] a :class:`GaussianDecode`, which is a YoloDecode."""


class ContrastiveLoss(NamedTuple):
    """Everything a [contrastive] loss depends on; the fields bear the names of the cfg keys.

    ``head`` is the [yolo] head whose anchors say where an object's embedding lies. Of the pictures of a mini-batch
    ``len / time_steps`` at a time are compared with each other.
    """

    head: YoloLoss
    temperature: float
    cls_normalizer: float
    max_delta: float
    contrastive_neg_max: int
    time_steps: int
