"""Maximum pooling and enlarging, plane by plane.

A plane is copied into one with minus infinity around it; the maximum of a window is then the maximum of its rows'
maxima, 2 * size comparisons in long vector loops that need not know where the plane ends. Positions come last to first
and win if they are at least as large, so that of equals the first stays. Windows of 2 x 2 with stride 2, those of most
detectors, have loops of their own.

Bytes per output value: stride^2 * 4 read, 4 + 1 written.
"""

from __future__ import annotations

import numpy as np

from darkpy.backends.base import PoolGeometry
from darkpy.backends.numba.activations import ROW, write_row
from darkpy.backends.numba.jit import compiled, entry
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numba.tile import LANES, deal_pairs, load, store
from darkpy.backends.numpy.pooling import PoolingOperations as NumpyPoolingOperations
from darkpy.backends.numpy.tiles import Array

# --- Compiled: planes are counted through pictures and channels; arrays are flat.


@compiled
def _wins(new, old):
    """Whether a position takes over from those after it. One that is not a number does, and none takes over from it."""
    return new >= old or new != new


@entry
def pool_pairs(x, height, width, out, out_height, out_width, winners, first, last):
    """Windows of 2 x 2, stride 2, that lie inside: all of them. winners may be empty."""
    for plane in range(first, last):
        for y in range(out_height):
            upper, at = (plane * height + 2 * y) * width, (plane * out_height + y) * out_width
            lower = upper + width
            if len(winners) > 0:
                for i in range(out_width):
                    best, winner = load(x, lower + 2 * i + 1), np.uint8(3)
                    value = load(x, lower + 2 * i)
                    best, winner = (value, np.uint8(2)) if _wins(value, best) else (best, winner)
                    value = load(x, upper + 2 * i + 1)
                    best, winner = (value, np.uint8(1)) if _wins(value, best) else (best, winner)
                    value = load(x, upper + 2 * i)
                    best, winner = (value, np.uint8(0)) if _wins(value, best) else (best, winner)
                    store(out, at + i, best)
                    store(winners, at + i, winner)
            else:
                for i in range(out_width):
                    best = load(x, lower + 2 * i + 1)
                    value = load(x, lower + 2 * i)
                    best = value if _wins(value, best) else best
                    value = load(x, upper + 2 * i + 1)
                    best = value if _wins(value, best) else best
                    value = load(x, upper + 2 * i)
                    store(out, at + i, value if _wins(value, best) else best)


@entry
def unpool_pairs(gradients, out_height, out_width, winners, grad_x, height, width, first, last):
    """The reverse; what lies beyond the windows becomes 0."""
    for plane in range(first, last):
        for y in range(out_height):
            upper, at = (plane * height + 2 * y) * width, (plane * out_height + y) * out_width
            lower = upper + width
            whole = out_width // LANES * LANES
            for i in range(0, whole, LANES):
                deal_pairs(gradients, at + i, winners, grad_x, upper + 2 * i, lower + 2 * i)
            for i in range(whole, out_width):
                for place in range(4):
                    target = (upper if place < 2 else lower) + 2 * i + place % 2
                    grad_x[target] = gradients[at + i] if winners[at + i] == place else np.float32(0)
            if width > 2 * out_width:
                grad_x[upper + 2 * out_width : upper + width] = 0
                grad_x[lower + 2 * out_width : lower + width] = 0
        grad_x[(plane * height + 2 * out_height) * width : (plane + 1) * height * width] = 0


@entry
def pool(x, height, width, out, out_height, out_width, geometry, winners, first, last, planes):
    """Any windows. planes: memory for a plane with its surroundings, five times."""
    size, stride_y, stride_x, offset = geometry
    length = (out_width - 1) * stride_x + size
    rows = (out_height - 1) * stride_y + size
    padded, maxima, best, columns, places = planes
    at_once = out_height if stride_y == 1 else 1
    span = (at_once - 1) * length + (out_width - 1) * stride_x + 1
    for plane in range(first, last):
        _surround(x, plane * height * width, height, width, offset, padded, rows, length)
        _maximum(padded, 0, 1, size, maxima, rows * length - size + 1, columns, columns, False, len(winners) > 0)
        for y in range(0, out_height, at_once):
            start = y * stride_y * length
            _maximum(maxima, start, length, size, best, span, columns, places, True, len(winners) > 0)
            for row in range(at_once):
                at = (plane * out_height + y + row) * out_width
                _sample(best, row * length, stride_x, out, at, out_width)
                if len(winners) > 0:
                    _sample(places, row * length, stride_x, winners, at, out_width)
                _settle(out, winners, at, out_width, (y + row) * stride_y - offset, geometry, height, width)


@compiled
def _surround(x, at, height, width, offset, out, out_height, out_width):
    """A plane with minus infinity around it."""
    for y in range(out_height):
        target, source = y * out_width, at + (y - offset) * width
        inside = offset <= y < offset + height
        begin = min(offset, out_width) if inside else out_width
        end = max(begin, min(offset + width, out_width)) if inside else out_width
        for i in range(begin):
            store(out, target + i, -np.inf)
        for i in range(begin, end):
            store(out, target + i, load(x, source + i - offset))
        for i in range(end, out_width):
            store(out, target + i, -np.inf)


@compiled
def _maximum(x, start, step, size, out, count, places, winners, by_row, wanted):
    """``out[i]`` = maximum of ``x[start + i + k * step]``, k < size.

    ``winners[i]``, if wanted, becomes the first winning k or, if ``by_row``, k * size + the entry of ``places`` there;
    float32, for vector code has lanes of one width.
    """
    for block in range(0, count, ROW):
        end = min(block + ROW, count)
        for k in range(size - 1, -1, -1):
            source = start + k * step
            position = np.float32(k * size if by_row else k)
            if k == size - 1:
                for i in range(block, end):
                    store(out, i, load(x, source + i))
            if not wanted:
                for i in range(block, end):
                    value, old = load(x, source + i), load(out, i)
                    store(out, i, value if _wins(value, old) else old)
            elif by_row:
                for i in range(block, end):
                    value, old, winner = load(x, source + i), load(out, i), load(winners, i)
                    challenger = position + load(places, source + i)
                    wins = _wins(value, old)
                    store(out, i, value if wins else old)
                    store(winners, i, challenger if wins else winner)
            else:
                for i in range(block, end):
                    value, old, winner = load(x, source + i), load(out, i), load(winners, i)
                    wins = _wins(value, old)
                    store(out, i, value if wins else old)
                    store(winners, i, position if wins else winner)


@compiled
def _sample(x, at, stride, out, out_at, count):
    if stride == 1:
        for i in range(count):
            store(out, out_at + i, load(x, at + i))
    else:
        for i in range(count):
            store(out, out_at + i, load(x, at + i * stride))


@compiled
def _settle(out, winners, at, count, top, geometry, height, width):
    """Windows of which nothing, or nothing but minus infinity, lies inside."""
    size, _, stride_x, offset = geometry
    for i in range(at, at + count):
        if out[i] == -np.inf:
            left = (i - at) * stride_x - offset
            if top >= height or left >= width or top + size <= 0 or left + size <= 0:
                out[i] = 0
            elif len(winners) > 0:
                winners[i] = max(-top, 0) * size + max(-left, 0)


@entry
def unpool(gradients, out_height, out_width, winners, grad_x, height, width, geometry, accumulate, first, last):
    """Adds every window's gradient to its winner, in some planes."""
    size, stride_y, stride_x, offset = geometry
    for plane in range(first, last):
        target = grad_x[plane * height * width : (plane + 1) * height * width]
        if not accumulate:
            target[:] = 0
        for y in range(out_height):
            at, top = (plane * out_height + y) * out_width, y * stride_y - offset
            if top + size > 0 and top < height:
                for i in range(out_width):
                    left = i * stride_x - offset
                    if left + size > 0 and left < width:
                        row = winners[at + i] // size
                        target[(top + row) * width + left + winners[at + i] - row * size] += gradients[at + i]


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
        winner = NO_WINNERS if winners is None else winners.reshape(-1)
        ranges = shares(x.shape[0] * x.shape[1], 4 * self.threads)
        if _is_pairs(x, out, geometry):

            def task(worker: int, number: int) -> None:
                pool_pairs(source, *x.shape[2:], target, *out.shape[2:], winner, *ranges[number])

            self.run(task, len(ranges), 1.0 * out.size)
            return
        height = (out.shape[2] - 1) * geometry.stride_y + geometry.size
        length = height * ((out.shape[3] - 1) * geometry.stride_x + geometry.size)
        planes = self.carve((self.threads, 5, length), dtype=np.float32)[0]

        def task(worker: int, number: int) -> None:
            pool(
                source, *x.shape[2:], target, *out.shape[2:], numbers(geometry), winner, *ranges[number], planes[worker]
            )

        self.run(task, len(ranges), 0.5 * out.size * geometry.size)

    def maxpool_backward(
        self, grad_out: Array, winners: Array, grad_x: Array, geometry: PoolGeometry, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.maxpool_backward`."""
        source, places, target = flat(grad_out), winners.reshape(-1), flat(grad_x)
        ranges = shares(grad_x.shape[0] * grad_x.shape[1], 4 * self.threads)
        sizes, in_pairs = numbers(geometry), _is_pairs(grad_x, grad_out, geometry) and not accumulate

        def task(worker: int, number: int) -> None:
            shapes = *grad_out.shape[2:], places, target, *grad_x.shape[2:]
            if in_pairs:
                unpool_pairs(source, *shapes, *ranges[number])
            else:
                unpool(source, *shapes, sizes, accumulate, *ranges[number])

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


def _is_pairs(x: Array, out: Array, geometry: PoolGeometry) -> bool:
    """Whether all windows are 2 x 2 with stride 2 and lie inside the picture."""
    inside = 2 * out.shape[2] <= x.shape[2] and 2 * out.shape[3] <= x.shape[3]
    return geometry == PoolGeometry(2, 2, 2, 0) and inside


def numbers(geometry: PoolGeometry) -> tuple[int, int, int, int]:
    """Size, strides and offset, as compiled functions take them."""
    return geometry.size, geometry.stride_y, geometry.stride_x, geometry.offset
