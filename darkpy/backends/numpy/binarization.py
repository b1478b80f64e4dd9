"""Signs in place of numbers, for binary convolutions (Rastegari et al. 2016, XNOR-Net)."""

from __future__ import annotations

import numpy as np

from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array


class BinarizationOperations(MemoryOperations):
    """What goes into a binary convolution; the convolution itself is an ordinary one."""

    def binarize(self, x: Array, out: Array) -> None:
        """See :meth:`Backend.binarize`."""
        np.greater(x, 0, out=out)
        out *= 2
        out -= 1

    def binarize_filters(self, weights: Array, out: Array) -> None:
        """See :meth:`Backend.binarize_filters`."""
        self.binarize(weights, out)
        out *= np.abs(weights).mean(axis=(1, 2, 3), keepdims=True)
