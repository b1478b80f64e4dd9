"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from darkpy.errors import InputError, TrainingError
from darkpy.optimizers import learning_rate
from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.interrupt import Interrupt

if TYPE_CHECKING:
    from darkpy.backends.base_yolo import LossParts
    from darkpy.network import Network

KEEP = 0.9
"""Share of the old value in the running average of the loss, as in Darknet."""

TIMED = 30
"""Iterations over which the speed is averaged."""


class Batch(Protocol):
    """What the trainer needs of a batch: pictures (batch, c, h, w) and their truth, see Network.train_batch."""

    @property
    def x(self) -> np.ndarray:
        """Pictures, float32 in 0..1; read only until the next batch is asked for."""

    @property
    def truth(self) -> Sequence[np.ndarray]:
        """One array (n, 5) per picture."""

    @property
    def indices(self) -> Sequence[int]:
        """Which pictures of the data set they come from."""


class Trainer:
    """Trains a network on batches up to its ``max_batches``, telling callbacks of every iteration.

    network: built with ``training=True``; its ``iteration`` says where to go on.
    batches: an endless supply, whose pictures may change their size from batch to batch; closed at the end if it has
        a method ``close``.
    interrupt: asked after every iteration whether to stop.
    pictures: those of the data set, to be named when something is wrong with a batch.

    The attributes ``loss`` and ``average`` are those of the last iteration.
    """

    def __init__(
        self,
        network: Network,
        batches: Iterable[Batch],
        callbacks: Sequence[Callback] = (),
        interrupt: Interrupt | None = None,
        pictures: Sequence[Any] = (),
    ) -> None:
        self.network = network
        self.batches = batches
        self.callbacks = callbacks
        self.interrupt = interrupt or Interrupt()
        self.pictures = pictures
        self.first_iteration = network.iteration
        self.last_iteration = network.options.max_batches
        self.loss = math.nan
        self.average = math.nan
        self._began = 0.0
        self._iteration_seconds = 0.0

    def run(self) -> Outcome:
        """Train to the end or until interrupted.

        Raises :class:`~darkpy.errors.TrainingError` if the loss is not a number any more. Callbacks that were started
        are finished in any case.
        """
        outcome = Outcome.FAILED
        started: list[Callback] = []
        self._began = time.perf_counter()
        try:
            for callback in self.callbacks:
                callback.start(self)
                started.append(callback)
            outcome = self._guarded_loop()
        finally:
            close = getattr(self.batches, "close", None)
            if close is not None:
                close()
            self._finish(started, outcome)
        return outcome

    def _finish(self, callbacks: Sequence[Callback], outcome: Outcome) -> None:
        """Finish all callbacks, even if one of them fails; an error that ended the training goes before theirs."""
        error: BaseException | None = None
        for callback in callbacks:
            try:
                callback.finish(self, outcome)
            except Exception as raised:
                error = error or raised
        if error is not None and outcome is not Outcome.FAILED:
            raise error

    def _guarded_loop(self) -> Outcome:
        """Input that turns out to be unusable only now is a failure at run time: something was started."""
        try:
            return self._loop()
        except InputError as error:
            raise TrainingError(f"after iteration {self.network.iteration:,}: {error}") from error

    def _loop(self) -> Outcome:
        if self.network.iteration >= self.last_iteration:
            return Outcome.FINISHED
        began = time.perf_counter()
        for batch in self.batches:
            self._train(batch)
            self._iteration_seconds = self._smoothed(time.perf_counter() - began)
            record = self._record()
            for callback in self.callbacks:
                callback.after_iteration(self, record)
            if self.network.iteration >= self.last_iteration:
                return Outcome.FINISHED
            if self.interrupt.requested:
                return Outcome.STOPPED
            began = time.perf_counter()
        raise TrainingError("the batches came to an end before the training")

    def _train(self, batch: Batch) -> None:
        network = self.network
        height, width = batch.x.shape[2:]
        if (width, height) != (network.width, network.height):
            network.resize(width, height)
        # A loss that runs away is reported below, in words.
        with np.errstate(all="ignore"):
            cost = network.train_batch(batch.x, batch.truth)
        self.loss = cost / network.batch
        if not math.isfinite(self.loss):
            raise self._diverged(batch)
        # Darknet starts the average at the first loss.
        self.average = self.loss if math.isnan(self.average) else KEEP * self.average + (1 - KEEP) * self.loss

    def _smoothed(self, seconds: float) -> float:
        """Running average of the time of an iteration, beginning with the second: the first has much to set up."""
        done = self.network.iteration - self.first_iteration
        share = 1 / min(max(done - 1, 1), TIMED)
        return self._iteration_seconds + share * (seconds - self._iteration_seconds)

    def _record(self) -> Record:
        network = self.network
        box, objectness, classification = loss_parts(network)
        return Record(
            iteration=network.iteration,
            loss=self.loss,
            average=self.average,
            box=box,
            objectness=objectness,
            classification=classification,
            rate=learning_rate(network.options, network.iteration, network.seed),
            images_per_second=network.options.batch / max(self._iteration_seconds, 1e-9),
            seconds_per_iteration=self._iteration_seconds,
            seconds=time.perf_counter() - self._began,
            width=network.width,
            height=network.height,
        )

    def _diverged(self, batch: Batch) -> TrainingError:
        """What can be said about a loss that is not a number."""
        options = self.network.options
        return TrainingError(
            f"iteration {self.network.iteration:,}: the loss is {self.loss}{bad_output(self.network)}. "
            f"Training has diverged: try a smaller learning_rate (it is {options.learning_rate:g}) or a longer burn_in "
            f"(it is {options.burn_in:,}). The batch: {self._names(batch)}"
        )

    def _names(self, batch: Batch) -> str:
        """The first pictures of a batch."""
        most = 4
        indices = [int(index) for index in batch.indices]
        names = [str(self.pictures[index]) if self.pictures else f"picture {index}" for index in indices[:most]]
        return ", ".join(names) + (f" and {len(indices) - most} more" if len(indices) > most else "")


def loss_parts(network: Network) -> tuple[float | None, float | None, float | None]:
    """Box, objectness and class loss per picture in the last mini-batch, averaged over the heads like the loss."""
    found: list[LossParts | None] = [getattr(head, "loss_parts", None) for head in network.heads]
    parts = [part for part in found if part is not None]
    if not parts:
        return None, None, None
    share = 1 / (len(network.heads) * network.batch)
    return (
        share * sum(part.box for part in parts),
        share * sum(part.objectness for part in parts),
        share * sum(part.classification for part in parts),
    )


def bad_output(network: Network) -> str:
    """The first layer whose last output is not all finite, as a clause to add to a message, or an empty string.

    Parameters tell nothing after the update: it has spread what was bad to all of them.
    """
    for layer in network.layers:
        if layer.output is not None and not _is_finite(network.backend.to_host(layer.output)):
            return f"; the first bad values are in the output of layer {layer.index} [{layer.name}]"
    return ""


def _is_finite(values: Any) -> bool:
    return bool(np.isfinite(values).all())
