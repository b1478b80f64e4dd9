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

from typing import Any

from llvmlite import binding, ir
from numba import types
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


@intrinsic
def _multiply_tile(
    typingctx, rows, vectors, a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, depth, add
):
    index, array = types.intp, types.Array(types.float32, 1, "C")
    signature = types.void(
        index, index, array, index, index, index, array, index, index, array, index, index, index, types.boolean
    )

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        rows, vectors, a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, depth, add = arguments

        def address(array: Any, start: Any) -> Any:
            return builder.gep(context.make_array(signature.args[2])(context, builder, array).data, [start])

        a, b, c = address(a, a_start), address(b, b_start), address(c, c_start)
        after = builder.append_basic_block("after")
        choice = builder.switch(builder.add(builder.mul(rows, _INDEX(VECTORS + 1)), vectors), after)
        for height in HEIGHTS:
            for width in range(1, VECTORS + 1):
                block = builder.append_basic_block(f"tile_{height}_{width}")
                choice.add_case(_INDEX(height * (VECTORS + 1) + width), block)
                builder.position_at_end(block)
                sums = _sum_products(builder, height, width, _rows(builder, a, a_row, height), a_step, b, b_step, depth)
                _write(builder, sums, _rows(builder, c, c_row, height), add)
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return signature, generate


def _rows(builder: ir.IRBuilder, start: Any, step: Any, count: int) -> list[Any]:
    """Addresses of the first elements of ``count`` rows."""
    rows = [start]
    while len(rows) < count:
        rows.append(builder.gep(rows[-1], [step]))
    return rows


def _vector_at(builder: ir.IRBuilder, address: Any, number: int) -> Any:
    return builder.bitcast(builder.gep(address, [_INDEX(number * LANES)]), _VECTOR.as_pointer())


def _broadcast(builder: ir.IRBuilder, value: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))


def _sum_products(
    builder: ir.IRBuilder, height: int, width: int, a_rows: list[Any], a_step: Any, b: Any, b_step: Any, depth: Any
) -> list[list[Any]]:
    """Emit the loop over the terms of the sums (at least one); returns the sums, a vector each."""
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
    )
    before, loop, done = builder.block, builder.append_basic_block("term"), builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    term, a_offset, b_row = builder.phi(_INDEX), builder.phi(_INDEX), builder.phi(b.type)
    sums = [[builder.phi(_VECTOR) for _ in range(width)] for _ in range(height)]
    columns = [builder.load(_vector_at(builder, b_row, number), align=4) for number in range(width)]
    results = []
    for row in range(height):
        factor = _broadcast(builder, builder.load(builder.gep(a_rows[row], [a_offset]), align=4))
        results.append([builder.call(multiply_add, [factor, columns[i], sums[row][i]]) for i in range(width)])
    next_term = builder.add(term, _INDEX(1))
    recurrences = [
        (term, _INDEX(0), next_term),
        (a_offset, _INDEX(0), builder.add(a_offset, a_step)),
        (b_row, b, builder.gep(b_row, [b_step])),
    ]
    for row in range(height):
        recurrences += [(sums[row][i], ir.Constant(_VECTOR, None), results[row][i]) for i in range(width)]
    for phi, first, following in recurrences:
        phi.add_incoming(first, before)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", next_term, depth), loop, done)
    builder.position_at_end(done)
    return results


def _write(builder: ir.IRBuilder, sums: list[list[Any]], c_rows: list[Any], add: Any) -> None:
    """Emit ``c += sums`` if ``add``, else ``c = sums``."""
    with builder.if_else(add) as (adding, writing):
        for branch, adds in ((adding, True), (writing, False)):
            with branch:
                for row, address in zip(sums, c_rows):
                    for number, value in enumerate(row):
                        target = _vector_at(builder, address, number)
                        if adds:
                            value = builder.fadd(builder.load(target, align=4), value)
                        builder.store(value, target, align=4)


@intrinsic
def copy_columns(typingctx, source, source_at, target, target_at):
    """``target[target_at : target_at + COLUMNS] = source[source_at : source_at + COLUMNS]``."""
    array = types.Array(types.float32, 1, "C")

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_at, target, target_at = arguments
        origin = builder.gep(context.make_array(array)(context, builder, source).data, [source_at])
        destination = builder.gep(context.make_array(array)(context, builder, target).data, [target_at])
        vectors = [builder.load(_vector_at(builder, origin, number), align=4) for number in range(VECTORS)]
        for number, vector in enumerate(vectors):
            builder.store(vector, _vector_at(builder, destination, number), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, array, types.intp), generate


@intrinsic
def turn_block(typingctx, source, source_at, source_row, rows, target, target_at, target_row):
    """Transpose LANES x LANES: ``target[target_at + j * target_row + i] = source[source_at + i * source_row + j]``.

    Of the source only the first ``rows`` rows are read; for i beyond them, the target gets the last of these again.
    """
    array, index = types.Array(types.float32, 1, "C"), types.intp

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_at, source_row, rows, target, target_at, target_row = arguments
        row = builder.gep(context.make_array(array)(context, builder, source).data, [source_at])
        vectors = []
        for i in range(LANES):
            vectors.append(builder.load(builder.bitcast(row, _VECTOR.as_pointer()), align=4))
            step = builder.select(builder.icmp_signed("<", _INDEX(i + 1), rows), source_row, _INDEX(0))
            row = builder.gep(row, [step])
        destination = builder.gep(context.make_array(array)(context, builder, target).data, [target_at])
        for vector, address in zip(_transposed(builder, vectors), _rows(builder, destination, target_row, LANES)):
            builder.store(vector, builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, index, index, index, array, index, index), generate


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
                result[i] = builder.shuffle_vector(*pair, _selection(upper))
                result[i + distance] = builder.shuffle_vector(*pair, _selection(lower))
        vectors = result
        distance //= 2
    return vectors


def _selection(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)


@intrinsic
def set_zero(typingctx, target, at):
    """``target[at] = 0``, in a loop that shall stay one: for a few places far apart, vector code is slower."""
    array = types.Array(types.float32, 1, "C")

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        address = builder.gep(context.make_array(array)(context, builder, arguments[0]).data, [arguments[1]])
        builder.store(_FLOAT(0), address).volatile = True
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@compiled
def multiply_tile(rows, vectors, a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, depth, add):
    """``c[i, j] (+)= sum over k < depth of a[i, k] b[k, j]``, ``rows`` x ``vectors * LANES`` of it; depth > 0.

    Arrays are flat float32. Element (i, k) of A is ``a[a_start + i * a_row + k * a_step]``, element (k, j) of B
    ``b[b_start + k * b_step + j]``, element (i, j) of C ``c[c_start + i * c_row + j]``. C is added to if ``add``.
    ``rows`` must be one of ``HEIGHTS``, ``vectors`` at most ``VECTORS``.
    """
    _multiply_tile(rows, vectors, a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, depth, add)


@compiled
def tile_height(rows_left):
    """Rows of the next tile where so many rows remain."""
    if rows_left >= ROWS:
        return 6
    if rows_left >= 4:
        return 4
    return 2 if rows_left >= 2 else 1
