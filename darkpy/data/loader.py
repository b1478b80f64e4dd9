"""Batches of samples, made by background threads ahead of the training.

Every random number of a sample comes from a seed made of the run's seed, the epoch and the picture, so the samples
depend neither on the number of threads nor on where a run was taken up again. OpenCV and NumPy leave Python's lock
while they compute, so threads do, and nothing is copied between processes.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.config.net import NetOptions
from darkpy.data.augmentation import Augmentation
from darkpy.data.dataset import Dataset
from darkpy.data.samples import Samples
from darkpy.data.schedule import Schedule
from darkpy.data.workers import SIZE, generator, thread_count
from darkpy.errors import DataError, Problem

_PREFETCH = 2  # batches made ahead of the one in use
_WAIT = 0.2  # seconds a wait lasts before it looks around; lets Ctrl-C through where waiting blocks signals
_ITERATIONS_PER_SIZE = 10  # iterations between changes of size in multi-scale training (Darknet, detector.c)
_LAST_ITERATIONS = 100  # at the end, multi-scale training stays at the largest size


@dataclass(frozen=True)
class Batch:
    """The samples of one iteration.

    ``x`` is float32 (batch, channels, h, w), values in 0..1; ``truth`` has one float32 (n, 5) per picture, rows
    (class, cx, cy, w, h), relative, or (n, 6) with a number that both views of an object share, where there are two of
    every picture; ``sources`` are the pictures of the data set that each sample is made of, ``indices`` the first ones.

    With ``as_bytes`` ``x`` may be uint8, to be divided by 255: the same pictures, channels last in memory.

    ``x`` is memory of the loader: it holds this batch until the next one is taken, then it is written over.
    """

    iteration: int
    x: NDArray[Any]
    truth: list[NDArray[np.float32]]
    sources: list[tuple[int, ...]]

    @property
    def indices(self) -> list[int]:
        """The picture, or the first of several, that each sample shows."""
        return [source[0] for source in self.sources]


class Loader:
    """Makes the batches of a training run, one after the other, without end.

    Use it as a context manager, or call :meth:`close`, to stop its threads. ::

        with Loader(dataset, augmentation, batch=64, size_at=multi_scale(416, 416, random=1)) as loader:
            for batch in loader:
                ...

    Attributes:
        problems: what was found wrong with pictures and labels so far; such samples are replaced by the next usable.
        waited: seconds the consumer has waited for batches; 0 if the threads always were ahead.
    """

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation,
        *,
        batch: int,
        size_at: Callable[[int], tuple[int, int]],
        channels: int = 3,
        seed: int = 0,
        workers: int | None = None,
        start: int = 0,
        shuffle: bool = True,
        cache_bytes: int | None = None,
        report: Callable[[Problem], None] | None = None,
        samples: type[Samples] | None = None,
        options: NetOptions | None = None,
        as_bytes: bool = False,
        memory: Callable[[int], NDArray[np.uint8]] | None = None,
    ) -> None:
        """Start making batches.

        Args:
            dataset: the pictures; objects marked difficult are left out.
            augmentation: how they are changed.
            batch: samples per iteration.
            size_at: width and height of the samples of an iteration; it must answer the same for the same iteration.
            channels: 3 for colour, 1 for grey.
            seed: of all random numbers.
            workers: threads; None for as many as there are processors, at most 8; 0 to make samples when asked.
            start: the first iteration; samples are those a run from 0 would see there.
            shuffle: a new order for every epoch, otherwise the order of the data set.
            cache_bytes: memory for decoded pictures; None for an eighth of the machine's, at most 1 GiB.
            report: called with each problem once, in the thread that takes the batches. Problems that the data set
                had already when the loader was made are not repeated.
            samples: what makes a sample of a picture and its labels; None for samples with boxes.
            options: of ``[net]``, where samples with boxes are to be mixed and grouped as they say.
            as_bytes: whether batches are to be uint8 where samples are until they are divided by 255.
            memory: gives so many bytes for batches, flat; called in this thread, for the larger one of the sizes of the
                first iteration and of iteration 0.
        """
        if batch < 1 or start < 0:
            raise ValueError(f"batch must be at least 1 and start at least 0, not {batch} and {start}")
        if not len(dataset):
            raise DataError("has no pictures", where=dataset.name)
        if cache_bytes is None:
            cache_bytes = default_cache_bytes()
        made = (samples or Samples)(dataset, augmentation, channels, seed, shuffle, cache_bytes)
        made.schedule = Schedule(len(dataset), batch, seed=seed, shuffle=shuffle, options=options)
        dtype = np.uint8 if as_bytes and made.are_bytes else np.float32
        self._pipeline = _Pipeline(made, batch, size_at, channels, start, dtype)
        if memory is not None:
            self._pipeline.provide(memory)
        self._known = set(dataset.problems)
        self._report = report
        self.problems: list[Problem] = []
        if augmentation.not_applied:
            listing = ", ".join(augmentation.not_applied)
            self._tell(Problem("[net]", f"{listing}: not applied here; training goes on without"))
        # The threads know the pipeline and not the loader, so that a forgotten loader is closed.
        self._finalizer = weakref.finalize(self, self._pipeline.close)
        self._pipeline.open(thread_count() if workers is None else workers)

    @property
    def waited(self) -> float:
        """Seconds the consumer has waited for batches so far."""
        return self._pipeline.waited

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        try:
            batch = self._pipeline.take()
        finally:
            for problem in self._pipeline.samples.take_problems():
                self._tell(problem)
        return batch

    def sample(self, iteration: int, place: int) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, ...]]:
        """The sample at a place of a batch, made apart from batches: pixels (c, h, w), truth, what it is made of."""
        pipeline = self._pipeline
        width, height = pipeline.size_at(iteration)
        pixels = np.empty((pipeline.channels, height, width), np.float32)
        return pixels, *pipeline.samples.make(iteration * pipeline.batch + place, pixels)

    def again(self, iteration: int) -> Batch:
        """The batch of an iteration made anew, in memory of its own, wherever the loader is by now."""
        made = [self.sample(iteration, place) for place in range(self._pipeline.batch)]
        pixels, truth, sources = (list(column) for column in zip(*made))
        return Batch(iteration, np.stack(pixels), truth, sources)

    def _tell(self, problem: Problem) -> None:
        if problem in self._known:
            return
        self._known.add(problem)
        self.problems.append(problem)
        if self._report is not None:
            self._report(problem)

    def close(self) -> None:
        """Stop the threads and wait for them to end. The loader gives no more batches."""
        self._finalizer()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class _Slot:
    """Room for one batch, used again and again; ``missing`` is the number of its samples still to be made."""

    memory: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    iteration: int = -1
    missing: int = 0
    x: NDArray[Any] = field(default_factory=lambda: np.empty(0, np.float32))
    truth: list[NDArray[np.float32]] = field(default_factory=list)
    sources: list[tuple[int, ...]] = field(default_factory=list)

    def begin(self, iteration: int, shape: tuple[int, int, int, int], dtype: type[np.generic]) -> None:
        """Make room for a batch (n, c, h, w). Memory is allocated only for a batch larger than all before.

        Bytes lie channels last in memory, floats in the order of the axes.
        """
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if nbytes > self.memory.size:
            self.memory = np.empty(nbytes, np.uint8)
        flat = self.memory[:nbytes].view(dtype)
        n, c, h, w = shape
        self.x = flat.reshape(n, h, w, c).transpose(0, 3, 1, 2) if dtype is np.uint8 else flat.reshape(shape)
        self.truth = [np.zeros((0, 5), np.float32)] * shape[0]
        self.sources = [()] * shape[0]
        self.iteration, self.missing = iteration, shape[0]


class _Pipeline:
    """Threads that fill a ring of slots, and the consumer that takes them in order.

    A slot belongs to the threads from the moment its former batch is given back, to the consumer from the moment
    its last sample is there. All that is shared is guarded by ``self._changed``.
    """

    def __init__(
        self,
        samples: Samples,
        batch: int,
        size_at: Callable[[int], tuple[int, int]],
        channels: int,
        start: int,
        dtype: type[np.generic] = np.float32,
    ) -> None:
        self.samples = samples
        self.dtype = dtype
        self.batch = batch
        self.size_at = size_at
        self.channels = channels
        self.waited = 0.0
        self._changed = threading.Condition()
        self._slots = [_Slot() for _ in range(1 + _PREFETCH)]
        self._next_sample = start * batch
        self._next_batch = start
        self._given_back = start  # every iteration before this one; its slot may be used again
        self._error: BaseException | None = None
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._opencv_threads: int | None = None

    def provide(self, memory: Callable[[int], NDArray[np.uint8]]) -> None:
        """Let the slots use memory from elsewhere, before the threads begin."""
        pixels = max(width * height for width, height in map(self.size_at, (0, self._next_batch)))
        for slot in self._slots:
            slot.memory = memory(self.batch * self.channels * pixels * np.dtype(self.dtype).itemsize)

    def open(self, workers: int) -> None:
        """Start the threads; with none, samples are made by :meth:`take`."""
        if workers:
            # One picture a thread: OpenCV's own threads would only fight for the same processors.
            self._opencv_threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        self._threads = [
            threading.Thread(target=self._work, name=f"darkpy-loader-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the threads and wait for them."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._threads = []
        if self._opencv_threads is not None:
            cv2.setNumThreads(self._opencv_threads)
            self._opencv_threads = None

    def take(self) -> Batch:
        """Give back the batch taken before and wait for the next one."""
        with self._changed:
            iteration = self._next_batch
            slot = self._slots[iteration % len(self._slots)]
            self._given_back = iteration
            self._changed.notify_all()
        if not self._threads:
            self._make_batch(slot, iteration)
        began = time.perf_counter()
        with self._changed:
            # Batches finished before an error are still good; after a close nobody wants them.
            while self._closed or not self._is_ready(slot, iteration):
                if self._closed:
                    raise StopIteration
                if self._error is not None:
                    raise self._error
                self._changed.wait(_WAIT)
            self.waited += time.perf_counter() - began
            self._next_batch = iteration + 1
        return Batch(iteration, slot.x, slot.truth, slot.sources)

    def _make_batch(self, slot: _Slot, iteration: int) -> None:
        """Make the batch in the thread of the consumer."""
        try:
            while not (self._stopped or self._is_ready(slot, iteration)):
                self._make_sample(*self._reserve())
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Whatever went wrong goes to the consumer; no more samples are made."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    @property
    def _stopped(self) -> bool:
        return self._closed or self._error is not None

    @staticmethod
    def _is_ready(slot: _Slot, iteration: int) -> bool:
        return slot.iteration == iteration and slot.missing == 0

    def _work(self) -> None:
        """What a thread does until the loader is closed."""
        try:
            while True:
                with self._changed:
                    while not (self._stopped or self._has_room()):
                        self._changed.wait()
                    if self._stopped:
                        return
                    slot, place, number = self._reserve()
                self._make_sample(slot, place, number)
        except BaseException as error:
            self._fail(error)

    def _has_room(self) -> bool:
        return self._next_sample // self.batch < self._given_back + len(self._slots)

    def _reserve(self) -> tuple[_Slot, int, int]:
        """The slot, the place in it and the number of the next sample to make."""
        number = self._next_sample
        iteration, place = divmod(number, self.batch)
        slot = self._slots[iteration % len(self._slots)]
        if place == 0:
            width, height = self.size_at(iteration)
            slot.begin(iteration, (self.batch, self.channels, height, width), self.dtype)
        self._next_sample = number + 1
        return slot, place, number

    def _make_sample(self, slot: _Slot, place: int, number: int) -> None:
        slot.truth[place], slot.sources[place] = self.samples.make(number, slot.x[place])
        with self._changed:
            slot.missing -= 1
            if slot.missing == 0:
                self._changed.notify_all()


def multi_scale(
    width: int,
    height: int,
    random: float,
    resize_step: int = 32,
    seed: int = 0,
    max_batches: int = 0,
) -> Callable[[int], tuple[int, int]]:
    """The size of the network's input at each iteration of multi-scale training (Darknet, detector.c).

    Every 10 iterations the size is multiplied or divided by a number between 1 and ``random`` (1.4 if that is 1) and
    made a multiple of ``resize_step``. The first 10 iterations have the largest size, so that a lack of memory shows
    at once, and so have the last 100. With ``random`` 0 the size is always ``width`` x ``height``.

    Args:
        width: width of the network's input in the cfg.
        height: height of the network's input in the cfg.
        random: ``random`` of the last head.
        resize_step: ``resize_step`` of ``[net]``.
        seed: of the random numbers.
        max_batches: iterations of the whole training; 0 if unknown.

    Returns:
        A function from the iteration, counted from 0, to (width, height).
    """
    if not random:
        return lambda iteration: (width, height)
    limit = 1.4 if random == 1 else max(random, 1 / random)

    def scaled(side: int, factor: float) -> int:
        # The 1 makes it round up, mostly; Darknet adds it.
        size = int(np.floor(factor * side / resize_step + 1.5)) * resize_step
        return max(size, resize_step)

    def size_at(iteration: int) -> tuple[int, int]:
        block = iteration // _ITERATIONS_PER_SIZE
        near_end = max_batches and block * _ITERATIONS_PER_SIZE > max_batches - _LAST_ITERATIONS
        if block == 0 or near_end:
            return scaled(width, limit), scaled(height, limit)
        chance, coin = generator(seed, SIZE, block).random(2)
        factor = 1 + (limit - 1) * chance
        if coin < 0.5:
            factor = 1 / factor
        size = scaled(width, factor), scaled(height, factor)
        return (width, height) if factor < 1 and (size[0] > width or size[1] > height) else size

    return size_at


def default_cache_bytes() -> int:
    """Memory for decoded pictures: an eighth of the machine's, at most 1 GiB; 256 MiB where that is not known."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 256 << 20
    return min(memory // 8, 1 << 30)
