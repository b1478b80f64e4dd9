"""How good a classifier is: accuracy, precision and recall, which classes it takes for which."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpy.classification import check_classes, check_classifier, only_leaves, ranking, score_pictures
from darkpy.errors import InputError, Problem
from darkpy.views import MIDDLE, View

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.data.classification import ClassificationDataset
    from darkpy.network import Network

TOP = 5
"""Best guesses that count for the second figure, where nobody says how many (Darknet, train_classifier)."""

NO_ANSWER = -1
"""The guess for a picture whose scores are not all numbers."""


@dataclass(frozen=True)
class ClassCounts:
    """One class: how many pictures show it, how many were taken for it, and how many of these rightly."""

    class_id: int
    name: str
    pictures: int
    guessed: int
    right: int

    @property
    def precision(self) -> float:
        """Share of the guesses that are right; 0 without any."""
        return self.right / self.guessed if self.guessed else 0.0

    @property
    def recall(self) -> float:
        """Share of the pictures that are recognised; 0 without any."""
        return self.right / self.pictures if self.pictures else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.right / (self.guessed + self.pictures) if self.guessed + self.pictures else 0.0

    def to_dict(self) -> dict[str, Any]:
        """A flat row, for json or csv."""
        rates = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {"class_id": self.class_id, "name": self.name, "pictures": self.pictures, "right": self.right, **rates}


@dataclass(frozen=True, eq=False)
class ClassifierEvaluation:
    """How a classifier did on a data set; see :func:`evaluate_classifier`.

    names: the classes. indices: which pictures of the data set (n,). class_ids: what they show (n,). guesses: the best
    classes of each, the first first (n, top), -1 where the network gave no numbers. confidence: the score of the first
    (n,). expectation: the score of the right class (n,). skipped: what was wrong with the pictures that are left out.
    """

    names: tuple[str, ...]
    indices: NDArray[np.int64] = field(repr=False)
    class_ids: NDArray[np.int64] = field(repr=False)
    guesses: NDArray[np.int64] = field(repr=False)
    confidence: NDArray[np.float32] = field(repr=False)
    expectation: NDArray[np.float32] = field(repr=False)
    skipped: tuple[Problem, ...] = ()

    @property
    def pictures(self) -> int:
        """How many pictures were evaluated."""
        return len(self.class_ids)

    @property
    def top(self) -> int:
        """How many best guesses count for :attr:`top_accuracy`."""
        return self.guesses.shape[1]

    @property
    def unanswered(self) -> int:
        """Pictures for which the network gave no numbers; they count as wrong."""
        return int(np.count_nonzero(self.guesses[:, 0] == NO_ANSWER))

    def top_accuracy(self, count: int | None = None) -> float:
        """Share of the pictures whose class is among the ``count`` best guesses, by default all that were kept."""
        hits = (self.guesses[:, :count] == self.class_ids[:, np.newaxis]).any(axis=1)
        return float(hits.mean()) if len(hits) else 0.0

    @property
    def accuracy(self) -> float:
        """Share of the pictures whose class is the best guess."""
        return self.top_accuracy(1)

    @property
    def loss(self) -> float:
        """Mean of -log(score of the right class), the cross-entropy; NaN where a score is none."""
        smallest = np.finfo(np.float32).tiny
        losses = -np.log(np.maximum(self.expectation.astype(np.float64), smallest))
        return float(losses.mean()) if len(losses) else math.nan

    @property
    def scores(self) -> dict[str, float]:
        """What a training reports of it, 0..1 by name; the first decides which weights are the best."""
        first = {"top-1": self.accuracy}
        return {**first, f"top-{self.top}": self.top_accuracy()} if self.top > 1 else first

    def confusion(self) -> NDArray[np.int64]:
        """How often each class (row) was taken for each class (column): int64 (classes, classes)."""
        count = len(self.names)
        answered = self.guesses[:, 0] != NO_ANSWER
        cells = self.class_ids[answered] * count + self.guesses[answered, 0]
        return np.bincount(cells, minlength=count * count).reshape(count, count)

    @property
    def classes(self) -> list[ClassCounts]:
        """The counts of each class."""
        shown = np.bincount(self.class_ids, minlength=len(self.names)).tolist()
        confusion = self.confusion()
        guessed, right = confusion.sum(axis=0).tolist(), confusion.diagonal().tolist()
        return [ClassCounts(*row) for row in zip(range(len(self.names)), self.names, shown, guessed, right)]

    def notes(self) -> list[str]:
        """What a reader of the numbers must know: classes without pictures, pictures left out or not answered."""
        notes = []
        absent = len(self.names) - len(np.unique(self.class_ids))
        if absent:
            notes.append(f"{absent} of {len(self.names)} classes have no pictures here; the means leave them out")
        if self.unanswered:
            notes.append(f"{_pictures(self.unanswered)} got no numbers from the network and count as wrong")
        if self.skipped:
            notes.append(f"{_pictures(len(self.skipped))} could not be read and left out of the numbers")
        return notes

    def to_dict(self) -> dict[str, Any]:
        """All numbers by name, ready for json."""
        means = self._means()
        return {
            "pictures": self.pictures,
            "right": round(self.accuracy * self.pictures),
            "top_1": self.accuracy,
            **({f"top_{self.top}": self.top_accuracy()} if self.top > 1 else {}),
            "loss": self.loss if math.isfinite(self.loss) else None,
            **{f"mean_{name}": value for name, value in zip(("precision", "recall", "f1"), means)},
            "unanswered": self.unanswered,
            "skipped": [str(problem) for problem in self.skipped],
            "classes": [counts.to_dict() for counts in self.classes],
            "confusion": self.confusion().tolist(),
        }

    def _means(self) -> tuple[float, float, float]:
        """Precision, recall and F1, averaged over the classes that have pictures here."""
        present = [counts for counts in self.classes if counts.pictures] or self.classes
        rates = np.array([(counts.precision, counts.recall, counts.f1) for counts in present])
        precision, recall, f1 = rates.mean(axis=0).tolist()
        return precision, recall, f1

    def summary(self) -> str:
        """One line: ``top-1 98.89 %   top-5 100.00 %   356 of 360 right``."""
        shares = "   ".join(f"{name} {100 * score:.2f} %" for name, score in self.scores.items())
        return f"{shares}   {round(self.accuracy * self.pictures):,} of {self.pictures:,} right   loss {self.loss:.3f}"

    def table(self) -> Table:
        """A row for each class that has pictures or was guessed; "-" stands for a share of nothing.

        P is precision, R recall, F1 their harmonic mean; the last row has their means over the classes.
        """
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_footer=True)
        means = [f"{mean:.3f}" for mean in self._means()]
        footers = ["", "all", f"{self.pictures:,}", f"{round(self.accuracy * self.pictures):,}", *means]
        for header, footer in zip(("id", "class", "pictures", "right", "P", "R", "F1"), footers):
            justify: Any = "left" if header == "class" else "right"
            table.add_column(header, footer, justify=justify, footer_style="bold", overflow="fold")
        for counts in self.classes:
            if counts.pictures or counts.guessed:
                table.add_row(
                    str(counts.class_id),
                    escape(counts.name),
                    f"{counts.pictures:,}",
                    f"{counts.right:,}",
                    _share(counts.precision, counts.guessed),
                    _share(counts.recall, counts.pictures),
                    _share(counts.f1, counts.guessed + counts.pictures),
                )
        return table


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _share(value: float, total: int) -> str:
    return f"{value:.3f}" if total else "-"


def evaluate_classifier(
    network: Network,
    dataset: ClassificationDataset,
    *,
    top: int | None = None,
    batch: int | None = None,
    view: View = MIDDLE,
    progress: Callable[[int, int], None] | None = None,
) -> ClassifierEvaluation:
    """Classify every picture of a data set and compare with what it shows (Darknet's ``classifier valid``).

    top: best guesses that count for the second accuracy; by default what the data set says, or 5. Not kept where it
    is no smaller than the number of classes.
    batch: pictures per forward pass, the network's by default. It does not change the result.
    view: what of each picture is looked at.
    progress: called with (pictures done, pictures in all).

    A picture that cannot be read is left out, and the result's ``skipped`` says why. Raises
    :class:`~darkpy.errors.InputError` for options, a network or a data set that cannot be used.
    """
    check_classifier(network)
    check_classes(network, dataset.classes, dataset.name)
    size = network.batch if batch is None else batch
    if size < 1:
        raise InputError(f"batch={size}: needs at least one picture")
    kept = top_count(top if top is not None else dataset.top, dataset.classes)
    rows: list[tuple[int, NDArray[np.int64], float, float]] = []
    skipped: list[Problem] = []
    for picture in score_pictures(network, dataset.pictures, size, view=view):
        if picture.problem is not None:
            skipped.append(picture.problem)
        if picture.scores is not None:
            class_id = int(dataset.class_ids[picture.index])
            rows.append((picture.index, *_judge(network, picture.scores, class_id, kept, dataset.leaves)))
        if progress is not None:
            progress(len(rows) + len(skipped), len(dataset))
    indices, guesses, confidence, expectation = zip(*rows) if rows else ((), (), (), ())
    return ClassifierEvaluation(
        names=tuple(dataset.names),
        indices=np.array(indices, np.int64),
        class_ids=dataset.class_ids[np.array(indices, np.int64)],
        guesses=np.array(guesses, np.int64).reshape(len(rows), kept),
        confidence=np.array(confidence, np.float32),
        expectation=np.array(expectation, np.float32),
        skipped=tuple(skipped),
    )


def top_count(wanted: int | None, classes: int) -> int:
    """How many best guesses to keep: more than one only if that is not all of the classes."""
    count = TOP if wanted is None else wanted
    if count < 1:
        raise InputError(f"top={count}: needs at least one guess")
    return count if count < classes else 1


def _judge(
    network: Network, scores: NDArray[np.float32], class_id: int, kept: int, leaves: Sequence[int] | None
) -> tuple[NDArray[np.int64], float, float]:
    """The best guesses for one picture, the score of the first, and that of the right class."""
    if not np.isfinite(scores).all():
        return np.full(kept, NO_ANSWER), math.nan, math.nan
    answers = scores[np.newaxis].copy()
    only_leaves(network, answers, leaves)
    guesses = ranking(answers, kept)[0]
    return guesses, float(answers[0, guesses[0]]), float(scores[class_id])
