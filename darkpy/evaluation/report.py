"""The result of an evaluation, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpy.errors import InputError, Problem
from darkpy.evaluation.average_precision import average_precision, check_points
from darkpy.evaluation.matching import Matches, Predictions, Truths, match

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.evaluation.coco import CocoScores, Pixels


@dataclass(frozen=True)
class Counts:
    """Right, wrong and missed detections at one probability threshold.

    overlap: the sum of the right ones' IoU with their objects.
    """

    truths: int
    true_positives: int
    false_positives: int
    overlap: float

    @property
    def false_negatives(self) -> int:
        """Objects not found."""
        return self.truths - self.true_positives

    @property
    def precision(self) -> float:
        """Share of the detections that are right; 0 without any."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the objects that are found; 0 without any."""
        return _ratio(self.true_positives, self.truths)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.true_positives, self.true_positives + self.false_positives + self.truths)

    @property
    def average_iou(self) -> float:
        """Darknet's average IoU: of all detections over the threshold, the wrong ones counted as 0."""
        return _ratio(self.overlap, self.true_positives + self.false_positives)

    def to_dict(self) -> dict[str, float]:
        """Counts and rates by name."""
        return {
            "truths": self.truths,
            "true_positives": self.true_positives,
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "average_iou": self.average_iou,
        }


@dataclass(frozen=True)
class ClassResult:
    """One class: its average precision, and its counts at the probability threshold.

    detections: how many over the low threshold of the ranking, from which the average precision comes.
    """

    class_id: int
    name: str
    average_precision: float
    detections: int
    counts: Counts

    def to_dict(self) -> dict[str, Any]:
        """A flat row, for json or csv."""
        return {
            "class_id": self.class_id,
            "name": self.name,
            "average_precision": self.average_precision,
            "detections": self.detections,
            **self.counts.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a detector did on a data set; see :func:`darkpy.evaluation.evaluate`.

    thresh: probability over which a detection counts for precision, recall and the other counts.
    iou_thresh: IoU over which a detection has found an object. points: see average_precision().
    classes: one result per class. counts: of all classes together. pictures: how many were evaluated;
    skipped: what was wrong with the others.
    predictions, truths, matches: everything the numbers come from, for other thresholds and for curves.
    pixels: the sizes of the pictures, where they are known, for COCO's numbers.
    """

    thresh: float
    iou_thresh: float
    points: int
    pictures: int
    classes: tuple[ClassResult, ...]
    counts: Counts
    predictions: Predictions = field(repr=False)
    truths: Truths = field(repr=False)
    matches: Matches = field(repr=False)
    skipped: tuple[Problem, ...] = ()
    pixels: Pixels | None = field(default=None, repr=False)

    @cached_property
    def coco(self) -> CocoScores | None:
        """COCO's numbers, computed when first asked for; None where the sizes of the pictures are not known."""
        from darkpy.evaluation.coco import coco_scores

        if self.pixels is None:
            return None
        return coco_scores(self.predictions, self.truths, self.pixels, len(self.classes))

    @property
    def mean_average_precision(self) -> float:
        """Mean over all classes; a class without objects counts as 0, as in Darknet."""
        return _mean([result.average_precision for result in self.classes])

    @property
    def mean_average_precision_present(self) -> float:
        """Mean over the classes that have objects in this data set, as in Pascal VOC and COCO."""
        return _mean([result.average_precision for result in self.classes if result.counts.truths])

    @property
    def scores(self) -> dict[str, float]:
        """What a training reports of it, 0..1 by name; the first decides which weights are the best."""
        return {f"mAP@{100 * self.iou_thresh:.0f}": self.mean_average_precision}

    @property
    def detections(self) -> int:
        """Detections ranked, Darknet's detections_count; those of difficult objects are left out."""
        return sum(result.detections for result in self.classes)

    def ranking(
        self, class_id: int, iou_thresh: float | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
        """Probabilities (n,) of a class's detections, descending, which of them are right (n,), and how many objects.

        This is what precision_recall() and average_precision() take; ``iou_thresh`` is the evaluation's by default.
        """
        limit = self.iou_thresh if iou_thresh is None else iou_thresh
        probability = self.predictions.probability
        rows = self.matches.ranked(probability, limit)
        rows = rows[self.predictions.class_id[rows] == class_id]
        right = self.matches.true_positive(probability, limit)
        return probability[rows], right[rows], int(self.truths.count(len(self.classes))[class_id])

    def to_dict(self) -> dict[str, Any]:
        """All numbers by name, ready for json; ``["classes"]`` is a list of flat rows, ready for csv."""
        return {
            "mean_average_precision": self.mean_average_precision,
            "mean_average_precision_present": self.mean_average_precision_present,
            "iou_thresh": self.iou_thresh,
            "points": self.points,
            "thresh": self.thresh,
            "pictures": self.pictures,
            "skipped": [str(problem) for problem in self.skipped],
            "detections": self.detections,
            **self.counts.to_dict(),
            "coco": self.coco.to_dict() if self.coco else None,
            "classes": [{**result.to_dict(), "coco_ap": ap} for result, ap in zip(self.classes, self._class_ap())],
        }

    def _class_ap(self) -> list[float | None]:
        """COCO's average precision of each class; None where it has no objects."""
        known = self.coco.class_ap if self.coco else [math.nan] * len(self.classes)
        return [None if math.isnan(value) else value for value in known]

    def text(self) -> str:
        """The report in the form that ``darknet detector map`` prints."""
        counts = self.counts
        method = f"used {self.points} Recall-points" if self.points else "used Area-Under-Curve for each unique Recall"
        mean = self.mean_average_precision
        lines = [
            f" detections_count = {self.detections}, unique_truth_count = {counts.truths}",
            *map(_darknet_line, self.classes),
            "",
            f" for conf_thresh = {self.thresh:.2f}, precision = {counts.precision:.2f}, recall = {counts.recall:.2f}, "
            f"F1-score = {counts.f1:.2f}",
            f" for conf_thresh = {self.thresh:.2f}, TP = {counts.true_positives}, FP = {counts.false_positives}, "
            f"FN = {counts.false_negatives}, average IoU = {100 * counts.average_iou:.2f} %",
            "",
            f" IoU threshold = {100 * self.iou_thresh:.0f} %, {method}",
            f" mean average precision (mAP@{self.iou_thresh:.2f}) = {mean:.6f}, or {100 * mean:.2f} %",
            *(f" {note}" for note in self.notes()),
        ]
        return "\n".join(lines)

    def notes(self) -> list[str]:
        """What a reader of the numbers must know: classes without objects, pictures left out."""
        notes = []
        absent = sum(result.counts.truths == 0 for result in self.classes)
        if absent:
            notes.append(
                f"{absent} of {len(self.classes)} classes have no objects here and count as 0; "
                f"the mean of the others is {100 * self.mean_average_precision_present:.2f} %"
            )
        if self.skipped:
            pictures = "1 picture" if len(self.skipped) == 1 else f"{len(self.skipped)} pictures"
            notes.append(f"{pictures} could not be read and left out of the numbers")
        return notes

    def table(self) -> Table:
        """The same numbers as a table for the console: one row per class and one for all; last, COCO's precision.

        Classes of which nothing is there and nothing was found are left out; "-" stands for a share of nothing.
        """
        from rich.markup import escape
        from rich.table import Table

        caption = [*self.notes(), f"AP and IoU in %; TP, FP, FN, P, R, F1 and IoU at probability > {self.thresh:g}"]
        table = Table(
            box=None, pad_edge=False, show_footer=True, caption="\n".join(caption), caption_justify="left"
        )
        mean = f"{100 * self.mean_average_precision:.2f}"
        footers = ["", "all", str(self.counts.truths), f"[bold]{mean}[/]", *_rates(self.counts), *self._coco_cell()]
        for header, footer in zip(_HEADERS, footers):
            title = header.format(iou=100 * self.iou_thresh)
            table.add_column(title, footer, justify="left" if header == "class" else "right", overflow="fold")
        for result in self.classes:
            if result.counts.truths or result.counts.false_positives:
                precision = _share(100 * result.average_precision, result.counts.truths, 2)
                row = [str(result.class_id), escape(result.name), str(result.counts.truths), precision]
                table.add_row(*row, *_rates(result.counts), *self._coco_cell(result.class_id))
        return table

    def _coco_cell(self, class_id: int | None = None) -> list[str]:
        """COCO's precision of a class, or the mean, for the table; nothing where it is not known of any."""
        if self.coco is None:
            return []
        value = self.coco.ap if class_id is None else self.coco.class_ap[class_id]
        return ["-" if math.isnan(value) else f"{100 * value:.2f}"]


_HEADERS = ("id", "class", "objects", "AP@{iou:.0f}", "TP", "FP", "FN", "P", "R", "F1", "IoU", "COCO AP")


def assess(
    predictions: Predictions,
    truths: Truths,
    names: Sequence[str],
    *,
    pictures: int,
    thresh: float = 0.25,
    iou_thresh: float = 0.5,
    points: int = 0,
    skipped: Sequence[Problem] = (),
    pixels: Pixels | None = None,
) -> Evaluation:
    """All numbers from what a detector claims and what is true. See :class:`Evaluation` and :func:`evaluate`."""
    check_options(thresh, iou_thresh, points)
    matches = match(predictions, truths)
    right = matches.true_positive(predictions.probability, iou_thresh)
    over = predictions.probability > thresh
    ranked = matches.ranked(predictions.probability, iou_thresh)
    by_class = ranked[np.argsort(predictions.class_id[ranked], kind="stable")]
    starts = np.searchsorted(predictions.class_id[by_class], np.arange(len(names) + 1))
    objects = truths.count(len(names)).tolist()
    results = []
    for class_id, name in enumerate(names):
        rows = by_class[starts[class_id] : starts[class_id + 1]]
        precision = average_precision(right[rows], objects[class_id], points)
        counts = _count(right, matches.iou, rows[over[rows]], objects[class_id])
        results.append(ClassResult(class_id, name, precision, len(rows), counts))
    return Evaluation(
        thresh=thresh,
        iou_thresh=iou_thresh,
        points=points,
        pictures=pictures,
        classes=tuple(results),
        counts=_count(right, matches.iou, ranked[over[ranked]], sum(objects)),
        predictions=predictions,
        truths=truths,
        matches=matches,
        skipped=tuple(skipped),
        pixels=pixels,
    )


def check_options(thresh: float, iou_thresh: float, points: int) -> None:
    """Raise :class:`~darkpy.errors.InputError` for thresholds outside 0..1 or an impossible number of points."""
    for name, value in (("thresh", thresh), ("iou_thresh", iou_thresh)):
        if not 0 <= value <= 1:
            raise InputError(f"{name}={value} is not in 0..1")
    check_points(points)


def _count(right: NDArray[np.bool_], iou: NDArray[np.float32], rows: NDArray[np.intp], truths: int) -> Counts:
    hits = rows[right[rows]]
    return Counts(truths, len(hits), len(rows) - len(hits), float(iou[hits].sum(dtype=np.float64)))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


def _mean(values: Sequence[float]) -> float:
    return _ratio(sum(values), len(values))


def _darknet_line(result: ClassResult) -> str:
    precision = f"{100 * result.average_precision:.2f}%"
    counts = f"(TP = {result.counts.true_positives}, FP = {result.counts.false_positives})"
    return f"class_id = {result.class_id}, name = {result.name}, ap = {precision}   \t {counts}"


def _rates(counts: Counts) -> list[str]:
    """The cells of a table row from TP on."""
    claimed = counts.true_positives + counts.false_positives
    return [
        str(counts.true_positives),
        str(counts.false_positives),
        str(counts.false_negatives),
        _share(counts.precision, claimed, 2),
        _share(counts.recall, counts.truths, 2),
        _share(counts.f1, claimed + counts.truths, 2),
        _share(100 * counts.average_iou, claimed, 1),
    ]


def _share(value: float, total: int, digits: int) -> str:
    return f"{value:.{digits}f}" if total else "-"
