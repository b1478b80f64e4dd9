"""Connected layers: products of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darkpy.backends.numpy.memory import MemoryOperations, workspace_bytes
from darkpy.backends.numpy.tiles import Array

#: Bytes of a product that is added to something: made in parts, to be added while still in the cache.
PART_BYTES = 1 << 20


class LinearOperations(MemoryOperations):
    """Multiplication by a matrix of weights (outputs, inputs)."""

    def linear_workspace(self, rows: int, inputs: int, outputs: int, training: bool) -> int:
        """See :meth:`Backend.linear_workspace`: for the part of a product."""
        most = max(rows, outputs) if training else 0
        itemsize = self.dtype.itemsize
        return workspace_bytes(part_shape((most, inputs), itemsize), itemsize=itemsize) if most else 0

    def linear_forward(self, x: Array, weights: Array, out: Array) -> None:
        """See :meth:`Backend.linear_forward`."""
        np.matmul(x, weights.T, out=out)

    def linear_backward_weights(self, x: Array, grad_out: Array, grad_weights: Array) -> None:
        """See :meth:`Backend.linear_backward_weights`."""
        self._add_product(grad_out.T, x, grad_weights)

    def linear_backward_input(self, grad_out: Array, weights: Array, grad_x: Array, accumulate: bool = False) -> None:
        """See :meth:`Backend.linear_backward_input`."""
        if accumulate:
            self._add_product(grad_out, weights, grad_x)
        else:
            np.matmul(grad_out, weights, out=grad_x)

    def _add_product(self, a: Array, b: Array, out: Array) -> None:
        (product,) = self.carve(part_shape(out.shape, out.itemsize), dtype=out.dtype)
        step = len(product)
        for start in range(0, out.shape[0], step):
            rows = a[start : start + step]
            part = product[: rows.shape[0]]
            np.matmul(rows, b, out=part)
            out[start : start + step] += part


def part_shape(shape: Sequence[int], itemsize: int) -> tuple[int, int]:
    """Of the part of a product of this shape that is made at a time."""
    rows, columns = shape
    return min(max(1, PART_BYTES // (columns * itemsize)), rows), columns
