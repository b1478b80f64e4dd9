"""The backend's own threads: they run compiled code, which does not hold Python's lock.

A task is one call of a compiled function on a part of the work: a picture, some channels, a band of rows. The calling
thread works too. Numba's ``parallel=True`` is not used: it compiles slowly, and its portable thread layer must not be
entered from two Python threads.

To wake a sleeping thread and to be woken takes about 50 us on a virtual machine with two cores, as long as many an
operation. So whoever waits looks for a while whether it has come, without Python's lock, and only then goes to sleep.
"""

from __future__ import annotations

import os
import platform
import threading
import weakref
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from darkpy.backends.numba.jit import entry

#: A task: called with the number of the worker that runs it (0 is the calling thread) and the number of the task.
Task = Callable[[int, int], object]

#: How often to look before sleeping: about 0.1 ms.
LOOKS = 4000

_COUNTERS = types.Array(types.int64, 1, "C")


@intrinsic
def _look(typingctx, counters, i):
    """``counters[i]`` as it is now, after a pause that leaves a shared core to others."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            pause = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, pause, "llvm.x86.sse2.pause"), [])
        data = context.make_array(_COUNTERS)(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)

    return types.int64(_COUNTERS, types.intp), generate


@entry
def changes(counters, i, value, looks):
    """Whether ``counters[i]`` becomes other than ``value`` while one looks so many times."""
    now = value
    while looks > 0 and now == value:
        now = _look(counters, i)
        looks -= 1
    return now != value


class Workers:
    """The caller's thread and ``workers - 1`` more, which start with the first call that needs them.

    One call of :meth:`run` at a time has the threads; a call from within a task, or from elsewhere while they are busy,
    is done by its caller alone.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._free = threading.Lock()
        self._team: _Team | None = None

    def run(self, task: Task, tasks: int) -> None:
        """Call ``task(worker, number)`` for every number below ``tasks``, in no particular order.

        Raises the first exception of a task, when all workers have stopped.
        """
        if min(tasks, self.workers) < 2 or not self._free.acquire(blocking=False):
            for number in range(tasks):
                task(0, number)
            return
        try:
            self._ready_team().run(task, tasks)
        except BaseException:
            # An interrupt may have come while others still worked: those threads end by themselves.
            self._dismiss()
            raise
        finally:
            self._free.release()

    def _ready_team(self) -> _Team:
        if self._team is None or self._team.process != os.getpid():
            self._team = _Team(self.workers)
            weakref.finalize(self, self._team.dismiss)
        return self._team

    def _dismiss(self) -> None:
        if self._team is not None:
            self._team.dismiss()
            self._team = None


class _Team:
    """Threads and what they are told: the part of :class:`Workers` that the threads themselves refer to.

    ``called`` and ``done`` count, for each worker, how often it was called and how often it has finished. They are only
    written with Python's lock held, so whoever goes to sleep says so first, looks once more, and cannot be forgotten:
    the other side first counts, then sees who sleeps, and sends a token, of which there may be too many but never too
    few.
    """

    def __init__(self, workers: int) -> None:
        self.process = os.getpid()
        self.dismissed = False
        self.task: Task | None = None
        self.tasks = 0
        self.numbers = count()
        self.errors: list[BaseException] = []
        self.called = np.zeros(workers, np.int64)
        self.done = np.zeros(workers, np.int64)
        self.asleep = [False] * workers
        self.wake: list[SimpleQueue[None]] = [SimpleQueue() for _ in range(workers)]
        for worker in range(1, workers):
            threading.Thread(target=self.serve, args=(worker,), name=f"darkpy-{worker}", daemon=True).start()

    def run(self, task: Task, tasks: int) -> None:
        """Share the tasks among the caller and the threads."""
        helpers = range(1, min(tasks, len(self.wake)))
        self.task, self.tasks, self.numbers = task, tasks, count()
        self.errors.clear()
        for worker in helpers:
            self.called[worker] += 1
            if self.asleep[worker]:
                self.wake[worker].put(None)
        self.work(0)
        for worker in helpers:
            self.wait(0, self.done, worker, self.called[worker] - 1)
        self.task = None
        if self.errors:
            raise self.errors[0]

    def work(self, worker: int) -> None:
        """Do tasks until there are none left or one has failed."""
        try:
            for number in self.numbers:
                if number >= self.tasks or self.errors or self.task is None:
                    return
                self.task(worker, number)
        except BaseException as error:
            self.errors.append(error)

    def serve(self, worker: int) -> None:
        """Life of a thread: wait, work, report, until dismissed."""
        while True:
            self.wait(worker, self.called, worker, self.done[worker])
            if self.dismissed:
                return
            self.work(worker)
            self.done[worker] += 1
            if self.asleep[0]:
                self.wake[0].put(None)

    def wait(self, worker: int, counters: np.ndarray, i: int, value: int) -> None:
        """Let a worker wait until ``counters[i]`` is no longer ``value``."""
        if changes(counters, i, value, LOOKS):
            return
        self.asleep[worker] = True
        while counters[i] == value:
            self.wake[worker].get()
        self.asleep[worker] = False

    def dismiss(self) -> None:
        """Let the threads end."""
        self.dismissed = True
        self.task = None
        self.called += 1
        for queue in self.wake:
            queue.put(None)
