"""Softmax and losses: kernels/softmax.cu."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from darkpy.backends.cuda.activations import ROWS
from darkpy.backends.cuda.array import DeviceArray, reshaped_strides
from darkpy.backends.cuda.journal import JournalOperations
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.journal import Pending

#: In the order of ``enum Difference``.
DIFFERENCES = {"sse": 0, "masked": 1, "smooth": 2}


class SoftmaxOperations(JournalOperations):
    """Probabilities from scores, and how far they are from the truth."""

    def softmax_forward(self, x: DeviceArray, out: DeviceArray, temperature: float) -> None:
        """See :meth:`Backend.softmax_forward`."""
        self._softmax(x, out, None, 1, temperature)

    def grouped_softmax_forward(self, x: DeviceArray, out: DeviceArray, starts: Any, temperature: float) -> None:
        """See :meth:`Backend.grouped_softmax_forward`."""
        ends = self.constant(np.append(starts, x.shape[-1]), np.int32)
        self._softmax(x, out, ends, len(starts), temperature)

    def _softmax(
        self, x: DeviceArray, out: DeviceArray, starts: DeviceArray | None, groups: int, temperature: float
    ) -> None:
        source = _as_rows(self.rows_to_read(x))
        with self.rows_to_write(out) as target:
            written = _as_rows(target)
            rows, classes = source.shape
            kernel = "softmax" if written.dtype == source.dtype else "softmax_to_float"
            self.launch(
                "softmax", kernel, self.blocks_for(rows * groups, ROWS), THREADS,
                source, source.strides[0], written, written.strides[0], rows, classes, starts, groups, temperature,
            )  # fmt: skip

    def cross_entropy(self, output: DeviceArray, truth: DeviceArray, grad: DeviceArray) -> Pending[float]:
        """See :meth:`Backend.cross_entropy`."""
        return self._loss("cross_entropy", output, truth, grad)

    def binary_cross_entropy(self, output: DeviceArray, truth: DeviceArray, grad: DeviceArray) -> Pending[float]:
        """See :meth:`Backend.binary_cross_entropy`."""
        return self._loss("binary_cross_entropy", output, truth, grad)

    def difference(self, output: DeviceArray, truth: DeviceArray, grad: DeviceArray, kind: str) -> Pending[float]:
        """See :meth:`Backend.difference`."""
        return self._loss("difference", output, truth, grad, DIFFERENCES[kind])

    def _loss(
        self, kernel: str, output: DeviceArray, truth: DeviceArray, grad: DeviceArray, *further: int
    ) -> Pending[float]:
        rows, columns, strides = self.rows_of(output, truth, grad)
        blocks = self.blocks_for(rows * columns)
        shares = self.scratch((blocks, 1))
        self.launch(
            "softmax", kernel, blocks, THREADS,
            output, strides[0], truth, strides[1], grad, strides[2], rows, columns, shares, *further,
        )  # fmt: skip
        return self.figures(lambda sums: float(sums[0]), shares)


def _as_rows(array: DeviceArray) -> DeviceArray:
    """The array as a matrix of rows of classes that lie next to each other."""
    rows = math.prod(array.shape[:-1])
    leading = reshaped_strides(array.shape[:-1], array.strides[:-1], (rows,))
    if leading is None or (array.strides[-1] != 1 and array.shape[-1] > 1):
        raise ValueError(f"softmax on the GPU cannot take this view: {array}")
    shape = (rows, array.shape[-1])
    return DeviceArray(array.backend, array.owner, array.address, shape, array.dtype, (leading[0], 1))
