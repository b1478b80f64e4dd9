"""What the loss scale costs: updates that were left out because a gradient was too large for its 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkpy import text
from darkpy.training.callback import Callback, Outcome, Record

if TYPE_CHECKING:
    from darkpy.training.progress import Progress
    from darkpy.training.trainer import Trainer


class SkippedUpdates(Callback):
    """Says in a line which updates were left out, once the next one was done, and at the end how many there were."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._known = 0
        self._told = 0

    def start(self, trainer: Trainer) -> None:
        """Those of before are known."""
        self._known = self._told = trainer.network.loss_scale.skipped

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Say what there is to say."""
        loss_scale = trainer.network.loss_scale
        if loss_scale.skipped == self._known and self._known > self._told:
            left_out = text.plural(self._known - self._told, "update")
            self.progress.message(
                f"before iteration {record.iteration:,} {left_out} left out, gradients being beyond 16 bits; "
                f"the loss scale is {loss_scale.scale:,.0f} now"
            )
            self._told = self._known
        self._known = loss_scale.skipped

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """The sum."""
        if self._known:
            done = f"{self._known:,} of {text.plural(trainer.network.iteration, 'update')}"
            self.progress.message(f"{done} left out because of the loss scale")
