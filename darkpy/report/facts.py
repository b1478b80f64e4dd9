"""What a report is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.evaluation.classifier import ClassifierEvaluation
from darkpy.evaluation.report import Evaluation
from darkpy.runs import Run
from darkpy.training.json_log import read_log
from darkpy.training.preparation import COUNTED
from darkpy.training.run_folder import RunFolder

if TYPE_CHECKING:
    from darkpy.data.dataset import Dataset
    from darkpy.network import Network
    from darkpy.training.callback import Measured


@dataclass(frozen=True, eq=False)
class Facts:
    """A run, and as far as they are known its network, its data, and what was measured with its best weights.

    notes: what the reader should know of how this came about.
    """

    run: Run
    measured: Measured | None = None
    train_set: Dataset | None = None
    val_set: Dataset | None = None
    network: Network | None = None
    notes: Sequence[str] = field(default=())

    @property
    def is_classifier(self) -> bool:
        """Whether the run trains a classifier."""
        return self.run.arguments.get("task") == "classifier"

    @property
    def detected(self) -> Evaluation | None:
        """The evaluation of a detector."""
        return self.measured if isinstance(self.measured, Evaluation) else None

    @property
    def classified(self) -> ClassifierEvaluation | None:
        """The evaluation of a classifier."""
        return self.measured if isinstance(self.measured, ClassifierEvaluation) else None

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """All that was measured, by name; of what the log says that of the best iteration. Empty if there is nothing.

        The names are those of :meth:`darkpy.evaluation.Evaluation.to_dict` and of a classifier's.
        """
        if self.detected is not None:
            return self.detected.to_dict()
        if self.classified is not None:
            return self.classified.to_dict()
        log = RunFolder(self.run.path).log
        found: dict[str, Any] = {}
        for line in read_log(log) if log.exists() else ():
            if "evaluation" in line and (not found or line["iteration"] <= self.run.status.best_iteration):
                found = line["evaluation"]
        return found

    @cached_property
    def scores(self) -> dict[str, float]:
        """The figures that the run goes by, 0..1 by name, of its best weights."""
        if self.measured is not None:
            return self.measured.scores
        status = self.run.status
        return {} if status.best is None else {status.metric: status.best}

    @cached_property
    def trained_with(self) -> list[int] | None:
        """How many objects, or pictures of a classifier, of each class there are to train with; None if unknown."""
        return None if self.train_set is None else objects_by_class(self.train_set)


def objects_by_class(dataset: Dataset) -> list[int] | None:
    """Boxes of each class; None for a data set so large that counting would take long."""
    if len(dataset) > COUNTED:
        return None
    counts = np.zeros(dataset.classes, np.int64)
    for index in range(len(dataset)):
        counts += np.bincount(dataset.boxes(index)[:, 0].astype(np.int64), minlength=dataset.classes)
    return [int(count) for count in counts]
