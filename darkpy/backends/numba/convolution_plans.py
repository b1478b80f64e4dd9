"""How convolutions are cut to size: what follows from shapes alone, worked out once for each.

Three ways to see the patches of a picture, all of which give the same products: a band, panels (packing.py), or tiles
for Winograd's way (winograd_tasks.py). Which one is taken follows from the vectors of pixels that each would compute
and from measured costs of the copies and transforms.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.numba.convolution_tasks import PANEL_FLOATS
from darkpy.backends.numba.packing import Band, Window, all_vectors, band_floats, plan_band, vectors
from darkpy.backends.numba.tile import COLUMNS, LANES
from darkpy.backends.numba.winograd_tasks import PRODUCTS, GradientTiles, Tiles
from darkpy.backends.numpy.tiles import Array

Shape = tuple[int, ...]

#: What packing panels costs, as a share of the work of so many filters.
PACKING_FILTERS = 12

#: Numbers of a band of tiles, which are read only once, and of their transformed inputs, which should stay in the cache.
TILE_BAND_FLOATS = 384 * 1024
INPUT_FLOATS = 400 * 1024

#: Positions of tiles for which a weight gradient's products are summed up at a time.
GRADIENT_SPAN = 384

#: Fewer vectors of pixels than this per task, and filters are divided among tasks instead.
FEW_VECTORS = 16

#: Rough rate of one core, to tell work worth sharing from work that is not.
FLOPS_PER_NANOSECOND = 50.0

#: Cycles to transform a vector of tiles of one channel, and one kernel: 16 numbers that are written and read again, mostly
#: from beyond the second-level cache.
TRANSFORM_CYCLES = 60
KERNEL_CYCLES = 75


class Reading(NamedTuple):
    """How output pixels see the channels of one group: the window, and a band, unless panels are better.

    Where ``tiles`` is not None, Winograd's way is faster yet.
    """

    window: Window
    band: Band | None
    tiles: Tiles | None

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
    taps: Array
    window: Window
    reading: Reading | None

    @property
    def pixels(self) -> int:
        """How many there are in a plane."""
        return self.window.out_height * self.window.out_width


@lru_cache(maxsize=1024)
def forward_window(x_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> Window:
    """What the output's pixels see of x."""
    offsets = np.arange(geometry.size, dtype=np.int64) * geometry.dilation - geometry.padding
    taps_y, taps_x = np.repeat(offsets, geometry.size), np.tile(offsets, geometry.size)
    return Window(*x_shape[2:], taps_y, taps_x, geometry.stride_y, geometry.stride_x, *out_shape[2:])


@lru_cache(maxsize=1024)
def backward_windows(x_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> tuple[Phase, ...]:
    """What the pixels of x see of the output's gradient, phase by phase, without readings."""
    window = forward_window(x_shape, out_shape, geometry)
    stride_y, stride_x = geometry.stride_y, geometry.stride_x
    phases = []
    for row in range(min(stride_y, x_shape[2])):
        for column in range(min(stride_x, x_shape[3])):
            up, left = row - window.taps_y, column - window.taps_x
            taps = np.flatnonzero((up % stride_y == 0) & (left % stride_x == 0))
            size = -(-(x_shape[2] - row) // stride_y), -(-(x_shape[3] - column) // stride_x)
            seen = Window(*out_shape[2:], up[taps] // stride_y, left[taps] // stride_x, 1, 1, *size)
            phases.append(Phase(row, column, taps, seen, None))
    return tuple(phases)


@lru_cache(maxsize=1024)
def forward_reading(x_shape: Shape, weights_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry) -> Reading:
    """How the output's pixels are computed from x."""
    window = forward_window(x_shape, out_shape, geometry)
    return plan_reading(window, weights_shape[1], weights_shape[0] // geometry.groups, x_shape[0])


@lru_cache(maxsize=1024)
def backward_phases(
    x_shape: Shape, weights_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry
) -> tuple[Phase, ...]:
    """How the pixels of x's gradient are computed from the output's, phase by phase; no reading where no tap reaches."""
    channels, filters = weights_shape[0] // geometry.groups, weights_shape[1]
    return tuple(
        phase._replace(reading=plan_reading(phase.window, channels, filters, x_shape[0])) if len(phase.taps) else phase
        for phase in backward_windows(x_shape, out_shape, geometry)
    )


def plan_reading(window: Window, channels: int, filters: int, pictures: int) -> Reading:
    """A band, or panels where a band would be computed for nothing more than packing costs."""
    band = plan_band(window, channels)
    in_bands = all_vectors(window, band)
    in_panels = vectors(window.out_height * window.out_width)
    pointwise = len(window.taps_y) == 1 and window.stride_x == 1
    worthwhile = in_bands <= in_panels * (1 + PACKING_FILTERS / filters) and not pointwise
    return Reading(window, band if worthwhile else None, plan_tiles(window, channels, filters, pictures))


def plan_tiles(window: Window, channels: int, filters: int, pictures: int) -> Tiles | None:
    """Tiles of 2 x 2 for Winograd's way, where that is faster: a 3 x 3 kernel, stride 1, enough channels and pixels."""
    top, left = int(window.taps_y.min()), int(window.taps_x.min())
    square = len(window.taps_y) == 9 and np.ptp(window.taps_y) == np.ptp(window.taps_x) == 2
    if not square or window.stride_y > 1 or window.stride_x > 1 or min(channels, filters) < LANES:
        return None
    taps_y, taps_x = top + np.repeat(np.arange(4), 4), left + np.tile(np.arange(4), 4)
    height, width = -(-window.out_height // 2), -(-window.out_width // 2)
    seen = Window(window.height, window.width, taps_y, taps_x, 2, 2, height, width)
    band = plan_band(seen, channels, PRODUCTS * channels, TILE_BAND_FLOATS)
    # Costs in cycles: one per vector and multiply-add, and what was measured for the transforms.
    count = all_vectors(seen, band)
    direct = 9 * channels * filters * vectors(window.out_height * window.out_width)
    transforms = TRANSFORM_CYCLES * (channels + filters) * count + KERNEL_CYCLES * channels * filters / pictures
    if PRODUCTS * channels * filters * count + transforms > 0.9 * direct:
        return None
    at_once = max(LANES, min(COLUMNS, INPUT_FLOATS // (PRODUCTS * channels) // LANES * LANES))
    # Not a multiple of a page: the 16 products of a vector are written one after the other.
    product_step = channels * at_once + LANES
    return Tiles(seen, band, window.out_height, window.out_width, at_once, table(channels, at_once), product_step)


@lru_cache(maxsize=1024)
def plan_gradient_tiles(
    x_shape: Shape, weights_shape: Shape, out_shape: Shape, geometry: ConvolutionGeometry
) -> GradientTiles | None:
    """Tiles for Winograd's way to the weight gradient, where that is faster."""
    tiles = forward_reading(x_shape, weights_shape, out_shape, geometry).tiles
    channels, filters = weights_shape[1], weights_shape[0] // geometry.groups
    if tiles is None:
        return None
    window = tiles.window
    band = plan_band(window, channels, PRODUCTS * channels, TILE_BAND_FLOATS, GRADIENT_SPAN)
    positions = (band.rows - 1) * band.row_length + window.out_width
    span = max(GRADIENT_SPAN, positions) + LANES
    pairs = np.arange(2, dtype=np.int64)
    seen = Window(*out_shape[2:], np.repeat(pairs, 2), np.tile(pairs, 2), 2, 2, window.out_height, window.out_width)
    plane = band.rows * band.row_length
    gradient_band = Band(LANES, band.rows, band.rows, band.row_length, 0, 0, False, table(4 * LANES, plane))
    columns = _turned_columns(filters)
    return GradientTiles(
        Tiles(window, band, tiles.height, tiles.width, 0, tiles.rows, channels * span + LANES),
        seen, gradient_band, span, table(channels, span), table(span, min(columns, COLUMNS)), columns * span + LANES,
    )  # fmt: skip


def _turned_columns(filters: int) -> int:
    """Columns of turned gradients: whole vectors, and whole tiles if there are several."""
    return -(-filters // LANES) * LANES if filters <= COLUMNS else -(-filters // COLUMNS) * COLUMNS


@lru_cache(maxsize=1024)
def table(count: int, step: int) -> Array:
    """0, step, 2 * step, ...: where ``count`` rows begin."""
    return np.arange(count, dtype=np.int64) * step
