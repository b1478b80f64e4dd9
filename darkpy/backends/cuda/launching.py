"""Launching kernels: which one, over how many blocks, with which arguments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from darkpy.backends.base import Backend
from darkpy.backends.cuda.array import DeviceArray, Rearranged
from darkpy.backends.cuda.compiler import ELEMENTS, KernelError, Kernels, Signature
from darkpy.backends.cuda.device import Gpu

#: The type of parameters, statistics and losses.
FLOAT = np.dtype(np.float32)

#: Threads of a block, where a kernel does not say.
THREADS = 256

#: Blocks for each multiprocessor of kernels whose threads take several elements in turn.
BLOCKS_EACH = 16

#: Grid dimensions y and z end here.
MOST_BLOCKS_Y = 65535


class LaunchOperations(Backend):
    """What every operation that has a kernel asks for."""

    gpu: Gpu
    kernels: Kernels
    stream: Any
    _rehearses: bool

    def launch(
        self,
        file: str,
        name: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        *arguments: Any,
        shared: int = 0,
    ) -> None:
        """Run kernel ``name`` of ``kernels/<file>.cu`` with its arguments in order.

        Arrays become pointers, None a null pointer; numbers take the type the kernel declares. Arrays for pointers to
        ``element`` have one type, and it is the kernel for this type that runs. ``shared``: bytes of dynamic shared
        memory.
        """
        signature = self.kernels.signature(file, name)
        if len(arguments) != len(signature.codes):
            count = len(signature.codes)
            raise KernelError(f"kernel {name} of {file}.cu takes {count} arguments, not {len(arguments)}")
        if self._rehearses:
            return
        function = self.kernels.function(file, name, _element_of(signature, arguments, name))
        self.kernels.allow_shared(function, shared)
        values = [_argument(argument, name) for argument in arguments]
        shape = (grid, 1) if isinstance(grid, int) else (*grid, 1)[: max(len(grid), 2)]
        threads = (block, 1, 1) if isinstance(block, int) else (*block, 1, 1)[:3]
        function.prepared_async_call(shape, threads, self.stream, *values, shared_size=shared)

    def blocks_for(self, count: int, threads: int = THREADS) -> int:
        """Blocks for a kernel whose threads step through ``count`` elements together."""
        return max(1, min(-(-count // threads), self.gpu.multiprocessors * BLOCKS_EACH))

    def over(self, *arrays: DeviceArray) -> tuple[Any, ...]:
        """How to launch a kernel over the elements of arrays of one shape, wherever they are in it.

        Returns grid, block, rows, columns, the distance between rows for each array, and whether all can be read four
        elements at a time; see kernels/elementwise.cuh. Arrays without gaps are one long row.
        """
        rows, columns, strides = self.rows_of(*arrays)
        if all(stride == columns for stride in strides):
            rows, columns, strides = 1, rows * columns, [rows * columns] * len(strides)
        return self._grid_over(arrays, rows, columns, strides, True)

    def over_channels(self, *arrays: DeviceArray, by_four: bool = True) -> tuple[Any, ...]:
        """The same with rows as they are, columns being channels; with ``by_four`` false always one at a time."""
        return self._grid_over(arrays, *self.rows_of(*arrays), by_four)

    def _grid_over(
        self, arrays: Sequence[DeviceArray], rows: int, columns: int, strides: list[int], by_four: bool
    ) -> tuple[Any, ...]:
        by_four = by_four and not columns % 4 and not any(array.address % (4 * array.itemsize) for array in arrays)
        by_four = by_four and (rows == 1 or not any(stride % 4 for stride in strides))
        steps = columns // 4 if by_four else columns
        across = min(THREADS, 1 << max(0, steps - 1).bit_length())
        block = (across, THREADS // across)
        most = self.gpu.multiprocessors * BLOCKS_EACH
        grid_x = max(1, min(-(-steps // block[0]), most))
        grid_y = max(1, min(-(-rows // block[1]), max(1, most // grid_x), MOST_BLOCKS_Y))
        return (grid_x, grid_y), block, rows, columns, *strides, by_four

    @staticmethod
    def rows_of(*arrays: DeviceArray) -> tuple[int, int, list[int]]:
        """Rows, columns and the distances between rows of arrays of one shape: see DeviceArray.positions."""
        if any(array.shape != arrays[0].shape for array in arrays):
            raise ValueError(f"arrays of one shape are needed, not {[array.shape for array in arrays]}")
        if arrays[0].ndim == 3 and all(array.is_dense for array in arrays):
            arrays = tuple(array.reshape(-1, array.shape[-1]) for array in arrays)
        found = [array.positions() for array in arrays]
        return found[0][0], found[0][1], [stride for _, _, stride in found]


def _element_of(signature: Signature, arguments: Sequence[Any], kernel: str) -> str:
    """What ``element`` is in a launch, by NumPy's name: the type of the arrays that are so declared."""
    elements = [arguments[place].dtype for place in signature.elements if arguments[place] is not None]
    floats = [arguments[place].dtype for place in signature.floats if arguments[place] is not None]
    if any(dtype != elements[0] for dtype in elements) or any(dtype != FLOAT for dtype in floats):
        raise ValueError(
            f"kernel {kernel} takes elements of one type, not {', '.join(map(str, elements))}, and float32 for what is "
            f"no element, not {', '.join(map(str, floats))}"
        )
    return element_name(elements[0]) if elements else FLOAT.name


@cache
def element_name(dtype: Any) -> str:
    """A type by which kernels are compiled; ValueError for others."""
    if dtype.name not in ELEMENTS:
        raise ValueError(f"kernels compute with {', '.join(ELEMENTS)}, not {dtype}")
    return str(dtype.name)


def _argument(argument: Any, kernel: str) -> Any:
    if isinstance(argument, Rearranged):
        raise ValueError(f"kernel {kernel} cannot take {argument.shape} of {argument.source.shape}: use in_order()")
    if isinstance(argument, DeviceArray):
        return argument.address
    return 0 if argument is None else argument
