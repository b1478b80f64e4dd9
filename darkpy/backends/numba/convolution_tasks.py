"""Compiled parts of convolutions, one task each; convolution.py says how they fit together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from darkpy.backends.numba.activations import LINEAR, activate_row, scale_row
from darkpy.backends.numba.jit import compiled, entry
from darkpy.backends.numba.packing import clear_pixels, fill_band, pack_panels, turn_gradients
from darkpy.backends.numba.tile import (
    COLUMNS,
    LANES,
    load,
    merge_columns,
    multiply_tile,
    store,
    tile_height,
    turn_block,
    write_columns,
)

#: Terms of a block of panels, and its numbers: half of a second-level cache of 1 MiB.
PANEL_TERMS = 512
PANEL_FLOATS = 128 * 1024

#: Pixels of a block of panels for the weight gradient, and how many terms are packed at a time.
PATCH_PIXELS = 2048
PATCH_TERMS = 288

#: Row length of these; rows are written COLUMNS at a time.
PATCH_ROW = PATCH_PIXELS + COLUMNS


class Product(NamedTuple):
    """Weights, and where they and results lie; ``tile`` is :func:`~darkpy.backends.numba.tile.tile_address`.

    Filter f's weights begin at ``weights[weights_at + rows[f]]``. Pixel p of filter f is number ``out_at + f * plane +
    p`` of the output, which is added to if ``accumulate``. Then ``activation(out * scales[f] + biases[f])`` takes its
    place; scales and biases may be empty.
    """

    tile: int
    weights: Any
    weights_at: int
    rows: Any
    filters: int
    terms: int
    out_at: int
    plane: int
    accumulate: bool
    scales: Any
    biases: Any
    activation: int


class Finish(NamedTuple):
    """What is done to a result: ``activation(result * scales[f] + biases[f])``; empty vectors for none."""

    scales: Any
    biases: Any
    code: int


NO_FINISH = Finish(np.empty(0, np.float32), np.empty(0, np.float32), LINEAR)


# --- Forward.


@entry
def convolve_bands(picture, start, window, band, product, out, first_row, last_row, memory, edge):
    """Some rows of the output. memory: for a band. edge: for a tile."""
    taps = len(window.taps_y)
    channels = product.terms // taps
    for y in range(first_row, last_row, band.rows):
        rows = min(band.rows, last_row - y)
        for channel in range(0, channels, band.channels):
            held = min(band.channels, channels - channel)
            at = start + channel * window.height * window.width
            fill_band(picture, at, window, band, y, held, memory)
            add = product.accumulate or channel > 0
            f = 0
            while f < product.filters:
                height = tile_height(product.filters - f)
                target = product.out_at + f * product.plane + y * window.out_width
                term = product.weights_at + channel * taps
                if band.by_row:
                    _multiply_by_row(memory, window, band, rows, held * taps, product, f, height, term, out, target, add)
                else:
                    _multiply_along(memory, window, band, rows, held * taps, product, f, height, term, out, target, add, edge)
                if channel + held == channels:
                    finish(out, target, rows * window.out_width, product, f, height)
                f += height


@compiled
def _multiply_by_row(memory, window, band, rows, depth, product, f, height, weights_at, out, target, add):
    """Some filters' pixels of a band, by tiles that begin with each output row."""
    for row in range(rows):
        for column in range(0, window.out_width, COLUMNS):
            multiply_tile(
                product.tile, height, min(COLUMNS, window.out_width - column), product.weights, weights_at, product.rows, f,
                memory, row * band.row_length + column, band.terms, 0, out, target + column, product.plane, depth, add,
            )  # fmt: skip
        target += window.out_width


@compiled
def _multiply_along(memory, window, band, rows, depth, product, f, height, weights_at, out, target, add, edge):
    """Some filters' pixels of a band, by tiles that follow each other along its rows; some contain the end of a row."""
    positions = (rows - 1) * band.row_length + window.out_width
    column = 0
    for position in range(0, positions, COLUMNS):
        count = min(COLUMNS, positions - position)
        if column + count <= window.out_width:
            multiply_tile(
                product.tile, height, count, product.weights, weights_at, product.rows, f,
                memory, position, band.terms, 0, out, target + column, product.plane, depth, add,
            )  # fmt: skip
        else:
            multiply_tile(
                product.tile, height, count, product.weights, weights_at, product.rows, f,
                memory, position, band.terms, 0, edge, 0, COLUMNS, depth, False,
            )  # fmt: skip
            # What lies between two rows is left out.
            begin, at = -column, target
            while begin < count:
                first, last = max(begin, 0), min(begin + window.out_width, count)
                for i in range(height):
                    write_columns(edge, i * COLUMNS + first, out, at + i * product.plane + first - begin, last - first, add)
                begin += band.row_length
                at += window.out_width
        column += COLUMNS
        while column >= band.row_length:
            column -= band.row_length
            target += window.out_width


@entry
def convolve_panels(picture, start, window, panel_rows, product, out, pixel, last_pixel, memory):
    """Some pixels of the output. panel_rows: where a panel's terms begin. memory: for a block."""
    terms = product.terms
    block = pixels_of_block(terms)
    for first in range(pixel, last_pixel, block):
        pixels = min(block, last_pixel - first)
        for term in range(0, terms, PANEL_TERMS):
            depth = min(PANEL_TERMS, terms - term)
            pack_panels(picture, start, window, term, depth, first, pixels, memory, 0, COLUMNS, depth * COLUMNS)
            add = product.accumulate or term > 0
            f = 0
            while f < product.filters:
                height = tile_height(product.filters - f)
                target = product.out_at + f * product.plane + first
                for column in range(0, pixels, COLUMNS):
                    multiply_tile(
                        product.tile, height, min(COLUMNS, pixels - column), product.weights, product.weights_at + term, product.rows, f,
                        memory, column * depth, panel_rows, 0, out, target + column, product.plane, depth, add,
                    )  # fmt: skip
                if term + depth == terms:
                    finish(out, target, pixels, product, f, height)
                f += height


@compiled
def pixels_of_block(terms):
    """Output pixels whose terms, or the first ``PANEL_TERMS`` of them, fill a block: a multiple of COLUMNS."""
    return max(COLUMNS, PANEL_FLOATS // min(terms, PANEL_TERMS) // COLUMNS * COLUMNS)


@compiled
def finish(out, at, count, product, f, filters):
    """Scale, bias and activation of ``count`` pixels of some filters."""
    for i in range(f, f + filters):
        row = out[at : at + count]
        if len(product.scales) > 0 or len(product.biases) > 0:
            scale = product.scales[i] if len(product.scales) > 0 else np.float32(1)
            bias = product.biases[i] if len(product.biases) > 0 else np.float32(0)
            scale_row(row, scale, bias)
        activate_row(row, product.activation)
        at += product.plane


# --- Weight gradient.


class Gradients(NamedTuple):
    """Pictures and gradients of one group, and where the sums go; ``tile`` is as in :class:`Product`.

    Picture i's channels begin at ``start + i * picture_step``, its gradients, of ``plane`` pixels, at ``at + i * step``.
    The sum of term k and filter f is ``sums[(k - first term) * padded + f]``, where padded is ``filters`` rounded up to
    LANES. Tiles of turned gradients have ``width`` filters.
    """

    tile: int
    start: int
    picture_step: int
    at: int
    step: int
    plane: int
    filters: int
    padded: int
    width: int


@entry
def weight_gradients_bands(
    pictures, window, band, gradients, sources, channel, last_channel, band_number, last_band, sums, memory, turned, turned_rows
):  # fmt: skip
    """Sums over some bands, counted through all pictures, for some channels. memory: for a band.

    turned: for the turned gradients of a band. turned_rows: where the pixels of a tile of these begin.
    """
    taps, length = len(window.taps_y), band.row_length
    bands = -(-window.out_height // band.rows)
    for number in range(band_number, last_band):
        picture, y = number // bands, number % bands * band.rows
        rows = min(band.rows, window.out_height - y)
        positions = (rows - 1) * length + window.out_width
        tile_step = band.rows * length * sources.width
        at = sources.at + picture * sources.step + y * window.out_width
        for row in range(rows):
            begin = row * length * sources.width
            turn_gradients(
                gradients, at + row * window.out_width, sources.plane, sources.filters, window.out_width,
                turned, begin, sources.width, tile_step
            )  # fmt: skip
            begin += window.out_width * sources.width
            clear_pixels(sources.filters, length - window.out_width, turned, begin, sources.width, tile_step)
        for first in range(channel, last_channel, band.channels):
            held = min(band.channels, last_channel - first)
            start = sources.start + picture * sources.picture_step + first * window.height * window.width
            fill_band(pictures, start, window, band, y, held, memory)
            sums_at = (first - channel) * taps * sources.padded
            add = number > band_number
            _multiply_turned(
                memory, band.terms, held * taps, turned, turned_rows, tile_step, sources, positions, sums, sums_at, add
            )


@entry
def weight_gradients_panels(
    pictures, window, patch_rows, gradients, sources, term, last_term, pixel, last_pixel, sums, memory, turned, turned_rows
):  # fmt: skip
    """Sums over some pixels, counted through all pictures, for some terms. memory: for the patches of a block.

    patch_rows: where the patches' rows begin there. turned, turned_rows: as for bands.
    """
    tile_step = PATCH_PIXELS * sources.width
    for first in range(pixel, last_pixel, PATCH_PIXELS):
        pixels = min(PATCH_PIXELS, last_pixel - first)
        done = 0
        while done < pixels:
            picture, begin = divmod(first + done, sources.plane)
            count = min(sources.plane - begin, pixels - done)
            at = sources.at + picture * sources.step + begin
            turn_gradients(
                gradients, at, sources.plane, sources.filters, count, turned, done * sources.width, sources.width, tile_step
            )
            done += count
        for k in range(term, last_term, PATCH_TERMS):
            terms = min(PATCH_TERMS, last_term - k)
            done = 0
            while done < pixels:
                picture, begin = divmod(first + done, sources.plane)
                count = min(sources.plane - begin, pixels - done)
                start = sources.start + picture * sources.picture_step
                pack_panels(pictures, start, window, k, terms, begin, count, memory, done, PATCH_ROW, COLUMNS)
                done += count
            sums_at = (k - term) * sources.padded
            _multiply_turned(
                memory, patch_rows, terms, turned, turned_rows, tile_step, sources, pixels, sums, sums_at, first > pixel
            )


@compiled
def _multiply_turned(patches, patch_rows, terms, turned, turned_rows, tile_step, sources, pixels, sums, sums_at, add):
    """``sums[k, f] (+)=`` patches (terms, pixels) times turned gradients (pixels, filters)."""
    for f in range(0, sources.padded, sources.width):
        columns = min(sources.width, sources.padded - f)
        tile = f // sources.width * tile_step
        k = 0
        while k < terms:
            height = tile_height(terms - k)
            at = sums_at + k * sources.padded + f
            multiply_tile(
                sources.tile, height, columns, patches, 0, patch_rows, k, turned, tile, turned_rows, 0, sums, at, sources.padded, pixels, add
            )
            k += height


@entry
def add_weight_sums(sums, parts, part_step, terms, filters, padded, first_filter, last_filter, grad_weights, at, square):
    """``grad_weights[at + f * terms + k] +=`` every part's sum of term k, for some filters. square: LANES x LANES.

    ``first_filter`` is a multiple of LANES.
    """
    for part in range(parts):
        for f in range(first_filter, last_filter, LANES):
            for k in range(0, terms, LANES):
                count = min(LANES, terms - k)
                turn_block(sums, part * part_step + k * padded + f, padded, count, square, 0, LANES)
                for row in range(min(LANES, last_filter - f)):
                    write_columns(square, row * LANES, grad_weights, at + (f + row) * terms + k, count, True)


# --- Input gradient.


@entry
def turn_weights(weights, weights_at, filters, channels, taps, chosen, channel, last_channel, out, out_at):
    """``out[c, f, i] = weights[f, c, chosen[i]]`` for some channels: out (channels, filters, chosen), from out_at on."""
    for c in range(channel, last_channel):
        target = out_at + c * filters * len(chosen)
        for f in range(filters):
            source = weights_at + (f * channels + c) * taps
            for i in range(len(chosen)):
                out[target + i] = weights[source + chosen[i]]
            target += len(chosen)


@entry
def spread_phases(phases, step, channels, rows, out, out_at, height, width, first_row, strides, accumulate):
    """See :func:`put_together`."""
    put_together(phases, step, channels, rows, out, out_at, height, width, first_row, strides, accumulate)


@compiled
def put_together(phases, step, channels, rows, out, out_at, height, width, first_row, strides, accumulate):
    """Put phases together to rows ``first_row``, ``first_row + strides[0]``, ... of the planes.

    Phase i, with all columns x for which x % strides[1] is i, begins at ``phases[i * step]``: (channels, rows, its
    columns).
    """
    stride_y, stride_x = strides
    for c in range(channels):
        for y in range(rows):
            target = out_at + (c * height + first_row + y * stride_y) * width
            number = c * rows + y
            if stride_x == 2:
                even, odd = number * ((width + 1) // 2), step + number * (width // 2)
                for x in range(0, width, 2 * LANES):
                    merge_columns(phases, even + x // 2, odd + x // 2, out, target + x, width - x, accumulate)
            else:
                for i in range(min(stride_x, width)):
                    count = (width - i + stride_x - 1) // stride_x
                    for x in range(count):
                        value, at = load(phases, i * step + number * count + x), target + i + x * stride_x
                        store(out, at, load(out, at) + value if accumulate else value)
