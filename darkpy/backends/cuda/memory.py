"""Memory of the GPU, and copies.

Everything happens in the order of one stream; only :meth:`~MemoryOperations.to_host` and the losses wait for it.

Two kinds of memory. What a network plans (``empty``, ``zeros``, the workspace) is allocated as it is asked for, once.
What an operation needs for a moment (``scratch``) comes from a pool, since asking the driver would stop the device;
``DARKPY_CUDA_POOL=0`` does without the pool, so that memory checkers see every array by itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from darkpy.backends.base import Item
from darkpy.backends.cuda.array import DeviceArray, Rearranged, row_major
from darkpy.backends.cuda.capture import Capture, NotRepeatable, RecordedMemory
from darkpy.backends.cuda.compiler import kernels_of
from darkpy.backends.cuda.device import Block, open_gpu
from darkpy.backends.cuda.launching import FLOAT, THREADS, LaunchOperations
from darkpy.backends.cuda.parcels import Parcels
from darkpy.backends.precision import activation_dtype, is_float
from darkpy.errors import OutOfMemory

#: Arrays carved from the workspace start at multiples of this many bytes.
ALIGNMENT = 256

#: Most floats that the sums of one operation may take before they are added up: see :meth:`MemoryOperations.partials`.
MOST_PARTIALS = 1 << 20

#: Views of channels begin at multiples of so many: 16 bytes of the smallest type.
VIEW_CHANNELS = 8


def workspace_bytes(*shapes: Sequence[int], itemsize: int) -> int:
    """What :meth:`MemoryOperations.carve` needs for arrays of these shapes."""
    return sum(_aligned(math.prod(shape) * itemsize) for shape in shapes)


class MemoryOperations(LaunchOperations):
    """What the other operations stand on."""

    def __init__(self, index: int = 0, precision: str = "fp32") -> None:
        import pycuda.driver as driver

        self.dtype = FLOAT
        self.precision = precision
        self.activation_dtype = activation_dtype(precision)
        self.threads = 1
        self.gpu = open_gpu(index)
        self._driver = driver
        self.stream = self.gpu.stream
        self.kernels = kernels_of(index)
        self._pool = None if os.environ.get("DARKPY_CUDA_POOL") == "0" else _pool(index)
        self._capture: Capture | None = None
        self._rehearses = False
        self._recorded_memory = RecordedMemory(self.gpu, driver.mem_alloc)
        self._kept_constants: dict[tuple[str, bytes], DeviceArray] = {}
        self._parcels = Parcels(driver, self.gpu)
        self.allocations = 0
        self._workspace = self.empty((0,), np.uint8)
        self._partials = self.empty((0,))

    @contextmanager
    def running(self) -> Iterator[None]:
        """See :meth:`Backend.running`: the device becomes that of the calling thread."""
        self.gpu.context.push()
        try:
            yield
        finally:
            self.gpu.context.pop()

    # Arrays ----------------------------------------------------------------------------------------------------

    def empty(self, shape: Sequence[int], dtype: Any = None) -> DeviceArray:
        """See :meth:`Backend.empty`."""
        self.allocations += 1
        return self._array(shape, dtype, self._driver.mem_alloc)

    def scratch(self, shape: Sequence[int], dtype: Any = None) -> DeviceArray:
        """An array for the length of an operation, with arbitrary contents, from the pool."""
        pool: Any = self._pool if self._capture is None else self._recorded_memory
        array = self._array(shape, dtype, self._driver.mem_alloc if self._pool is None else pool.allocate)
        if self._capture is not None and self._pool is None:
            self._capture.kept.append(array.owner)
        return array

    def constant(self, values: Any, dtype: Any) -> DeviceArray:
        """These numbers on the device, brought there once and for all."""
        host = np.ascontiguousarray(values, dtype)
        key = (host.dtype.str, host.tobytes())
        if key not in self._kept_constants:
            # Nothing has to move for it: what was recorded before stays valid.
            array = self._kept_constants[key] = self._array(host.shape, dtype, self._driver.mem_alloc)
            if self._capture is None:
                self._parcels.send(host, array.address, self.stream)
            else:  # now, not whenever what is being recorded is launched
                self._parcels.send(host, array.address, self.gpu.copies)
                self.gpu.copies.synchronize()
        return self._kept_constants[key]

    def refuse_to_record(self, why: str) -> None:
        """Raise NotRepeatable if work is being recorded: see graphs.py."""
        if self._capture is not None:
            raise NotRepeatable(why)

    def _array(self, shape: Sequence[int], dtype: Any, allocate: Callable[[int], Any]) -> DeviceArray:
        dtype = np.dtype(self.dtype if dtype is None else dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        self.gpu.collect()
        try:
            block = Block(self.gpu, allocate(max(nbytes, 1)))
        except self._driver.MemoryError as error:
            free, total = self._driver.mem_get_info()
            raise OutOfMemory(
                f"{self.gpu.name}: {nbytes / 1e6:,.0f} MB more are needed, {free / 1e6:,.0f} of {total / 1e6:,.0f} MB "
                "are free; raise subdivisions= or make width and height smaller"
            ) from error
        return DeviceArray(self, block, block.address, shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: Any = None) -> DeviceArray:
        """See :meth:`Backend.zeros`."""
        array = self.empty(shape, dtype)
        if array.size:
            self._driver.memset_d8_async(array.address, 0, array.nbytes, self.stream)
        return array

    def asarray(self, host: Any, dtype: Any = None) -> DeviceArray:
        """See :meth:`Backend.asarray`."""
        if isinstance(host, DeviceArray):
            return host
        values = np.asarray(host)
        holds_floats = is_float(values.dtype)
        out = self.scratch(values.shape, self.dtype if holds_floats else values.dtype)
        self.copy(values, out)
        if dtype in (None, self.dtype) or not holds_floats:
            return out
        converted = self.scratch(values.shape, dtype)
        self.move(out, converted)
        return converted

    def to_host(self, array: DeviceArray) -> np.ndarray:
        """See :meth:`Backend.to_host`; waits for the device."""
        self.refuse_to_record("the host looks at a result")
        if self._rehearses:
            raise NotRepeatable("there is no result to look at")
        ordered = self.in_order(array)
        host = np.empty(array.shape, array.dtype)
        if host.size:
            self._driver.memcpy_dtoh_async(host, ordered.address, self.stream)
        self.stream.synchronize()
        return host

    def pinned(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """A host array that the device reads and writes by itself, with arbitrary contents."""
        return self.gpu.pinned(math.prod(shape) * np.dtype(dtype).itemsize).view(dtype).reshape(tuple(shape))

    def copy_to_pinned(self, array: DeviceArray, target: np.ndarray) -> None:
        """Copy the bytes of an array without gaps, when its turn comes, to the beginning of a pinned one."""
        self._driver.memcpy_dtoh_async(target.view(np.uint8)[: array.nbytes], array.address, self.stream)

    def free_memory(self) -> int:
        """See :meth:`Backend.free_memory`."""
        free: int = self._driver.mem_get_info()[0]
        return free

    def channel_views(self, batch: int) -> int:
        """See :meth:`Backend.channel_views`: any whose rows can still be read 16 bytes at a time."""
        return VIEW_CHANNELS

    # Copies ----------------------------------------------------------------------------------------------------

    def copy(self, source: Any, out: DeviceArray) -> None:
        """See :meth:`Backend.copy`."""
        if isinstance(source, DeviceArray):
            self.move(source, out)
            return
        with np.errstate(over="ignore"):  # what is too large for 16 bits is infinite, as on the device
            values = np.ascontiguousarray(np.broadcast_to(source, out.shape), out.dtype)
        if not values.size:
            return
        self.refuse_to_record("the host brings numbers to the device")
        target = out if out.is_in_order else self._like_in_order(out)
        self._parcels.send(values, target.address, self.stream)
        if target is not out:
            self.move(target, out)

    def own_memory(self, input_values: int, parameters: int, pictures: int = 0) -> int:
        """See :meth:`Backend.own_memory`: sums before they are added up."""
        return 4 * MOST_PARTIALS

    def fill(self, array: DeviceArray, value: float) -> None:
        """See :meth:`Backend.fill`."""
        if isinstance(array, Rearranged):
            array = array.source
        bits = int(np.array(value, array.dtype).view(f"u{array.itemsize}"))
        if not array.size:
            return
        if array.is_dense and array.itemsize == 4:
            self._driver.memset_d32_async(array.address, bits, array.size, self.stream)
        elif array.is_dense and array.itemsize == 2:
            self._driver.memset_d16_async(array.address, bits, array.size, self.stream)
        elif array.is_dense and bits == 0:
            self._driver.memset_d8_async(array.address, 0, array.nbytes, self.stream)
        else:
            # A value repeated without end is an array whose strides are all 0.
            one = self.constant([value], array.dtype)
            self.move(DeviceArray(self, one.owner, one.address, array.shape, array.dtype, (0,) * array.ndim), array)

    def add(self, source: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.add`."""
        self.move(source, out, accumulate=True)

    def is_finite(self, array: DeviceArray) -> bool:
        """See :meth:`Backend.is_finite`; waits for the device."""
        rows, columns, (stride,) = self.rows_of(array)
        blocks = self.blocks_for(rows * columns)
        shares = self.scratch((blocks,))
        self.launch("memory", "count_not_finite", blocks, THREADS, array, stride, rows, columns, shares)
        return not self.to_host(shares).any()

    def move(
        self, source: DeviceArray, out: DeviceArray, scale: float = 1.0, shift: float = 0.0, accumulate: bool = False
    ) -> None:
        """``out = scale * source + shift`` (or ``+=``), element by element, however both lie in memory.

        Floats of one type become those of another if one of both is float32; other types are moved as they are, without
        scale, shift and accumulate.
        """
        if source.shape != out.shape:
            raise ValueError(f"cannot copy {source.shape} to {out.shape}")
        is_copy = source.dtype == out.dtype and (scale, shift, accumulate) == (1.0, 0.0, False)
        if isinstance(source, Rearranged) or isinstance(out, Rearranged):
            self._move_rearranged(source, out, scale, shift, accumulate)
        elif not out.size:
            return
        elif is_copy and source.is_dense and out.is_dense:
            self._driver.memcpy_dtod_async(out.address, source.address, out.nbytes, self.stream)
        elif is_float(out.dtype) and _have_rows(source, out):
            grid, block, *common = self.over(source, out)
            self.launch(
                "memory", f"scale_rows{_conversion(source, out)}", grid, block,
                source, common[2], out, common[3], *common[:2], common[-1], scale, shift, accumulate,
            )  # fmt: skip
        else:
            self._move_strided(source, out, scale, shift, accumulate)

    def _move_strided(
        self, source: DeviceArray, out: DeviceArray, scale: float, shift: float, accumulate: bool
    ) -> None:
        lengths, from_strides, to_strides = _six_axes(source, out)
        numbers = (*lengths, *from_strides, *to_strides)
        grid = self.blocks_for(out.size)
        if is_float(out.dtype):
            kernel = f"move{_conversion(source, out) or '_element'}"
            self.launch("memory", kernel, grid, THREADS, source, out, *numbers, scale, shift, accumulate)
        else:
            self.launch("memory", f"move_{out.itemsize}", grid, THREADS, source, out, *numbers)

    def _move_rearranged(
        self, source: DeviceArray, out: DeviceArray, scale: float, shift: float, accumulate: bool
    ) -> None:
        with self.written_in_order(out, keep=accumulate) as target:
            self.move(self.in_order(source).reshape(target.shape), target, scale, shift, accumulate)

    # Elements in the order of the axes --------------------------------------------------------------------------

    def in_order(self, array: DeviceArray) -> DeviceArray:
        """The array if it lies in the order of its axes without gaps, else a copy that does."""
        origin = array.source if isinstance(array, Rearranged) else array
        if origin.is_in_order:
            return array
        copy = self._like_in_order(origin)
        self.move(origin, copy)
        return in_order_as(copy, array.shape)

    @contextmanager
    def written_in_order(self, array: DeviceArray, keep: bool) -> Iterator[DeviceArray]:
        """An array to write to, in the order of the axes without gaps; its elements are those of ``array`` at the end.

        With ``keep`` it has them at the beginning too.
        """
        origin = array.source if isinstance(array, Rearranged) else array
        if origin.is_in_order:
            yield array
            return
        copy = self._like_in_order(origin)
        if keep:
            self.move(origin, copy)
        yield in_order_as(copy, array.shape)
        self.move(copy, origin)

    def rows_to_read(self, array: DeviceArray) -> DeviceArray:
        """The array itself, or if it is rearranged, a copy as :meth:`in_order` gives."""
        return self.in_order(array) if isinstance(array, Rearranged) else array

    @contextmanager
    def rows_to_write(self, array: DeviceArray, keep: bool = False) -> Iterator[DeviceArray]:
        """The array itself, or if it is rearranged, one to write to in its place as :meth:`written_in_order` gives."""
        if isinstance(array, Rearranged):
            with self.written_in_order(array, keep) as target:
                yield target
        else:
            yield array

    def _like_in_order(self, array: DeviceArray) -> DeviceArray:
        memory = self.scratch((array.size,), array.dtype)
        return in_order_as(memory, array.shape)

    # Workspace -------------------------------------------------------------------------------------------------

    @property
    def workspace(self) -> DeviceArray:
        """See :meth:`Backend.workspace`."""
        return self._workspace

    def set_workspace(self, nbytes: int) -> None:
        """See :meth:`Backend.set_workspace`."""
        if nbytes > self._workspace.size:
            self._workspace = self.empty((0,), np.uint8)  # give the old one back first
            self._workspace = self.empty((nbytes,), np.uint8)

    def carve(self, *shapes: Sequence[int], dtype: Any = np.float32) -> list[DeviceArray]:
        """Arrays of these shapes, side by side in the workspace, with arbitrary contents."""
        itemsize = np.dtype(dtype).itemsize
        self.set_workspace(workspace_bytes(*shapes, itemsize=itemsize))
        arrays, start = [], 0
        for shape in shapes:
            nbytes = math.prod(shape) * itemsize
            arrays.append(self._workspace[start : start + nbytes].view(dtype).reshape(tuple(shape)))
            start += _aligned(nbytes)
        return arrays

    def partials(self, count: int) -> DeviceArray:
        """A vector of so many floats for sums that blocks make of their shares, to be added up by a second kernel."""
        if count > self._partials.size:
            self._partials = self.empty((max(count, MOST_PARTIALS),))
        return self._partials

    # Host --------------------------------------------------------------------------------------------------------

    def parallel(self, function: Callable[[Item], Any], items: Iterable[Item]) -> None:
        """See :meth:`Backend.parallel`: one after the other, on the CPU."""
        for item in items:
            function(item)


def _conversion(source: DeviceArray, out: DeviceArray) -> str:
    """The end of the name of the kernel that moves elements of one of these types to the other."""
    if source.dtype == out.dtype:
        return ""
    return "_from_float" if source.dtype == FLOAT else "_to_float"


@cache
def _pool(index: int) -> Any:
    """The pool of the GPU of that number."""
    from pycuda.tools import DeviceMemoryPool

    open_gpu(index)
    return DeviceMemoryPool()


def in_order_as(memory: DeviceArray, shape: Sequence[int]) -> DeviceArray:
    """Memory without gaps as an array that lies in the order of its axes, whatever their number."""
    return DeviceArray(memory.backend, memory.owner, memory.address, shape, memory.dtype, row_major(tuple(shape)))


def _have_rows(*arrays: DeviceArray) -> bool:
    try:
        MemoryOperations.rows_of(*arrays)
    except ValueError:
        return False
    # Rows of one array may be columns of the other: four axes in order are not channels last.
    return len({array.ndim >= 4 for array in arrays}) == 1


def _six_axes(source: DeviceArray, out: DeviceArray) -> tuple[list[int], list[int], list[int]]:
    """Lengths and strides of both arrays as arrays of six axes, neighbouring ones joined that lie as one in both."""
    axes: list[tuple[int, int, int]] = []
    for length, a, b in zip(out.shape, source.strides, out.strides):
        if length == 1:
            continue
        if axes and axes[-1][1] == length * a and axes[-1][2] == length * b:
            length *= axes.pop()[0]
        axes.append((length, a, b))
    if len(axes) > 6:
        raise ValueError(f"cannot copy arrays of so many axes: {source} to {out}")
    axes = [(1, 0, 0)] * (6 - len(axes)) + axes
    lengths, from_strides, to_strides = (list(column) for column in zip(*axes))
    return lengths, from_strides, to_strides


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
