"""Copies that put the operands of :func:`~darkpy.backends.numba.tile.multiply_tile` where it can read them fast.

Taps are the size * size positions under a kernel: tap t of output pixel (y, x) is the picture's row
``y * stride_y + taps_y[t]``, column ``x * stride_x + taps_x[t]``, and 0 outside the picture. A *term* is one channel
under one tap, number ``channel * taps + tap``; it is one term of the sum that makes an output pixel.
"""

from __future__ import annotations

from darkpy.backends.numba.jit import compiled
from darkpy.backends.numba.tile import COLUMNS, copy_columns, set_zero


@compiled
def pack_pixels(
    picture, start, height, width, taps_y, taps_x, stride_y, stride_x, out_width, term, terms, pixel, pixels, panel
):
    """Panels of COLUMNS pixels, one after the other, each ``(terms, COLUMNS)``: terms ``term`` on, pixels ``pixel`` on.

    picture: flat array whose planes of height x width begin at ``start``. Columns of the last panel beyond ``pixels`` hold
    anything. The work goes term by term, since reading a plane along its rows is what memory is fast at.
    """
    taps = len(taps_y)
    channel, tap = divmod(term, taps)
    out_y, out_x = divmod(pixel, out_width)
    for k in range(terms):
        plane = start + channel * height * width
        if stride_y == 1 and stride_x == 1 and out_width == width:
            _pack_shifted(
                picture, plane, height, width, taps_y[tap], taps_x[tap], pixel, out_x, pixels, panel, k * COLUMNS, terms * COLUMNS
            )
        else:
            _pack_rows(
                picture, plane, height, width, taps_y[tap], taps_x[tap], stride_y, stride_x, out_width,
                out_y, out_x, pixels, panel, k * COLUMNS, terms * COLUMNS
            )  # fmt: skip
        tap += 1
        if tap == taps:
            tap = 0
            channel += 1


@compiled
def _pack_shifted(picture, plane, height, width, tap_y, tap_x, pixel, x, pixels, panel, target, step):
    """One term where the output is as wide as the picture: the plane moved along, and zeros where it wraps around.

    x: column of the first pixel. target: the term's place in the first panel. step: from there to the next panel.
    """
    size = height * width
    begin_outside, end_outside = (0, min(-tap_x, width)) if tap_x < 0 else (max(width - tap_x, 0), width)
    source = pixel + tap_y * width + tap_x
    for column in range(0, pixels, COLUMNS):
        count = min(COLUMNS, pixels - column)
        if plane + source >= 0 and plane + source + COLUMNS <= len(picture):
            copy_columns(picture, plane + source, panel, target)
        else:
            for i in range(max(-source, 0), min(size - source, count)):
                panel[target + i] = picture[plane + source + i]
        for i in range(min(-source, count)):
            set_zero(panel, target + i)
        for i in range(max(size - source, 0), count):
            set_zero(panel, target + i)
        for outside in range(begin_outside, end_outside):
            i = outside - x if outside >= x else outside - x + width
            while i < count:
                set_zero(panel, target + i)
                i += width
        x = (x + COLUMNS) % width
        source += COLUMNS
        target += step


@compiled
def _pack_rows(
    picture, plane, height, width, tap_y, tap_x, stride_y, stride_x, out_width, out_y, out_x, pixels, panel, target, step
):
    """One term of any output, piece by piece: pieces end where a row or a panel does."""
    done = 0
    while done < pixels:
        in_panel = done % COLUMNS
        count = min(out_width - out_x, COLUMNS - in_panel, pixels - done)
        y, x = out_y * stride_y + tap_y, out_x * stride_x + tap_x
        begin, end = 0, 0
        if 0 <= y < height:
            begin = min(max(-(x // stride_x), 0), count)
            end = max(min((width - x + stride_x - 1) // stride_x, count), begin)
        at = target + done // COLUMNS * step + in_panel
        for i in range(begin):
            set_zero(panel, at + i)
        if end > begin:
            first = plane + y * width + x + begin * stride_x
            _copy_strided(picture[first : first + (end - begin - 1) * stride_x + 1], stride_x, panel[at + begin : at + end])
        for i in range(end, count):
            set_zero(panel, at + i)
        done += count
        out_x += count
        if out_x == out_width:
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
