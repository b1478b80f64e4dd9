"""COCO's measures: average precision over ten overlaps, by size of the objects, and average recall.

The rules and the numbers are those of COCO's own program (pycocotools, COCOeval, for boxes), which differ from
Darknet's: of the objects that are still free a detection gets the one it overlaps most, at most 100 detections of a
class count in a picture, precision is read at 101 recalls, and a class without objects does not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darkpy.data.coco import to_pixels
from darkpy.data.dataset import PixelBoxes

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.evaluation.matching import Predictions, Truths

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps that count as found."""

RECALLS = np.linspace(0, 1, 101)
"""Where the precision is read."""

AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Least and greatest area of the objects that count, in pixels of the picture."""

MOST = (1, 10, 100)
"""Detections of a class that count in a picture, the most probable ones."""

_ALL, _AT_50, _AT_75 = 0, 0, 5
_BELOW_1 = 1 - 1e-10  # an overlap of 1 must be reachable whatever it is rounded to


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pictures and objects in pixels, as COCO counts them.

    sizes: int (pictures, 2), width and height of each picture of the data set, by its index. objects: one row for
    each of the :class:`~darkpy.evaluation.matching.Truths`.
    """

    sizes: NDArray[np.int64]
    objects: PixelBoxes

    def boxes(self, predictions: Predictions) -> NDArray[np.float64]:
        """The predictions' boxes (n, 4) as left, top, width, height, cut at the picture's border."""
        return np.concatenate(
            [
                np.empty((0, 4)),
                *(
                    to_pixels(predictions.box[rows], *self.sizes[picture].tolist())
                    for picture, rows in _runs(predictions.picture)
                ),
            ]
        )


@dataclass(frozen=True)
class CocoScores:
    """COCO's twelve numbers, 0..1, NaN where there is no object they could tell of; and the precision by class.

    class_ap: the precision of each class. ap: mean over classes and overlaps .50, .55, .. .95. ap_50, ap_75: at one
    overlap. ap_small, ap_medium, ap_large: objects of up to 32 x 32 pixels, up to 96 x 96, larger ones. ar_1, ar_10,
    ar_100: share of the objects found with so many detections of each class in a picture, averaged likewise; the other
    three are by size, with 100.
    """

    class_ap: tuple[float, ...]
    ap: float
    ap_50: float
    ap_75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float

    @property
    def numbers(self) -> tuple[float, ...]:
        """The twelve, in the order of COCO's own program."""
        return astuple(self)[1:]

    def to_dict(self) -> dict[str, float | None]:
        """The twelve by name, None for what cannot be told; ready for json."""
        names = list(self.__dataclass_fields__)[1:]
        return {name: None if math.isnan(value) else value for name, value in zip(names, self.numbers)}

    def table(self) -> Table:
        """Two rows for the console: precision and recall."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        table.add_column("COCO, %", style="bold")
        for header in (".50:.95", ".50", ".75", "small", "medium", "large", "best 1", "best 10", "best 100"):
            table.add_column(header, justify="right")
        ap, ap_50, ap_75, *by_size, ar_1, ar_10, ar_100, small, medium, large = map(_percent, self.numbers)
        table.add_row("AP", ap, ap_50, ap_75, *by_size)
        table.add_row("AR", "", "", "", small, medium, large, ar_1, ar_10, ar_100)
        return table


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def coco_scores(predictions: Predictions, truths: Truths, pixels: Pixels, classes: int) -> CocoScores:
    """COCO's numbers for what a detector claims about some pictures.

    Objects that are difficult or stand for a crowd need not be found; many detections may be within one crowd.
    """
    table = _match(predictions, truths, pixels)
    precision = np.full((len(AREAS), classes, len(THRESHOLDS), len(RECALLS)), np.nan)
    recall = np.full((len(AREAS), len(MOST), classes, len(THRESHOLDS)), np.nan)
    counted = _counted(truths, pixels.objects)
    starts = np.searchsorted(table.class_id, np.arange(classes + 1))
    for class_id in range(classes):
        rows = table.part(slice(starts[class_id], starts[class_id + 1]))
        objects = np.count_nonzero(counted & (truths.class_id == class_id), axis=1)
        for area in np.flatnonzero(objects).tolist():
            for place, most in enumerate(MOST):
                right, wrong = rows.ranked(area, most)
                recall[area, place, class_id] = right[:, -1] / objects[area] if right.shape[1] else 0
            precision[area, class_id] = _precision_at(right / objects[area], right / (right + wrong + np.spacing(1)))
    best = len(MOST) - 1
    return CocoScores(
        tuple(_mean(precision[_ALL, class_id]) for class_id in range(classes)),
        _mean(precision[_ALL]),
        _mean(precision[_ALL, :, _AT_50]),
        _mean(precision[_ALL, :, _AT_75]),
        *(_mean(precision[area]) for area in range(1, len(AREAS))),
        *(_mean(recall[_ALL, place]) for place in range(len(MOST))),
        *(_mean(recall[area, best]) for area in range(1, len(AREAS))),
    )


def _mean(values: NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else math.nan


def _counted(truths: Truths, objects: PixelBoxes) -> NDArray[np.bool_]:
    """(areas, m): whether an object is to be found."""
    return np.array([_within(objects.area, area) & ~(truths.difficult | objects.crowd) for area in AREAS])


def _within(area: NDArray[np.float64], name: str) -> NDArray[np.bool_]:
    least, greatest = AREAS[name]
    return (area >= least) & (area <= greatest)


def _precision_at(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """(thresholds, recalls) from both after each detection, (thresholds, n): the best that is reached from there on."""
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.append(best, np.zeros((len(best), 1)), axis=1)
    places = [np.searchsorted(line, RECALLS, side="left") for line in recall]
    return np.take_along_axis(best, np.array(places), axis=1)


@dataclass(frozen=True, eq=False)
class _Table:
    """Detections in the order of classes, pictures and probability.

    rank: (n,) place within the class and the picture. right, ignored: (n, areas, thresholds), whether a detection has
    found an object, and whether it counts neither as right nor as wrong.
    """

    class_id: NDArray[np.int32]
    rank: NDArray[np.intp]
    score: NDArray[np.float32]
    right: NDArray[np.bool_]
    ignored: NDArray[np.bool_]

    def part(self, rows: slice) -> _Table:
        """Some rows."""
        return _Table(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def ranked(self, area: int, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Right and wrong detections so far (thresholds, n) after each one, from the most to the least probable."""
        rows = np.flatnonzero(self.rank < most)
        rows = rows[np.argsort(-self.score[rows], kind="stable")]
        right, counts = self.right[rows, area].T, ~self.ignored[rows, area].T
        return np.cumsum(right & counts, axis=1, dtype=np.float64), np.cumsum(~right & counts, axis=1, dtype=np.float64)


def _match(predictions: Predictions, truths: Truths, pixels: Pixels) -> _Table:
    order = np.lexsort((-predictions.probability, predictions.picture, predictions.class_id))
    rank = _rank(predictions.class_id[order], predictions.picture[order])
    order, rank = order[rank < MOST[-1]], rank[rank < MOST[-1]]
    boxes = pixels.boxes(predictions)[order]
    area = boxes[:, 2] * boxes[:, 3]
    right = np.zeros((len(order), len(AREAS), len(THRESHOLDS)), bool)
    # A detection that finds nothing does not count where objects of its size do not.
    ignored = np.repeat(~np.array([_within(area, name) for name in AREAS]).T[:, :, None], len(THRESHOLDS), axis=2)
    table = _Table(predictions.class_id[order], rank, predictions.probability[order], right, ignored)
    counted = _counted(truths, pixels.objects)
    for rows, objects in _pairs(table.class_id, predictions.picture[order], truths):
        crowd = pixels.objects.crowd[objects]
        overlap = _overlap(boxes[rows], pixels.objects.box[objects], crowd)
        _match_group(table.part(rows), overlap, counted[:, objects], crowd)
    return table


def _rank(class_id: NDArray[np.int32], picture: NDArray[np.int32]) -> NDArray[np.intp]:
    """Place of each row among those of its class and picture, which stand together."""
    places = np.arange(len(class_id))
    begins = np.ones(len(class_id), bool)
    begins[1:] = (np.diff(class_id) != 0) | (np.diff(picture) != 0)
    return places - np.maximum.accumulate(np.where(begins, places, 0))


def _pairs(
    class_id: NDArray[np.int32], picture: NDArray[np.int32], truths: Truths
) -> Iterator[tuple[slice, NDArray[np.intp]]]:
    """Detections and objects of the same class and picture, where there are both; the objects in their order."""
    order = np.lexsort((truths.picture, truths.class_id))
    pictures = 1 + max(int(column.max(initial=0)) for column in (picture, truths.picture))
    theirs = class_id.astype(np.int64) * pictures + picture
    keys = truths.class_id[order].astype(np.int64) * pictures + truths.picture[order]
    for key, rows in _runs(keys):
        begin, end = np.searchsorted(theirs, [key, key + 1])
        if begin < end:
            yield slice(begin, end), order[rows]


def _runs(values: NDArray[np.integer]) -> Iterator[tuple[int, slice]]:
    """Each value of an ascending array, and where it stands."""
    found, begin = np.unique(values, return_index=True)
    for value, first, last in zip(found.tolist(), begin, [*begin[1:], len(values)]):
        yield value, slice(first, last)


def _overlap(
    boxes: NDArray[np.float64], objects: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(n, m): intersection over union; of a crowd the share of the detection that lies within it."""
    a, b = boxes[:, None], objects[None]
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0).prod(axis=-1)
    area = a[..., 2] * a[..., 3]
    union = np.where(crowd, area, area + b[..., 2] * b[..., 3] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _match_group(
    table: _Table, overlap: NDArray[np.float64], counted: NDArray[np.bool_], crowd: NDArray[np.bool_]
) -> None:
    """Give the detections of one class and picture, in the order of their probability, each an object.

    overlap: (n, m). counted: (areas, m), which objects are to be found. The free one that is overlapped most, of
    equals the last; only where there is none, one that does not count.
    """
    limits = np.minimum(THRESHOLDS, _BELOW_1)[:, None]
    free = np.ones((len(AREAS), len(THRESHOLDS), len(crowd)), bool)
    candidates = np.flatnonzero(overlap.max(axis=1) >= THRESHOLDS[0])
    for row in candidates.tolist():
        possible = free & (overlap[row] >= limits)
        found, place = _best(possible & counted[:, None], overlap[row])
        other, other_place = _best(possible & ~counted[:, None], overlap[row])
        table.right[row] = found | other
        table.ignored[row] = np.where(found, False, other | table.ignored[row])
        place = np.where(found, place, other_place)
        taken = (found | other) & ~crowd[place]
        free &= ~(taken[..., None] & (place[..., None] == np.arange(len(crowd))))


def _best(possible: NDArray[np.bool_], overlap: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Whether any of the last axis is possible, and the place of the greatest overlap, of equals the last."""
    values = np.where(possible, overlap, -1.0)[..., ::-1]
    return np.any(possible, axis=-1), values.shape[-1] - 1 - values.argmax(axis=-1)
