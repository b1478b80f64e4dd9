"""Compiled parts of convolutions, one task each; convolution.py says how they fit together."""

from __future__ import annotations

import numpy as np

from darkpy.backends.numba.activations import activate_row, scale_row, write_row
from darkpy.backends.numba.jit import compiled, entry
from darkpy.backends.numba.packing import pack_pixels, turn_gradients
from darkpy.backends.numba.tile import COLUMNS, LANES, multiply_tile, tile_height, turn_block

#: Terms of a packed block.
DEPTH = 512

#: Floats of a packed block: half of a second-level cache of 1 MiB.
BLOCK_FLOATS = 128 * 1024

#: Pixels of a block of the weight gradient, and the terms of its patches that are packed at a time.
BLOCK_PIXELS = 2048
BLOCK_TERMS = 288

#: Row length of those patches; rows are written COLUMNS at a time.
PATCH_ROW = BLOCK_PIXELS + COLUMNS



@entry
def convolve(
    picture, start, window, weights, weights_at, terms, filters,
    out, out_at, plane, pixel, last_pixel, block, edge, scales, biases, activation, accumulate
):  # fmt: skip
    """Output pixels ``pixel`` to ``last_pixel`` of ``filters`` filters over the channels that begin at ``start``.

    Filter f's weights are ``weights[weights_at + f * terms :]``, its pixel p ``out[out_at + f * plane + p]``; ``out`` is
    added to if ``accumulate``. scales, biases: one per filter, or empty. block, edge: memory to work in.
    """
    block_pixels = pixels_of_block(terms)
    for first in range(pixel, last_pixel, block_pixels):
        pixels = min(block_pixels, last_pixel - first)
        for term in range(0, terms, DEPTH):
            depth = min(DEPTH, terms - term)
            pack_pixels(picture, start, window, term, depth, first, pixels, block, 0, COLUMNS, depth * COLUMNS)
            f = 0
            while f < filters:
                rows = tile_height(filters - f)
                row_at = out_at + f * plane + first
                add = accumulate or term > 0
                _multiply_rows(
                    weights, weights_at + f * terms + term, terms, rows, depth, block, pixels, out, row_at, plane, edge, add
                )
                if term + depth == terms:
                    for row in range(rows):
                        at = row_at + row * plane
                        _finish(out[at : at + pixels], scales, biases, f + row, activation)
                f += rows


@compiled
def pixels_of_block(terms):
    """Output pixels whose terms, or the first ``DEPTH`` of them, fill a block: a multiple of COLUMNS."""
    return max(COLUMNS, BLOCK_FLOATS // min(terms, DEPTH) // COLUMNS * COLUMNS)


@compiled
def _multiply_rows(weights, weights_at, terms, rows, depth, block, pixels, out, out_at, plane, edge, add):
    """Some filters times all panels of a block; the last panel may be narrow."""
    for column in range(0, pixels, COLUMNS):
        count = min(COLUMNS, pixels - column)
        vectors = -(-count // LANES)
        panel, at = column * depth, out_at + column
        if count == vectors * LANES:
            multiply_tile(
                rows, vectors, weights, weights_at, terms, 1, block, panel, COLUMNS, out, at, plane, depth, add
            )
        else:
            multiply_tile(
                rows, vectors, weights, weights_at, terms, 1, block, panel, COLUMNS, edge, 0, COLUMNS, depth, False
            )
            for row in range(rows):
                write_row(edge[row * COLUMNS : row * COLUMNS + count], out[at + row * plane : at + row * plane + count], add)


@compiled
def _finish(row, scales, biases, f, activation):
    if len(scales) > 0 or len(biases) > 0:
        scale = scales[f] if len(scales) > 0 else np.float32(1)
        bias = biases[f] if len(biases) > 0 else np.float32(0)
        scale_row(row, scale, bias)
    activate_row(row, activation)


@entry
def weight_gradients(
    pictures, start, picture_step, window, term, terms, gradients, gradients_at, gradient_step, plane, filters,
    pixel, last_pixel, sums, sums_at, patches, turned
):  # fmt: skip
    """Sums over output pixels ``pixel`` to ``last_pixel``, counted through all pictures, for some terms.

    Picture i's channels begin at ``pictures[start + i * picture_step]``, its gradients at ``gradients[gradients_at + i *
    gradient_step]``, a plane of which has ``plane`` pixels. Term k of filter f goes to ``sums[sums_at + k * padded +
    f]``, where padded is ``filters`` rounded up to LANES. patches, turned: memory to work in.
    """
    padded = -(-filters // LANES) * LANES
    width = min(padded, COLUMNS)
    for first in range(pixel, last_pixel, BLOCK_PIXELS):
        pixels = min(BLOCK_PIXELS, last_pixel - first)
        done = 0
        while done < pixels:
            picture, begin = divmod(first + done, plane)
            count = min(plane - begin, pixels - done)
            at = gradients_at + picture * gradient_step + begin
            turn_gradients(gradients, at, plane, filters, count, turned, done * width, width, BLOCK_PIXELS * width)
            done += count
        for k in range(0, terms, BLOCK_TERMS):
            rows = min(BLOCK_TERMS, terms - k)
            done = 0
            while done < pixels:
                picture, begin = divmod(first + done, plane)
                count = min(plane - begin, pixels - done)
                at = start + picture * picture_step
                pack_pixels(pictures, at, window, term + k, rows, begin, count, patches, done, PATCH_ROW, COLUMNS)
                done += count
            _multiply_patches(patches, rows, turned, width, padded, pixels, sums, sums_at + k * padded, first > pixel)


@compiled
def _multiply_patches(patches, terms, turned, width, padded, pixels, sums, sums_at, add):
    for f in range(0, padded, width):
        vectors = min(width, padded - f) // LANES
        tile = f * BLOCK_PIXELS
        k = 0
        while k < terms:
            rows = tile_height(terms - k)
            at = sums_at + k * padded + f
            multiply_tile(rows, vectors, patches, k * PATCH_ROW, PATCH_ROW, 1, turned, tile, width, sums, at, padded, pixels, add)
            k += rows


@entry
def add_weight_sums(sums, parts, part_step, terms, filters, filter_, last_filter, grad_weights, at, square):
    """``grad_weights[at + f * terms + k] += `` the parts' sums for filters ``filter_`` (a multiple of LANES) on."""
    padded = -(-filters // LANES) * LANES
    for part in range(parts):
        for f in range(filter_, last_filter, LANES):
            for k in range(0, terms, LANES):
                count = min(LANES, terms - k)
                turn_block(sums, part * part_step + k * padded + f, padded, count, square, 0, LANES)
                for row in range(min(LANES, last_filter - f)):
                    target = at + (f + row) * terms + k
                    write_row(square[row * LANES : row * LANES + count], grad_weights[target : target + count], True)


@entry
def turn_weights(weights, weights_at, filters, channels, taps, chosen, channel, last_channel, out, out_at):
    """``out[c, f, i] = weights[f, c, chosen[i]]`` for some channels: out (channels, filters, chosen), flat from out_at."""
    for c in range(channel, last_channel):
        target = out_at + c * filters * len(chosen)
        for f in range(filters):
            source = weights_at + (f * channels + c) * taps
            for i in range(len(chosen)):
                out[target + i] = weights[source + chosen[i]]
            target += len(chosen)


@entry
def spread_phase(phase, channels, phase_height, phase_width, out, out_at, height, width, row, column, stride_y, stride_x, accumulate):
    """Put a phase's pixels (channels, phase_height, phase_width) at rows ``row``, ``row + stride_y``, ... of the planes."""
    for c in range(channels):
        for y in range(phase_height):
            at = out_at + (c * height + row + y * stride_y) * width + column
            source = phase[(c * phase_height + y) * phase_width : (c * phase_height + y + 1) * phase_width]
            target = out[at : at + (phase_width - 1) * stride_x + 1]
            if accumulate:
                for x in range(len(source)):
                    target[x * stride_x] += source[x]
            else:
                for x in range(len(source)):
                    target[x * stride_x] = source[x]
