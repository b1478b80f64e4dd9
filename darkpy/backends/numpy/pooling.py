"""Maximum and average pooling, and enlarging and shrinking by whole factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpy.backends.base import PoolGeometry
from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array, planes, write
from darkpy.backends.numpy.windows import overlap


class PoolingOperations(MemoryOperations):
    """Operations that change a picture's height and width without any parameters.

    The maximum of a window is the maximum of its rows' maxima: 2 * size comparisons instead of size * size. The
    winner's place in the window, ``row * size + column``, comes out the same way.
    """

    def winner_dtype(self, geometry: PoolGeometry) -> Any:
        """The smallest integer type that numbers the positions of a window."""
        return np.min_scalar_type(geometry.size**2 - 1)

    def maxpool_forward(self, x: Array, out: Array, geometry: PoolGeometry, winners: Array | None = None) -> None:
        """See :meth:`Backend.maxpool_forward`."""
        rows = windows_inside(geometry, geometry.stride_y, x.shape[2], out.shape[2])
        columns = windows_inside(geometry, geometry.stride_x, x.shape[3], out.shape[3])
        top = rows.start * geometry.stride_y - geometry.offset
        left = columns.start * geometry.stride_x - geometry.offset
        if (rows, columns) != (slice(0, out.shape[2]), slice(0, out.shape[3])):
            out.fill(0)
        for picture, channels in planes(x.shape):
            source = x[picture, channels]
            target = out[picture, channels, rows, columns]
            if winners is None:
                # Down the columns first, where the inner loops are long; the order matters to ties only.
                maxima = np.empty((len(source), target.shape[1], source.shape[2]), x.dtype)
                running_maximum(source.swapaxes(1, 2), maxima.swapaxes(1, 2), top, geometry.stride_y, geometry.size)
                running_maximum(maxima, target, left, geometry.stride_x, geometry.size)
                continue
            maxima = np.empty((*source.shape[:2], target.shape[2]), x.dtype)
            in_row = np.empty(maxima.shape, winners.dtype)
            in_window = winners[picture, channels, rows, columns]
            running_maximum(source, maxima, left, geometry.stride_x, geometry.size, in_row)
            running_maximum(
                maxima.swapaxes(1, 2),
                target.swapaxes(1, 2),
                top,
                geometry.stride_y,
                geometry.size,
                in_window.swapaxes(1, 2),
                in_row.swapaxes(1, 2),
            )

    def maxpool_backward(
        self, grad_out: Array, winners: Array, grad_x: Array, geometry: PoolGeometry, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.maxpool_backward`."""
        height, width = grad_x.shape[2:]
        rows = windows_inside(geometry, geometry.stride_y, height, grad_out.shape[2])
        columns = windows_inside(geometry, geometry.stride_x, width, grad_out.shape[3])
        # Where in a plane of x each window starts, and where in a window each winner is.
        top = np.arange(rows.start, rows.stop) * geometry.stride_y - geometry.offset
        left = np.arange(columns.start, columns.stop) * geometry.stride_x - geometry.offset
        starts = top[:, None] * width + left
        places = (np.arange(geometry.size)[:, None] * width + np.arange(geometry.size)).ravel()
        for picture, channels in planes(grad_x.shape):
            target = grad_x[picture, channels]
            index = places[winners[picture, channels, rows, columns]]
            index += starts
            index += np.arange(target.shape[0])[:, None, None] * (height * width)
            gradient = grad_out[picture, channels, rows, columns]
            sums = np.bincount(index.ravel(), gradient.ravel(), minlength=target.size)
            write(sums.reshape(target.shape).astype(target.dtype, copy=False), target, accumulate)

    def avgpool_forward(self, x: Array, out: Array) -> None:
        """See :meth:`Backend.avgpool_forward`."""
        np.mean(x, axis=(2, 3), keepdims=True, out=out)

    def avgpool_backward(self, grad_out: Array, grad_x: Array, accumulate: bool = False) -> None:
        """See :meth:`Backend.avgpool_backward`."""
        write(grad_out / (grad_x.shape[2] * grad_x.shape[3]), grad_x, accumulate)

    def upsample_forward(self, x: Array, out: Array, stride: int, scale: float) -> None:
        """See :meth:`Backend.upsample_forward`."""
        enlarge(x, out, stride, scale, accumulate=False)

    def upsample_backward(
        self, grad_out: Array, grad_x: Array, stride: int, scale: float, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.upsample_backward`."""
        sum_blocks(grad_out, grad_x, stride, scale, accumulate)

    def downsample_forward(self, x: Array, out: Array, stride: int, scale: float) -> None:
        """See :meth:`Backend.downsample_forward`."""
        sum_blocks(x, out, stride, scale, accumulate=False)

    def downsample_backward(
        self, grad_out: Array, grad_x: Array, stride: int, scale: float, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.downsample_backward`."""
        height, width = grad_out.shape[2] * stride, grad_out.shape[3] * stride
        if not accumulate and (height, width) != grad_x.shape[2:]:
            grad_x.fill(0)
        enlarge(grad_out, grad_x[:, :, :height, :width], stride, scale, accumulate)


def windows_inside(geometry: PoolGeometry, stride: int, inputs: int, outputs: int) -> slice:
    """The windows along one axis of which any part lies inside the picture."""
    # The window's last position is at most size - 1 beyond the picture: as if it were a point in a longer picture.
    inside, _ = overlap(geometry.size - 1 - geometry.offset, stride, inputs + geometry.size - 1, outputs)
    return inside


def running_maximum(
    x: Array,
    out: Array,
    start: int,
    stride: int,
    size: int,
    winners: Array | None = None,
    places: Array | None = None,
) -> None:
    """``out[..., o]`` = maximum of ``x[..., start + o * stride + k]``, k < size, positions outside x left out.

    ``winners[..., o]`` becomes the first winning k, or ``k * size +`` its entry in ``places``, an array like x.
    """
    out.fill(-np.inf)
    # From the last to the first position, each at least as large as the maximum so far takes over: so the first of
    # several equals wins. A value that is not a number wins too, and shows.
    for k in reversed(range(size)):
        outputs, inputs = overlap(start + k, stride, x.shape[-1], out.shape[-1])
        candidate, target = x[..., inputs], out[..., outputs]
        if winners is not None:
            winner = winners[..., outputs]
            # Products and sums of small integers: masked assignment is many times slower.
            lost = (candidate < target).astype(winner.dtype)
            winner *= lost
            won = 1 - lost
            winner += won * winner.dtype.type(k) if places is None else won * (places[..., inputs] + k * size)
        np.maximum(target, candidate, out=target)


def enlarge(x: Array, out: Array, stride: int, scale: float, accumulate: bool) -> None:
    """Every value of x, times ``scale``, into its stride x stride block of out."""
    for picture, channels in planes(x.shape):
        scaled = x[picture, channels] * scale
        for dy in range(stride):
            for dx in range(stride):
                write(scaled, out[picture, channels, dy::stride, dx::stride], accumulate)


def sum_blocks(x: Array, out: Array, stride: int, scale: float, accumulate: bool) -> None:
    """The sum of every stride x stride block of x, times ``scale``, into out."""
    height, width = out.shape[2] * stride, out.shape[3] * stride
    for picture, channels in planes(out.shape):
        total = np.zeros(out[picture, channels].shape, out.dtype)
        for dy in range(stride):
            for dx in range(stride):
                total += x[picture, channels, dy:height:stride, dx:width:stride]
        write(total * scale, out[picture, channels], accumulate)
