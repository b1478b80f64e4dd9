"""Average precision: pure functions on the ranking of one class's detections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from darkpy.errors import InputError


def precision_recall(true_positive: NDArray[np.bool_], truths: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall after each detection of a ranking.

    true_positive: (n,), from the most to the least probable detection, whether it found an object of its own.
    truths: how many objects there are. Without any, recall is 0.
    """
    hits = np.cumsum(true_positive, dtype=np.float64)
    return hits / np.arange(1, len(hits) + 1), hits / max(truths, 1)


def average_precision(true_positive: NDArray[np.bool_], truths: int, points: int = 0) -> float:
    """Average precision of a ranking (see :func:`precision_recall`), 0..1; 0 if there are no objects.

    At each recall the precision is the best that is reached there or at a higher one. ``points`` = 0 takes the area
    under that staircase (Pascal VOC 2010, ImageNet), 11 the mean of its height at recall 0, .1, .. 1 (Pascal VOC
    2007), 101 at 0, .01, .. 1 (COCO); any other number above 1 works alike.
    """
    check_points(points)
    if truths == 0 or len(true_positive) == 0:
        return 0.0
    precision, recall = precision_recall(true_positive, truths)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if points == 0:
        return float(np.sum(np.diff(recall, prepend=0.0) * best))
    reached = np.searchsorted(recall, np.arange(points) / (points - 1), side="left")
    return float(np.sum(np.append(best, 0.0)[reached])) / points


def check_points(points: int) -> None:
    """Raise :class:`~darkpy.errors.InputError` for a number of recall points that makes no sense."""
    if points < 0 or points == 1:
        raise InputError(f"points={points}: use 0 (area under the curve), 11 (Pascal VOC 2007) or 101 (COCO)")
