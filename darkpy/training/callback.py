"""What the trainer tells others while it works, and how they listen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer


class Measured(Protocol):
    """What a training wants to know of an evaluation, be it of a detector or of a classifier."""

    @property
    def scores(self) -> dict[str, float]:
        """Figures 0..1 by name; the first decides which weights are the best."""


class Outcome(Enum):
    """How a training ended."""

    FINISHED = "finished"
    """All iterations were done, or more would have been of no use."""
    STOPPED = "stopped"
    """A signal or the time limit ended it; the last iteration was completed, and it can go on from there."""
    FAILED = "failed"
    """An error, or an end at once; the network may be in the middle of an update."""


@dataclass
class Record:
    """One iteration in numbers.

    ``loss`` is per picture, as Darknet prints it, and ``average`` its running average. ``box``, ``objectness`` and
    ``classification`` are the parts of the loss in the last mini-batch, None where the heads have no such parts.
    ``images_per_second`` and ``seconds_per_iteration`` are running averages without the time for evaluations,
    ``seconds`` the time with everything, of all parts of a run that was interrupted. ``waited`` are the seconds of this
    iteration in which its pictures were not there yet. ``loss_scale`` is that of the next iteration and ``skipped`` the
    number of updates left out so far; None without a loss scale. ``evaluation`` is filled in by the callback that
    evaluates.
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
    waited: float = 0.0
    loss_scale: float | None = None
    skipped: int | None = None
    evaluation: Measured | None = field(default=None, repr=False)


class Callback:
    """Something done beside the training; override what is needed.

    Callbacks are called in their order, in the trainer's thread. What they do in :meth:`after_iteration` delays the
    training, so it has to be next to nothing on most iterations.

    On a GPU the loss of an iteration is known some iterations later. A callback that says so by :meth:`is_due` is told
    of it before the next one begins, while the network is as the iteration has left it, and the others with it.
    """

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave; before :meth:`start`, in a run that goes on, if it gave anything."""

    def start(self, trainer: Trainer) -> None:
        """Before the first iteration."""

    def after_update(self, trainer: Trainer, iteration: int) -> None:
        """After every update, when the loss may not be known yet and the device may still be busy with it."""

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Whether it has to be told of this iteration before the next one begins; the loss is waited for then."""
        return True

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """After every iteration, in their order, when its loss is known."""

    def state(self) -> dict[str, Any]:
        """What it has to know to go on as if nothing had happened: plain values and NumPy arrays by name."""
        return {}

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """At the end, whatever it was; called for all callbacks that were started."""
