"""Threads, and arrays as compiled functions take them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from darkpy.backends.base import Item
from darkpy.backends.numba.threads import Task, Workers
from darkpy.backends.numpy.memory import MemoryOperations as NumpyMemoryOperations
from darkpy.backends.numpy.memory import usable_cores
from darkpy.backends.numpy.tiles import Array
from darkpy.errors import InputError

#: Work in nanoseconds of one core that is worth waking other threads for.
WORTH_SHARING = 60_000


def wanted_threads() -> int:
    """The environment's ``DARKPY_THREADS``, or as many as there are usable cores."""
    setting = os.environ.get("DARKPY_THREADS", "")
    if not setting:
        return usable_cores()
    if not setting.isdecimal() or int(setting) < 1:
        raise InputError(f"DARKPY_THREADS={setting!r} in the environment should be a whole number from 1")
    return int(setting)


def flat(array: Array) -> Array:
    """A contiguous float32 array as a vector, the same memory."""
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ValueError(f"expected a C-contiguous float32 array, got {array.dtype} with strides {array.strides}")
    # Compiled code exists for writable arrays only; one that is not can only be an input.
    return array.reshape(-1) if array.flags.writeable else array.reshape(-1).copy()


def shares(total: int, parts: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Ranges (first, last) that cover ``total``, all but the last a multiple of ``multiple`` long, at most ``parts``."""
    step = max(1, -(-total // (parts * multiple))) * multiple
    return [(first, min(first + step, total)) for first in range(0, total, step)]


class MemoryOperations(NumpyMemoryOperations):
    """Runs compiled functions on the backend's threads."""

    def __init__(self, dtype: Any = np.float32) -> None:
        super().__init__(dtype)
        self.threads = wanted_threads()
        self._workers = Workers(self.threads)

    def run(self, task: Task, tasks: int, work: float) -> None:
        """Call ``task(worker, number)`` for all numbers; ``work``: estimated nanoseconds of all of them on one core."""
        if work < WORTH_SHARING:
            for number in range(tasks):
                task(0, number)
        else:
            self._workers.run(task, tasks)

    def divisions(self, items: int) -> int:
        """Into how many parts to cut each of so many equal items to give all threads the same work."""
        return self.threads // math.gcd(self.threads, items)

    def parallel(self, function: Callable[[Item], Any], items: Iterable[Item]) -> None:
        """See :meth:`Backend.parallel`."""
        listed = list(items)
        self._workers.run(lambda _, number: function(listed[number]), len(listed))
