"""How precision and recall depend on the threshold, and which classes are taken for which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darkpy.boxes import iou
from darkpy.drawing import class_color
from darkpy.evaluation.average_precision import precision_recall

if TYPE_CHECKING:
    from darkpy.evaluation.report import Evaluation

NOTHING = "(nothing)"
"""The name of the last row and column of a detector's confusion matrix."""

THRESHOLDS = np.linspace(0, 1, 501, dtype=np.float32)
"""Probabilities at which the F1 score is told."""


DASHES = ((), (6, 3), (2, 3), (9, 3, 2, 3))
"""Beside its colour a class has a way of drawing its line, for those who see the colours alike."""


@dataclass(frozen=True)
class ClassLine:
    """How the line of a class is drawn in every chart: HTML colours, and lengths of dashes and gaps, none if solid."""

    on_white: str
    on_black: str
    dashes: tuple[int, ...]


def class_line(class_id: int) -> ClassLine:
    """The line of a class, in the colour of its boxes."""
    blue, green, red = class_color(class_id)
    # On white paper the colours made for pictures are too light.
    white, black = ("#" + "".join(f"{round(part * share):02x}" for part in (red, green, blue)) for share in (0.75, 1))
    return ClassLine(white, black, DASHES[class_id % len(DASHES)])


@dataclass(frozen=True, eq=False)
class Curve:
    """One class, or all together (``class_id`` -1), at every threshold that makes a difference.

    objects: how many there are. probability: (n,) of the detections, from the most to the least probable. precision,
    recall: (n,) of all detections up to that one.
    """

    class_id: int
    name: str
    objects: int
    average_precision: float
    probability: NDArray[np.float32]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    @property
    def envelope(self) -> NDArray[np.float64]:
        """(n,): the best precision at that recall or a higher one, whose area is the average precision."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]

    def precision_at(self, recalls: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,): the best precision at each of these recalls or a higher one, 0 where that is not reached."""
        return np.append(self.envelope, 0.0)[np.searchsorted(self.recall, recalls, side="left")]

    def f1(self) -> NDArray[np.float64]:
        """(thresholds,): the F1 score of the detections more probable than each of :data:`THRESHOLDS`."""
        claimed = np.searchsorted(-self.probability, -THRESHOLDS, side="left")
        right = np.append(0.0, self.recall * self.objects)[claimed]
        return 2 * right / np.maximum(claimed + self.objects, 1)

    def best_threshold(self) -> tuple[float, float]:
        """The threshold with the greatest F1 score, of equals the middle one, and that score."""
        scores = self.f1()
        best = np.flatnonzero(scores >= scores.max() - 1e-12)
        place = int(best[len(best) // 2])
        return float(THRESHOLDS[place]), float(scores[place])


def curves(evaluation: Evaluation) -> tuple[Curve, list[Curve]]:
    """All classes together, and each class that has objects."""
    probability = evaluation.predictions.probability
    ranked = evaluation.matches.ranked(probability, evaluation.iou_thresh)
    right = evaluation.matches.true_positive(probability, evaluation.iou_thresh)

    def curve(class_id: int, name: str, rows: NDArray[np.intp], objects: int, average_precision: float) -> Curve:
        precision, recall = precision_recall(right[rows], objects)
        return Curve(class_id, name, objects, average_precision, probability[rows], precision, recall)

    kinds = evaluation.predictions.class_id[ranked]
    by_class = [
        curve(
            result.class_id,
            result.name,
            ranked[kinds == result.class_id],
            result.counts.truths,
            result.average_precision,
        )
        for result in evaluation.classes
        if result.counts.truths
    ]
    return curve(-1, "all classes", ranked, evaluation.counts.truths, evaluation.mean_average_precision), by_class


def confusion(evaluation: Evaluation) -> NDArray[np.int64]:
    """Which class is taken for which: int (classes + 1, classes + 1), rows what there is, columns what was found.

    The last row are detections where nothing is, the last column objects that were not found. Detections over the
    evaluation's threshold count. First, each that has found an object of its own class has it, so that the diagonal
    has the right ones of the report; of the others the most probable first take what they overlap most of what is
    left of other classes.
    """
    nothing = len(evaluation.classes)
    predictions, truths, matches = evaluation.predictions, evaluation.truths, evaluation.matches
    right = matches.true_positive(predictions.probability, evaluation.iou_thresh)
    rows = matches.ranked(predictions.probability, evaluation.iou_thresh)
    rows = rows[predictions.probability[rows] > evaluation.thresh]
    taken_for = np.where(truths.difficult, -1, nothing)
    hits = rows[right[rows]]
    taken_for[matches.truth[hits]] = predictions.class_id[hits]
    cells = np.zeros((nothing + 1, nothing + 1), np.int64)
    for row in rows[~right[rows]].tolist():
        here = slice(*np.searchsorted(truths.picture, [predictions.picture[row], predictions.picture[row] + 1]))
        overlap = iou(predictions.box[row, None], truths.box[here])[0]
        overlap[(taken_for[here] != nothing) | (truths.class_id[here] == predictions.class_id[row])] = 0
        if len(overlap) and overlap.max() > evaluation.iou_thresh:
            taken_for[here.start + int(overlap.argmax())] = predictions.class_id[row]
        else:
            cells[nothing, predictions.class_id[row]] += 1
    counts = taken_for >= 0
    np.add.at(cells, (truths.class_id[counts], taken_for[counts]), 1)
    return cells
