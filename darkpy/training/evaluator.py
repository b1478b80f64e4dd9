"""Measuring the detector on the validation set while it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.training.callback import Callback, Record
from darkpy.training.run_folder import RunFolder

if TYPE_CHECKING:
    from darkpy.config.net import NetOptions
    from darkpy.evaluation import Evaluation
    from darkpy.network import Network
    from darkpy.training.progress import Progress
    from darkpy.training.trainer import Trainer

EPOCHS = 4
FEWEST = 100


def iterations_between(options: NetOptions, pictures: int, epochs: int = EPOCHS) -> int:
    """Iterations from one evaluation to the next: four times through the data, but at least 100 (Darknet)."""
    return max(FEWEST, epochs * pictures // options.batch)


class _Stopped(Exception):
    """The user wants to stop and the evaluation is not worth waiting for."""


class Evaluator(Callback):
    """Evaluates every so many iterations and at the end, and saves the best weights so far as ``best.weights``.

    network: the same network built for inference; the trained parameters are copied into it.
    evaluate: measures it; takes the network and a progress function, see :func:`darkpy.evaluation.evaluate`.
    every: iterations between two evaluations. not_before: the first iteration that may be evaluated.

    ``best`` is the highest mean average precision, 0..1, and ``last`` the last evaluation; None before the first.
    """

    def __init__(
        self,
        network: Network,
        evaluate: Callable[..., Evaluation],
        folder: RunFolder,
        progress: Progress,
        *,
        every: int,
        not_before: int = 0,
    ) -> None:
        self.network = network
        self.evaluate = evaluate
        self.folder = folder
        self.progress = progress
        self.every = every
        self.not_before = not_before
        self.best: float | None = None
        self.best_iteration = 0
        self.last: Evaluation | None = None
        self._next = 0

    def start(self, trainer: Trainer) -> None:
        """Plan the first evaluation."""
        self._plan(trainer.first_iteration)

    def _plan(self, iteration: int) -> None:
        self._next = max(iteration + self.every, self.not_before)

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Evaluate if it is time to."""
        if record.iteration < min(self._next, trainer.last_iteration) or trainer.interrupt.requested:
            return
        self._plan(record.iteration)
        copy_parameters(trainer.network, self.network)

        def report(done: int, total: int) -> None:
            if trainer.interrupt.requested:
                raise _Stopped
            self.progress.evaluating(done, total)

        try:
            self.last = record.evaluation = self.evaluate(self.network, progress=report)
        except _Stopped:
            return
        self._keep_best(trainer, record.iteration, self.last)

    def _keep_best(self, trainer: Trainer, iteration: int, evaluation: Evaluation) -> None:
        found = evaluation.mean_average_precision
        saved = ""
        if self.best is None or found >= self.best:
            self.best, self.best_iteration = found, iteration
            path = self.folder.weights("best")
            trainer.network.save_weights(path)
            saved = f"  saved {path}"
        label = f"mAP@{100 * evaluation.iou_thresh:.0f}"
        self.progress.message(f"it {iteration:,}  {label} {100 * found:.1f}  best {100 * self.best:.1f}{saved}")


def copy_parameters(source: Network, target: Network) -> None:
    """Copy everything learned, and the count of pictures seen, into another network of the same cfg."""
    values: Any
    for name in ("values", "statistics"):
        values = np.asarray(source.backend.to_host(getattr(source.parameters, name)))
        target.backend.copy(target.backend.asarray(values), getattr(target.parameters, name))
    target.seen = source.seen
