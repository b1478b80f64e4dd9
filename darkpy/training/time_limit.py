"""``--time-limit``: an end in good time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from darkpy import text
from darkpy.training.callback import Callback, Outcome, Record

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer


class TimeLimit(Callback):
    """Stops after the first iteration that ends later than so many seconds after ``began``.

    ``began`` is a time by ``time.perf_counter``. It comes before the callback that evaluates, so that no evaluation is
    begun after the limit.
    """

    def __init__(self, seconds: float, began: float) -> None:
        self.seconds = seconds
        self.began = began

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Whether the time is over."""
        return time.perf_counter() - self.began >= self.seconds

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Stop if it is time to; what is done anyway is not stopped."""
        if self.is_due(trainer, record.iteration) and record.iteration < trainer.last_iteration:
            trainer.stop(Outcome.STOPPED, f"the time limit of {text.duration(self.seconds)}")
