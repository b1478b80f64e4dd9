"""Weights and state saved while training goes on, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from darkpy.files import keep_copy
from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.divergence import Diverged, bad_weights, name_of
from darkpy.training.ema import Ema
from darkpy.training.run_folder import RunFolder, writing

if TYPE_CHECKING:
    from darkpy.network import Network
    from darkpy.training.progress import Progress
    from darkpy.training.trainer import Trainer

EVERY = 100
"""Iterations between two ``last.weights``, as in Darknet."""


class Checkpoint(Callback):
    """Saves ``last.weights`` and the state every so many iterations, at a stop and on request; then ``final.weights``.

    It comes after the callbacks whose state counts. What is saved at the start is what training can go back to.

    keep_every: also keep the weights of every so many iterations, as ``<iteration>.weights``; 0 for none.
    ema: a moving average, saved beside ``last.weights`` as ``ema.weights``.
    keep_before: also keep the state that was saved before the last one.
    rollbacks, origin: what the state says of the run, see :class:`~darkpy.training.state.State`.

    ``saved`` is the last iteration that was saved, None before the first; ``first`` is that one.

    Weights that are not all finite are never written, so that what was saved stays good.
    """

    def __init__(
        self,
        folder: RunFolder,
        progress: Progress,
        *,
        every: int = EVERY,
        keep_every: int = 0,
        ema: Ema | None = None,
        keep_before: bool = False,
        rollbacks: int = 0,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.progress = progress
        self.every = every
        self.keep_every = keep_every
        self.ema = ema
        self.keep_before = keep_before
        self.rollbacks = rollbacks
        self.origin = dict(origin or {})
        self.saved: int | None = None
        self.first: int | None = None

    def start(self, trainer: Trainer) -> None:
        """Save what is there to begin with."""
        self._save(trainer)
        self.first = self.saved

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Whether it is time to save, or it was asked for."""
        is_kept = self.keep_every and iteration % self.keep_every == 0
        return bool(is_kept) or iteration % self.every == 0 or trainer.interrupt.save_requested

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Save if it is time to, or if it was asked for."""
        if record.iteration != trainer.network.iteration:
            return
        requested = trainer.interrupt.take_save_request()
        if requested or record.iteration % self.every == 0:
            self._save(trainer)
        if requested:
            self.progress.message(f"it {record.iteration:,}  saved {self.folder.weights('last')}")
        if self.keep_every and record.iteration % self.keep_every == 0:
            self._save_weights(trainer.network, record.iteration)

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Save what there is; after a failure nothing, what was saved before is good."""
        if outcome is Outcome.FINISHED:
            self._save_weights(trainer.network, "final")
        if outcome is not Outcome.FAILED:
            self._save(trainer, outcome)

    def _save(self, trainer: Trainer, outcome: Outcome | None = None) -> None:
        """The state first: it is what training goes on from, and if it cannot be written, nothing else changes."""
        network = trainer.network
        self._check(network)
        state = trainer.state(outcome)
        state.rollbacks, state.origin = self.rollbacks, self.origin
        with writing(self.folder.state):
            if self.keep_before and self.saved not in (None, network.iteration):
                keep_copy(self.folder.state, self.folder.state_before)
            state.save(self.folder.state)
        self.folder.save_weights(network, "last")
        if self.ema is not None:
            self.ema.save(network, self.folder)
        self.saved = network.iteration

    def _save_weights(self, network: Network, name: str | int) -> None:
        self._check(network)
        self.folder.save_weights(network, name)

    def _check(self, network: Network) -> None:
        layer = bad_weights(network)
        if layer is not None:
            raise Diverged(
                f"iteration {network.iteration:,}: the weights or running statistics of layer {name_of(layer)} are not "
                f"finite and are not saved",
                network,
            )
