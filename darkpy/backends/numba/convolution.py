"""Convolution: one matrix product whose right-hand side, the picture's patches, exists only a cache full at a time.

Forward
    ``out[f, pixel] = sum over terms of weights[f, term] * patch[term, pixel]``, terms being channels under taps. A block
    of at most ``DEPTH`` terms of some output pixels is packed (packing.py) to panels of ``COLUMNS`` pixels that stay in
    the second-level cache while tiles (tile.py) of all filters go over it; weights are read in place. After a
    block's last term, scale, bias and activation go over the rows just written. One task is one picture and group, or
    part of its pixels or filters where there are too few pictures.
Input gradient
    For stride 1 the same with turned kernels: weights (c, f * taps) and padding reversed. For larger strides each phase
    of the picture (row % stride, column % stride) sees only some of the taps, and is such a convolution of its own,
    spread into place afterwards.
Weight gradient
    ``grad_weights[f, term] = sum over pixels of grad_out[f, pixel] * patch[term, pixel]``, computed transposed: patches
    row by row as they are, gradients turned to (pixel, filter), blocks of ``PIXELS`` pixels of one or several pictures.

Bytes: a picture is read once from memory and copied taps times within the cache; per multiply-add of a
tile, packing costs 2 / filters of a copied number. Flops: 2 * f * c * taps per output pixel, each pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.numba.activations import CODES, activate_row, scale_row
from darkpy.backends.numba.jit import compiled, entry
from darkpy.backends.numba.packing import pack_pixels
from darkpy.backends.numba.tile import COLUMNS, LANES, ROWS, multiply_tile, tile_height

#: Terms of a packed block; with PANEL_FLOATS it sets how many pixels it has.
DEPTH = 512

#: Floats of a packed block: half of a second-level cache of 1 MiB.
PANEL_FLOATS = 128 * 1024


@entry
def convolve(
    picture, start, height, width, taps_y, taps_x, stride_y, stride_x, weights, weights_at, terms, filters,
    out, out_at, plane, out_width, pixel, last_pixel, panel, edge, scales, biases, activation, accumulate
):  # fmt: skip
    """Pixels ``pixel`` to ``last_pixel`` of some filters of one picture.

    picture: flat; its planes begin at ``start``. weights: flat, filter f at ``weights_at + f * terms``. out: flat, pixel p of
    filter f at ``out_at + f * plane + p``. panel, edge: working memory. scales, biases: per filter, or empty.
    """
    block_pixels = pixels_of_block(terms)
    for first in range(pixel, last_pixel, block_pixels):
        pixels = min(block_pixels, last_pixel - first)
        for term in range(0, terms, DEPTH):
            depth = min(DEPTH, terms - term)
            pack_pixels(
                picture, start, height, width, taps_y, taps_x, stride_y, stride_x, out_width,
                term, depth, first, pixels, panel
            )  # fmt: skip
            f = 0
            while f < filters:
                rows = tile_height(filters - f)
                row_at = out_at + f * plane + first
                weight_at = weights_at + f * terms + term
                _multiply_rows(weights, weight_at, terms, rows, depth, panel, pixels, out, row_at, plane, edge, accumulate or term > 0)
                if term + depth == terms:
                    for row in range(rows):
                        at = row_at + row * plane
                        _finish(out[at : at + pixels], scales, biases, f + row, activation)
                f += rows


@compiled
def pixels_of_block(terms):
    return max(COLUMNS, PANEL_FLOATS // min(terms, DEPTH) // COLUMNS * COLUMNS)


@compiled
def _multiply_rows(weights, weight_at, terms, rows, depth, panel, pixels, out, out_at, plane, edge, add):
    """Up to 6 filters times all panels of a block."""
    for column in range(0, pixels, COLUMNS):
        count = min(COLUMNS, pixels - column)
        vectors = -(-count // LANES)
        at = out_at + column
        if count == vectors * LANES:
            multiply_tile(
                rows, vectors, weights, weight_at, terms, 1, panel, column * depth, COLUMNS, out, at, plane, depth, add
            )
        else:
            multiply_tile(
                rows, vectors, weights, weight_at, terms, 1, panel, column * depth, COLUMNS, edge, 0, COLUMNS, depth, False
            )
            for row in range(rows):
                _write_row(edge[row * COLUMNS : row * COLUMNS + count], out[at + row * plane : at + row * plane + count], add)


@compiled
def _write_row(source, target, add):
    if add:
        for i in range(len(target)):
            target[i] += source[i]
    else:
        for i in range(len(target)):
            target[i] = source[i]


@compiled
def _finish(row, scales, biases, f, activation):
    if len(scales) > 0 or len(biases) > 0:
        scale = scales[f] if len(scales) > 0 else np.float32(1)
        bias = biases[f] if len(biases) > 0 else np.float32(0)
        scale_row(row, scale, bias)
    activate_row(row, activation)
