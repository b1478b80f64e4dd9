"""Convolutions of 3 x 3 with stride 1 by Winograd's minimal filtering, F(2 x 2, 3 x 3): 16 products in place of 36.

The output is cut into tiles of 2 x 2 pixels, each of which sees 4 x 4 pixels d of the picture. With the kernel g::

    output tile = A^T [(G g G^T) * (B^T d B)] A

where * multiplies number by number, so that the sum over channels is 16 matrix products (Lavin and Gray 2016,
arXiv:1509.09308). A and B hold 0, 1 and -1 only: the result is no less exact than the plain sum. Largest errors in
units of the largest result, measured with 64 and 384 channels: 3.0e-7 and 9.8e-7; plain 8.6e-7 and 1.9e-6; tiles of
4 x 4, which would halve the work again, 2.3e-6 and 4.9e-6.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from darkpy.backends.numba.convolution_tasks import finish
from darkpy.backends.numba.jit import compiled, entry
from darkpy.backends.numba.packing import fill_band
from darkpy.backends.numba.tile import (
    COLUMNS,
    FLOATS,
    LANES,
    ROWS,
    TABLE,
    emit_address,
    emit_vector_at,
    interleaved,
    load,
    multiply_tile,
    store,
    tile_height,
    turn_block,
    write_columns,
)

#: Products per tile.
PRODUCTS = 16

HALF = np.float32(0.5)


@intrinsic
def transform_input(typingctx, band, terms, first, position, out, at, step):
    """B^T d B of LANES tiles of one channel: product k goes to ``out[at + k * step :]``.

    d[i, j] begins at ``band[terms[first + 4 * i + j] + position]``.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        band, terms, first, position, out, at, step = arguments
        start = emit_address(context, builder, FLOATS, band, position)
        table = emit_address(context, builder, TABLE, terms, first)
        d = []
        for number in range(PRODUCTS):
            offset = builder.load(builder.gep(table, [ir.IntType(64)(number)]))
            d.append(builder.load(emit_vector_at(builder, builder.gep(start, [offset]), 0), align=4))
        by_row = _apply(builder, d, _input_combination, 4)
        products = _apply(builder, by_row, _input_combination, 1)
        target = emit_address(context, builder, FLOATS, out, at)
        for product in products:
            builder.store(product, emit_vector_at(builder, target, 0), align=4)
            target = builder.gep(target, [step])
        return context.get_dummy_value()

    index = types.intp
    return types.void(FLOATS, TABLE, index, index, FLOATS, index, index), generate


@intrinsic
def transform_output(typingctx, products, at, step, out, upper, lower):
    """A^T m A of LANES tiles of one filter: rows of 2 * LANES pixels go to ``out[upper :]`` and ``out[lower :]``.

    Product k begins at ``products[at + k * step]``.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        products, at, step, out, upper, lower = arguments
        source = emit_address(context, builder, FLOATS, products, at)
        m = []
        for _ in range(PRODUCTS):
            m.append(builder.load(emit_vector_at(builder, source, 0), align=4))
            source = builder.gep(source, [step])
        columns = [_output_combination(builder, m[j::4]) for j in range(4)]
        for row, start in ((0, upper), (1, lower)):
            pair = _output_combination(builder, [column[row] for column in columns])
            target = emit_address(context, builder, FLOATS, out, start)
            for number, vector in enumerate(interleaved(builder, *pair)):
                builder.store(vector, emit_vector_at(builder, target, number), align=4)
        return context.get_dummy_value()

    index = types.intp
    return types.void(FLOATS, index, index, FLOATS, index, index), generate


@intrinsic
def transform_gradient(typingctx, band, terms, first, position, out, at, step):
    """A y A^T of LANES tiles of one filter, from 2 x 2 pixels y of the gradient; otherwise as transform_input."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        band, terms, first, position, out, at, step = arguments
        start = emit_address(context, builder, FLOATS, band, position)
        table = emit_address(context, builder, TABLE, terms, first)
        y = []
        for number in range(4):
            offset = builder.load(builder.gep(table, [ir.IntType(64)(number)]))
            y.append(builder.load(emit_vector_at(builder, builder.gep(start, [offset]), 0), align=4))
        columns = [_gradient_combination(builder, y[j::2]) for j in range(2)]
        target = emit_address(context, builder, FLOATS, out, at)
        for row in range(4):
            for product in _gradient_combination(builder, [column[row] for column in columns]):
                builder.store(product, emit_vector_at(builder, target, 0), align=4)
                target = builder.gep(target, [step])
        return context.get_dummy_value()

    index = types.intp
    return types.void(FLOATS, TABLE, index, index, FLOATS, index, index), generate


def _apply(builder: ir.IRBuilder, values: list[Any], combination: Any, step: int) -> list[Any]:
    """A combination of each four of 16 values that lie ``step`` apart: columns (4) or rows (1) of a square."""
    result = list(values)
    for line in range(4):
        first = line if step == 4 else 4 * line
        places = [first + step * number for number in range(4)]
        for place, value in zip(places, combination(builder, [values[place] for place in places])):
            result[place] = value
    return result


def _input_combination(builder: ir.IRBuilder, d: list[Any]) -> list[Any]:
    """B^T d."""
    return [
        builder.fsub(d[0], d[2]),
        builder.fadd(d[1], d[2]),
        builder.fsub(d[2], d[1]),
        builder.fsub(d[1], d[3]),
    ]


def _output_combination(builder: ir.IRBuilder, m: list[Any]) -> list[Any]:
    """A^T m."""
    return [
        builder.fadd(builder.fadd(m[0], m[1]), m[2]),
        builder.fsub(builder.fsub(m[1], m[2]), m[3]),
    ]


def _gradient_combination(builder: ir.IRBuilder, y: list[Any]) -> list[Any]:
    """A y."""
    return [y[0], builder.fadd(y[0], y[1]), builder.fsub(y[0], y[1]), builder.fsub(ir.Constant(y[1].type, None), y[1])]


@entry
def transform_weights(weights, at, row_step, column_step, turned, row, last_row, columns, out, out_at):
    """G g G^T for some rows of a matrix of kernels, all columns.

    The kernel of row r, column c begins at ``weights[at + r * row_step + c * column_step]``; if ``turned``, it is taken
    back to front. Its product k goes to ``out[out_at + (r * PRODUCTS + k) * kernel_row(columns) + c]``.
    """
    step = kernel_row(columns)
    begin, ahead = (8, -1) if turned else (0, 1)
    for r in range(row, last_row):
        for c in range(columns):
            source = at + r * row_step + c * column_step + begin
            target = out_at + r * PRODUCTS * step + c
            a = load(weights, source), load(weights, source + ahead), load(weights, source + 2 * ahead)
            source += 3 * ahead
            b = load(weights, source), load(weights, source + ahead), load(weights, source + 2 * ahead)
            source += 3 * ahead
            d = load(weights, source), load(weights, source + ahead), load(weights, source + 2 * ahead)
            _store_row(out, target, step, a)
            _store_row(out, target + 4 * step, step, _middle(a, b, d, HALF))
            _store_row(out, target + 8 * step, step, _middle(a, b, d, -HALF))
            _store_row(out, target + 12 * step, step, d)


@compiled
def _middle(a, b, d, sign):
    """(a + d) / 2 + b / 2, or with - for the middle, element by element."""
    return HALF * (a[0] + d[0]) + sign * b[0], HALF * (a[1] + d[1]) + sign * b[1], HALF * (a[2] + d[2]) + sign * b[2]


@compiled
def _store_row(out, at, step, row):
    """The same combinations along a row."""
    middle, side = HALF * (row[0] + row[2]), HALF * row[1]
    store(out, at, row[0])
    store(out, at + step, middle + side)
    store(out, at + 2 * step, middle - side)
    store(out, at + 3 * step, row[2])


@compiled
def kernel_row(columns):
    """Numbers from one product's weights to the next: whole vectors, and not all in the same sets of the cache."""
    return (-(-columns // LANES) | 1) * LANES


class Tiles(NamedTuple):
    """How the output is cut: ``window`` and ``band`` say what tiles see, with 16 taps and a stride of 2.

    height, width: of the output in pixels. at_once: positions of a band transformed at a time. rows: where channels'
    inputs begin. product_step: from one product's inputs to the next one's.
    """

    window: Any
    band: Any
    height: int
    width: int
    at_once: int
    rows: Any
    product_step: int


@entry
def convolve_tiles(picture, start, tiles, product, out, first_row, last_row, band_memory, inputs, products, pixels):
    """Some rows of tiles.

    product: as for other convolutions, but with transformed weights, those of product k and filter f begin at
    ``weights_at + rows[f] + k * kernel_row(channels)``, and there are as many terms as channels. inputs, products,
    pixels: memory for the inputs of some tiles, 6 filters' products, and two rows of pixels of a vector of tiles.
    """
    window, band = tiles.window, tiles.band
    channels = product.terms
    for row in range(first_row, last_row, band.rows):
        rows = min(band.rows, last_row - row)
        fill_band(picture, start, window, band, row, channels, band_memory)
        positions = (rows - 1) * band.row_length + window.out_width
        for position in range(0, positions, tiles.at_once):
            count = min(tiles.at_once, positions - position)
            for channel in range(channels):
                for i in range(0, count, LANES):
                    at = channel * tiles.at_once + i
                    first = channel * PRODUCTS
                    transform_input(band_memory, band.terms, first, position + i, inputs, at, tiles.product_step)
            f = 0
            while f < product.filters:
                height = tile_height(product.filters - f)
                _multiply_filters(tiles, product, f, height, count, inputs, products)
                target = product.out_at + f * product.plane
                _write_tiles(
                    tiles, products, height, count, row, position, out, target, product.plane, product.accumulate, pixels
                )
                f += height
        pixel_rows = min(2 * (row + rows), tiles.height) - 2 * row
        target = product.out_at + 2 * row * tiles.width
        finish(out, target, pixel_rows * tiles.width, product, 0, product.filters)


@compiled
def _multiply_filters(tiles, product, f, height, count, inputs, products):
    """Products of some tiles and up to 6 filters: of number k and filter i at ``(k * ROWS + i) * COLUMNS``."""
    channels = product.terms
    step = kernel_row(channels)
    for k in range(PRODUCTS):
        multiply_tile(
            product.tile, height, -(-count // LANES) * LANES, product.weights, product.weights_at + k * step, product.rows, f,
            inputs, k * tiles.product_step, tiles.rows, 0, products, k * ROWS * COLUMNS, COLUMNS, channels, False,
        )  # fmt: skip


@compiled
def _write_tiles(tiles, products, height, count, row, position, out, target, plane, accumulate, pixels):
    """Transform products to pixels, and put these where they belong. pixels: memory for two rows of 2 * LANES."""
    length = tiles.band.row_length
    y, x = row + position // length, position % length
    for i in range(0, count, LANES):
        inside = x + LANES <= tiles.window.out_width and 2 * (x + LANES) <= tiles.width and 2 * y + 2 <= tiles.height
        for number in range(height):
            at = number * COLUMNS + i
            if inside and not accumulate:
                upper = target + number * plane + 2 * y * tiles.width + 2 * x
                transform_output(products, at, ROWS * COLUMNS, out, upper, upper + tiles.width)
            else:
                transform_output(products, at, ROWS * COLUMNS, pixels, 0, 2 * LANES)
                _write_pieces(tiles, pixels, min(count - i, LANES), y, x, out, target + number * plane, accumulate)
        x += LANES
        while x >= length:
            x -= length
            y += 1


@compiled
def _write_pieces(tiles, pixels, count, y, x, out, target, accumulate):
    """Copy the pixels of ``count`` tiles from (y, x) on, without those between rows or beyond the edge."""
    begin = -x
    while begin < count:
        first, last = max(begin, 0), min(begin + tiles.window.out_width, count)
        column = 2 * (first - begin)
        wide = min(2 * (last - first), tiles.width - column)
        for half in range(2):
            if 2 * y + half < tiles.height:
                at = target + (2 * y + half) * tiles.width + column
                write_columns(pixels, 2 * (LANES * half + first), out, at, wide, accumulate)
        begin += tiles.band.row_length
        y += 1


# --- Weight gradient: with y the gradient of an output tile, G^T [(A y A^T) * (B^T d B)] G, summed over tiles.


class GradientTiles(NamedTuple):
    """How pictures and gradients are cut. tiles: as above. band: that of LANES filters' gradients, seen by ``window``.

    span: positions of inputs and turned gradients there is room for; products are summed up when it is used up. rows,
    turned_rows: where channels' inputs and positions' gradients begin. turned_step: from one product's gradients to the
    next one's.
    """

    tiles: Tiles
    window: Any
    band: Any
    span: int
    rows: Any
    turned_rows: Any
    turned_step: int


@entry
def tile_weight_gradients(pictures, gradients, cut, sources, channel, last_channel, first_band, last_band, sums, memory):
    """Sums of products over some bands of tiles, counted through all pictures, for some channels.

    The sum of product k, channel c and filter f goes to ``sums[(k * channels + c - channel) * padded + f]``. sources: as
    for the other weight gradients. memory: for a band of pictures, one of gradients, the products of the latter, and
    the inputs and turned gradients of ``span`` positions.
    """
    window, band = cut.tiles.window, cut.tiles.band
    picture_band, gradient_band, products, inputs, turned = memory
    channels = last_channel - channel
    bands = -(-window.out_height // band.rows)
    added = False
    filled = 0
    for number in range(first_band, last_band):
        picture, row = number // bands, number % bands * band.rows
        rows = min(band.rows, window.out_height - row)
        positions = (rows - 1) * band.row_length + window.out_width
        if filled + positions + LANES > cut.span:
            _add_products(cut, sources, channels, filled, inputs, turned, sums, added)
            added = True
            filled = 0
        start = sources.start + picture * sources.picture_step + channel * window.height * window.width
        fill_band(pictures, start, window, band, row, channels, picture_band)
        for c in range(channels):
            for i in range(0, positions, LANES):
                at = c * cut.span + filled + i
                transform_input(picture_band, band.terms, c * PRODUCTS, i, inputs, at, cut.tiles.product_step)
        at = sources.at + picture * sources.step
        _turn_gradients(gradients, at, cut, sources, row, positions, filled, gradient_band, products, turned)
        filled += positions
    _add_products(cut, sources, channels, filled, inputs, turned, sums, added)


@compiled
def _turn_gradients(gradients, at, cut, sources, row, positions, filled, band, products, turned):
    """Products of the gradients of some positions, position by position, LANES filters at a time."""
    for f in range(0, sources.filters, LANES):
        filters = min(LANES, sources.filters - f)
        fill_band(gradients, at + f * sources.plane, cut.window, cut.band, row, filters, band)
        target = f // sources.width * cut.span * sources.width + f % sources.width
        for i in range(0, positions, LANES):
            for number in range(filters):
                transform_gradient(band, cut.band.terms, 4 * number, i, products, number * PRODUCTS * LANES, LANES)
            for k in range(PRODUCTS):
                to = k * cut.turned_step + target + (filled + i) * sources.width
                turn_block(products, k * LANES, PRODUCTS * LANES, filters, turned, to, sources.width)


@compiled
def _add_products(cut, sources, channels, positions, inputs, turned, sums, add):
    for k in range(PRODUCTS):
        for f in range(0, sources.padded, sources.width):
            columns = min(sources.width, sources.padded - f)
            tile = k * cut.turned_step + f * cut.span
            c = 0
            while c < channels:
                height = tile_height(channels - c)
                at = (k * channels + c) * sources.padded + f
                multiply_tile(
                    sources.tile, height, columns, inputs, k * cut.tiles.product_step, cut.rows, c, turned, tile, cut.turned_rows, 0,
                    sums, at, sources.padded, positions, add
                )  # fmt: skip
                c += height


@entry
def add_tile_sums(sums, parts, part_step, channels, padded, filters, first, last, grad_weights, at, filter_step):
    """``grad_weights[at + f * filter_step + c * 9 :] += G^T s G`` for channels ``first`` to ``last``, s all parts' sums."""
    matrix = channels * padded
    for part in range(parts):
        for c in range(first, last):
            for f in range(filters):
                source = part * part_step + c * padded + f
                target = at + f * filter_step + c * 9
                a = _sum_row(sums, source, matrix)
                b = _sum_row(sums, source + 4 * matrix, matrix)
                d = _sum_row(sums, source + 8 * matrix, matrix)
                e = _sum_row(sums, source + 12 * matrix, matrix)
                for i in range(3):
                    total, difference = HALF * (b[i] + d[i]), HALF * (b[i] - d[i])
                    grad_weights[target + i] += a[i] + total
                    grad_weights[target + 3 + i] += difference
                    grad_weights[target + 6 + i] += total + e[i]


@compiled
def _sum_row(sums, at, step):
    """s G, for one row of four sums."""
    first, second, third = load(sums, at), load(sums, at + step), load(sums, at + 2 * step)
    total = HALF * (second + third)
    return first + total, HALF * (second - third), total + load(sums, at + 3 * step)
