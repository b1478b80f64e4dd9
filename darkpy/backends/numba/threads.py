"""The backend's own threads: they run compiled code, which does not hold Python's lock.

A task is one call of a compiled function on a part of the work: a picture, some channels, a band of rows. The calling
thread works too. Numba's ``parallel=True`` is not used: it compiles slowly, and its portable thread layer must not be
entered from two Python threads.

Handing work to a sleeping thread and waiting for it takes about 50 us on a virtual machine with two cores. Operations of
less work than that should say so, by one task.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from itertools import count

#: A task: called with the number of the worker that runs it (0 is the calling thread) and the number of the task.
Task = Callable[[int, int], object]


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
    """Threads and what they are told: the part of :class:`Workers` that the threads themselves refer to."""

    def __init__(self, workers: int) -> None:
        self.process = os.getpid()
        self.task: Task | None = None
        self.tasks = 0
        self.numbers = count()
        self.errors: list[BaseException] = []
        self.start = [_taken_lock() for _ in range(workers - 1)]
        self.finished = [_taken_lock() for _ in range(workers - 1)]
        for worker in range(1, workers):
            threading.Thread(target=self.serve, args=(worker,), name=f"darkpy-{worker}", daemon=True).start()

    def run(self, task: Task, tasks: int) -> None:
        """Share the tasks among the caller and the threads."""
        helpers = min(tasks - 1, len(self.start))
        self.task, self.tasks, self.numbers = task, tasks, count()
        self.errors.clear()
        for lock in self.start[:helpers]:
            lock.release()
        self.work(0)
        for lock in self.finished[:helpers]:
            lock.acquire()
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
            self.start[worker - 1].acquire()
            if self.task is None:
                return
            self.work(worker)
            self.finished[worker - 1].release()

    def dismiss(self) -> None:
        """Let the threads end."""
        self.task = None
        for lock in self.start:
            if lock.locked():
                lock.release()


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock
