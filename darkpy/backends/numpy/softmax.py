"""Softmax."""

from __future__ import annotations

import numpy as np

from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array


class SoftmaxOperations(MemoryOperations):
    """Probabilities from scores."""

    def softmax_forward(self, x: Array, out: Array, temperature: float) -> None:
        """See :meth:`Backend.softmax_forward`."""
        np.subtract(x, x.max(axis=-1, keepdims=True), out=out)
        out /= temperature
        np.exp(out, out=out)
        out /= out.sum(axis=-1, keepdims=True)

    def grouped_softmax_forward(self, x: Array, out: Array, starts: Array, temperature: float) -> None:
        """See :meth:`Backend.grouped_softmax_forward`."""
        sizes = np.diff(np.append(starts, x.shape[-1]))
        np.subtract(x, np.repeat(np.maximum.reduceat(x, starts, axis=-1), sizes, axis=-1), out=out)
        out /= temperature
        np.exp(out, out=out)
        out /= np.repeat(np.add.reduceat(out, starts, axis=-1), sizes, axis=-1)
