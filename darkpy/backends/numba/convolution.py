"""Convolution: one matrix product whose right-hand side, the picture's patches, exists only a cache full at a time.

Forward
    ``out[f, pixel] = sum over terms of weights[f, term] * patch[term, pixel]``. Patches are read from bands or, for
    narrow pictures, from panels (packing.py), which stay in the second-level cache while tiles (tile.py) of all filters
    go over them; the weights are read where they lie. Scale, bias and activation go over rows just written. A task is
    one picture and group, or a part of its pixels or filters where there are too few pictures.
Input gradient
    For stride 1 the same with other taps: ``grad_x[c, pixel] = sum over filters and taps of weights[f, c, tap] *
    grad_out[f, pixel - tap]``. For larger strides, each phase of the picture (row % stride, column % stride) is reached
    by some of the taps only, and is such a sum of its own, spread into place afterwards.
Weight gradient
    ``grad_weights[f, term] = sum over pixels of grad_out[f, pixel] * patch[term, pixel]``, computed transposed: patches
    as before, the gradients turned to pixel by pixel. Tasks have a range of channels each or, where there are few
    weights, a range of pixels and sums of their own.

Flops: 2 * terms * filters per output pixel and pass. Bytes: pictures are read once from memory, weights once per band
or block of panels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.numba.activations import CODES, LINEAR
from darkpy.backends.numba.convolution_tasks import (
    PANEL_FLOATS,
    PANEL_TERMS,
    PATCH_PIXELS,
    PATCH_ROW,
    PATCH_TERMS,
    Gradients,
    Product,
    add_weight_sums,
    convolve_bands,
    convolve_panels,
    spread_phase,
    turn_weights,
    weight_gradients_bands,
    weight_gradients_panels,
)
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numba.packing import Band, Window, band_floats, band_vectors, plan_band, vectors
from darkpy.backends.numba.tile import COLUMNS, LANES, ROWS
from darkpy.backends.numpy.convolution import ConvolutionOperations as NumpyConvolutionOperations
from darkpy.backends.numpy.memory import workspace_bytes
from darkpy.backends.numpy.tiles import Array

Shape = tuple[int, ...]

#: Numbers of all tasks' sums of weight gradients up to which each task has sums of its own, over a part of the pixels.
SEPARATE_SUMS = 1 << 20

#: Fewer vectors of pixels than this per task, and filters are divided instead.
FEW_VECTORS = 16

#: What packing panels costs, as a share of the work of so many filters.
PACKING_FILTERS = 12

#: Rough rate of one core, to tell work worth sharing from work that is not.
FLOPS_PER_NANOSECOND = 50.0

NO_FLOATS = np.empty(0, np.float32)


class Reading(NamedTuple):
    """How output pixels see the channels of one group: the window, and a band, unless panels are better."""

    window: Window
    band: Band | None

    @property
    def taps(self) -> int:
        """Positions under the kernel."""
        return len(self.window.taps_y)

    @property
    def floats(self) -> int:
        """Memory to read patches from: that of a band or of a block of panels."""
        return PANEL_FLOATS if self.band is None else band_floats(self.window, self.band)


class Phase(NamedTuple):
    """Pixels (row + i * stride_y, column + j * stride_x) of a picture, the taps that reach them, and what they see."""

    row: int
    column: int
    height: int
    width: int
    taps: Array
    reading: Reading | None


def plan_reading(window: Window, channels: int, filters: int) -> Reading:
    """A band, or panels where a band would be computed for nothing more than packing costs."""
    band = plan_band(window, channels)
    rows, last_rows = band.rows, (window.out_height - 1) % band.rows + 1
    in_bands = (window.out_height - last_rows) // rows * band_vectors(window, band, rows)
    in_bands += band_vectors(window, band, last_rows)
    in_panels = vectors(window.out_height * window.out_width)
    pointwise = len(window.taps_y) == 1 and window.stride_x == 1
    worthwhile = in_bands <= in_panels * (1 + PACKING_FILTERS / filters) and not pointwise
    return Reading(window, band if worthwhile else None)


@lru_cache(maxsize=1024)
def forward_reading(x_shape: Shape, weights_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> Reading:
    """What the output's pixels see of x."""
    offsets = np.arange(geometry.size, dtype=np.int64) * geometry.dilation - geometry.padding
    taps_y, taps_x = np.repeat(offsets, geometry.size), np.tile(offsets, geometry.size)
    window = Window(*x_shape[2:], taps_y, taps_x, geometry.stride_y, geometry.stride_x, *out_shape[2:])
    return plan_reading(window, weights_shape[1], weights_shape[0] // geometry.groups)


@lru_cache(maxsize=1024)
def backward_phases(
    x_shape: Shape, weights_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry
) -> tuple[Phase, ...]:
    """What the pixels of x see of the output's gradient, phase by phase; nothing, where no tap reaches."""
    window = forward_reading(x_shape, weights_shape, out_shape, geometry).window
    stride_y, stride_x = geometry.stride_y, geometry.stride_x
    phases = []
    for row in range(min(stride_y, x_shape[2])):
        for column in range(min(stride_x, x_shape[3])):
            up, left = row - window.taps_y, column - window.taps_x
            taps = np.flatnonzero((up % stride_y == 0) & (left % stride_x == 0))
            height, width = -(-(x_shape[2] - row) // stride_y), -(-(x_shape[3] - column) // stride_x)
            seen = Window(*out_shape[2:], up[taps] // stride_y, left[taps] // stride_x, 1, 1, height, width)
            reading = plan_reading(seen, weights_shape[0] // geometry.groups, weights_shape[1]) if len(taps) else None
            phases.append(Phase(row, column, height, width, taps, reading))
    return tuple(phases)


@lru_cache(maxsize=1024)
def table(count: int, step: int) -> Array:
    """0, step, 2 * step, ...: where ``count`` rows begin."""
    return np.arange(count, dtype=np.int64) * step


class ConvolutionOperations(MemoryOperations, NumpyConvolutionOperations):
    """Forward pass and both gradients of convolutions, in float32."""

    def convolution_workspace(
        self,
        x_shape: Sequence[int],
        weights_shape: Sequence[int],
        out_shape: Sequence[int],
        geometry: ConvolutionGeometry,
        training: bool,
    ) -> int:
        """See :meth:`Backend.convolution_workspace`."""
        shapes = tuple(x_shape), tuple(weights_shape), tuple(out_shape), geometry
        reading = forward_reading(*shapes)
        needs = [self._reading_shapes(reading)]
        if training:
            needs.append(self._weight_gradient_shapes(reading, shapes[1], geometry.groups))
            needs.append(self._input_gradient_shapes(backward_phases(*shapes), shapes[1], geometry.groups))
        return max(workspace_bytes(*need, itemsize=4) for need in needs)

    def convolution_forward(
        self,
        x: Array,
        weights: Array,
        out: Array,
        geometry: ConvolutionGeometry,
        scale: Array | None = None,
        bias: Array | None = None,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.convolution_forward`."""
        reading = forward_reading(x.shape, weights.shape, out.shape, geometry)
        memory = self.carve(*self._reading_shapes(reading), dtype=np.float32)
        finish = (
            NO_FLOATS if scale is None else flat(scale),
            NO_FLOATS if bias is None else flat(bias),
            CODES.get(activation, LINEAR),
        )
        self._convolve(x, flat(weights), out, geometry.groups, reading, memory, finish)
        if activation not in CODES:
            self.activation_forward(out, out, activation)

    def convolution_backward_input(
        self,
        grad_out: Array,
        weights: Array,
        grad_x: Array,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.convolution_backward_input`."""
        phases = backward_phases(grad_x.shape, weights.shape, grad_out.shape, geometry)
        shapes = self._input_gradient_shapes(phases, weights.shape, geometry.groups)
        turned, phase_pixels, *memory = self.carve(*shapes, dtype=np.float32)
        starts = self._turn_weights(weights, geometry, phases, turned)
        if len(phases) == 1 and phases[0].reading is not None:
            self._convolve(
                grad_out, turned, grad_x, geometry.groups, phases[0].reading, memory, accumulate=accumulate
            )
            return
        for phase, start in zip(phases, starts):
            self._convolve_phase(grad_out, turned[start:], grad_x, geometry, phase, memory, phase_pixels, accumulate)

    def convolution_backward_weights(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.convolution_backward_weights`."""
        reading = forward_reading(x.shape, grad_weights.shape, grad_out.shape, geometry)
        shapes = self._weight_gradient_shapes(reading, grad_weights.shape, geometry.groups)
        sums, squares, turned, memory = self.carve(*shapes, dtype=np.float32)
        self._add_up_gradients(x, grad_out, grad_weights.shape, reading, sums, turned, memory)
        groups, parts, floats = sums.shape
        filters, terms = grad_weights.shape[0] // groups, math.prod(grad_weights.shape[1:])
        target, padded = flat(grad_weights), floats // terms
        ranges = shares(filters, self._divisions(groups), LANES)

        def task(worker: int, number: int) -> None:
            group, part = divmod(number, len(ranges))
            add_weight_sums(
                sums[group].reshape(-1), parts, floats, terms, filters, padded, *ranges[part],
                target, group * filters * terms, squares[worker],
            )  # fmt: skip

        self.run(task, groups * len(ranges), 1.0 * groups * filters * terms)

    # Help ------------------------------------------------------------------------------------------------------

    def _convolve(
        self,
        x: Array,
        weights: Array,
        out: Array,
        groups: int,
        reading: Reading,
        memory: Sequence[Array],
        finish: tuple[Array, Array, int] = (NO_FLOATS, NO_FLOATS, LINEAR),
        accumulate: bool = False,
    ) -> None:
        """All of a convolution; weights flat, (f, terms)."""
        pictures, channels, x_plane = x.shape[0], x.shape[1] // groups, x.shape[2] * x.shape[3]
        filters, plane = out.shape[1] // groups, out.shape[2] * out.shape[3]
        terms = channels * reading.taps
        source, target, rows = flat(x), flat(out), table(filters, terms)
        scales, biases, code = finish
        divided = self._divisions(pictures * groups)
        split_filters = plane < divided * FEW_VECTORS * LANES
        ranges = shares(filters, divided, ROWS) if split_filters else self._pixel_ranges(reading, divided)
        all_pixels = self._pixel_ranges(reading, 1)[0]

        def task(worker: int, number: int) -> None:
            item, part = divmod(number, len(ranges))
            picture, group = divmod(item, groups)
            f, last_f = ranges[part] if split_filters else (0, filters)
            first, last = group * filters + f, group * filters + last_f
            product = Product(
                weights, first * terms, rows, last_f - f, terms, (picture * groups * filters + first) * plane, plane,
                accumulate, scales[first:last], biases[first:last], code,
            )  # fmt: skip
            pixels = all_pixels if split_filters else ranges[part]
            self._compute(reading, source, item * channels * x_plane, product, target, pixels, memory, worker)

        work = 2.0 * pictures * groups * filters * plane * terms / FLOPS_PER_NANOSECOND
        self.run(task, pictures * groups * len(ranges), work)

    @staticmethod
    def _compute(
        reading: Reading,
        x: Array,
        start: int,
        product: Product,
        out: Array,
        pixels: tuple[int, int],
        memory: Sequence[Array],
        worker: int,
    ) -> None:
        """One task of a convolution; pixels: a range of rows for bands, of pixels for panels."""
        patches, edges = memory
        window, band = reading
        if band is None:
            panel_rows = table(PANEL_TERMS, COLUMNS)
            convolve_panels(x, start, window, panel_rows, product, out, *pixels, patches[worker])
        else:
            convolve_bands(x, start, window, band, product, out, *pixels, patches[worker], edges[worker])

    @staticmethod
    def _pixel_ranges(reading: Reading, parts: int) -> list[tuple[int, int]]:
        """Ranges of rows or pixels for :meth:`_compute`."""
        height, width = reading.window.out_height, reading.window.out_width
        return shares(height * width, parts, LANES) if reading.band is None else shares(height, parts)

    def _convolve_phase(
        self,
        grad_out: Array,
        turned: Array,
        grad_x: Array,
        geometry: ConvolutionGeometry,
        phase: Phase,
        memory: Sequence[Array],
        phase_pixels: Array,
        accumulate: bool,
    ) -> None:
        """One phase of an input gradient; turned: its weights (c, f / groups * taps), flat."""
        groups, pictures, (height, width) = geometry.groups, grad_x.shape[0], grad_x.shape[2:]
        channels, filters = grad_x.shape[1] // groups, grad_out.shape[1] // groups
        plane, terms = grad_out.shape[2] * grad_out.shape[3], filters * len(phase.taps)
        strides = geometry.stride_y, geometry.stride_x
        pixels = phase.height * phase.width
        source, target, rows = flat(grad_out), flat(grad_x), table(channels, terms)
        ranges = shares(channels, self._divisions(pictures * groups), ROWS)

        def task(worker: int, number: int) -> None:
            item, part = divmod(number, len(ranges))
            c, last_c = ranges[part]
            reached = phase_pixels[worker]
            if phase.reading is None:
                reached[: (last_c - c) * pixels] = 0
            else:
                product = Product(
                    turned, (item % groups * channels + c) * terms, rows, last_c - c, terms, 0, pixels,
                    False, NO_FLOATS, NO_FLOATS, LINEAR,
                )  # fmt: skip
                everything = self._pixel_ranges(phase.reading, 1)[0]
                start = item * filters * plane
                self._compute(phase.reading, source, start, product, reached, everything, memory, worker)
            spread_phase(
                reached, last_c - c, phase.height, phase.width, target, (item * channels + c) * height * width,
                height, width, phase.row, phase.column, strides, accumulate,
            )  # fmt: skip

        work = 2.0 * pictures * groups * channels * pixels * max(terms, 1) / FLOPS_PER_NANOSECOND
        self.run(task, pictures * groups * len(ranges), work)

    def _turn_weights(
        self, weights: Array, geometry: ConvolutionGeometry, phases: Sequence[Phase], turned: Array
    ) -> list[int]:
        """Fill ``turned`` with each phase's weights (c, f / groups * taps), one after the other; returns their starts."""
        groups, channels, filters = geometry.groups, weights.shape[1], weights.shape[0] // geometry.groups
        source, taps = flat(weights), geometry.size**2
        ranges = shares(channels, self._divisions(groups))
        starts = [0]
        for phase in phases:
            starts.append(starts[-1] + groups * channels * filters * len(phase.taps))

        def task(worker: int, number: int) -> None:
            group, part = divmod(number, len(ranges))
            for phase, start in zip(phases, starts):
                at = start + group * channels * filters * len(phase.taps)
                start = group * filters * channels * taps
                turn_weights(source, start, filters, channels, taps, phase.taps, *ranges[part], turned, at)

        self.run(task, groups * len(ranges), 1.0 * weights.size)
        return starts[:-1]

    def _add_up_gradients(
        self,
        x: Array,
        grad_out: Array,
        weights_shape: Shape,
        reading: Reading,
        sums: Array,
        turned: Array,
        memory: Array,
    ) -> None:
        """Fill ``sums`` (groups, parts, terms * padded filters): parts are tasks with pixels of their own, if not 1."""
        groups, parts, floats = sums.shape
        filters, channels, taps = weights_shape[0] // groups, weights_shape[1], reading.taps
        padded = floats // (channels * taps)
        width = min(padded, COLUMNS)
        plane, x_plane = grad_out.shape[2] * grad_out.shape[3], x.shape[2] * x.shape[3]
        source, gradients = flat(x), flat(grad_out)
        window, band = reading
        everything = x.shape[0] * (plane if band is None else -(-window.out_height // band.rows))
        channel_ranges = shares(channels, 1 if parts > 1 else self._divisions(groups))
        pixel_ranges = shares(everything, parts)
        turned_rows = table(PATCH_PIXELS if band is None else band.rows * band.row_length, width)

        def task(worker: int, number: int) -> None:
            group, part = divmod(number, len(channel_ranges) * len(pixel_ranges))
            (c, last_c), pixels = channel_ranges[part % len(channel_ranges)], pixel_ranges[part // len(channel_ranges)]
            sources = Gradients(
                group * channels * x_plane, x.shape[1] * x_plane, group * filters * plane, grad_out.shape[1] * plane,
                plane, filters, padded, width,
            )  # fmt: skip
            result = sums[group, part // len(channel_ranges), c * taps * padded :]
            if band is None:
                weight_gradients_panels(
                    source, window, table(PATCH_TERMS, PATCH_ROW), gradients, sources, c * taps, last_c * taps, *pixels,
                    result, memory[worker], turned[worker], turned_rows,
                )  # fmt: skip
            else:
                weight_gradients_bands(
                    source, window, band, gradients, sources, c, last_c, *pixels,
                    result, memory[worker], turned[worker], turned_rows,
                )  # fmt: skip

        work = 2.0 * groups * filters * channels * taps * x.shape[0] * plane / FLOPS_PER_NANOSECOND
        self.run(task, groups * len(channel_ranges) * len(pixel_ranges), work)
        sums[:, len(pixel_ranges) :] = 0

    def _divisions(self, items: int) -> int:
        """Into how many parts to cut each of so many equal items to give all threads the same work."""
        return self.threads // math.gcd(self.threads, items)

    def _reading_shapes(self, reading: Reading) -> tuple[Shape, ...]:
        """Working memory of a convolution, per thread: for patches and for a tile."""
        return (self.threads, reading.floats), (self.threads, ROWS * COLUMNS)

    def _input_gradient_shapes(self, phases: Sequence[Phase], weights_shape: Shape, groups: int) -> tuple[Shape, ...]:
        """The turned weights and, per thread, a phase of a picture if there are several, patches and a tile."""
        spread = len(phases) > 1 or phases[0].reading is None
        pixels = max(phase.height * phase.width for phase in phases) if spread else 0
        floats = max((phase.reading.floats for phase in phases if phase.reading is not None), default=0)
        per_thread = (self.threads, weights_shape[1] * pixels), (self.threads, floats), (self.threads, ROWS * COLUMNS)
        return (math.prod(weights_shape),), *per_thread

    def _weight_gradient_shapes(self, reading: Reading, weights_shape: Shape, groups: int) -> tuple[Shape, ...]:
        """Sums per group and part and, per thread, a square of numbers, turned gradients, and patches."""
        terms, filters = math.prod(weights_shape[1:]), weights_shape[0] // groups
        padded = -(-filters // LANES) * LANES
        parts = self._divisions(groups)
        if groups * parts * terms * padded > SEPARATE_SUMS:
            parts = 1
        band = reading.band
        pixels = PATCH_PIXELS if band is None else band.rows * band.row_length
        floats = min(terms, PATCH_TERMS) * PATCH_ROW if band is None else reading.floats
        columns = padded if padded < COLUMNS else -(-padded // COLUMNS) * COLUMNS
        return (
            (groups, parts, terms * padded),
            (self.threads, LANES * LANES),
            (self.threads, pixels * columns),
            (self.threads, floats),
        )
