"""The training loop."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from darkpy.errors import InputError, NotFinite, TrainingError
from darkpy.optimizers import learning_rate
from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.divergence import Diverged, diverged
from darkpy.training.interrupt import Interrupt
from darkpy.training.state import State, capture

if TYPE_CHECKING:
    from darkpy.backends.base_yolo import LossParts
    from darkpy.network import Network
    from darkpy.update import Update

KEEP = 0.9
"""Share of the old value in the running average of the loss, as in Darknet."""

TIMED = 30
"""Iterations over which the speed is averaged."""

AHEAD = 10
"""Updates that may be on their way; then the older half is waited for, so that the device is never without work."""


class Batch(Protocol):
    """What the trainer needs of a batch: pictures (batch, c, h, w) and their truth, see Network.train_batch."""

    @property
    def x(self) -> np.ndarray:
        """Pictures, float32 in 0..1 or uint8 in 0..255; read only until the next batch is asked for."""

    @property
    def truth(self) -> Sequence[np.ndarray]:
        """One array (n, 5) per picture."""

    @property
    def sources(self) -> Sequence[Sequence[int]]:
        """Which pictures of the data set each is made of."""


@dataclass
class Untold:
    """An iteration that callbacks have not been told of: its loss may not be known yet."""

    update: Update
    record: Record
    sources: Sequence[Sequence[int]]


class Trainer:
    """Trains a network on batches up to its ``max_batches``, telling callbacks of every iteration.

    On a GPU it does not wait for the device: callbacks are told of an iteration when its loss is known, at the latest
    :data:`AHEAD` iterations afterwards, and at once if one of them is due.

    network: built with ``training=True``; its ``iteration`` says where to go on.
    batches: an endless supply, whose pictures may change their size from batch to batch; closed at the end if it has
        a method ``close``.
    interrupt: asked after every iteration whether to stop.
    pictures: those of the data set, to be named when something is wrong with a batch.
    state: where to go on, if the network was restored from one; the callbacks get their parts of it.

    Attributes:
        loss: of the last iteration, and ``average``, its running average.
        reason: why it ended before its last iteration; empty if it did not.
        error: what made it fail, or None.
        postponed: set by a callback that leaves something undone because the training is ending; the iteration is
            then told again where the training goes on.
    """

    def __init__(
        self,
        network: Network,
        batches: Iterable[Batch],
        callbacks: Sequence[Callback] = (),
        interrupt: Interrupt | None = None,
        pictures: Sequence[Any] = (),
        state: State | None = None,
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
        self.reason = ""
        self.error: BaseException | None = None
        self.postponed = False
        self._ending: Outcome | None = None
        self._under_way: deque[Untold] = deque()
        self._record: Record | None = None
        self._untold: Record | None = None
        self._seconds_before = 0.0
        self._began = time.perf_counter()
        self._iteration_seconds = 0.0
        self._waited = 0.0
        if state is not None:
            self._restore(state)

    def _restore(self, state: State) -> None:
        self.loss = math.nan if state.loss is None else state.loss
        self.average = math.nan if state.average is None else state.average
        self._seconds_before = state.seconds
        if state.record is not None:
            self._untold = self._record = Record(**state.record)
            self.postponed = True
        for callback in self.callbacks:
            kept = state.callbacks.get(type(callback).__name__)
            if kept:
                callback.restore(kept)

    @property
    def told(self) -> int:
        """The last iteration that callbacks were told of, and with which they had nothing left to do, at the start."""
        return self.first_iteration if self._untold is None else self._untold.iteration - 1

    @property
    def seconds(self) -> float:
        """Seconds that all parts of the run took so far."""
        return self._seconds_before + time.perf_counter() - self._began

    @property
    def stopping(self) -> bool:
        """Whether the present iteration is the last one, because of a signal or :meth:`stop`."""
        return self._ending is not None or self.interrupt.requested

    def stop(self, outcome: Outcome, reason: str) -> None:
        """End after this iteration; the first call counts."""
        if self._ending is None:
            self._ending, self.reason = outcome, reason

    def state(self, outcome: Outcome | None = None) -> State:
        """Everything it takes to go on from here; with ``outcome`` once it has ended."""
        network = self.network
        known = math.isfinite(self.loss)
        return State(
            seen=network.seen,
            width=network.width,
            height=network.height,
            loss=self.loss if known else None,
            average=self.average if known else None,
            seconds=self.seconds,
            rate_scale=network.rate_scale,
            loss_scale=network.loss_scale.state(),
            outcome="" if outcome is None else outcome.value,
            record=asdict(self._record) if self.postponed and self._record is not None else None,
            callbacks={type(callback).__name__: callback.state() for callback in self.callbacks},
            arrays=capture(network),
        )

    def run(self) -> Outcome:
        """Train to the end or until interrupted.

        Raises :class:`~darkpy.training.divergence.Diverged` if the loss is not a number any more, and
        :class:`~darkpy.errors.TrainingError` for other failures. Callbacks that were started are finished in any case.
        """
        outcome = Outcome.FAILED
        started: list[Callback] = []
        try:
            for callback in self.callbacks:
                callback.start(self)
                started.append(callback)
            outcome = self._guarded_loop()
        except BaseException as error:
            self.error = error
            raise
        finally:
            close = getattr(self.batches, "close", None)
            if close is not None:
                close()
            self._finish(started, outcome)
        return outcome

    def _finish(self, callbacks: Sequence[Callback], outcome: Outcome) -> None:
        """Finish all callbacks, even if one of them fails; an error that ended the training goes before theirs."""
        failed = outcome is Outcome.FAILED
        for callback in callbacks:
            try:
                callback.finish(self, Outcome.FAILED if self.error else outcome)
            except Exception as raised:
                self.error = self.error or raised
        if self.error is not None and not failed:
            raise self.error

    def _guarded_loop(self) -> Outcome:
        """Input that turns out to be unusable only now is a failure at run time: something was started."""
        try:
            return self._loop()
        except InputError as error:
            raise TrainingError(f"after iteration {self.network.iteration:,}: {error}") from error

    def _loop(self) -> Outcome:
        if self._untold is not None:
            self._tell(self._untold)
        ended = self._ended()
        if ended is not None:
            return ended
        began = time.perf_counter()
        for batch in self.batches:
            self._waited = time.perf_counter() - began
            update = self._train(batch)
            for callback in self.callbacks:
                callback.after_update(self, self.network.iteration)
            at_once = self._is_due()
            self._wait(update, at_once)
            self._iteration_seconds = self._smoothed(time.perf_counter() - began)
            self._under_way.append(Untold(update, self._describe(), list(batch.sources)))
            self._tell_what_is_known(batch, at_once)
            ended = self._ended()
            if ended is not None:
                return ended
            began = time.perf_counter()
        raise TrainingError("the batches came to an end before the training")

    def _wait(self, update: Update, at_once: bool) -> None:
        """Wait for the last update, or for an older one if too many are under way; and until the batch is taken up."""
        if at_once:
            update.wait()
        elif len(self._under_way) >= AHEAD - 1:
            self._under_way[AHEAD // 2 - 1].update.wait()
        self.network.backend.pictures_taken()  # the next batch may be written over them

    def _tell_what_is_known(self, batch: Batch, at_once: bool) -> None:
        """Tell of all iterations whose loss is known, or of all there are if that cannot wait."""
        while self._under_way:
            oldest = self._under_way[0]
            if not (at_once or oldest.update.is_known):
                return
            self._read(oldest, batch if len(self._under_way) == 1 else None)
            self._under_way.popleft()
            self._tell(oldest.record)

    def _is_due(self) -> bool:
        """Whether the last iteration has to be told of before there is another one."""
        iteration = self.network.iteration
        is_last = self.stopping or iteration >= self.last_iteration
        return is_last or any(callback.is_due(self, iteration) for callback in self.callbacks)

    def _read(self, untold: Untold, batch: Batch | None) -> None:
        """Fill in the losses of an iteration; ``batch`` is what it was trained with, if nothing came after it."""
        record = untold.record
        try:
            cost = untold.update.read()
        except NotFinite as error:
            raise self._diverged(error, untold, batch) from error
        self.loss = record.loss = cost / self.network.batch
        # Darknet starts the average at the first loss.
        self.average = self.loss if math.isnan(self.average) else KEEP * self.average + (1 - KEEP) * self.loss
        record.average = self.average
        record.box, record.objectness, record.classification = loss_parts(self.network)
        loss_scale = self.network.loss_scale
        if loss_scale.is_used:
            record.loss_scale, record.skipped = loss_scale.scale, loss_scale.skipped

    def _diverged(self, error: NotFinite, untold: Untold, batch: Batch | None) -> Diverged:
        """What to say of an iteration that came to nothing.

        Where others came after it, it is done again if its batch can be had again, to find out where it began.
        """
        self._under_way.clear()
        network, names = self.network, self._names(untold.sources)
        again = getattr(self.batches, "again", None)
        if batch is None and again is not None:
            batch = again(network.iteration)
            network.resize(untold.record.width, untold.record.height)
            seen = network.seen
            try:
                network.gather_gradients(batch.x, batch.truth).read()
                batch = None
            except NotFinite as repeated:
                error = repeated
            network.seen = seen
        return diverged(network, error, names, None if batch is None else batch.x)

    def _tell(self, record: Record) -> None:
        self._record = record
        self.postponed = False
        for callback in self.callbacks:
            callback.after_iteration(self, record)

    def _ended(self) -> Outcome | None:
        """How the training has ended, or None if there is more to do."""
        if self._ending is not None:
            return self._ending
        is_done = self.network.iteration >= self.last_iteration
        if self.interrupt.requested and (self.postponed or not is_done):
            self.reason = self.interrupt.name
            return Outcome.STOPPED
        return Outcome.FINISHED if is_done else None

    def _train(self, batch: Batch) -> Update:
        network = self.network
        height, width = batch.x.shape[2:]
        if (width, height) != (network.width, network.height):
            network.resize(width, height)
        try:
            # What overflows is reported in words.
            with np.errstate(all="ignore"):
                return network.start_update(batch.x, batch.truth)
        except NotFinite as error:
            while self._under_way:  # one of these may have been the first
                self._read(oldest := self._under_way[0], None)
                self._under_way.popleft()
                self._tell(oldest.record)
            raise diverged(network, error, self._names(batch.sources), batch.x) from error

    def _smoothed(self, seconds: float) -> float:
        """Running average of the time of an iteration, beginning with the second: the first has much to set up."""
        done = self.network.iteration - self.first_iteration
        share = 1 / min(max(done - 1, 1), TIMED)
        return self._iteration_seconds + share * (seconds - self._iteration_seconds)

    def _describe(self) -> Record:
        """The last iteration, with the losses still to be filled in."""
        network = self.network
        return Record(
            iteration=network.iteration,
            loss=math.nan,
            average=math.nan,
            box=None,
            objectness=None,
            classification=None,
            rate=network.rate_scale * learning_rate(network.options, network.iteration, network.seed),
            images_per_second=network.options.batch / max(self._iteration_seconds, 1e-9),
            seconds_per_iteration=self._iteration_seconds,
            seconds=self.seconds,
            width=network.width,
            height=network.height,
            waited=self._waited,
        )

    def _names(self, sources: Sequence[Sequence[int]]) -> list[str]:
        """What to call these samples: the pictures each is made of, with a plus between them."""
        return [" + ".join(map(self._name, dict.fromkeys(map(int, source)))) for source in sources]

    def _name(self, index: int) -> str:
        return str(self.pictures[index]) if self.pictures else f"picture {index}"



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
