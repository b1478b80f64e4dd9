"""Convolutions of 3 x 3 with stride 1, Winograd's way: the tasks of winograd_tasks.py, shared among threads.

Effective rates on one core (flops of the plain sum, that way at most 118 GFLOP/s), 64 to 128, 128 to 256 and 384 to 256
channels at 52 x 52, 26 x 26 and 26 x 26 pixels: 180, 174 and 179 GFLOP/s for one picture, kernels transformed each
time; plain sums in bands: 101, 101, 102.
"""

from __future__ import annotations

import math

import numpy as np

from darkpy.backends.numba.convolution_plans import FEW_VECTORS, FLOPS_PER_NANOSECOND, Shape, table
from darkpy.backends.numba.convolution_tasks import NO_FINISH, Finish, Gradients, Product
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numba.packing import band_floats
from darkpy.backends.numba.tile import COLUMNS, LANES, ROWS, tile_address
from darkpy.backends.numba.winograd_tasks import (
    PRODUCTS,
    GradientTiles,
    Tiles,
    add_tile_sums,
    convolve_tiles,
    kernel_row,
    tile_weight_gradients,
    transform_weights,
)
from darkpy.backends.numpy.tiles import Array

#: Numbers of all tasks' sums up to which each task has sums of its own, over a part of the pixels.
SEPARATE_SUMS = 1 << 22


class WinogradOperations(MemoryOperations):
    """What the convolution operations use where tiles are planned."""

    def convolve_in_tiles(
        self,
        x: Array,
        weights: Array,
        out: Array,
        groups: int,
        tiles: Tiles,
        finish: Finish = NO_FINISH,
        turned: bool = False,
        accumulate: bool = False,
    ) -> None:
        """All of a convolution, Winograd's way; ``turned``: of an input gradient, from out's gradient as x."""
        pictures, channels, x_plane = x.shape[0], x.shape[1] // groups, x.shape[2] * x.shape[3]
        filters, plane = out.shape[1] // groups, out.shape[2] * out.shape[3]
        kernels, *memory = self.carve(*self.tiles_shapes(tiles, weights.shape, groups), dtype=np.float32)
        self._transform_weights(flat(weights), groups, filters, channels, turned, kernels)
        kernel = PRODUCTS * kernel_row(channels)
        source, target, rows = flat(x), flat(out), table(filters, kernel)
        divided = self.divisions(pictures * groups)
        height = tiles.window.out_height
        split_filters = height * tiles.window.out_width < divided * FEW_VECTORS * LANES
        ranges = shares(filters, divided, ROWS) if split_filters else shares(height, divided)

        def task(worker: int, number: int) -> None:
            item, part = divmod(number, len(ranges))
            picture, group = divmod(item, groups)
            f, last_f = ranges[part] if split_filters else (0, filters)
            tile_rows = (0, height) if split_filters else ranges[part]
            first, last = group * filters + f, group * filters + last_f
            product = Product(
                tile_address(), kernels, first * kernel, rows, last_f - f, channels,
                (picture * groups * filters + first) * plane, plane, accumulate, finish.scales[first:last], finish.biases[first:last], finish.code,
            )  # fmt: skip
            own = [array[worker] for array in memory]
            convolve_tiles(source, item * channels * x_plane, tiles, product, target, *tile_rows, *own)

        work = 2.0 * pictures * groups * filters * plane * channels * 4 / FLOPS_PER_NANOSECOND
        self.run(task, pictures * groups * len(ranges), work)

    def _transform_weights(
        self, weights: Array, groups: int, rows: int, columns: int, turned: bool, kernels: Array
    ) -> None:
        """Fill ``kernels`` with those of every group, rows x columns of them; turned: rows are channels."""
        steps = (9, 9 * rows) if turned else (9 * columns, 9)
        ranges = shares(rows, self.threads)

        def task(worker: int, number: int) -> None:
            group, part = divmod(number, len(ranges))
            at, out_at = group * rows * columns * 9, group * rows * PRODUCTS * kernel_row(columns)
            transform_weights(weights, at, *steps, turned, *ranges[part], columns, kernels, out_at)

        self.run(task, groups * len(ranges), 8.0 * groups * rows * columns)

    def weight_gradients_in_tiles(
        self, x: Array, grad_out: Array, grad_weights: Array, groups: int, cut: GradientTiles
    ) -> None:
        """The weight gradient, Winograd's way."""
        sums, *memory = self.carve(*self.gradient_tiles_shapes(cut, grad_weights.shape, groups), dtype=np.float32)
        parts = sums.shape[1]
        filters, channels = grad_weights.shape[0] // groups, grad_weights.shape[1]
        padded = -(-filters // LANES) * LANES
        plane, x_plane = grad_out.shape[2] * grad_out.shape[3], x.shape[2] * x.shape[3]
        source, gradients, target = flat(x), flat(grad_out), flat(grad_weights)
        bands = x.shape[0] * -(-cut.tiles.window.out_height // cut.tiles.band.rows)
        channel_ranges = shares(channels, 1 if parts > 1 else self.divisions(groups))
        band_ranges = shares(bands, parts)

        def add_up(worker: int, number: int) -> None:
            group, part = divmod(number, len(channel_ranges) * len(band_ranges))
            c, last_c = channel_ranges[part % len(channel_ranges)]
            part //= len(channel_ranges)
            sources = Gradients(
                tile_address(), group * channels * x_plane, x.shape[1] * x_plane, group * filters * plane, grad_out.shape[1] * plane,
                plane, filters, padded, min(padded, COLUMNS),
            )  # fmt: skip
            result, own = sums[group, part, PRODUCTS * c * padded :], tuple(array[worker] for array in memory)
            tile_weight_gradients(source, gradients, cut, sources, c, last_c, *band_ranges[part], result, own)

        work = 2.0 * groups * filters * channels * 4 * x.shape[0] * plane / FLOPS_PER_NANOSECOND
        self.run(add_up, groups * len(channel_ranges) * len(band_ranges), work)
        # Channels that were one task lie together.
        pieces = channel_ranges if len(channel_ranges) > 1 else shares(channels, self.divisions(groups))

        def finish_weights(worker: int, number: int) -> None:
            group, piece = divmod(number, len(pieces))
            c, last_c = pieces[piece]
            begin, held = (c, last_c - c) if len(channel_ranges) > 1 else (0, channels)
            add_tile_sums(
                sums[group].reshape(-1)[PRODUCTS * begin * padded :], len(band_ranges), sums.shape[2], held, padded,
                filters, c - begin, last_c - begin, target, (group * filters * channels + begin) * 9, channels * 9,
            )  # fmt: skip

        self.run(finish_weights, groups * len(pieces), 10.0 * groups * filters * channels)

    def gradient_tiles_shapes(self, cut: GradientTiles, weights_shape: Shape, groups: int) -> tuple[Shape, ...]:
        """Sums per group and part and, per thread, what :func:`tile_weight_gradients` needs."""
        filters, channels = weights_shape[0] // groups, weights_shape[1]
        floats = PRODUCTS * channels * -(-filters // LANES) * LANES
        parts = self.divisions(groups)
        if groups * parts * floats > SEPARATE_SUMS:
            parts = 1
        needs = (
            band_floats(cut.tiles.window, cut.tiles.band),
            band_floats(cut.window, cut.band),
            LANES * PRODUCTS * LANES,
            PRODUCTS * cut.tiles.product_step,
            PRODUCTS * cut.turned_step,
        )
        return (groups, parts, floats), *((self.threads, number) for number in needs)

    def tiles_shapes(self, tiles: Tiles, weights_shape: Shape, groups: int) -> tuple[Shape, ...]:
        """Working memory of :meth:`convolve_in_tiles`: transformed weights and, per thread, what the task needs."""
        channels = len(tiles.rows)
        kernels = math.prod(weights_shape[:2]) // channels * PRODUCTS * kernel_row(channels)
        inputs = PRODUCTS * tiles.product_step
        floats = band_floats(tiles.window, tiles.band), inputs, PRODUCTS * ROWS * COLUMNS, 4 * ROWS * COLUMNS
        return (kernels,), *((self.threads, number) for number in floats)
