"""Copies that put the operands of :func:`~darkpy.backends.numba.tile.multiply_tile` where it can read them fast.

Taps are the size * size positions under a kernel: tap t of output pixel (y, x) is the picture's row
``y * stride_y + taps_y[t]``, column ``x * stride_x + taps_x[t]``, and 0 outside the picture. A *term* is one channel
under one tap, number ``channel * taps + tap``; it is one term of the sum that makes an output pixel.
"""

from __future__ import annotations

from darkpy.backends.numba.jit import compiled
from darkpy.backends.numba.tile import COLUMNS, LANES, copy_columns


@compiled
def pack_pixels(
    picture, start, height, width, taps_y, taps_x, stride_y, stride_x, out_width, term, terms, pixel, pixels, panel
):
    """Panels of COLUMNS pixels, one after the other, each ``(terms, COLUMNS)``: terms ``term`` on, pixels ``pixel`` on.

    picture: flat array whose planes of height x width begin at ``start``. The last panel's columns are filled with zeros up to the next
    multiple of LANES. Term by term, since reading a plane along its rows is what memory is fast at.
    """
    taps = len(taps_y)
    plain = stride_y == 1 and stride_x == 1 and out_width == width
    for k in range(terms):
        channel = (term + k) // taps
        tap = term + k - channel * taps
        plane = start + channel * height * width
        for column in range(0, pixels, COLUMNS):
            target = column * terms + k * COLUMNS
            count = min(COLUMNS, pixels - column)
            if plain:
                _pack_shifted(picture, plane, height, width, taps_y[tap], taps_x[tap], pixel + column, count, panel, target)
            else:
                _pack_rows(
                    picture, plane, height, width, taps_y[tap], taps_x[tap], stride_y, stride_x, out_width,
                    pixel + column, count, panel, target
                )  # fmt: skip
            for i in range(count, -(-count // LANES) * LANES):
                panel[target + i] = 0.0


@compiled
def _pack_shifted(picture, plane, height, width, tap_y, tap_x, pixel, pixels, panel, target):
    """One tap of an output as wide as the picture: the plane moved along, and zeros where rows wrap around."""
    first = pixel + tap_y * width + tap_x
    if first >= 0 and first + COLUMNS <= height * width and pixels == COLUMNS:
        copy_columns(picture, plane + first, panel, target)
    else:
        begin = min(max(-first, 0), pixels)
        end = max(min(height * width - first, pixels), begin)
        for i in range(begin):
            panel[target + i] = 0.0
        for i in range(begin, end):
            panel[target + i] = picture[plane + first + i]
        for i in range(end, pixels):
            panel[target + i] = 0.0
    outside, count = (0, -tap_x) if tap_x < 0 else (width - tap_x, tap_x)
    for column in range(max(outside, 0), min(outside + count, width)):
        for i in range((column - pixel) % width, pixels, width):
            panel[target + i] = 0.0


@compiled
def _pack_rows(
    picture, plane, height, width, tap_y, tap_x, stride_y, stride_x, out_width, pixel, pixels, panel, target
):
    """One tap of any output, row by row."""
    done = 0
    while done < pixels:
        out_y, out_x = divmod(pixel + done, out_width)
        count = min(out_width - out_x, pixels - done)
        y, x = out_y * stride_y + tap_y, out_x * stride_x + tap_x
        begin, end = 0, 0
        if 0 <= y < height:
            begin = min(max(-(x // stride_x), 0), count)
            end = max(min((width - x + stride_x - 1) // stride_x, count), begin)
        at, source = target + done, plane + y * width + x
        for i in range(begin):
            panel[at + i] = 0.0
        if stride_x == 1:
            for i in range(begin, end):
                panel[at + i] = picture[source + i]
        elif stride_x == 2:
            for i in range(begin, end):
                panel[at + i] = picture[source + 2 * i]
        else:
            for i in range(begin, end):
                panel[at + i] = picture[source + stride_x * i]
        for i in range(end, count):
            panel[at + i] = 0.0
        done += count
