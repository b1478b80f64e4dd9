"""What the trainer tells others while it works, and how they listen."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from darkpy.evaluation import Evaluation
    from darkpy.training.trainer import Trainer


class Outcome(Enum):
    """How a training ended."""

    FINISHED = "finished"
    """All iterations were done."""
    STOPPED = "stopped"
    """The user asked for the end; the last iteration was completed."""
    FAILED = "failed"
    """An error, or an end at once; the network may be in the middle of an update."""


@dataclass
class Record:
    """One iteration in numbers.

    ``loss`` is per picture, as Darknet prints it, and ``average`` its running average. ``box``, ``objectness`` and
    ``classification`` are the parts of the loss in the last mini-batch, None where the heads have no such parts.
    ``images_per_second`` and ``seconds_per_iteration`` are running averages without the time for evaluations,
    ``seconds`` the time since the start with everything. ``evaluation`` is filled in by the callback that evaluates.
    """

    iteration: int
    loss: float
    average: float
    box: float | None
    objectness: float | None
    classification: float | None
    rate: float
    images_per_second: float
    seconds_per_iteration: float
    seconds: float
    width: int
    height: int
    evaluation: Evaluation | None = field(default=None, repr=False)


class Callback:
    """Something done beside the training; override what is needed.

    Callbacks are called in their order, in the trainer's thread. What they do in :meth:`after_iteration` delays the
    training, so it has to be next to nothing on most iterations.
    """

    def start(self, trainer: Trainer) -> None:
        """Before the first iteration."""

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """After every iteration."""

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """At the end, whatever it was; called for all callbacks that were started."""
