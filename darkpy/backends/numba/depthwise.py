"""Depthwise convolution: every channel has a kernel of its own.

There are only 2 * size^2 flops for every value read, so this is a matter of bytes: a part of a plane is copied into a
band (packing.py) and stays in the first-level cache while one long vector loop per row of the kernel goes over it, the
pixels between two rows of the output included. The input gradient does the same for each phase of the picture; the
weight gradient multiplies the band with the gradient, laid out likewise with zeros between rows, tap by tap. A task is
some planes of all pictures or, for the weight gradient, some channels.

Bytes per output value, stride 1: 4 read, 4 written; in the cache, 4 * size read and written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.numba.activations import activate_row, scale_row
from darkpy.backends.numba.convolution_plans import Shape, backward_windows, forward_window, table
from darkpy.backends.numba.convolution_tasks import NO_FINISH, Finish, put_together
from darkpy.backends.numba.jit import compiled, entry
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numba.packing import Band, Window, band_floats, fill_band, plan_band
from darkpy.backends.numba.tile import COLUMNS, load, store, write_columns
from darkpy.backends.numpy.tiles import Array

#: Numbers of a band, and positions for which sums are made at a time: both fit a first-level cache of 32 KiB.
BAND_FLOATS = 4096
BAND_PIXELS = 2048


class Planes(NamedTuple):
    """How planes are read: what the taps see, the band for one channel, and which numbers of a kernel the taps are."""

    window: Window
    band: Band
    chosen: Array


class GradientPlanes(NamedTuple):
    """How the gradients of planes are read: pixel by pixel, in a band with rows as long as those of the other one."""

    window: Window
    band: Band


# --- Compiled.


@entry
def convolve_planes(x, planes, weights, taps, channels, out, first, last, finish, accumulate, memory, sums):
    """Planes ``first`` to ``last`` of the output, counted through all pictures. memory, sums: for a band, its output."""
    size = planes.window.out_height * planes.window.out_width
    for number in range(first, last):
        channel = number % channels
        kernel = channel * taps
        _convolve_plane(x, number, planes, weights, kernel, out, number * size, accumulate, memory, sums)
        row = out[number * size : (number + 1) * size]
        if len(finish.scales) > 0 or len(finish.biases) > 0:
            scale = finish.scales[channel] if len(finish.scales) > 0 else np.float32(1)
            bias = finish.biases[channel] if len(finish.biases) > 0 else np.float32(0)
            scale_row(row, scale, bias)
        activate_row(row, finish.code)


@compiled
def _convolve_plane(x, number, planes, weights, kernel, out, at, accumulate, memory, sums):
    """Plane ``number``, to ``out[at:]``, with the kernel at ``weights[kernel]``."""
    window, band = planes.window, planes.band
    for y in range(0, window.out_height, band.rows):
        rows = min(band.rows, window.out_height - y)
        positions = (rows - 1) * band.row_length + window.out_width
        fill_band(x, number * window.height * window.width, window, band, y, 1, memory)
        _sum_taps(memory, planes, weights, kernel, positions, sums)
        for row in range(rows):
            source, target = row * band.row_length, at + (y + row) * window.out_width
            for i in range(0, window.out_width, COLUMNS):
                write_columns(sums, source + i, out, target + i, min(COLUMNS, window.out_width - i), accumulate)


@compiled
def _sum_taps(memory, planes, weights, kernel, positions, sums):
    """``sums[i] = sum over taps of weight * memory[start of tap + i]``, three taps at a time."""
    terms, chosen = planes.band.terms, planes.chosen
    for i in range(positions):
        store(sums, i, 0.0)
    tap = 0
    while tap < len(terms):
        a, at_a = weights[kernel + chosen[tap]], terms[tap]
        if tap + 3 <= len(terms):
            b, at_b = weights[kernel + chosen[tap + 1]], terms[tap + 1]
            c, at_c = weights[kernel + chosen[tap + 2]], terms[tap + 2]
            for i in range(positions):
                total = a * load(memory, at_a + i) + b * load(memory, at_b + i) + c * load(memory, at_c + i)
                store(sums, i, load(sums, i) + total)
            tap += 3
        else:
            for i in range(positions):
                store(sums, i, load(sums, i) + a * load(memory, at_a + i))
            tap += 1


@entry
def spread_planes(x, phases, weights, taps, channels, out, size, strides, first, last, accumulate, memory, sums, pixels):
    """Some planes of an input gradient, phase by phase: ``strides[0] * strides[1]`` of them, by row and column.

    size: height and width of the planes. pixels: memory for all phases of a plane.
    """
    height, width = size
    rows, columns = min(strides[0], height), min(strides[1], width)
    step = len(pixels) // columns
    for number in range(first, last):
        for row in range(rows):
            for column in range(columns):
                planes = phases[row * columns + column]
                kernel, at = number % channels * taps, column * step
                if len(planes.chosen) > 0:
                    _convolve_plane(x, number, planes, weights, kernel, pixels, at, False, memory, sums)
                else:
                    pixels[at : at + planes.window.out_height * planes.window.out_width] = 0
            height_of_phase = (height - row + strides[0] - 1) // strides[0]
            target = number * height * width
            put_together(pixels, step, 1, height_of_phase, out, target, height, width, row, strides, accumulate)


@entry
def plane_gradients(
    x, planes, gradients, cut, pictures, channels, channel, last_channel, grad_weights, memory, gradient_memory
):
    """``grad_weights +=`` the gradient of some channels' kernels. memory, gradient_memory: for one band each."""
    window, band = planes.window, planes.band
    plane, gradient_plane = window.height * window.width, window.out_height * window.out_width
    terms = band.terms
    for c in range(channel, last_channel):
        for picture in range(pictures):
            number = picture * channels + c
            for y in range(0, window.out_height, band.rows):
                rows = min(band.rows, window.out_height - y)
                fill_band(x, number * plane, window, band, y, 1, memory)
                fill_band(gradients, number * gradient_plane, cut.window, cut.band, y, 1, gradient_memory)
                positions = (rows - 1) * band.row_length + window.out_width
                for tap in range(len(terms)):
                    total = np.float32(0)
                    for i in range(positions):
                        total += load(memory, terms[tap] + i) * load(gradient_memory, i)
                    grad_weights[c * len(terms) + tap] += total


# --- Plans.


@lru_cache(maxsize=1024)
def forward_planes(x_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> Planes:
    """How the planes of x are read for the output, or for the weight gradient."""
    window = forward_window(x_shape, out_shape, geometry)
    return Planes(window, _small_band(window), table(geometry.size**2, 1))


@lru_cache(maxsize=1024)
def gradient_planes(x_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> GradientPlanes:
    """How the planes of the output's gradient are read for the weight gradient."""
    window, band, _ = forward_planes(x_shape, out_shape, geometry)
    own, size = table(1, 0), (window.out_height, window.out_width)
    cut = Band(1, band.rows, band.rows, band.row_length, 0, 0, False, own)
    return GradientPlanes(Window(*size, own, own, 1, 1, *size), cut)


@lru_cache(maxsize=1024)
def backward_planes(x_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> tuple[Planes, ...]:
    """How the planes of the output's gradient are read for each phase of the input gradient."""
    windows = [(phase.window, phase.taps) for phase in backward_windows(x_shape, out_shape, geometry)]
    return tuple(Planes(window, _small_band(window), taps) for window, taps in windows)


def _small_band(window: Window) -> Band:
    if len(window.taps_y) == 0:
        return Band(1, window.out_height, window.out_height, window.out_width, 0, 0, False, window.taps_y)
    return plan_band(window, 1, len(window.taps_y), BAND_FLOATS, BAND_PIXELS)


def _positions(planes: Planes) -> int:
    """Memory for the output of a band; vectors may go on to their end."""
    return planes.band.rows * planes.band.row_length + COLUMNS


# --- The operations.


class DepthwiseOperations(MemoryOperations):
    """What the convolution operations use where every channel has a kernel of its own."""

    def plane_shapes(
        self, x_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry, training: bool
    ) -> list[tuple[Shape, ...]]:
        """Working memory of each of the operations below."""
        planes = forward_planes(x_shape, out_shape, geometry)
        shapes = [self._forward_shapes(planes)]
        if training:
            shapes.append(self._backward_shapes(backward_planes(x_shape, out_shape, geometry)))
            shapes.append(self._gradient_shapes(planes, gradient_planes(x_shape, out_shape, geometry)))
        return shapes

    def forward_by_plane(
        self, x: Array, weights: Array, out: Array, geometry: ConvolutionGeometry, finish: Finish
    ) -> None:
        """Convolution, scale, bias and activation."""
        planes = forward_planes(x.shape, out.shape, geometry)
        memory, sums = self.carve(*self._forward_shapes(planes), dtype=np.float32)
        source, target, kernels, taps, channels = flat(x), flat(out), flat(weights), geometry.size**2, x.shape[1]
        ranges = shares(x.shape[0] * channels, 4 * self.threads)

        def task(worker: int, number: int) -> None:
            convolve_planes(
                source, planes, kernels, taps, channels, target, *ranges[number], finish, False, memory[worker], sums[worker]
            )

        self.run(task, len(ranges), out.size * (1 + 0.1 * taps))

    def backward_input_by_plane(
        self, grad_out: Array, weights: Array, grad_x: Array, geometry: ConvolutionGeometry, accumulate: bool
    ) -> None:
        """The input gradient."""
        phases = backward_planes(grad_x.shape, grad_out.shape, geometry)
        memory, sums, pixels = self.carve(*self._backward_shapes(phases), dtype=np.float32)
        source, target, kernels = flat(grad_out), flat(grad_x), flat(weights)
        taps, channels, size = geometry.size**2, grad_x.shape[1], grad_x.shape[2:]
        ranges = shares(grad_x.shape[0] * channels, 4 * self.threads)

        def task(worker: int, number: int) -> None:
            own = memory[worker], sums[worker]
            if len(phases) == 1 and len(phases[0].chosen):
                plain = channels, target, *ranges[number], NO_FINISH
                convolve_planes(source, phases[0], kernels, taps, *plain, accumulate, *own)
            else:
                spread = channels, target, size, (geometry.stride_y, geometry.stride_x), *ranges[number]
                spread_planes(source, phases, kernels, taps, *spread, accumulate, *own, pixels[worker])

        self.run(task, len(ranges), grad_x.size * (1 + 0.1 * taps))

    def backward_weights_by_plane(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """The weight gradient."""
        planes = forward_planes(x.shape, grad_out.shape, geometry)
        cut = gradient_planes(x.shape, grad_out.shape, geometry)
        memory, gradient_memory = self.carve(*self._gradient_shapes(planes, cut), dtype=np.float32)
        source, gradients, target = flat(x), flat(grad_out), flat(grad_weights)
        pictures, channels = x.shape[:2]
        ranges = shares(channels, 4 * self.threads)

        def task(worker: int, number: int) -> None:
            where = pictures, channels, *ranges[number]
            plane_gradients(source, planes, gradients, cut, *where, target, memory[worker], gradient_memory[worker])

        self.run(task, len(ranges), grad_out.size * (1 + 0.1 * geometry.size**2))

    def _forward_shapes(self, planes: Planes) -> tuple[Shape, ...]:
        return (self.threads, band_floats(planes.window, planes.band)), (self.threads, _positions(planes))

    def _backward_shapes(self, phases: tuple[Planes, ...]) -> tuple[Shape, ...]:
        floats = max(band_floats(planes.window, planes.band) for planes in phases)
        pixels = max(planes.window.out_height * planes.window.out_width for planes in phases) + COLUMNS
        columns = len(phases) if len(phases) > 1 or not len(phases[0].chosen) else 0
        sums = max(_positions(planes) for planes in phases)
        return (self.threads, floats), (self.threads, sums), (self.threads, columns * pixels)

    def _gradient_shapes(self, planes: Planes, cut: GradientPlanes) -> tuple[Shape, ...]:
        floats = band_floats(planes.window, planes.band), band_floats(cut.window, cut.band)
        return tuple((self.threads, number) for number in floats)
