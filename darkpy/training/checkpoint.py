"""Weights saved while training goes on, so that nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from darkpy.errors import TrainingError
from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.run_folder import RunFolder

if TYPE_CHECKING:
    from darkpy.network import Network
    from darkpy.training.progress import Progress
    from darkpy.training.trainer import Trainer

EVERY = 100
"""Iterations between two ``last.weights``, as in Darknet."""


class Checkpoint(Callback):
    """Saves ``last.weights`` every 100 iterations and at a stop, ``final.weights`` at the end.

    keep_every: also keep the weights of every so many iterations, as ``<iteration>.weights``; 0 for none.

    Weights that are not all finite are never written, so that what was saved stays good.
    """

    def __init__(self, folder: RunFolder, progress: Progress, *, every: int = EVERY, keep_every: int = 0) -> None:
        self.folder = folder
        self.progress = progress
        self.every = every
        self.keep_every = keep_every
        self._saved: int | None = None

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Save if it is time to."""
        if record.iteration % self.every == 0:
            self._save(trainer.network, "last")
        if self.keep_every and record.iteration % self.keep_every == 0:
            self._save(trainer.network, record.iteration)

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Save what there is, or after a failure say what was saved before."""
        network = trainer.network
        last = self.folder.weights("last")
        if outcome is Outcome.FINISHED:
            self._save(network, "last")
            self._save(network, "final")
        elif outcome is Outcome.STOPPED:
            self._save(network, "last")
            self.progress.message(f"stopped at iteration {network.iteration:,}; to go on, start from {last}")
        elif self._saved is not None:
            self.progress.message(f"the weights of iteration {self._saved:,} are in {last}")

    def _save(self, network: Network, name: str | int) -> None:
        if not (np.isfinite(network.parameters.values).all() and np.isfinite(network.parameters.statistics).all()):
            raise TrainingError(
                f"iteration {network.iteration:,}: the weights are not all finite and are not saved. Training has "
                f"diverged: try a smaller learning_rate or a longer burn_in"
            )
        network.save_weights(self.folder.weights(name))
        if name == "last":
            self._saved = network.iteration
