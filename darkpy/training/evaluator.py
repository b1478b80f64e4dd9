"""Measuring a network on the validation set while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy import text
from darkpy.training.callback import Callback, Measured, Outcome, Record
from darkpy.training.run_folder import RunFolder

if TYPE_CHECKING:
    from darkpy.config.net import NetOptions
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
    evaluate: measures it; takes the network and a progress function, such as :func:`darkpy.evaluation.evaluate`.
    every: iterations between two evaluations. not_before: the first iteration that may be evaluated.
    patience: evaluations in a row without a better result after which training is of no use; None for never.

    ``metric`` is the name of its first score, ``best`` the highest value of that so far, 0..1, ``last`` the last
    evaluation; both are None before the first.
    """

    def __init__(
        self,
        network: Network,
        evaluate: Callable[..., Measured],
        folder: RunFolder,
        progress: Progress,
        *,
        every: int,
        not_before: int = 0,
        patience: int | None = None,
    ) -> None:
        self.network = network
        self.evaluate = evaluate
        self.folder = folder
        self.progress = progress
        self.every = every
        self.not_before = not_before
        self.patience = patience
        self.metric = ""
        self.best: float | None = None
        self.best_iteration = 0
        self.last: Measured | None = None
        self._fruitless = 0
        self._next: int | None = None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the best result and the plan."""
        self.metric, self.best, self.best_iteration = state["metric"], state["best"], state["best_iteration"]
        self._fruitless, self._next = state["fruitless"], state["next"]

    def state(self) -> dict[str, Any]:
        """The best result and the plan."""
        return {
            "metric": self.metric,
            "best": self.best,
            "best_iteration": self.best_iteration,
            "fruitless": self._fruitless,
            "next": self._next,
        }

    def start(self, trainer: Trainer) -> None:
        """Plan the first evaluation."""
        if self._next is None:
            self._plan(trainer.first_iteration)

    def _plan(self, iteration: int) -> None:
        self._next = max(iteration + self.every, self.not_before)

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Whether it is time to evaluate."""
        assert self._next is not None, "start() planned it"
        return iteration >= min(self._next, trainer.last_iteration)

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Evaluate if it is time to. If the training is ending, that is put off until it goes on."""
        if not self.is_due(trainer, record.iteration):
            return
        if trainer.stopping:
            trainer.postponed = True
            return

        def report(done: int, total: int) -> None:
            if trainer.stopping:
                raise _Stopped
            self.progress.evaluating(done, total)

        copy_parameters(trainer.network, self.network)
        try:
            self.last = record.evaluation = self.evaluate(self.network, progress=report)
        except _Stopped:
            trainer.postponed = True
            return
        self._plan(record.iteration)
        self._keep_best(trainer, record.iteration, self.last)
        if self.patience is not None and self._fruitless >= self.patience:
            times = text.plural(self._fruitless, "evaluation")
            best = f"the best is that of iteration {self.best_iteration:,}"
            trainer.stop(Outcome.FINISHED, f"no better result in {times}, {best}")

    def _keep_best(self, trainer: Trainer, iteration: int, evaluation: Measured) -> None:
        self.metric, found = next(iter(evaluation.scores.items()))
        saved = ""
        self._fruitless = 0 if self.best is None or found > self.best else self._fruitless + 1
        if self.best is None or found >= self.best:
            self.best, self.best_iteration = found, iteration
            self.folder.save_weights(trainer.network, "best")
            saved = f"  saved {self.folder.weights('best')}"
        scores = "  ".join(f"{name} {100 * score:.1f}" for name, score in evaluation.scores.items())
        self.progress.message(f"it {iteration:,}  {scores}  best {100 * self.best:.1f}{saved}")


def copy_parameters(source: Network, target: Network) -> None:
    """Copy everything learned, and the count of pictures seen, into another network of the same cfg."""
    values: Any
    for name in ("values", "statistics"):
        values = np.asarray(source.backend.to_host(getattr(source.parameters, name)))
        target.backend.copy(target.backend.asarray(values), getattr(target.parameters, name))
    target.seen = source.seen
