"""Copies that put the operands of :func:`~darkpy.backends.numba.tile.multiply_tile` where it can read them fast."""

from __future__ import annotations

from typing import Any, NamedTuple

from darkpy.backends.numba.jit import compiled
from darkpy.backends.numba.tile import COLUMNS, LANES, copy_columns, set_zero, turn_block


class Window(NamedTuple):
    """What output pixels see of a picture: tap t of pixel (y, x) is the picture's row ``y * stride_y + taps_y[t]``, column
    ``x * stride_x + taps_x[t]``, 0 outside the picture.

    A *term* is one channel under one tap, number ``channel * taps + tap``: one term of the sums that make output pixels.
    """  # fmt: skip

    height: int
    width: int
    taps_y: Any
    taps_x: Any
    stride_y: int
    stride_x: int
    out_width: int


@compiled
def pack_pixels(picture, start, window, term, terms, pixel, pixels, panel, at, row_step, panel_step):
    """Terms ``term`` to ``term + terms`` of output pixels ``pixel`` to ``pixel + pixels``.

    picture: flat; its planes begin at ``start``. Element (k, i) goes to
    ``panel[at + k * row_step + i // COLUMNS * panel_step + i % COLUMNS]``. The last COLUMNS of a row are always written
    whole, with anything beyond ``pixels``.

    The work goes tap by tap, since all channels have the same gaps under a tap, and plane by plane within that, since
    reading along rows is what memory is fast at.
    """
    taps = len(window.taps_y)
    shifted = window.stride_y == 1 and window.stride_x == 1 and window.out_width == window.width
    for tap in range(taps):
        first_channel = (term - tap + taps - 1) // taps
        last_channel = (term + terms - tap + taps - 1) // taps
        for channel in range(first_channel, last_channel):
            plane = start + channel * window.height * window.width
            target = at + (channel * taps + tap - term) * row_step
            if shifted:
                _pack_shifted(picture, plane, window, tap, pixel, pixels, panel, target, panel_step)
            else:
                _pack_rows(picture, plane, window, tap, pixel, pixels, panel, target, panel_step)


@compiled
def _pack_shifted(picture, plane, window, tap, pixel, pixels, panel, target, step):
    """One term where the output is as wide as the picture: the plane moved along, and zeros where that is not right."""
    width, size = window.width, window.height * window.width
    tap_x = window.taps_x[tap]
    moved = pixel + window.taps_y[tap] * width + tap_x
    columns = -(-pixels // COLUMNS) * COLUMNS
    if plane + moved >= 0 and plane + moved + columns <= len(picture):
        at = target
        for source in range(plane + moved, plane + moved + pixels, COLUMNS):
            copy_columns(picture, source, panel, at)
            at += step
    else:
        for i in range(max(-moved, 0), min(size - moved, pixels)):
            panel[target + i // COLUMNS * step + i % COLUMNS] = picture[plane + moved + i]
    _clear(panel, target, step, 0, min(-moved, pixels), 1)
    _clear(panel, target, step, max(size - moved, 0), pixels, 1)
    # Rows that wrap around: the first -tap_x or the last tap_x columns of the output.
    for x in range(0 if tap_x < 0 else max(width - tap_x, 0), min(-tap_x, width) if tap_x < 0 else width):
        _clear(panel, target, step, (x - pixel) % width, pixels, width)


@compiled
def _clear(panel, target, step, first, last, stride):
    """Zeros for every ``stride``-th pixel."""
    i = first
    while i < last:
        set_zero(panel, target + i // COLUMNS * step + i % COLUMNS)
        i += stride


@compiled
def _pack_rows(picture, plane, window, tap, pixel, pixels, panel, target, step):
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
        at = target + done // COLUMNS * step + in_panel
        for i in range(begin):
            set_zero(panel, at + i)
        if end > begin:
            first = plane + y * width + x + begin * stride
            _copy_strided(picture[first : first + (end - begin - 1) * stride + 1], stride, panel[at + begin : at + end])
        for i in range(end, count):
            set_zero(panel, at + i)
        done += count
        out_x += count
        if out_x == window.out_width:
            out_x = 0
            out_y += 1


@compiled
def _copy_strided(source, stride, target):
    if stride == 1:
        for i in range(len(target)):
            target[i] = source[i]
    elif stride == 2:
        for i in range(len(target)):
            target[i] = source[2 * i]
    else:
        for i in range(len(target)):
            target[i] = source[stride * i]


@compiled
def turn_gradients(gradients, at, plane, filters, pixels, turned, turned_at, width, tile_step):
    """Pixel by pixel what lies filter by filter: element (f, p) goes to column f % width, row p, of tile f // width.

    Element (f, p) is ``gradients[at + f * plane + p]``; tile number t begins at ``turned_at + t * tile_step``. Columns
    beyond the filters, to the next multiple of LANES, hold anything.
    """
    whole = pixels // LANES * LANES
    for f in range(0, filters, LANES):
        rows = min(LANES, filters - f)
        source = at + f * plane
        target = turned_at + f // width * tile_step + f % width
        for p in range(0, whole, LANES):
            turn_block(gradients, source + p, plane, rows, turned, target + p * width, width)
        for p in range(whole, pixels):
            for row in range(rows):
                turned[target + p * width + row] = gradients[source + row * plane + p]
