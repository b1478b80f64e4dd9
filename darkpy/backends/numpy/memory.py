"""Arrays, the workspace, and threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from darkpy.backends.base import Backend, Item
from darkpy.backends.numpy.tiles import Array

#: Arrays carved from the workspace start at multiples of a cache line.
ALIGNMENT = 64


def workspace_bytes(*shapes: Sequence[int], itemsize: int) -> int:
    """What :meth:`MemoryOperations.carve` needs for arrays of these shapes."""
    return sum(_aligned(math.prod(shape) * itemsize) for shape in shapes)


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class MemoryOperations(Backend):
    """Arrays are numpy arrays; copies to and from the host cost nothing."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = self.activation_dtype = np.dtype(dtype)
        self.threads = usable_cores()
        self._workspace = np.empty(0, np.uint8)
        self._pool: ThreadPoolExecutor | None = None

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """See :meth:`Backend.empty`."""
        return np.empty(shape, self.dtype if dtype is None else dtype)

    def zeros(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """See :meth:`Backend.zeros`."""
        return np.zeros(shape, self.dtype if dtype is None else dtype)

    def asarray(self, host: Any, dtype: Any = None) -> Array:
        """See :meth:`Backend.asarray`."""
        array = np.asarray(host)
        return np.ascontiguousarray(array, (dtype or self.dtype) if array.dtype.kind == "f" else array.dtype)

    def to_host(self, array: Array) -> Array:
        """See :meth:`Backend.to_host`."""
        return array

    def copy(self, source: Array, out: Array) -> None:
        """See :meth:`Backend.copy`."""
        np.copyto(out, source)

    def fill(self, array: Array, value: float) -> None:
        """See :meth:`Backend.fill`."""
        array.fill(value)

    def add(self, source: Array, out: Array) -> None:
        """See :meth:`Backend.add`."""
        np.add(out, source, out=out)

    def is_finite(self, array: Array) -> bool:
        """See :meth:`Backend.is_finite`."""
        # A sum is finite only if all its terms are, and costs a single pass without a temporary array.
        with np.errstate(all="ignore"):
            total = np.add.reduce(array, axis=None)
        return bool(np.isfinite(total)) or bool(np.isfinite(array).all())

    @property
    def workspace(self) -> Array:
        """See :meth:`Backend.workspace`."""
        return self._workspace

    def set_workspace(self, nbytes: int) -> None:
        """See :meth:`Backend.set_workspace`."""
        if nbytes > self._workspace.size:
            block = np.empty(nbytes + ALIGNMENT, np.uint8)
            start = -block.ctypes.data % ALIGNMENT
            self._workspace = block[start : start + nbytes]

    def carve(self, *shapes: Sequence[int], dtype: Any) -> list[Array]:
        """Arrays of these shapes, side by side in the workspace, with arbitrary contents."""
        itemsize = np.dtype(dtype).itemsize
        self.set_workspace(workspace_bytes(*shapes, itemsize=itemsize))
        arrays = []
        start = 0
        for shape in shapes:
            nbytes = math.prod(shape) * itemsize
            arrays.append(self._workspace[start : start + nbytes].view(dtype).reshape(shape))
            start += _aligned(nbytes)
        return arrays

    def parallel(self, function: Callable[[Item], Any], items: Iterable[Item]) -> None:
        """See :meth:`Backend.parallel`."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="darkpy")
        for _ in self._pool.map(function, items):
            pass


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
