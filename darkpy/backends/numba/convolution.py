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

import numpy as np

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.numba.activations import CODES, LINEAR
from darkpy.backends.numba.convolution_plans import (
    FEW_VECTORS,
    FLOPS_PER_NANOSECOND,
    Phase,
    Reading,
    Shape,
    backward_phases,
    forward_reading,
    plan_gradient_tiles,
    table,
)
from darkpy.backends.numba.convolution_tasks import (
    NO_FINISH,
    PANEL_TERMS,
    PATCH_PIXELS,
    PATCH_ROW,
    PATCH_TERMS,
    Finish,
    Gradients,
    Product,
    add_weight_sums,
    convolve_bands,
    convolve_panels,
    spread_phases,
    turn_weights,
    weight_gradients_bands,
    weight_gradients_panels,
)
from darkpy.backends.numba.depthwise import DepthwiseOperations
from darkpy.backends.numba.memory import flat, shares
from darkpy.backends.numba.tile import COLUMNS, LANES, ROWS, tile_address
from darkpy.backends.numba.winograd import WinogradOperations
from darkpy.backends.numpy.convolution import ConvolutionOperations as NumpyConvolutionOperations
from darkpy.backends.numpy.depthwise import is_depthwise
from darkpy.backends.numpy.memory import workspace_bytes
from darkpy.backends.numpy.tiles import Array

#: Numbers of all tasks' sums of weight gradients up to which each task has sums of its own, over a part of the pixels.
SEPARATE_SUMS = 1 << 20


class ConvolutionOperations(WinogradOperations, DepthwiseOperations, NumpyConvolutionOperations):
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
        if is_depthwise(weights_shape, geometry):
            needs = self.plane_shapes(shapes[0], shapes[2], geometry, training)
            return max(workspace_bytes(*need, itemsize=4) for need in needs)
        reading = forward_reading(*shapes)
        needs = [self._reading_shapes(reading)]
        if reading.tiles is not None:
            needs = [self.tiles_shapes(reading.tiles, shapes[1], geometry.groups)]
        if training:
            needs.append(self._weight_gradient_shapes(reading, shapes[1], geometry.groups))
            cut = plan_gradient_tiles(*shapes)
            if cut is not None:
                needs.append(self.gradient_tiles_shapes(cut, shapes[1], geometry.groups))
            phases = backward_phases(*shapes)
            needs.append(self._input_gradient_shapes(phases, shapes[1], geometry.groups))
            if phases[0].reading is not None and phases[0].reading.tiles is not None:
                needs.append(self.tiles_shapes(phases[0].reading.tiles, shapes[1], geometry.groups))
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
        finish = Finish(
            NO_FINISH.scales if scale is None else flat(scale),
            NO_FINISH.biases if bias is None else flat(bias),
            CODES.get(activation, LINEAR),
        )
        if is_depthwise(weights.shape, geometry):
            self.forward_by_plane(x, weights, out, geometry, finish)
        else:
            self._forward(x, weights, out, geometry, finish)
        if activation not in CODES:
            self.activation_forward(out, out, activation)

    def _forward(
        self, x: Array, weights: Array, out: Array, geometry: ConvolutionGeometry, finish: Finish
    ) -> None:
        reading = forward_reading(x.shape, weights.shape, out.shape, geometry)
        if reading.tiles is not None:
            self.convolve_in_tiles(x, weights, out, geometry.groups, reading.tiles, finish)
        else:
            memory = self.carve(*self._reading_shapes(reading), dtype=np.float32)
            self._convolve(x, flat(weights), out, geometry.groups, reading, memory, finish)

    def convolution_backward_input(
        self,
        grad_out: Array,
        weights: Array,
        grad_x: Array,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.convolution_backward_input`."""
        if is_depthwise(weights.shape, geometry):
            self.backward_input_by_plane(grad_out, weights, grad_x, geometry, accumulate)
            return
        phases = backward_phases(grad_x.shape, weights.shape, grad_out.shape, geometry)
        if len(phases) == 1 and phases[0].reading is not None and phases[0].reading.tiles is not None:
            self.convolve_in_tiles(
                grad_out, weights, grad_x, geometry.groups, phases[0].reading.tiles, turned=True, accumulate=accumulate
            )
            return
        shapes = self._input_gradient_shapes(phases, weights.shape, geometry.groups)
        turned, phase_pixels, *memory = self.carve(*shapes, dtype=np.float32)
        starts = self._turn_weights(weights, geometry, phases, turned)
        if len(phases) == 1 and phases[0].reading is not None:
            self._convolve(
                grad_out, turned, grad_x, geometry.groups, phases[0].reading, memory, accumulate=accumulate
            )
            return
        for row in sorted({phase.row for phase in phases}):
            chosen = [(phase, turned[start:]) for phase, start in zip(phases, starts) if phase.row == row]
            self._convolve_phases(grad_out, chosen, grad_x, geometry, memory, phase_pixels, accumulate)

    def convolution_backward_weights(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.convolution_backward_weights`."""
        if is_depthwise(grad_weights.shape, geometry):
            self.backward_weights_by_plane(x, grad_out, grad_weights, geometry)
            return
        cut = plan_gradient_tiles(x.shape, grad_weights.shape, grad_out.shape, geometry)
        if cut is not None:
            self.weight_gradients_in_tiles(x, grad_out, grad_weights, geometry.groups, cut)
            return
        reading = forward_reading(x.shape, grad_weights.shape, grad_out.shape, geometry)
        shapes = self._weight_gradient_shapes(reading, grad_weights.shape, geometry.groups)
        sums, squares, turned, memory = self.carve(*shapes, dtype=np.float32)
        self._add_up_gradients(x, grad_out, grad_weights.shape, reading, sums, turned, memory)
        groups, parts, floats = sums.shape
        filters, terms = grad_weights.shape[0] // groups, math.prod(grad_weights.shape[1:])
        target, padded = flat(grad_weights), floats // terms
        ranges = shares(filters, self.divisions(groups), LANES)

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
        finish: Finish = NO_FINISH,
        accumulate: bool = False,
    ) -> None:
        """All of a convolution; weights flat, (f, terms)."""
        pictures, channels, x_plane = x.shape[0], x.shape[1] // groups, x.shape[2] * x.shape[3]
        filters, plane = out.shape[1] // groups, out.shape[2] * out.shape[3]
        terms = channels * reading.taps
        source, target, rows = flat(x), flat(out), table(filters, terms)
        divided = self.divisions(pictures * groups)
        split_filters = plane < divided * FEW_VECTORS * LANES
        ranges = shares(filters, divided, ROWS) if split_filters else self._pixel_ranges(reading, divided)
        all_pixels = self._pixel_ranges(reading, 1)[0]

        def task(worker: int, number: int) -> None:
            item, part = divmod(number, len(ranges))
            picture, group = divmod(item, groups)
            f, last_f = ranges[part] if split_filters else (0, filters)
            first, last = group * filters + f, group * filters + last_f
            product = Product(
                tile_address(), weights, first * terms, rows, last_f - f, terms, (picture * groups * filters + first) * plane, plane,
                accumulate, finish.scales[first:last], finish.biases[first:last], finish.code,
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
        window, band = reading.window, reading.band
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

    def _convolve_phases(
        self,
        grad_out: Array,
        phases: Sequence[tuple[Phase, Array]],
        grad_x: Array,
        geometry: ConvolutionGeometry,
        memory: Sequence[Array],
        phase_pixels: Array,
        accumulate: bool,
    ) -> None:
        """The phases of an input gradient that make up some of its rows, each with its weights (c, f / groups * taps)."""
        groups, pictures, (height, width) = geometry.groups, grad_x.shape[0], grad_x.shape[2:]
        channels, filters = grad_x.shape[1] // groups, grad_out.shape[1] // groups
        plane, row, rows = grad_out.shape[2] * grad_out.shape[3], phases[0][0].row, phases[0][0].window.out_height
        source, target = flat(grad_out), flat(grad_x)
        ranges = shares(channels, self.divisions(pictures * groups), ROWS)

        def task(worker: int, number: int) -> None:
            item, part = divmod(number, len(ranges))
            c, last_c = ranges[part]
            own = phase_pixels[worker]
            step = phase_pixels.shape[1] // len(phases)
            for place, (phase, weights) in enumerate(phases):
                pixels, terms = phase.pixels, filters * len(phase.taps)
                reached = own[place * step :]
                if phase.reading is None:
                    reached[: (last_c - c) * pixels] = 0
                    continue
                product = Product(
                    tile_address(), weights, (item % groups * channels + c) * terms, table(channels, terms), last_c - c, terms, 0, pixels,
                    False, *NO_FINISH,
                )  # fmt: skip
                everything = self._pixel_ranges(phase.reading, 1)[0]
                start = item * filters * plane
                self._compute(phase.reading, source, start, product, reached, everything, memory, worker)
            spread_phases(
                own, step, last_c - c, rows, target, (item * channels + c) * height * width, height, width, row,
                (geometry.stride_y, geometry.stride_x), accumulate,
            )  # fmt: skip

        terms = filters * sum(len(phase.taps) for phase, _ in phases)
        work = 2.0 * pictures * groups * channels * phases[0][0].pixels * max(terms, 1) / FLOPS_PER_NANOSECOND
        self.run(task, pictures * groups * len(ranges), work)

    def _turn_weights(
        self, weights: Array, geometry: ConvolutionGeometry, phases: Sequence[Phase], turned: Array
    ) -> list[int]:
        """Fill ``turned`` with each phase's weights (c, f / groups * taps), one after the other; returns their starts."""
        groups, channels, filters = geometry.groups, weights.shape[1], weights.shape[0] // geometry.groups
        source, taps = flat(weights), geometry.size**2
        ranges = shares(channels, self.divisions(groups))
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
        window, band = reading.window, reading.band
        everything = x.shape[0] * (plane if band is None else -(-window.out_height // band.rows))
        channel_ranges = shares(channels, 1 if parts > 1 else self.divisions(groups))
        pixel_ranges = shares(everything, parts)
        turned_rows = table(PATCH_PIXELS if band is None else band.rows * band.row_length, width)

        def task(worker: int, number: int) -> None:
            group, part = divmod(number, len(channel_ranges) * len(pixel_ranges))
            (c, last_c), pixels = channel_ranges[part % len(channel_ranges)], pixel_ranges[part // len(channel_ranges)]
            sources = Gradients(
                tile_address(), group * channels * x_plane, x.shape[1] * x_plane, group * filters * plane, grad_out.shape[1] * plane,
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

    def _reading_shapes(self, reading: Reading) -> tuple[Shape, ...]:
        """Working memory of a convolution, per thread: for patches and for a tile."""
        return (self.threads, reading.floats), (self.threads, ROWS * COLUMNS)

    def _input_gradient_shapes(self, phases: Sequence[Phase], weights_shape: Shape, groups: int) -> tuple[Shape, ...]:
        """The turned weights and, per thread, a phase of a picture if there are several, patches and a tile."""
        spread = len(phases) > 1 or phases[0].reading is None
        pixels = max(phase.pixels for phase in phases) if spread else 0
        columns = len({phase.column for phase in phases})
        floats = max((phase.reading.floats for phase in phases if phase.reading is not None), default=0)
        per_thread = (self.threads, columns * (weights_shape[1] * pixels + LANES)), (self.threads, floats), (self.threads, ROWS * COLUMNS)
        return (math.prod(weights_shape),), *per_thread

    def _weight_gradient_shapes(self, reading: Reading, weights_shape: Shape, groups: int) -> tuple[Shape, ...]:
        """Sums per group and part and, per thread, a square of numbers, turned gradients, and patches."""
        terms, filters = math.prod(weights_shape[1:]), weights_shape[0] // groups
        padded = -(-filters // LANES) * LANES
        parts = self.divisions(groups)
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
