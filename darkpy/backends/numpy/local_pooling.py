"""Pooling of windows by their mean, and of channels by their maximum."""

from __future__ import annotations

import numpy as np

from darkpy.backends.base import PoolGeometry
from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array, planes, write
from darkpy.backends.numpy.windows import overlap


class LocalPoolingOperations(MemoryOperations):
    """The sum of a window is the sum of its rows' sums: 2 * size additions instead of size * size."""

    def local_avgpool_forward(self, x: Array, out: Array, geometry: PoolGeometry) -> None:
        """See :meth:`Backend.local_avgpool_forward`."""
        counts = positions_inside(geometry, x.shape, out.shape, out.dtype)
        for picture, channels in planes(x.shape):
            source, target = x[picture, channels], out[picture, channels]
            sums = np.zeros((*source.shape[:2], target.shape[2]), x.dtype)
            target.fill(0)
            for k in range(geometry.size):
                outputs, inputs = overlap(k - geometry.offset, geometry.stride_x, source.shape[2], target.shape[2])
                sums[:, :, outputs] += source[:, :, inputs]
            for k in range(geometry.size):
                outputs, inputs = overlap(k - geometry.offset, geometry.stride_y, source.shape[1], target.shape[1])
                target[:, outputs] += sums[:, inputs]
            target /= counts

    def local_avgpool_backward(
        self, grad_out: Array, grad_x: Array, geometry: PoolGeometry, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.local_avgpool_backward`."""
        counts = positions_inside(geometry, grad_x.shape, grad_out.shape, grad_out.dtype)
        if not accumulate:
            grad_x.fill(0)
        for picture, channels in planes(grad_x.shape):
            share, target = grad_out[picture, channels] / counts, grad_x[picture, channels]
            rows = np.zeros((*target.shape[:2], share.shape[2]), grad_x.dtype)
            for k in range(geometry.size):
                outputs, inputs = overlap(k - geometry.offset, geometry.stride_y, target.shape[1], share.shape[1])
                rows[:, inputs] += share[:, outputs]
            for k in range(geometry.size):
                outputs, inputs = overlap(k - geometry.offset, geometry.stride_x, target.shape[2], share.shape[2])
                target[:, :, inputs] += rows[:, :, outputs]

    def depth_maxpool_forward(self, x: Array, out: Array, winners: Array | None = None) -> None:
        """See :meth:`Backend.depth_maxpool_forward`."""
        step = out.shape[1]
        np.copyto(out, x[:, :step])
        if winners is not None:
            winners.fill(0)
        for turn, start in enumerate(range(step, x.shape[1], step), start=1):
            candidates = x[:, start : start + step]
            largest = out[:, : candidates.shape[1]]
            if winners is not None:
                np.copyto(winners[:, : candidates.shape[1]], turn, where=candidates > largest)
            np.maximum(largest, candidates, out=largest)

    def depth_maxpool_backward(
        self, grad_out: Array, winners: Array, grad_x: Array, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.depth_maxpool_backward`."""
        step = grad_out.shape[1]
        for turn, start in enumerate(range(0, grad_x.shape[1], step)):
            target = grad_x[:, start : start + step]
            channels = target.shape[1]
            write(grad_out[:, :channels] * (winners[:, :channels] == turn), target, accumulate)


def positions_inside(
    geometry: PoolGeometry, x_shape: tuple[int, ...], out_shape: tuple[int, ...], dtype: np.dtype
) -> Array:
    """How many positions of each window lie inside the picture, (oh, ow); 1 for a window that has none."""
    rows = _inside(geometry, geometry.stride_y, x_shape[2], out_shape[2])
    columns = _inside(geometry, geometry.stride_x, x_shape[3], out_shape[3])
    return np.maximum(np.outer(rows, columns), 1).astype(dtype)


def _inside(geometry: PoolGeometry, stride: int, inputs: int, outputs: int) -> Array:
    start = np.arange(outputs) * stride - geometry.offset
    return np.clip(start + geometry.size, 0, inputs) - np.clip(start, 0, inputs)
