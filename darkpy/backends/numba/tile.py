"""The innermost product of all convolutions and matrix products: one tile of C = A B, its sums held in registers.

A tile has up to ``ROWS`` rows and up to ``VECTORS`` vectors of ``LANES`` columns. With 32 registers that is 6 x 4: 24
sums, 4 vectors of B and one broadcast element of A. Each term loads 4 vectors and 6 single numbers for 24 vector
multiply-adds, so that loads are no limit, and A may be read where it lies, along its rows.

Measured on one core of an EPYC with AVX-512 (Zen 4), B in the second-level cache, GFLOP/s for sums of 27, 144, 512 and
1024 terms:

    8 rows x 3 vectors    101  110  109  109
    6 x 4                 112  116  117  117    this one
    12 x 2                108  116  117  106
    24 x 1                112  116   82   29    so many rows of A collide in the first-level cache
    np.matmul, 1 thread   100 (matrices 2048 x 2048)

It is written as LLVM code because Numba does not keep a tile of sums in registers by itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from llvmlite import binding, ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

from darkpy.backends.numba.jit import compiled


def _register_shape() -> tuple[int, int]:
    """Lanes of a vector register, and how many vectors make the columns of a tile (4 need 32 registers)."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 4
    if features.get("avx"):
        return 8, 2
    return (4, 4) if features.get("neon") else (4, 2)


LANES, VECTORS = _register_shape()

#: Columns of a full tile, and the row length of packed panels.
COLUMNS = LANES * VECTORS

#: Rows of a full tile.
ROWS = 6

#: Heights of the tiles there are; the lower ones are for what remains at the end.
HEIGHTS = (6, 4, 2, 1)

_FLOAT = ir.FloatType()
_INDEX = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)

#: Numba's types of the arrays that functions here take.
FLOATS, TABLE = types.Array(types.float32, 1, "C"), types.Array(types.int64, 1, "C")


_FLOAT_POINTER, _TABLE_POINTER = types.CPointer(types.float32), types.CPointer(types.int64)

#: rows, columns, a, a_rows, b, b_rows, c, c_row, depth, add: see :func:`multiply_tile`.
_TILE_ARGUMENTS = (
    types.intp,
    types.intp,
    _FLOAT_POINTER,
    _TABLE_POINTER,
    _FLOAT_POINTER,
    _TABLE_POINTER,
    _FLOAT_POINTER,
    types.intp,
    types.intp,
    types.intp,
)


@intrinsic
def _all_tiles(typingctx, rows, columns, a, a_rows, b, b_rows, c, c_row, depth, add):
    """:func:`multiply_tile`, written out for every size of tile."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        rows, columns, a, a_rows, b, b_rows, c, c_row, depth, add = arguments
        vectors = builder.sdiv(builder.add(columns, _INDEX(LANES - 1)), _INDEX(LANES))
        adds = builder.icmp_signed("!=", add, _INDEX(0))
        after = builder.append_basic_block("after")
        choice = builder.switch(builder.add(builder.mul(rows, _INDEX(VECTORS + 1)), vectors), after)
        for height in HEIGHTS:
            for width in range(1, VECTORS + 1):
                block = builder.append_basic_block(f"tile_{height}_{width}")
                choice.add_case(_INDEX(height * (VECTORS + 1) + width), block)
                builder.position_at_end(block)
                starts = [_moved(builder, a, a_rows, _INDEX(number)) for number in range(height)]
                sums = _sum_products(builder, starts, b, b_rows, width, depth)
                inside = _lanes_before(builder, builder.sub(columns, _INDEX((width - 1) * LANES)))
                _write(builder, sums, _rows(builder, c, c_row, height), inside, adds)
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*_TILE_ARGUMENTS), generate


def _tile(rows, columns, a, a_rows, b, b_rows, c, c_row, depth, add):
    _all_tiles(rows, columns, a, a_rows, b, b_rows, c, c_row, depth, add)


@lru_cache(maxsize=1)
def _compiled_tile() -> Any:
    return cfunc(types.void(*_TILE_ARGUMENTS), cache=True)(_tile)


def tile_address() -> int:
    """What :func:`multiply_tile` calls. By its address, or else its code would be compiled again into every caller."""
    return _compiled_tile().address


@intrinsic
def multiply_tile(typingctx, tile, rows, columns, a, a_at, a_rows, row, b, b_at, b_rows, term, c, c_at, c_row, depth, add):
    """``c[i, j] (+)= sum over k < depth of a[i, k] b[k, j]`` for i < rows, j < columns; depth > 0.

    tile: :func:`tile_address`. The rows of A and B may lie anywhere: element (i, k) of A is ``a[a_at + a_rows[row + i] +
    k]``, element (k, j) of B ``b[b_at + b_rows[term + k] + j]``; whole vectors of it are read. Element (i, j) of C is
    ``c[c_at + i * c_row + j]``, added to if ``add``. All arrays are flat: a, b and c float32, the tables int64.
    ``rows`` is one of ``HEIGHTS``, ``columns`` at most ``COLUMNS``.
    """
    index = types.intp
    a_type = b_type = (FLOATS, index, TABLE, index)
    signature = types.void(index, index, index, *a_type, *b_type, FLOATS, index, index, index, types.boolean)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        tile, rows, columns, a, a_at, a_rows, row, b, b_at, b_rows, term, c, c_at, c_row, depth, add = arguments
        a, b, c = (emit_address(context, builder, FLOATS, *pair) for pair in ((a, a_at), (b, b_at), (c, c_at)))
        a_rows, b_rows = (emit_address(context, builder, TABLE, *pair) for pair in ((a_rows, row), (b_rows, term)))
        kinds = [context.get_value_type(kind) for kind in _TILE_ARGUMENTS]
        function = builder.inttoptr(tile, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
        builder.call(function, [rows, columns, a, a_rows, b, b_rows, c, c_row, depth, builder.zext(add, _INDEX)])
        return context.get_dummy_value()

    return signature, generate


def emit_address(context: Any, builder: ir.IRBuilder, kind: Any, array: Any, at: Any) -> Any:
    """Address of element ``at`` of a flat array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _moved(builder: ir.IRBuilder, address: Any, table: Any, number: Any) -> Any:
    """The address moved on by entry ``number`` of a table."""
    return builder.gep(address, [builder.load(builder.gep(table, [number]))])


def _rows(builder: ir.IRBuilder, start: Any, step: Any, count: int) -> list[Any]:
    """Addresses of the first elements of ``count`` rows."""
    rows = [start]
    while len(rows) < count:
        rows.append(builder.gep(rows[-1], [step]))
    return rows


def emit_vector_at(builder: ir.IRBuilder, address: Any, number: int) -> Any:
    """Address of vector ``number`` of those that begin at an address."""
    return builder.bitcast(builder.gep(address, [_INDEX(number * LANES)]), _VECTOR.as_pointer())


def _broadcast(builder: ir.IRBuilder, value: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))


def _sum_products(
    builder: ir.IRBuilder, a_rows: list[Any], b: Any, b_rows: Any, width: int, depth: Any
) -> list[list[Any]]:
    """Emit the loop over the terms of the sums (at least one); returns the sums, ``width`` vectors per row."""
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
    )
    before, loop, done = builder.block, builder.append_basic_block("term"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    term = builder.phi(_INDEX)
    sums = [[builder.phi(_VECTOR) for _ in range(width)] for _ in a_rows]
    b_row = _moved(builder, b, b_rows, term)
    columns = [builder.load(emit_vector_at(builder, b_row, number), align=4) for number in range(width)]
    results = []
    for row, start in enumerate(a_rows):
        factor = _broadcast(builder, builder.load(builder.gep(start, [term]), align=4))
        results.append([builder.call(multiply_add, [factor, columns[i], sums[row][i]]) for i in range(width)])
    next_term = builder.add(term, _INDEX(1))
    recurrences = [(term, _INDEX(0), next_term)]
    for old, new in zip(sums, results):
        recurrences += [(old[i], ir.Constant(_VECTOR, None), new[i]) for i in range(width)]
    for phi, first, following in recurrences:
        phi.add_incoming(first, before)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", next_term, depth), loop, done)
    builder.position_at_end(done)
    return results


def _write(builder: ir.IRBuilder, sums: list[list[Any]], c_rows: list[Any], inside: Any, add: Any) -> None:
    """Emit ``c += sums`` if ``add``, else ``c = sums``; of the last vector only the lanes ``inside``."""
    with builder.if_else(add) as (adding, writing):
        for branch, adds in ((adding, True), (writing, False)):
            with branch:
                for row, address in zip(sums, c_rows):
                    for number, value in enumerate(row):
                        mask = inside if number == len(row) - 1 else None
                        _store_vector(builder, value, emit_vector_at(builder, address, number), mask, adds)


def _store_vector(builder: ir.IRBuilder, value: Any, target: Any, mask: Any, adds: bool) -> None:
    """Emit a store of all lanes, or of those in the mask; or an addition to what is there."""
    if mask is None:
        if adds:
            value = builder.fadd(builder.load(target, align=4), value)
        builder.store(value, target, align=4)
        return
    # LLVM gives these names their present form, whatever its version.
    suffix, alignment = f"v{LANES}f32.p0v{LANES}f32", ir.IntType(32)(4)
    if adds:
        kind = ir.FunctionType(_VECTOR, [target.type, alignment.type, mask.type, _VECTOR])
        masked_load = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.{suffix}")
        value = builder.fadd(builder.call(masked_load, [target, alignment, mask, ir.Constant(_VECTOR, None)]), value)
    kind = ir.FunctionType(ir.VoidType(), [_VECTOR, target.type, alignment.type, mask.type])
    masked_store = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.{suffix}")
    builder.call(masked_store, [value, target, alignment, mask])


def _lanes_before(builder: ir.IRBuilder, count: Any) -> Any:
    """Mask of the lanes with a number below ``count``."""
    numbers = ir.VectorType(_INDEX, LANES)
    undefined = ir.Constant(numbers, ir.Undefined)
    first = builder.insert_element(undefined, count, ir.IntType(32)(0))
    counts = builder.shuffle_vector(first, undefined, emit_selection([0] * LANES))
    return builder.icmp_signed("<", ir.Constant(numbers, list(range(LANES))), counts)


@intrinsic
def load(typingctx, array, at):
    """``array[at]`` for an ``at`` that is not negative: loops with an ordinary index that might be do not vectorise."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.load(emit_address(context, builder, array, *arguments))

    return array.dtype(array, types.intp), generate


@intrinsic
def store(typingctx, array, at, value):
    """``array[at] = value`` for an ``at`` that is not negative."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        target, at, value = arguments
        builder.store(value, emit_address(context, builder, array, target, at))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@intrinsic
def copy_columns(typingctx, source, source_at, target, target_at):
    """``target[target_at : target_at + COLUMNS] = source[source_at : source_at + COLUMNS]``."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_at, target, target_at = arguments
        origin = emit_address(context, builder, FLOATS, source, source_at)
        destination = emit_address(context, builder, FLOATS, target, target_at)
        vectors = [builder.load(emit_vector_at(builder, origin, number), align=4) for number in range(VECTORS)]
        for number, vector in enumerate(vectors):
            builder.store(vector, emit_vector_at(builder, destination, number), align=4)
        return context.get_dummy_value()

    return types.void(FLOATS, types.intp, FLOATS, types.intp), generate


@intrinsic
def deal_columns(typingctx, source, source_at, target, even, evens, odd, odds):
    """Deal out 2 * LANES numbers in turn: ``target[even + i] = source[source_at + 2 * i]``, i < evens; odd: the others.

    Only ``evens`` and ``odds`` numbers are written, none if negative.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_at, target, even, evens, odd, odds = arguments
        origin = emit_address(context, builder, FLOATS, source, source_at)
        pair = [builder.load(emit_vector_at(builder, origin, number), align=4) for number in range(2)]
        for first, at, count in ((0, even, evens), (1, odd, odds)):
            chosen = builder.shuffle_vector(*pair, emit_selection(list(range(first, 2 * LANES, 2))))
            address = emit_vector_at(builder, emit_address(context, builder, FLOATS, target, at), 0)
            _store_vector(builder, chosen, address, _lanes_before(builder, count), adds=False)
        return context.get_dummy_value()

    index = types.intp
    return types.void(FLOATS, index, FLOATS, index, index, index, index), generate


@intrinsic
def merge_columns(typingctx, source, even, odd, target, target_at, count, add):
    """The reverse: ``target[target_at + 2 * i] = source[even + i]``, and between them those from ``odd`` on.

    At most 2 * LANES numbers are written, ``count`` if that is less, or added if ``add``.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, even, odd, target, target_at, count, add = arguments
        starts = [emit_address(context, builder, FLOATS, source, at) for at in (even, odd)]
        pair = [builder.load(emit_vector_at(builder, start, 0), align=4) for start in starts]
        merged = interleaved(builder, *pair)
        destination = emit_address(context, builder, FLOATS, target, target_at)
        with builder.if_else(add) as (adding, writing):
            for branch, adds in ((adding, True), (writing, False)):
                with branch:
                    for number, vector in enumerate(merged):
                        mask = _lanes_before(builder, builder.sub(count, _INDEX(number * LANES)))
                        _store_vector(builder, vector, emit_vector_at(builder, destination, number), mask, adds)
        return context.get_dummy_value()

    index = types.intp
    return types.void(FLOATS, index, index, FLOATS, index, index, types.boolean), generate


def interleaved(builder: ir.IRBuilder, even: Any, odd: Any) -> list[Any]:
    """Two vectors with the lanes of two others in turn."""
    mixed = [lane // 2 + LANES * (lane % 2) for lane in range(2 * LANES)]
    halves = mixed[:LANES], mixed[LANES:]
    return [builder.shuffle_vector(even, odd, emit_selection(half)) for half in halves]


@intrinsic
def write_columns(typingctx, source, source_at, target, target_at, count, add):
    """``target[target_at : target_at + count]`` = (or +=) as many of the source; count at most COLUMNS, maybe negative.

    Whole vectors of the source are read.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_at, target, target_at, count, add = arguments
        origin = emit_address(context, builder, FLOATS, source, source_at)
        destination = emit_address(context, builder, FLOATS, target, target_at)
        with builder.if_else(add) as (adding, writing):
            for branch, adds in ((adding, True), (writing, False)):
                with branch:
                    for number in range(VECTORS):
                        mask = _lanes_before(builder, builder.sub(count, _INDEX(number * LANES)))
                        value = builder.load(emit_vector_at(builder, origin, number), align=4)
                        _store_vector(builder, value, emit_vector_at(builder, destination, number), mask, adds)
        return context.get_dummy_value()

    return types.void(FLOATS, types.intp, FLOATS, types.intp, types.intp, types.boolean), generate


@intrinsic
def set_zero(typingctx, target, at):
    """``target[at] = 0``, in a loop that shall stay one: for a few places far apart, vector code is slower."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        builder.store(_FLOAT(0), emit_address(context, builder, FLOATS, *arguments)).volatile = True
        return context.get_dummy_value()

    return types.void(FLOATS, types.intp), generate


@intrinsic
def turn_block(typingctx, source, source_at, source_row, rows, target, target_at, target_row):
    """Transpose LANES x LANES: ``target[target_at + j * target_row + i] = source[source_at + i * source_row + j]``.

    Of the source only the first ``rows`` rows are read; for i beyond them, the target gets the last of these again.
    """
    index = types.intp

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_at, source_row, rows, target, target_at, target_row = arguments
        row = emit_address(context, builder, FLOATS, source, source_at)
        vectors = []
        for i in range(LANES):
            vectors.append(builder.load(builder.bitcast(row, _VECTOR.as_pointer()), align=4))
            step = builder.select(builder.icmp_signed("<", _INDEX(i + 1), rows), source_row, _INDEX(0))
            row = builder.gep(row, [step])
        destination = emit_address(context, builder, FLOATS, target, target_at)
        for vector, address in zip(_transposed(builder, vectors), _rows(builder, destination, target_row, LANES)):
            builder.store(vector, builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(FLOATS, index, index, index, FLOATS, index, index), generate


def _transposed(builder: ir.IRBuilder, vectors: list[Any]) -> list[Any]:
    """Transpose a square of numbers by exchanging its off-diagonal quarters, then those of the quarters, and so on."""
    distance = LANES // 2
    while distance:
        upper = [lane if not lane & distance else lane - distance + LANES for lane in range(LANES)]
        lower = [lane + distance if not lane & distance else lane + LANES for lane in range(LANES)]
        result = list(vectors)
        for i in range(LANES):
            if not i & distance:
                pair = vectors[i], vectors[i + distance]
                result[i] = builder.shuffle_vector(*pair, emit_selection(upper))
                result[i + distance] = builder.shuffle_vector(*pair, emit_selection(lower))
        vectors = result
        distance //= 2
    return vectors


def emit_selection(lanes: list[int]) -> Any:
    """The mask of a shuffle."""
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)


@intrinsic
def deal_pairs(typingctx, values, at, places, target, upper, lower):
    """Each of LANES values goes to one of the four places of its 2 x 2 block, the other three become 0.

    ``values[at + i]``, by place ``places[at + i]`` (0 to 3, uint8), to ``target[upper + 2 * i]``, the number after it,
    ``target[lower + 2 * i]``, or the number after that.
    """
    bytes_ = types.Array(types.uint8, 1, "C")

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values, at, places, target, upper, lower = arguments
        value = builder.load(emit_vector_at(builder, emit_address(context, builder, FLOATS, values, at), 0), align=4)
        numbers = ir.VectorType(ir.IntType(8), LANES)
        place = builder.bitcast(emit_address(context, builder, bytes_, places, at), numbers.as_pointer())
        place = builder.load(place, align=1)
        dealt = []
        for number in range(4):
            chosen = builder.icmp_unsigned("==", place, ir.Constant(numbers, [number] * LANES))
            dealt.append(builder.select(chosen, value, ir.Constant(_VECTOR, None)))
        for pair, start in ((dealt[:2], upper), (dealt[2:], lower)):
            address = emit_address(context, builder, FLOATS, target, start)
            for number, vector in enumerate(interleaved(builder, *pair)):
                builder.store(vector, emit_vector_at(builder, address, number), align=4)
        return context.get_dummy_value()

    return types.void(FLOATS, types.intp, bytes_, FLOATS, types.intp, types.intp), generate


@compiled
def tile_height(rows_left):
    """Rows of the next tile where so many rows remain."""
    if rows_left >= ROWS:
        return 6
    if rows_left >= 4:
        return 4
    return 2 if rows_left >= 2 else 1
