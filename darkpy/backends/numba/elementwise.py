"""Copies and sums of large arrays, divided among threads.

NumPy's own loops do the work: they are vector code, and they let other threads run meanwhile. What is gained is the
memory bandwidth of several cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from darkpy.backends.numba.memory import MemoryOperations, shares
from darkpy.backends.numpy.elementwise import ElementwiseOperations as NumpyElementwiseOperations
from darkpy.backends.numpy.tiles import Array


class ElementwiseOperations(MemoryOperations, NumpyElementwiseOperations):
    """Copying, filling, adding."""

    def copy(self, source: Array, out: Array) -> None:
        """See :meth:`Backend.copy`."""
        if getattr(source, "shape", None) == out.shape:
            self._divide(lambda part: np.copyto(out[part], source[part]), out)
        else:
            np.copyto(out, source)

    def fill(self, array: Array, value: float) -> None:
        """See :meth:`Backend.fill`."""
        self._divide(lambda part: array[part].fill(value), array)

    def add(self, source: Array, out: Array) -> None:
        """See :meth:`Backend.add`."""
        self._divide(lambda part: np.add(out[part], source[part], out=out[part]), out)

    def copy_channels(self, source: Array, out: Array, accumulate: bool = False) -> None:
        """See :meth:`Backend.copy_channels`."""
        if accumulate:
            self.add(source, out)
        else:
            self.copy(source, out)

    def add_forward(self, a: Array, b: Array, out: Array, activation: str = "linear") -> None:
        """See :meth:`Backend.add_forward`."""
        self._divide(lambda part: np.add(a[part], b[part], out=out[part]), out)
        if activation != "linear":
            self.activation_forward(out, out, activation)

    def _divide(self, function: Callable[[Any], object], array: Array) -> None:
        """Call the function with parts, on several threads if the array is large: of one picture, ranges of channels."""
        if array.ndim == 0:
            function(...)
            return
        is_one = array.ndim > 1 and array.shape[0] == 1
        ranges = shares(array.shape[1 if is_one else 0], self.threads)

        def task(worker: int, number: int) -> None:
            part = slice(*ranges[number])
            function((slice(None), part) if is_one else part)

        self.run(task, len(ranges), 0.4 * array.size)
