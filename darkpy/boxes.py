"""Boxes as arrays: conversions, overlap measures, non-maximum suppression.

A box is a row (x, y, w, h): centre, width, height, in any unit (relative to the picture, pixels). The overlap
measures follow Darknet's definitions (box.c), which differ from the papers where noted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from darkpy.errors import InputError

Array = NDArray[np.floating]
OverlapKind = Literal["iou", "giou", "diou", "ciou"]
NmsKind = Literal["default", "greedynms", "diounms", "cornersnms"]

DIOU_EXPONENT = 0.6
"""Power of the centre distance in Darknet's DIoU for thresholds and NMS (box_diou); the paper has 1."""

_PAIRS_PER_BLOCK = 1 << 18  # compared at once in suppress(): the temporaries stay in the cache
_MOST_PAIRS = 1 << 22  # of overlapping boxes that suppress() lists beforehand: some 200 MB while it sorts them


class Suppression(NamedTuple):
    """Which boxes are superfluous: the last three arguments of :func:`suppress`; a threshold of 0 keeps all."""

    threshold: float
    kind: NmsKind = "default"
    beta: float = DIOU_EXPONENT

    @property
    def exponent(self) -> float | None:
        """Power of the distance between the centres; None where it does not matter."""
        return {"greedynms": DIOU_EXPONENT, "diounms": self.beta}.get(self.kind)

    def check(self) -> None:
        """Raise :class:`~darkpy.errors.InputError` for what cannot be."""
        if self.kind not in get_args(NmsKind):
            raise InputError(f"nms kind {self.kind!r} is none of {', '.join(get_args(NmsKind))}")
        if not 0 <= self.threshold <= 1:
            raise InputError(f"nms threshold {self.threshold} is not in 0..1")


class Kept(NamedTuple):
    """What remains of a picture's boxes: a row for each box and class, box by box.

    boxes: (m, 4) x y w h relative to the picture. class_ids: (m,) integers. probabilities: (m,), all above 0.
    """

    boxes: Array
    class_ids: NDArray[np.integer]
    probabilities: Array

    @classmethod
    def of(cls, boxes: Array, probabilities: Array) -> Kept:
        """From boxes (k, 4) and their probabilities (k, classes), 0 for none."""
        row, class_ids = np.nonzero(probabilities > 0)
        return cls(boxes[row], class_ids, probabilities[row, class_ids])


def centers_to_corners(boxes: Array) -> Array:
    """(..., 4) rows x, y, w, h to rows left, top, right, bottom."""
    return np.stack(_edges(boxes), axis=-1)


def corners_to_centers(corners: Array) -> Array:
    """(..., 4) rows left, top, right, bottom to rows x, y, w, h."""
    left, top, right, bottom = (corners[..., k] for k in range(4))
    return np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=-1)


def clip(boxes: Array, width: float = 1.0, height: float = 1.0) -> Array:
    """The part of each box (..., 4) that lies inside a picture of that size; nothing left gives w or h 0."""
    limits = np.array([width, height, width, height], boxes.dtype)
    return corners_to_centers(np.clip(centers_to_corners(boxes), 0, limits))


def iou(a: Array, b: Array) -> Array:
    """Intersection over union of every box of ``a`` (n, 4) with every box of ``b`` (m, 4): (n, m), 0..1.

    Two boxes without area have 0.
    """
    return _iou(a[:, None], b[None])


def giou(a: Array, b: Array) -> Array:
    """IoU minus the share of the smallest enclosing box that neither covers: (n, m), -1..1 (Rezatofighi 2019)."""
    a, b = a[:, None], b[None]
    width, height = _enclosing(a, b)
    area = width * height
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - _intersection(a, b)
    return _iou(a, b) - _ratio(area - union, area)


def diou(a: Array, b: Array, beta: float = DIOU_EXPONENT) -> Array:
    """IoU minus (d/c)^beta: (n, m), with d the squared distance of the centres, c the squared enclosing diagonal.

    Darknet's box_diou has beta 0.6; Zheng 2020 has 1. Boxes that are both one point have their IoU.
    """
    a, b = a[:, None], b[None]
    return _iou(a, b) - _distance(a, b) ** beta


def ciou(a: Array, b: Array) -> Array:
    """IoU minus d/c minus a term for the aspect ratios: (n, m) (Zheng 2020, box_ciou)."""
    a, b = a[:, None], b[None]
    overlap = _iou(a, b)
    angle = np.arctan2(b[..., 2], b[..., 3]) - np.arctan2(a[..., 2], a[..., 3])
    aspect = 4 / math.pi**2 * angle**2
    weighted = aspect * aspect / (1 - overlap + aspect + 1e-6)
    width, height = _enclosing(a, b)
    return np.where((width == 0) & (height == 0), overlap, overlap - _distance(a, b) - weighted)


def overlaps(a: Array, b: Array, kind: OverlapKind = "iou") -> Array:
    """The overlap measure of that name between all boxes of ``a`` (n, 4) and ``b`` (m, 4): (n, m)."""
    return {"iou": iou, "giou": giou, "diou": diou, "ciou": ciou}[kind](a, b)


def suppress(
    boxes: Array, probabilities: Array, threshold: float, kind: NmsKind = "default", beta: float = DIOU_EXPONENT
) -> Array:
    """Non-maximum suppression, class by class: a copy of the probabilities with those of superfluous boxes zeroed.

    Going down a class's boxes by probability (equal ones in their given order), a box that is still there removes
    every later one that overlaps it by more than the threshold. Only that class's probability is zeroed: the box may
    live on for another class (Darknet: do_nms_sort, diounms_sort).

    boxes: (n, 4), x y w h. probabilities: (n, classes), 0 = not a candidate. threshold: 0..1.
    kind: what counts as overlap. "default" and "cornersnms": IoU. "greedynms": IoU - (d/c)^0.6 as in diou(), which
    spares neighbours whose centres are apart; "diounms": the same with the exponent ``beta``.
    """
    suppression = Suppression(threshold, kind, beta)
    suppression.check()
    result = np.array(probabilities)
    candidates = np.flatnonzero((probabilities > 0).any(axis=1))
    if len(candidates) < 2:
        return result
    overlap = _Overlap(threshold, suppression.exponent)
    neighbours_of = _neighbours(boxes[candidates], overlap)
    kept = result[candidates]
    for class_id in np.flatnonzero(np.count_nonzero(kept > 0, axis=0) > 1):
        _suppress_class(kept[:, class_id], neighbours_of)
    result[candidates] = kept
    return result


def keep(boxes: Array, probabilities: Array, suppression: Suppression) -> Kept:
    """What remains of boxes (k, 4) with probabilities (k, classes) after :func:`suppress`."""
    suppression.check()
    if suppression.threshold:
        probabilities = suppress(boxes, probabilities, *suppression)
    return Kept.of(boxes, probabilities)


def from_middle(boxes: Array, across: float, down: float) -> Array:
    """Boxes (..., 4) relative to a frame, made relative to the picture in its middle.

    across, down: the shares of the frame's width and height that the picture takes; a margin on each side has half of
    the rest.
    """
    scale, offset = middle(across, down, boxes.dtype)
    result = boxes / scale
    result[..., :2] -= offset / scale[:2]
    return result


def middle(across: float, down: float, dtype: np.dtype) -> tuple[Array, Array]:
    """Scale (4,) and offset (2,) of boxes in the middle of a frame: see :func:`from_middle`."""
    return np.array([across, down, across, down], dtype), np.array([(1 - across) / 2, (1 - down) / 2], dtype)


@dataclass(frozen=True)
class _Overlap:
    """Whether two boxes overlap too much to stand side by side."""

    threshold: float
    exponent: float | None  # of the distance between the centres; None: it does not matter

    def __call__(self, a: Array, b: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The pairs (indices into ``a`` (n, 4), indices into ``b`` (m, 4)) that do."""
        first, second = np.nonzero(iou(a, b) > self.threshold)
        if self.exponent is None:
            return first, second
        # The penalty is never negative: it has to be worked out only for the pairs that the IoU lets pass.
        left, right = a[first], b[second]
        still = _iou(left, right) - _distance(left, right) ** self.exponent > self.threshold
        return first[still], second[still]


def _suppress_class(column: Array, neighbours_of: Callable[[int], NDArray[np.intp]]) -> None:
    """Zero the probabilities (n,) of one class's boxes that have a stronger neighbour left."""
    order = np.flatnonzero(column > 0)
    order = order[np.argsort(-column[order], kind="stable")]
    alive = np.ones(len(column), bool)
    for index in order.tolist():
        if alive[index]:
            # Overlap is symmetric: had it a stronger neighbour left, that one would have removed it. So all may go.
            alive[neighbours_of(index)] = False
            alive[index] = True
    column[~alive] = 0


def _neighbours(boxes: Array, overlap: _Overlap) -> Callable[[int], NDArray[np.intp]]:
    """A function from the index of a box to the indices of the boxes that overlap it (itself may be among them).

    All pairs are found beforehand, since they are the same for every class. If there are very many (a network that
    puts every box in the same place), few boxes survive: then they are compared with the others one by one.
    """
    pairs = _overlapping_pairs(boxes, overlap)
    if pairs is None:
        return lambda index: overlap(boxes[index : index + 1], boxes)[1]
    one, two = np.concatenate([pairs, pairs[::-1]], axis=1)
    by_first = np.argsort(one, kind="stable")
    starts, neighbours = np.searchsorted(one[by_first], np.arange(len(boxes) + 1)), two[by_first]
    return lambda index: neighbours[starts[index] : starts[index + 1]]


def _overlapping_pairs(boxes: Array, overlap: _Overlap) -> NDArray[np.intp] | None:
    """Every pair of overlapping boxes once, (2, pairs); None if there are more than _MOST_PAIRS.

    Sorted by left edge, a box can only meet those that begin before its right edge, so few of the n * n pairs are
    looked at.
    """
    with _quiet():
        left, _, right, _ = _edges(boxes)
    order = np.argsort(left, kind="stable")
    boxes, left, right = boxes[order], left[order], right[order]
    rows = max(_PAIRS_PER_BLOCK // len(boxes), 1)
    found = [np.empty((2, 0), np.intp)]
    total = 0
    for start in range(0, len(boxes), rows):
        block = slice(start, start + rows)
        stop = int(np.searchsorted(left, np.fmax.reduce(right[block]), side="right"))
        first, second = overlap(boxes[block], boxes[start:stop])
        later = second > first
        found.append(order[np.stack([first[later], second[later]]) + start])
        total += found[-1].shape[1]
        if total > _MOST_PAIRS:
            return None
    return np.concatenate(found, axis=1)


def _quiet() -> np.errstate:
    """No warnings of infinite boxes, which a diverged network yields: their overlap is NaN, above no threshold."""
    return np.errstate(over="ignore", invalid="ignore")


def _edges(boxes: Array) -> tuple[Array, Array, Array, Array]:
    """Left, top, right, bottom, each (...)."""
    x, y, half_width, half_height = boxes[..., 0], boxes[..., 1], boxes[..., 2] / 2, boxes[..., 3] / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _intersection(a: Array, b: Array) -> Array:
    """Common area of boxes that broadcast against each other."""
    left, top, right, bottom = _edges(a)
    other_left, other_top, other_right, other_bottom = _edges(b)
    width = np.minimum(right, other_right) - np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    return np.maximum(width, 0) * np.maximum(height, 0)


def _enclosing(a: Array, b: Array) -> tuple[Array, Array]:
    """Width and height of the smallest box around both."""
    left, top, right, bottom = _edges(a)
    other_left, other_top, other_right, other_bottom = _edges(b)
    return (
        np.maximum(right, other_right) - np.minimum(left, other_left),
        np.maximum(bottom, other_bottom) - np.minimum(top, other_top),
    )


def _iou(a: Array, b: Array) -> Array:
    with _quiet():
        common = _intersection(a, b)
        return _ratio(common, a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - common)


def _distance(a: Array, b: Array) -> Array:
    """Squared distance of the centres over the squared diagonal of the enclosing box, 0..1."""
    with _quiet():
        width, height = _enclosing(a, b)
        squared = (a[..., 0] - b[..., 0]) ** 2 + (a[..., 1] - b[..., 1]) ** 2
        return _ratio(squared, width**2 + height**2)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator != 0)
