"""Local layers: at every output position a filter bank of its own.

Each position is a product of matrices of its own: its filters (f, c * size * size) times what the pictures of the
batch have under the kernel there (c * size * size, n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.numpy.memory import MemoryOperations, workspace_bytes
from darkpy.backends.numpy.tiles import Array
from darkpy.backends.numpy.windows import overlap

Shape = tuple[int, ...]


class LocalOperations(MemoryOperations):
    """Convolution without shared weights."""

    def local_workspace(
        self, x_shape: Sequence[int], weights_shape: Sequence[int], geometry: ConvolutionGeometry
    ) -> int:
        """See :meth:`Backend.local_workspace`."""
        itemsize = self.dtype.itemsize
        return workspace_bytes(*shapes(x_shape, weights_shape, geometry), itemsize=itemsize)

    def local_forward(self, x: Array, weights: Array, out: Array, geometry: ConvolutionGeometry) -> None:
        """See :meth:`Backend.local_forward`."""
        padded, columns, product, _ = self.carve(*shapes(x.shape, weights.shape, geometry), dtype=x.dtype)
        gather(x, columns, padded, out.shape, geometry)
        np.matmul(filters(weights), columns, out=product)
        np.copyto(out.reshape(*out.shape[:2], -1), product.transpose(2, 1, 0))

    def local_backward_weights(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.local_backward_weights`."""
        needed = shapes(x.shape, grad_weights.shape, geometry)
        padded, columns, gradient, one_position = self.carve(*needed, dtype=x.dtype)
        gather(x, columns, padded, grad_out.shape, geometry)
        np.copyto(gradient, by_position(grad_out))
        for total, ours, under in zip(filters(grad_weights), gradient, columns, strict=True):
            np.matmul(ours, under.T, out=one_position)
            total += one_position

    def local_backward_input(
        self,
        grad_out: Array,
        weights: Array,
        grad_x: Array,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.local_backward_input`."""
        _, columns, gradient, _ = self.carve(*shapes(grad_x.shape, weights.shape, geometry), dtype=grad_x.dtype)
        np.copyto(gradient, by_position(grad_out))
        np.matmul(filters(weights).transpose(0, 2, 1), gradient, out=columns)
        if not accumulate:
            grad_x.fill(0)
        (n, c), (height, width), size = grad_x.shape[:2], grad_out.shape[2:], geometry.size
        taps = columns.reshape(height, width, c, size, size, n)
        for ky in range(size):
            rows, inside_y = overlap(ky - geometry.padding, geometry.stride_y, grad_x.shape[2], height)
            for kx in range(size):
                across, inside_x = overlap(kx - geometry.padding, geometry.stride_x, grad_x.shape[3], width)
                grad_x[:, :, inside_y, inside_x] += taps[rows, across, :, ky, kx].transpose(3, 2, 0, 1)


def shapes(x_shape: Sequence[int], weights_shape: Sequence[int], geometry: ConvolutionGeometry) -> list[Shape]:
    """Padded pictures, columns of all positions, results of all positions, weights of one position."""
    n, c, height, width = x_shape
    positions, count = weights_shape[:2]
    column = math.prod(weights_shape[2:])
    padded = (n, c, height + 2 * geometry.padding, width + 2 * geometry.padding)
    return [padded, (positions, column, n), (positions, count, n), (count, column)]


def filters(weights: Array) -> Array:
    """(positions, f, c * size * size), the same memory."""
    return weights.reshape(*weights.shape[:2], -1)


def by_position(array: Array) -> Array:
    """(n, f, oh, ow) seen as (positions, f, n)."""
    return array.reshape(*array.shape[:2], -1).transpose(2, 1, 0)


def gather(x: Array, columns: Array, padded: Array, out_shape: Sequence[int], geometry: ConvolutionGeometry) -> None:
    """Fill the columns with what lies under the kernel at each output position."""
    padding, size = geometry.padding, geometry.size
    padded.fill(0)
    padded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]] = x
    windows = sliding_window_view(padded, (size, size), axis=(2, 3))
    windows = windows[:, :, :: geometry.stride_y, :: geometry.stride_x][:, :, : out_shape[2], : out_shape[3]]
    n, c = x.shape[:2]
    np.copyto(columns.reshape(*out_shape[2:], c, size, size, n), windows.transpose(2, 3, 1, 4, 5, 0))
