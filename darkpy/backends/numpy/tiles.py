"""Cutting arrays into tiles that stay in the cache while several NumPy operations go over them.

A formula of five NumPy calls on a whole picture reads and writes memory five times; tile by tile it does so once, and
its temporaries are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

#: Elements of a tile: 256 KiB of float32, so that the two or three a formula needs fit a second-level cache. Of much
#: smaller ones, each call of NumPy would cost more than its arithmetic.
TILE = 65536


def tiles(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Index pairs that together cover a matrix: several rows each, or parts of a row if one alone exceeds a tile."""
    if columns > TILE:
        for row in range(rows):
            for start in range(0, columns, TILE):
                yield slice(row, row + 1), slice(start, start + TILE)
    elif columns > 0:
        step = TILE // columns
        for row in range(0, rows, step):
            yield slice(row, row + step), slice(0, columns)


def matrix(array: Array) -> Array:
    """A contiguous array seen as a matrix of one row; never a copy, since results are written into it."""
    if not array.flags.c_contiguous:
        raise ValueError(f"expected a C-contiguous array, got shape {array.shape} with strides {array.strides}")
    return array.reshape(1, -1)


def per_channel(array: Array) -> Array:
    """A contiguous array (n, c, ...) seen as (n, c, positions)."""
    return matrix(array).reshape(*array.shape[:2], -1)


def write(value: Array, out: Array, accumulate: bool) -> None:
    """``out = value``, or ``out += value``."""
    if accumulate:
        out += value
    else:
        out[...] = value


def planes(shape: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Indices that cover an array (n, c, h, w): a picture, and so many whole channels that they make about a tile."""
    step = planes_per_tile(shape)
    for picture in range(shape[0]):
        for start in range(0, shape[1], step):
            yield picture, slice(start, min(start + step, shape[1]))


def planes_per_tile(shape: Sequence[int]) -> int:
    """How many channels of an array (n, c, h, w) make about a tile; at least 1."""
    return max(1, min(shape[1], TILE // max(shape[2] * shape[3], 1)))
