"""Convolution: one matrix product whose right-hand side, the picture's patches, exists only a cache full at a time.

Forward
    ``out[f, pixel] = sum over terms of weights[f, term] * patch[term, pixel]``. A block of some terms of some
    output pixels is packed (packing.py) into panels that stay in the second-level cache while tiles (tile.py) of all
    filters go over it; the weights are read where they lie. After a block's last term, scale, bias and activation go
    over the rows just written. A task is one picture and group, or a part of its pixels or filters where there are too
    few pictures.
Input gradient
    For stride 1 the same with other taps: ``grad_x[c, pixel] = sum over filters and taps of weights[f, c, tap] *
    grad_out[f, pixel - tap]``. For larger strides, each phase of the picture (row % stride, column % stride) is reached
    by some of the taps only, and is such a sum of its own, spread into place afterwards.
Weight gradient
    ``grad_weights[f, term] = sum over pixels of grad_out[f, pixel] * patch[term, pixel]``, computed transposed: patches
    lie as they are, gradients are turned to pixel by pixel. A block may have pixels of several pictures. Tasks have a
    range of channels each or, where there are few weights, a range of pixels and sums of their own.

Flops: 2 * terms * filters per output pixel and pass. Bytes: pictures are read once from memory; within the cache each
number is copied once per tap, for 2 * filters flops.
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
    BLOCK_FLOATS,
    BLOCK_PIXELS,
    BLOCK_TERMS,
    PATCH_ROW,
    add_weight_sums,
    convolve,
    spread_phase,
    turn_weights,
    weight_gradients,
)
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numba.packing import Window
from darkpy.backends.numba.tile import COLUMNS, LANES, ROWS
from darkpy.backends.numpy.convolution import ConvolutionOperations as NumpyConvolutionOperations
from darkpy.backends.numpy.memory import workspace_bytes
from darkpy.backends.numpy.tiles import Array

Shape = tuple[int, ...]

#: Floats of all tasks' sums of weight gradients up to which each task has sums of its own, over a part of the pixels.
SEPARATE_SUMS = 1 << 20

#: Fewer vectors of pixels than this per task, and filters are divided instead.
FEW_VECTORS = 16

#: Rough rate of one core, to tell work worth sharing from work that is not.
FLOPS_PER_NANOSECOND = 50.0

NO_FLOATS = np.empty(0, np.float32)


class Phase(NamedTuple):
    """Pixels (row + i * stride_y, column + j * stride_x) of a picture, the taps that reach them, and what they see."""

    row: int
    column: int
    height: int
    width: int
    taps: Array
    window: Window


@lru_cache(maxsize=1024)
def window_of(x_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> Window:
    """What the output's pixels see of x."""
    offsets = np.arange(geometry.size, dtype=np.int64) * geometry.dilation - geometry.padding
    taps_y, taps_x = np.repeat(offsets, geometry.size), np.tile(offsets, geometry.size)
    return Window(x_shape[2], x_shape[3], taps_y, taps_x, geometry.stride_y, geometry.stride_x, out_shape[3])


@lru_cache(maxsize=1024)
def phases_of(x_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> tuple[Phase, ...]:
    """What the pixels of x see of the output's gradient, phase by phase."""
    window = window_of(x_shape, out_shape, geometry)
    stride_y, stride_x = geometry.stride_y, geometry.stride_x
    phases = []
    for row in range(min(stride_y, x_shape[2])):
        for column in range(min(stride_x, x_shape[3])):
            up, left = row - window.taps_y, column - window.taps_x
            taps = np.flatnonzero((up % stride_y == 0) & (left % stride_x == 0))
            height, width = -(-(x_shape[2] - row) // stride_y), -(-(x_shape[3] - column) // stride_x)
            seen = Window(out_shape[2], out_shape[3], up[taps] // stride_y, left[taps] // stride_x, 1, 1, width)
            phases.append(Phase(row, column, height, width, taps, seen))
    return tuple(phases)


class Finish(NamedTuple):
    """What is done to a result: ``activation(result * scales[f] + biases[f])``; empty vectors for none."""

    scales: Array
    biases: Array
    code: int


NO_FINISH = Finish(NO_FLOATS, NO_FLOATS, LINEAR)


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
        needs = [self._block_shapes()]
        if training:
            out = tuple(out_shape)
            needs.append(self._weight_gradient_shapes(tuple(weights_shape), geometry.groups))
            needs.append(self._input_gradient_shapes(tuple(x_shape), tuple(weights_shape), out, geometry))
        return max(workspace_bytes(*shapes, itemsize=4) for shapes in needs)

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
            NO_FLOATS if scale is None else flat(scale),
            NO_FLOATS if bias is None else flat(bias),
            CODES.get(activation, LINEAR),
        )
        scratch = self.carve(*self._block_shapes(), dtype=np.float32)
        window = window_of(x.shape, out.shape, geometry)
        self._convolve(x, flat(weights), out, geometry.groups, window, scratch, finish, False)
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
        shapes = self._input_gradient_shapes(grad_x.shape, weights.shape, grad_out.shape, geometry)
        blocks, edges, phase_pixels, turned = self.carve(*shapes, dtype=np.float32)
        phases = phases_of(grad_x.shape, grad_out.shape, geometry)
        starts = self._turn_weights(weights, geometry, phases, turned)
        if len(phases) == 1 and len(phases[0].taps):
            window = phases[0].window
            self._convolve(grad_out, turned, grad_x, geometry.groups, window, (blocks, edges), NO_FINISH, accumulate)
            return
        for phase, start in zip(phases, starts):
            self._convolve_phase(
                grad_out, turned[start:], grad_x, geometry, phase, (blocks, edges), phase_pixels, accumulate
            )

    def convolution_backward_weights(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.convolution_backward_weights`."""
        groups, channels, filters = geometry.groups, grad_weights.shape[1], grad_weights.shape[0] // geometry.groups
        window = window_of(x.shape, grad_out.shape, geometry)
        taps, plane = len(window.taps_y), grad_out.shape[2] * grad_out.shape[3]
        terms, pixels, x_plane = channels * taps, x.shape[0] * plane, x.shape[2] * x.shape[3]
        separate = self._sums_are_separate(grad_weights.shape, groups)
        shapes = self._weight_gradient_shapes(grad_weights.shape, groups)
        sums, patches, turned, squares = self.carve(*shapes, dtype=np.float32)
        source, gradients, target = flat(x), flat(grad_out), flat(grad_weights)
        padded = padded_filters(grad_weights.shape, groups)
        divided = self._divisions(groups)
        ranges = shares(pixels, divided) if separate else shares(channels, divided)

        def add_up(worker: int, number: int) -> None:
            group, part = divmod(number, len(ranges))
            (channel, last_channel), (pixel, last_pixel) = (0, channels), (0, pixels)
            if separate:
                pixel, last_pixel = ranges[part]
            else:
                channel, last_channel = ranges[part]
            weight_gradients(
                source, group * channels * x_plane, x.shape[1] * x_plane, window,
                channel * taps, (last_channel - channel) * taps,
                gradients, group * filters * plane, grad_out.shape[1] * plane, plane, filters,
                pixel, last_pixel, sums[group, part if separate else 0], channel * taps * padded,
                patches[worker], turned[worker],
            )  # fmt: skip

        self.run(add_up, groups * len(ranges), 2.0 * groups * filters * terms * pixels / FLOPS_PER_NANOSECOND)
        filter_ranges = shares(filters, divided, LANES)

        def finish(worker: int, number: int) -> None:
            group, part = divmod(number, len(filter_ranges))
            f, last_f = filter_ranges[part]
            add_weight_sums(
                sums[group].reshape(-1), len(ranges) if separate else 1, terms * padded, terms, filters, f, last_f,
                target, group * filters * terms, squares[worker],
            )  # fmt: skip

        self.run(finish, groups * len(filter_ranges), 1.0 * groups * filters * terms)

    # Help ------------------------------------------------------------------------------------------------------

    def _convolve(
        self,
        x: Array,
        weights: Array,
        out: Array,
        groups: int,
        window: Window,
        scratch: Sequence[Array],
        finish: Finish,
        accumulate: bool,
    ) -> None:
        """All of a convolution whose output pixels lie as the window says; weights flat."""
        pictures, channels, x_plane = x.shape[0], x.shape[1] // groups, x.shape[2] * x.shape[3]
        filters, plane = out.shape[1] // groups, out.shape[2] * out.shape[3]
        terms = channels * len(window.taps_y)
        source, target = flat(x), flat(out)
        blocks, edges = scratch
        divided = self._divisions(pictures * groups)
        split_filters = plane < divided * FEW_VECTORS * LANES
        ranges = shares(filters, divided, ROWS) if split_filters else shares(plane, divided, LANES)

        def task(worker: int, number: int) -> None:
            item, part = divmod(number, len(ranges))
            picture, group = divmod(item, groups)
            (f, last_f), (pixel, last_pixel) = (0, filters), (0, plane)
            if split_filters:
                f, last_f = ranges[part]
            else:
                pixel, last_pixel = ranges[part]
            f, last_f = group * filters + f, group * filters + last_f
            convolve(
                source, item * channels * x_plane, window, weights, f * terms, terms, last_f - f,
                target, (picture * groups * filters + f) * plane, plane, pixel, last_pixel,
                blocks[worker], edges[worker], finish.scales[f:last_f], finish.biases[f:last_f], finish.code, accumulate,
            )  # fmt: skip

        work = 2.0 * pictures * groups * filters * plane * terms / FLOPS_PER_NANOSECOND
        self.run(task, pictures * groups * len(ranges), work)

    def _convolve_phase(
        self,
        grad_out: Array,
        turned: Array,
        grad_x: Array,
        geometry: ConvolutionGeometry,
        phase: Phase,
        scratch: Sequence[Array],
        phase_pixels: Array,
        accumulate: bool,
    ) -> None:
        """One phase of an input gradient; turned: its weights (c, f / groups, taps), flat."""
        groups, pictures = geometry.groups, grad_x.shape[0]
        channels, filters = grad_x.shape[1] // groups, grad_out.shape[1] // groups
        plane, x_plane = grad_out.shape[2] * grad_out.shape[3], grad_x.shape[2] * grad_x.shape[3]
        terms, pixels = filters * len(phase.taps), phase.height * phase.width
        source, target = flat(grad_out), flat(grad_x)
        blocks, edges = scratch
        ranges = shares(channels, self._divisions(pictures * groups), ROWS)

        def task(worker: int, number: int) -> None:
            item, part = divmod(number, len(ranges))
            picture, group = divmod(item, groups)
            c, last_c = ranges[part]
            count = last_c - c
            reached = phase_pixels[worker, : count * pixels]
            if terms:
                convolve(
                    source, item * filters * plane, phase.window, turned, (group * channels + c) * terms, terms, count,
                    reached, 0, pixels, 0, pixels, blocks[worker], edges[worker], NO_FLOATS, NO_FLOATS, LINEAR, False,
                )  # fmt: skip
            else:
                reached[...] = 0
            spread_phase(
                reached, count, phase.height, phase.width, target, (item * channels + c) * x_plane,
                grad_x.shape[2], grad_x.shape[3], phase.row, phase.column, geometry.stride_y, geometry.stride_x, accumulate,
            )  # fmt: skip

        work = 2.0 * pictures * groups * channels * pixels * max(terms, 1) / FLOPS_PER_NANOSECOND
        self.run(task, pictures * groups * len(ranges), work)

    def _turn_weights(
        self, weights: Array, geometry: ConvolutionGeometry, phases: Sequence[Phase], turned: Array
    ) -> list[int]:
        """Fill ``turned`` with each phase's weights (c, f / groups, taps), one after the other; returns where they start."""
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
                turn_weights(
                    source, group * filters * channels * taps, filters, channels, taps, phase.taps, *ranges[part], turned, at
                )

        self.run(task, groups * len(ranges), 1.0 * weights.size)
        return starts[:-1]

    def _divisions(self, items: int) -> int:
        """Into how many parts to cut each of so many equal items to give all threads the same work."""
        return self.threads // math.gcd(self.threads, items)

    def _block_shapes(self) -> tuple[Shape, ...]:
        """Working memory of :func:`convolve`, per thread."""
        return (self.threads, BLOCK_FLOATS), (self.threads, ROWS * COLUMNS)

    def _input_gradient_shapes(
        self, x_shape: Shape, weights_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry
    ) -> tuple[Shape, ...]:
        """That, a phase of a picture per thread where there are several, and the turned weights."""
        phases = phases_of(x_shape, out_shape, geometry)
        pixels = max(phase.height * phase.width for phase in phases) if len(phases) > 1 else 0
        channels = x_shape[1] // geometry.groups
        return *self._block_shapes(), (self.threads, channels * pixels), (math.prod(weights_shape),)

    def _weight_gradient_shapes(self, weights_shape: Shape, groups: int) -> tuple[Shape, ...]:
        """Sums per group and part, and per thread the patches, the turned gradients and a square of numbers."""
        terms, padded = math.prod(weights_shape[1:]), padded_filters(weights_shape, groups)
        parts = self._divisions(groups) if self._sums_are_separate(weights_shape, groups) else 1
        return (
            (groups, parts, terms * padded),
            (self.threads, min(terms, BLOCK_TERMS) * PATCH_ROW),
            (self.threads, BLOCK_PIXELS * (padded if padded < COLUMNS else -(-padded // COLUMNS) * COLUMNS)),
            (self.threads, LANES * LANES),
        )

    def _sums_are_separate(self, weights_shape: Shape, groups: int) -> bool:
        """Whether tasks divide the pixels and have sums of their own; otherwise they divide the channels."""
        floats = self._divisions(groups) * padded_filters(weights_shape, groups) * math.prod(weights_shape[1:])
        return groups * floats <= SEPARATE_SUMS


def padded_filters(weights_shape: Shape, groups: int) -> int:
    """Filters of a group, rounded up to whole vectors."""
    return -(-(weights_shape[0] // groups) // LANES) * LANES
