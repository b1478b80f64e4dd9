"""Arrays in the memory of a GPU.

A picture array is (n, c, h, w) to whoever holds it and lies in memory channels last: n, h, w, c. So the channels of a
position are neighbours, a 1x1 convolution is a product of matrices, and a range of channels is a view whose positions
are as far apart as those of the whole. The rule for all arrays: the last three axes of four or more are (c, h, w) and
lie in memory as h, w, c; anything else lies in the order of its axes. Weights of a convolution (f, c, size, size) are
thereby f, size, size, c.

Of a vector the order of the elements is nobody's business but the backend's; a reshaped vector lies as the rule says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Shape = tuple[int, ...]


class DeviceArray:
    """A typed view of device memory.

    Attributes:
        address: of the first element; shape, dtype; strides: distances along each axis, in elements.
        owner: keeps the memory alive. backend: whose memory it is.
    """

    __slots__ = ("address", "backend", "dtype", "owner", "shape", "strides")

    def __init__(
        self, backend: Any, owner: Any, address: int, shape: Sequence[int], dtype: Any, strides: Shape | None = None
    ) -> None:
        self.backend = backend
        self.owner = owner
        self.address = address
        self.shape: Shape = tuple(int(length) for length in shape)
        self.dtype = np.dtype(dtype)
        self.strides = own_strides(self.shape) if strides is None else strides

    # What it is ------------------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def is_dense(self) -> bool:
        """Whether it lies as a new array of its shape would, without gaps."""
        return _equal_strides(self.shape, self.strides, own_strides(self.shape))

    @property
    def is_in_order(self) -> bool:
        """Whether it lies in the order of its axes, without gaps."""
        return _equal_strides(self.shape, self.strides, row_major(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, strides={self.strides})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """A NumPy array with the same elements; waits for the device."""
        if copy is False:
            raise ValueError("an array on the GPU becomes a NumPy array by a copy only")
        return np.asarray(self.backend.to_host(self), dtype)

    # Views -----------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> DeviceArray:
        """A view; whole numbers and slices, as NumPy takes them."""
        given = index if isinstance(index, tuple) else (index,)
        if len(given) > self.ndim:
            raise IndexError(f"{len(given)} indices for an array of shape {self.shape}")
        address, shape, strides = self.address, [], []
        for axis, (length, stride) in enumerate(zip(self.shape, self.strides)):
            wanted = given[axis] if axis < len(given) else slice(None)
            if isinstance(wanted, slice):
                start, stop, step = wanted.indices(length)
                count = len(range(start, stop, step))
                shape.append(count)
                strides.append(stride * step)
            else:
                start = range(length)[wanted]
                count = 1
            if count:
                address += start * stride * self.itemsize
        return DeviceArray(self.backend, self.owner, address, shape, self.dtype, tuple(strides))

    def __iter__(self) -> Iterator[DeviceArray]:
        return (self[i] for i in range(len(self)))

    def view(self, dtype: Any) -> DeviceArray:
        """The same bytes as another type; of a vector without gaps."""
        if self.ndim != 1 or not self.is_dense:
            raise ValueError(f"only a vector can be viewed as another type, not {self}")
        return DeviceArray(self.backend, self.owner, self.address, (self.nbytes // np.dtype(dtype).itemsize,), dtype)

    def reshape(self, *shape: Any) -> DeviceArray:
        """The same elements in another shape; a view wherever the memory allows, else a :class:`Rearranged`."""
        wanted = _whole_shape(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape, self.size)
        if wanted == self.shape:
            return self
        if self.ndim == 1 and self.is_dense:
            return DeviceArray(self.backend, self.owner, self.address, wanted, self.dtype)
        strides = reshaped_strides(self.shape, self.strides, wanted)
        if strides is None:
            return Rearranged(self, wanted)
        return DeviceArray(self.backend, self.owner, self.address, wanted, self.dtype, strides)

    def transpose(self, *axes: int) -> DeviceArray:
        """A view with its axes in another order."""
        shape, strides = tuple(self.shape[a] for a in axes), tuple(self.strides[a] for a in axes)
        return DeviceArray(self.backend, self.owner, self.address, shape, self.dtype, strides)

    # As kernels see it -----------------------------------------------------------------------------------------

    def positions(self) -> tuple[int, int, int]:
        """The array as rows, one for each position of each picture: (rows, channels, distance between rows).

        A matrix (rows, channels) is its own rows; (n, c, h, w) has n * h * w. Raises ValueError for a view whose
        positions are not evenly spaced.
        """
        if self.ndim in (1, 2):
            rows, columns = (1, *self.shape)[-2:]
            stride = self.strides[0] if self.ndim == 2 and rows > 1 else columns
            if self.strides[-1] == 1 or columns == 1:
                return rows, columns, stride
        elif self.ndim >= 4:
            channels = self.shape[-3]
            rows = math.prod(self.shape) // max(channels, 1)
            places = [*range(self.ndim - 3), self.ndim - 2, self.ndim - 1]
            even = reshaped_strides([self.shape[a] for a in places], [self.strides[a] for a in places], (rows,))
            if even is not None and (self.strides[-3] == 1 or channels == 1):
                return rows, channels, even[0] if rows > 1 else channels
        raise ValueError(f"an operation on the GPU cannot take this view: {self}")


class Rearranged(DeviceArray):
    """Another array's elements in a shape that its memory does not have.

    It has no memory of its own: an operation takes it by :meth:`~MemoryOperations.in_order` to read and
    :meth:`~MemoryOperations.written_in_order` to write. Such is (n, c * h * w) of (n, c, h, w) where h * w > 1.
    """

    __slots__ = ("source",)

    def __init__(self, source: DeviceArray, shape: Shape) -> None:
        super().__init__(source.backend, source.owner, 0, shape, source.dtype, (0,) * len(shape))
        self.source = source

    def __getitem__(self, index: Any) -> DeviceArray:
        """Leading pictures only."""
        if isinstance(index, slice) and self.shape[0] == self.source.shape[0]:
            part = self.source[index]
            return Rearranged(part, (part.shape[0], *self.shape[1:]))
        raise IndexError("of rearranged elements only leading slices can be taken")

    def reshape(self, *shape: Any) -> DeviceArray:
        """The source in another shape."""
        return self.source.reshape(*shape)

    def positions(self) -> tuple[int, int, int]:
        """Never: see the class."""
        raise ValueError(f"an operation on the GPU takes {self.shape} of {self.source.shape} only by in_order()")


# Strides -------------------------------------------------------------------------------------------------------


def row_major(shape: Sequence[int]) -> Shape:
    """Strides of an array that lies in the order of its axes."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


def own_strides(shape: Sequence[int]) -> Shape:
    """Strides of a new array: channels last for four axes or more."""
    if len(shape) < 4:
        return row_major(shape)
    *outer, c, h, w = shape
    *leading, y, x, channel = row_major((*outer, h, w, c))
    return (*leading, channel, y, x)


def reshaped_strides(shape: Sequence[int], strides: Sequence[int], wanted: Sequence[int]) -> Shape | None:
    """Strides that make a view of the wanted shape, or None where there are none."""
    blocks: list[tuple[int, int]] = []  # neighbouring axes that lie as one
    for length, stride in zip(shape, strides):
        if length == 1:
            continue
        if blocks and blocks[-1][1] == length * stride:
            length *= blocks.pop()[0]
        blocks.append((length, stride))
    result = []
    for want in reversed(wanted):
        length, stride = blocks.pop() if blocks and want > 1 else (1, 1)
        if length % want:
            return None
        result.append(stride)
        if length > want:
            blocks.append((length // want, stride * want))
    return tuple(reversed(result))


def _equal_strides(shape: Shape, strides: Shape, expected: Shape) -> bool:
    return all(a == b for length, a, b in zip(shape, strides, expected) if length > 1)


def _whole_shape(shape: Sequence[int], size: int) -> Shape:
    """The shape with its -1 replaced."""
    given = [int(length) for length in shape]
    if -1 in given:
        rest = -math.prod(given)
        given[given.index(-1)] = size // rest if rest else 0
    if math.prod(given) != size:
        raise ValueError(f"{size} elements do not have the shape {tuple(shape)}")
    return tuple(given)
