"""Parts of a picture copied to where :func:`~darkpy.backends.numba.tile.multiply_tile` can read its patches.

A *band* holds some rows of some channels and the zeros around them. Output pixels follow each other along the band's
rows, including the few between two rows, which are computed for nothing; what another tap sees is the same memory
from another start, so that nothing is copied more than once. Strides are undone: each phase (row % stride, column %
stride) has a plane of its own.

*Panels* are for narrow pictures, where too much of a band would be computed for nothing: what each tap sees is copied,
pixel by pixel without gaps. Copying 64 numbers takes 10 to 14 ns (the second-level cache's write rate), which is 14 %
of the time of multiplying them by 64 filters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from darkpy.backends.numba.jit import compiled
from darkpy.backends.numba.tile import COLUMNS, LANES, copy_columns, deal_columns, load, set_zero, store, turn_block

#: Numbers of a band: 3/8 of a second-level cache of 1 MiB.
BAND_FLOATS = 96 * 1024

#: Terms of a band: 6 filters' weights for them fit the first-level cache.
BAND_TERMS = 1152

#: Pixels of a band, about.
BAND_PIXELS = 2048


class Window(NamedTuple):
    """What output pixels see of a picture.

    Tap t of pixel (y, x) is the picture's row ``y * stride_y + taps_y[t]``, column ``x * stride_x + taps_x[t]``, and 0
    outside the picture. A *term* is one channel under one tap, number ``channel * taps + tap``: one term of the sums
    that make output pixels.
    """

    height: int
    width: int
    taps_y: Any
    taps_x: Any
    stride_y: int
    stride_x: int
    out_height: int
    out_width: int


class Band(NamedTuple):
    """How a band is laid out.

    It holds what ``rows`` output rows see of ``channels`` channels. Per channel and phase there is a plane of
    ``plane_rows`` rows of ``row_length`` numbers, which begins at the picture's row ``top`` and column ``left`` for
    output row 0. Term k of output pixel (y, x) is number ``terms[k] + y * row_length + x``. Tiles begin with each
    output row, if ``by_row``, or follow each other along the band.
    """

    channels: int
    rows: int
    plane_rows: int
    row_length: int
    top: int
    left: int
    by_row: bool
    terms: Any


def plan_band(
    window: Window,
    channels: int,
    terms: int = BAND_TERMS,
    floats: int = BAND_FLOATS,
    pixels: int = BAND_PIXELS,
) -> Band:
    """The layout of a band with at most so many terms, numbers and pixels, as far as that is possible."""
    top, left = int(window.taps_y.min()), int(window.taps_x.min())
    phase_y, phase_x = (window.taps_y - top) % window.stride_y, (window.taps_x - left) % window.stride_x
    down, right = (window.taps_y - top) // window.stride_y, (window.taps_x - left) // window.stride_x
    row_length = window.out_width + int(right.max())
    if window.stride_x == 1:
        # The zeros at the end of one row are those at the beginning of the next.
        row_length -= max(0, min(-left, row_length + left - window.width, int(right.max())))
    held = max(1, min(channels, terms // len(window.taps_y)))
    phases = window.stride_y * window.stride_x
    fitting = min(floats // (held * phases * row_length) - int(down.max()), pixels // row_length)
    bands = -(-window.out_height // max(1, fitting))
    rows = -(-window.out_height // bands)
    plane_rows = rows + int(down.max())
    planes = np.arange(held)[:, None] * phases + phase_y * window.stride_x + phase_x
    places = (planes * plane_rows + down) * row_length + right
    # A tile across the end of a row costs a copy, so a few vectors more are worth it.
    by_row = rows * vectors(window.out_width) <= 1.05 * vectors((rows - 1) * row_length + window.out_width)
    return Band(held, rows, plane_rows, row_length, top, left, by_row, places.reshape(-1).astype(np.int64))


def vectors(pixels: int) -> int:
    """Vectors that so many pixels take."""
    return -(-pixels // LANES)


def all_vectors(window: Window, band: Band) -> int:
    """Vectors that the output takes, band by band."""
    heights = [min(band.rows, window.out_height - row) for row in range(0, window.out_height, band.rows)]
    if band.by_row:
        return sum(heights) * vectors(window.out_width)
    return sum(vectors((height - 1) * band.row_length + window.out_width) for height in heights)


def band_floats(window: Window, band: Band) -> int:
    """Numbers of memory a band needs: copies and reads go on to the end of their vectors."""
    planes = band.channels * window.stride_y * window.stride_x
    return planes * band.plane_rows * band.row_length + 2 * COLUMNS


@compiled
def fill_band(picture, start, window, band, out_y, channels, out):
    """Copy what output rows ``out_y`` on see of some channels, of which the first begins at ``picture[start]``."""
    plane = band.plane_rows * band.row_length
    phases_x = window.stride_x
    for channel in range(channels):
        for phase_y in range(window.stride_y):
            at = (channel * window.stride_y + phase_y) * phases_x * plane
            for row in range(band.plane_rows):
                y = (out_y + row) * window.stride_y + phase_y + band.top
                source = start + (channel * window.height + y) * window.width
                inside = 0 <= y < window.height
                if phases_x == 2 and inside and source + window.width + 2 * LANES <= len(picture):
                    _deal_row(picture, source, window.width, band.left, out, at, plane, band.row_length)
                else:
                    for phase in range(phases_x):
                        _fill_row(
                            picture, source, inside, window, band.left + phase, out, at + phase * plane, band.row_length
                        )
                at += band.row_length
    for i in range(COLUMNS):
        set_zero(out, channels * window.stride_y * phases_x * plane + i)


@compiled
def _deal_row(picture, source, width, left, out, at, plane, length):
    """A picture's row from column ``left`` on: every other number to a row at ``at``, the rest to one ``plane`` later."""
    begin = (1 - left) // 2 if left < 0 else 0
    for j in range(min(begin, length)):
        set_zero(out, at + j)
        set_zero(out, at + plane + j)
    if begin > 0 and 2 * begin + left == 1:
        store(out, at + plane + begin - 1, load(picture, source))
    first = 2 * begin + left
    for j in range(begin, length, LANES):
        column = first + 2 * (j - begin)
        evens, odds = min((width - column + 1) // 2, length - j), min((width - column) // 2, length - j)
        if evens > 0:
            deal_columns(picture, source + column, out, at + j, evens, at + plane + j, odds)
        for i in range(max(evens, 0), min(LANES, length - j)):
            set_zero(out, at + j + i)
        for i in range(max(odds, 0), min(LANES, length - j)):
            set_zero(out, at + plane + j + i)


@compiled
def _fill_row(picture, source, inside, window, left, out, at, length):
    """``out[at + j]`` = number ``left + j * stride_x`` of the picture's row at ``source``; beyond ``length``, anything."""
    stride = window.stride_x
    begin = min(-(left // stride) if left < 0 else 0, length) if inside else length
    end = max(begin, min((window.width - left + stride - 1) // stride, length)) if inside else length
    for j in range(begin):
        set_zero(out, at + j)
    first = source + left + begin * stride
    if stride == 1 and end - begin <= COLUMNS and first + COLUMNS <= len(picture):
        copy_columns(picture, first, out, at + begin)
    elif stride == 1:
        for j in range(end - begin):
            store(out, at + begin + j, load(picture, first + j))
    else:
        for j in range(end - begin):
            store(out, at + begin + j, load(picture, first + stride * j))
    for j in range(end, length):
        set_zero(out, at + j)


# --- Panels.


@compiled
def pack_panels(picture, start, window, term, terms, pixel, pixels, out, at, row_step, panel_step):
    """Terms ``term`` to ``term + terms`` of output pixels ``pixel`` to ``pixel + pixels``.

    The first channel begins at ``picture[start]``. Element (k, i) goes to ``out[at + k * row_step + i // COLUMNS *
    panel_step + i % COLUMNS]``. The last COLUMNS of a row are always written whole, with anything beyond ``pixels``.
    """
    taps = len(window.taps_y)
    shifted = window.stride_y == 1 and window.stride_x == 1 and window.out_width == window.width
    channel, tap = divmod(term, taps)
    for k in range(terms):
        plane = start + channel * window.height * window.width
        if shifted:
            _pack_shifted(picture, plane, window, tap, pixel, pixels, out, at + k * row_step, panel_step)
        else:
            _pack_rows(picture, plane, window, tap, pixel, pixels, out, at + k * row_step, panel_step)
        tap += 1
        if tap == taps:
            tap = 0
            channel += 1


@compiled
def _pack_shifted(picture, plane, window, tap, pixel, pixels, out, target, step):
    """One term where the output is as wide as the picture: the plane moved along, and zeros where that is not right."""
    width, size = window.width, window.height * window.width
    tap_x = window.taps_x[tap]
    moved = pixel + window.taps_y[tap] * width + tap_x
    columns = -(-pixels // COLUMNS) * COLUMNS
    if plane + moved >= 0 and plane + moved + columns <= len(picture):
        at = target
        for source in range(plane + moved, plane + moved + pixels, COLUMNS):
            copy_columns(picture, source, out, at)
            at += step
    else:
        for i in range(max(-moved, 0), min(size - moved, pixels)):
            out[target + i // COLUMNS * step + i % COLUMNS] = picture[plane + moved + i]
    _clear(out, target, step, 0, min(-moved, pixels), 1)
    _clear(out, target, step, max(size - moved, 0), pixels, 1)
    # Rows that wrap around: the first -tap_x or the last tap_x columns of the output.
    for x in range(0 if tap_x < 0 else max(width - tap_x, 0), min(-tap_x, width) if tap_x < 0 else width):
        _clear(out, target, step, (x - pixel) % width, pixels, width)


@compiled
def _clear(out, target, step, first, last, stride):
    """Zeros for every ``stride``-th pixel."""
    i = first
    while i < last:
        set_zero(out, target + i // COLUMNS * step + i % COLUMNS)
        i += stride


@compiled
def _pack_rows(picture, plane, window, tap, pixel, pixels, out, target, step):
    """One term of any output, piece by piece: pieces end where a row or a panel does."""
    stride, width = window.stride_x, window.width
    out_y, out_x = divmod(pixel, window.out_width)
    done = 0
    while done < pixels:
        in_panel = done % COLUMNS
        count = min(window.out_width - out_x, COLUMNS - in_panel, pixels - done)
        y, x = out_y * window.stride_y + window.taps_y[tap], out_x * stride + window.taps_x[tap]
        begin, end = 0, 0
        if 0 <= y < window.height:
            begin = min(max(-(x // stride), 0), count)
            end = max(min((width - x + stride - 1) // stride, count), begin)
        at, first = target + done // COLUMNS * step + in_panel, plane + y * width + x
        for i in range(begin):
            set_zero(out, at + i)
        for i in range(begin, end):
            store(out, at + i, load(picture, first + stride * i))
        for i in range(end, count):
            set_zero(out, at + i)
        done += count
        out_x += count
        if out_x == window.out_width:
            out_x = 0
            out_y += 1


# --- Gradients, turned from filter by filter to pixel by pixel, in tiles of ``width`` filters.


@compiled
def turn_gradients(gradients, at, plane, filters, pixels, out, out_at, width, tile_step):
    """Row p, column f of the tiles is pixel p of filter f, ``gradients[at + f * plane + p]``.

    Tile number t begins at ``out[out_at + t * tile_step]``. Columns beyond the filters, to the next multiple of LANES,
    hold anything.
    """
    for f in range(0, filters, LANES):
        rows = min(LANES, filters - f)
        source = at + f * plane
        target = out_at + f // width * tile_step + f % width
        if pixels >= LANES:
            for p in range(0, pixels, LANES):
                # The last block overlaps the one before.
                p = min(p, pixels - LANES)
                turn_block(gradients, source + p, plane, rows, out, target + p * width, width)
        else:
            for p in range(pixels):
                for row in range(rows):
                    out[target + p * width + row] = gradients[source + row * plane + p]


@compiled
def clear_pixels(filters, pixels, out, out_at, width, tile_step):
    """Zeros for some pixels of all filters."""
    for f in range(0, filters, LANES):
        target = out_at + f // width * tile_step + f % width
        for p in range(pixels):
            for lane in range(LANES):
                store(out, target + p * width + lane, 0.0)
