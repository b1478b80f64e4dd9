"""Maximum pooling and enlarging: plane by plane, whole output rows at a time.

An output row starts at minus infinity; each position of the window then goes over it in one vector loop. Positions come
last to first and win if they are at least as large, so that of equals the first one stays. Bytes per output value:
stride^2 inputs read, 4 + 1 written. Windows of 2 x 2 with stride 2, those of most detectors, have loops of their own.
"""

from __future__ import annotations

import numpy as np

from darkpy.backends.base import PoolGeometry
from darkpy.backends.numba.activations import write_row
from darkpy.backends.numba.jit import compiled, entry
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numpy.pooling import PoolingOperations as NumpyPoolingOperations
from darkpy.backends.numpy.tiles import Array

# --- Compiled: planes are counted through pictures and channels; arrays are flat.


@entry
def pool(x, height, width, out, out_height, out_width, geometry, winners, first, last):
    """Maxima, and if ``winners`` is not empty, the winning positions ``row * size + column``, of some planes."""
    size, stride_y, stride_x, offset = geometry
    pairs = size == 2 and stride_y == 2 and stride_x == 2 and offset == 0
    for plane in range(first, last):
        for out_y in range(out_height):
            at = (plane * out_height + out_y) * out_width
            row = out[at : at + out_width]
            winner = winners[at : at + out_width] if len(winners) > 0 else winners
            top = out_y * stride_y - offset
            done = 0
            if pairs and top + 2 <= height:
                done = min(out_width, width // 2)
                upper = x[(plane * height + top) * width : (plane * height + top + 1) * width]
                lower = x[(plane * height + top + 1) * width : (plane * height + top + 2) * width]
                _pool_pairs(upper, lower, row[:done], winner)
            if done < out_width:
                _pool_windows(x, plane, height, width, top, done, row, size, stride_x, offset, winner)


@compiled
def _pool_pairs(upper, lower, out, winners):
    """Windows of 2 x 2 side by side."""
    if len(winners) > 0:
        for i in range(len(out)):
            best, winner = lower[2 * i + 1], 3
            wins = _wins(lower[2 * i], best)
            best, winner = (lower[2 * i], 2) if wins else (best, winner)
            wins = _wins(upper[2 * i + 1], best)
            best, winner = (upper[2 * i + 1], 1) if wins else (best, winner)
            wins = _wins(upper[2 * i], best)
            out[i] = upper[2 * i] if wins else best
            winners[i] = 0 if wins else winner
    else:
        for i in range(len(out)):
            right = _larger(upper[2 * i + 1], lower[2 * i + 1])
            out[i] = _larger(_larger(upper[2 * i], lower[2 * i]), right)


@compiled
def _pool_windows(x, plane, height, width, top, begin, out, size, stride, offset, winners):
    """The windows of one output row from number ``begin`` on; top: the picture row of their first."""
    out[begin:] = -np.inf
    for ky in range(size - 1, -1, -1):
        if not 0 <= top + ky < height:
            continue
        source = x[(plane * height + top + ky) * width : (plane * height + top + ky + 1) * width]
        for kx in range(size - 1, -1, -1):
            start = kx - offset
            first = min(max(begin, -(start // stride)), len(out))
            last = max(first, min(len(out), (width - 1 - start) // stride + 1))
            if first < last:
                seen = source[start + first * stride : start + (last - 1) * stride + 1]
                _challenge(seen, stride, out[first:last], winners[first:last], ky * size + kx)
    if top + size <= 0 or top >= height:
        out[begin:] = 0
    for i in range(begin, len(out)):
        if i * stride - offset + size <= 0 or i * stride - offset >= width:
            out[i] = 0


@compiled
def _wins(new, old):
    """Whether a position takes over from those after it; one that is not a number does, and none takes over from it."""
    return new >= old or new != new


@compiled
def _larger(new, old):
    return new if _wins(new, old) else old


@compiled
def _challenge(x, stride, out, winners, position):
    """One position of every window against the best so far; winners may be empty."""
    if len(winners) > 0:
        for i in range(len(out)):
            wins = _wins(x[stride * i], out[i])
            out[i] = x[stride * i] if wins else out[i]
            winners[i] = position if wins else winners[i]
    elif stride == 1:
        for i in range(len(out)):
            out[i] = _larger(x[i], out[i])
    else:
        for i in range(len(out)):
            out[i] = _larger(x[stride * i], out[i])


@entry
def unpool(gradients, out_height, out_width, winners, grad_x, height, width, geometry, accumulate, first, last):
    """Adds every window's gradient to its winner, in some planes."""
    size, stride_y, stride_x, offset = geometry
    pairs = size == 2 and stride_y == 2 and stride_x == 2 and offset == 0 and not accumulate
    for plane in range(first, last):
        target = grad_x[plane * height * width : (plane + 1) * height * width]
        if not pairs and not accumulate:
            target[:] = 0
        for out_y in range(out_height):
            at = (plane * out_height + out_y) * out_width
            row, winner = gradients[at : at + out_width], winners[at : at + out_width]
            top = out_y * stride_y - offset
            done = 0
            if pairs:
                done = _unpool_pairs(row, winner, target, top, height, width)
            if top + size > 0 and top < height:
                for i in range(done, out_width):
                    left = i * stride_x - offset
                    if left + size > 0 and left < width:
                        ky = winner[i] // size
                        target[(top + ky) * width + left + winner[i] - ky * size] += row[i]


@compiled
def _unpool_pairs(gradients, winners, target, top, height, width):
    """Windows of 2 x 2 that lie side by side within the picture; returns how many. Everything else of their rows is 0."""
    for y in range(top, min(top + 2, height)):
        target[y * width : (y + 1) * width] = 0
    if top + 2 > height:
        return 0
    whole = min(len(gradients), width // 2)
    upper, lower = target[top * width : (top + 1) * width], target[(top + 1) * width : (top + 2) * width]
    for i in range(whole):
        gradient, winner = gradients[i], winners[i]
        upper[2 * i] = gradient if winner == 0 else np.float32(0)
        upper[2 * i + 1] = gradient if winner == 1 else np.float32(0)
        lower[2 * i] = gradient if winner == 2 else np.float32(0)
        lower[2 * i + 1] = gradient if winner == 3 else np.float32(0)
    return whole


@entry
def enlarge(x, width, out, stride, scale, accumulate, first, last, row):
    """Rows ``first`` to ``last`` of all of x, each into ``stride`` rows of out; row: memory for one of those."""
    for y in range(first, last):
        source, wide = x[y * width : (y + 1) * width], row[: width * stride]
        if stride == 2:
            for i in range(width):
                wide[2 * i] = source[i] * scale
                wide[2 * i + 1] = source[i] * scale
        else:
            for i in range(width):
                wide[i * stride : (i + 1) * stride] = source[i] * scale
        for number in range(y * stride, (y + 1) * stride):
            write_row(wide, out[number * width * stride : (number + 1) * width * stride], accumulate)


@entry
def shrink(x, out, width, stride, scale, accumulate, first, last, row):
    """Rows ``first`` to ``last`` of all of out: sums of blocks of x; row: memory for one of them."""
    sums = row[:width]
    for y in range(first, last):
        sums[:] = 0
        for number in range(y * stride, (y + 1) * stride):
            source = x[number * width * stride : (number + 1) * width * stride]
            if stride == 2:
                for i in range(width):
                    sums[i] += source[2 * i] + source[2 * i + 1]
            else:
                for i in range(width):
                    for k in range(i * stride, (i + 1) * stride):
                        sums[i] += source[k]
        for i in range(width):
            sums[i] *= scale
        write_row(sums, out[y * width : (y + 1) * width], accumulate)


# --- The operations.


class PoolingOperations(MemoryOperations, NumpyPoolingOperations):
    """Maximum pooling and upsampling in float32."""

    def maxpool_forward(self, x: Array, out: Array, geometry: PoolGeometry, winners: Array | None = None) -> None:
        """See :meth:`Backend.maxpool_forward`."""
        source, target = flat(x), flat(out)
        places = NO_WINNERS if winners is None else winners.reshape(-1)
        planes = x.shape[0] * x.shape[1]
        ranges = shares(planes, 4 * self.threads)

        def task(worker: int, number: int) -> None:
            pool(source, *x.shape[2:], target, *out.shape[2:], numbers(geometry), places, *ranges[number])

        self.run(task, len(ranges), 0.25 * out.size * geometry.size**2)

    def maxpool_backward(
        self, grad_out: Array, winners: Array, grad_x: Array, geometry: PoolGeometry, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.maxpool_backward`."""
        source, places, target = flat(grad_out), winners.reshape(-1), flat(grad_x)
        ranges = shares(grad_x.shape[0] * grad_x.shape[1], 4 * self.threads)

        def task(worker: int, number: int) -> None:
            unpool(
                source, *grad_out.shape[2:], places, target, *grad_x.shape[2:], numbers(geometry), accumulate, *ranges[number]
            )

        self.run(task, len(ranges), 1.0 * grad_x.size)

    def upsample_forward(self, x: Array, out: Array, stride: int, scale: float) -> None:
        """See :meth:`Backend.upsample_forward`."""
        source, target = flat(x), flat(out)
        ranges = shares(x.size // x.shape[3], 4 * self.threads)
        rows = self.carve((self.threads, out.shape[3]), dtype=np.float32)[0]

        def task(worker: int, number: int) -> None:
            enlarge(source, x.shape[3], target, stride, np.float32(scale), False, *ranges[number], rows[worker])

        self.run(task, len(ranges), 0.5 * out.size)

    def upsample_backward(
        self, grad_out: Array, grad_x: Array, stride: int, scale: float, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.upsample_backward`."""
        source, target = flat(grad_out), flat(grad_x)
        ranges = shares(grad_x.size // grad_x.shape[3], 4 * self.threads)
        rows = self.carve((self.threads, grad_x.shape[3]), dtype=np.float32)[0]

        def task(worker: int, number: int) -> None:
            shrink(source, target, grad_x.shape[3], stride, np.float32(scale), accumulate, *ranges[number], rows[worker])

        self.run(task, len(ranges), 0.5 * grad_out.size)


NO_WINNERS = np.empty(0, np.uint8)


def numbers(geometry: PoolGeometry) -> tuple[int, int, int, int]:
    """Size, strides and offset, as compiled functions take them."""
    return geometry.size, geometry.stride_y, geometry.stride_x, geometry.offset
