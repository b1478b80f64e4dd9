"""Losses of classifiers and plain outputs, and small operations that several layers need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from darkpy.backends.base import BATCHNORM_EPSILON, IGNORED_TRUTH
from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array


class LossOperations(MemoryOperations):
    """See :class:`~darkpy.backends.base.Backend`."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """See :meth:`Backend.running`."""
        yield

    def scaled_copy(self, source: Array, out: Array, scale: float, accumulate: bool = False) -> None:
        """See :meth:`Backend.scaled_copy`."""
        if accumulate:
            out += source * source.dtype.type(scale)
        else:
            np.multiply(source, source.dtype.type(scale), out=out)

    def fold_batchnorm(
        self, scales: Array, biases: Array, mean: Array, variance: Array, out_scale: Array, out_bias: Array
    ) -> None:
        """See :meth:`Backend.fold_batchnorm`."""
        np.add(variance, variance.dtype.type(BATCHNORM_EPSILON), out=out_scale)
        np.sqrt(out_scale, out=out_scale)
        np.divide(scales, out_scale, out=out_scale)
        np.multiply(mean, out_scale, out=out_bias)
        np.subtract(biases, out_bias, out=out_bias)

    def cross_entropy(self, output: Array, truth: Array, grad: Array) -> float:
        """See :meth:`Backend.cross_entropy`."""
        np.subtract(output, truth, out=grad)
        grad[truth == IGNORED_TRUTH] = 0.0
        wanted = (truth != 0) & (truth != IGNORED_TRUTH)
        smallest = np.finfo(output.dtype).tiny
        return float(-np.sum(truth[wanted] * np.log(np.maximum(output[wanted], smallest)), dtype=np.float64))

    def binary_cross_entropy(self, output: Array, truth: Array, grad: Array) -> float:
        """See :meth:`Backend.binary_cross_entropy`."""
        np.subtract(output, truth, out=grad)
        smallest = np.finfo(output.dtype).tiny
        yes, no = np.log(np.maximum(output, smallest)), np.log(np.maximum(1 - output, smallest))
        return float(-np.sum(truth * yes + (1 - truth) * no, dtype=np.float64))

    def difference(self, output: Array, truth: Array, grad: Array, kind: str) -> float:
        """See :meth:`Backend.difference`."""
        np.subtract(output, truth, out=grad)
        if kind == "masked":
            grad[truth == IGNORED_TRUTH] = 0.0
        if kind == "smooth":
            size = np.abs(grad)
            np.clip(grad, -1.0, 1.0, out=grad)
            return float(np.sum(np.where(size < 1, size * size, 2 * size - 1), dtype=np.float64))
        return float(np.sum(np.square(grad), dtype=np.float64))
