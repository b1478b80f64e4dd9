"""Every operation as a backend of a GPU rounds it, computed by the CPU's backend in float32.

16 bits
    Arrays of outputs and their gradients have 16 bits in memory. An operation takes copies of them in float32 and
    computes, and what it has written is rounded to the type: once, as a kernel rounds what it has in registers.
    Convolutions, connected and local layers see the weights rounded to the type too.
tf32
    Arrays are float32. Convolutions and connected layers see both operands with 10 bits of the fraction.

Sums are float32, in another order than on a device. It is taken to have tensor cores; where its kernels do not use
them, as for a first layer or one filter for each channel, weights and operands stay as they are.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from darkpy.backends.base import Backend, Item
from darkpy.backends.cuda.first_layer import FirstLayer
from darkpy.backends.numpy.depthwise import is_depthwise
from darkpy.backends.numpy.tiles import Array
from darkpy.backends.precision import activation_dtype

#: What a device computes on tensor cores, where it can.
PRODUCTS = (
    "convolution_backward_input",
    "convolution_backward_weights",
    "convolution_batchnorm_forward_inference",
    "convolution_forward",
    "convolution_residual_forward",
    "linear_backward_input",
    "linear_backward_weights",
    "linear_forward",
)

#: What a device computes on the ordinary cores, from its 16-bit copies of the weights.
FROM_COPIES = ("local_backward_input", "local_forward")

#: The arguments that these multiply.
OPERANDS = ("x", "weights", "grad_out")

#: Operations that a device computes as one, rounding once, though the contract makes them of others.
IN_ONE = ("convolution_batchnorm_forward_inference", "convolution_residual_forward")

#: Numbers of an array that are worth waking other threads for.
WORTH_SHARING = 1 << 16


class HostBackend(Backend):
    """The CPU's backend beside this one, and room for copies of arrays in float32."""

    def __init__(self, host: Backend, precision: str) -> None:
        self.host = host
        self.dtype = host.dtype
        self.precision = precision
        self.activation_dtype = activation_dtype(precision)
        self.threads = host.threads
        self.first_use = host.first_use
        self.adds_residuals = precision != "fp32"
        self._rooms: list[np.ndarray] = []

    def empty(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """See :meth:`Backend.empty`."""
        return self.host.empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """See :meth:`Backend.zeros`."""
        return self.host.zeros(shape, dtype)

    def asarray(self, host: Any, dtype: Any = None) -> Array:
        """See :meth:`Backend.asarray`."""
        array = np.asarray(host)
        if not self._is_short(array) and array.dtype.kind != "f":
            return array
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array, dtype or self.dtype)

    def to_host(self, array: Array) -> Any:
        """See :meth:`Backend.to_host`."""
        return array

    @property
    def workspace(self) -> Array:
        """See :attr:`Backend.workspace`."""
        return self.host.workspace

    def set_clock(self, time: int) -> None:
        """See :meth:`Backend.set_clock`."""
        super().set_clock(time)
        self.host.set_clock(time)

    def set_progress(self, progress: float) -> None:
        """See :meth:`Backend.set_progress`."""
        super().set_progress(progress)
        self.host.set_progress(progress)

    def parallel(self, function: Callable[[Item], Any], items: Iterable[Item]) -> None:
        """See :meth:`Backend.parallel`."""
        self.host.parallel(function, items)

    def running(self) -> AbstractContextManager[None]:
        """See :meth:`Backend.running`."""
        return self.host.running()

    def own_memory(self, input_values: int, parameters: int, pictures: int = 0) -> int:
        """See :meth:`Backend.own_memory`: float32 copies of what an operation takes, as far as that can be told."""
        return 0 if self.precision == "fp32" else 4 * (4 * input_values + parameters)

    # Rounding ----------------------------------------------------------------------------------------------------

    def _is_short(self, array: Any) -> bool:
        """Whether an argument is an array of the 16-bit type."""
        return isinstance(array, np.ndarray) and array.dtype == self.activation_dtype != self.dtype

    def _room(self, number: int, shape: Sequence[int]) -> np.ndarray:
        """Room ``number`` as a float32 array; its contents stay until the next operation."""
        size = math.prod(shape)
        if number == len(self._rooms):
            self._rooms.append(np.empty(size, self.dtype))
        if self._rooms[number].size < size:
            self._rooms[number] = np.empty(size, self.dtype)
        return self._rooms[number][:size].reshape(shape)

    def _convert(self, source: np.ndarray, out: np.ndarray) -> None:
        """``out = source`` in another type, to the nearest number, of two as near the even one."""

        def convert(part: slice) -> None:
            with np.errstate(over="ignore", invalid="ignore"):  # what is too large is infinite, as on a device
                np.copyto(out[part], source[part], casting="unsafe")

        if source.size < WORTH_SHARING or len(source) < self.threads:
            convert(slice(None))
        else:
            step = -(-len(source) // self.threads)
            self.host.parallel(convert, [slice(first, first + step) for first in range(0, len(source), step)])

    def _as_multiplied(self, source: np.ndarray, out: np.ndarray) -> None:
        """``out`` = the operand as tensor cores see it, in float32."""
        if self.precision == "tf32":
            # To the nearest, of two as near the one further from zero, as cvt.rna.tf32.f32 does.
            bits = out.view(np.uint32)
            np.add(source.view(np.uint32), 0x1000, out=bits)
            np.bitwise_and(bits, 0xFFFFE000, out=bits)
        else:
            with np.errstate(over="ignore"):
                np.copyto(out, source.astype(self.activation_dtype), casting="unsafe")


class Copies:
    """The arrays of one call as the host takes them: those of 16 bits as float32 copies, operands as multiplied."""

    def __init__(self, backend: HostBackend) -> None:
        self.backend = backend
        self.made: dict[Hashable, np.ndarray] = {}

    def of(self, value: Any, is_read: bool) -> Any:
        """An argument; sequences of arrays too. One that is not read has arbitrary contents."""
        is_sequence = isinstance(value, list | tuple) and not hasattr(value, "_fields")  # settings are named tuples
        if is_sequence and any(self.backend._is_short(item) for item in value):
            return [self.of(item, is_read) for item in value]
        if not self.backend._is_short(value):
            return value
        if _memory(value) not in self.made:
            copy = self._new(value)
            if is_read:
                self.backend._convert(value, copy)
        return self.made[_memory(value)]

    def multiplied(self, value: np.ndarray) -> np.ndarray:
        """A float32 operand."""
        if _memory(value) not in self.made:
            self.backend._as_multiplied(np.ascontiguousarray(value), self._new(value))
        return self.made[_memory(value)]

    def bring_back(self, value: Any) -> None:
        """Round what was written."""
        for array in value if isinstance(value, list | tuple) else (value,):
            if self.backend._is_short(array):
                self.backend._convert(self.made[_memory(array)], array)

    def _new(self, like: np.ndarray) -> np.ndarray:
        copy = self.backend._room(len(self.made), like.shape)
        self.made[_memory(like)] = copy
        return copy


def _memory(array: np.ndarray) -> Hashable:
    """What two arrays have in common that are the same to an operation: layers have views of others' memory."""
    return array.__array_interface__["data"][0], array.shape, array.strides


def is_written(operation: str, argument: str) -> bool:
    """Whether an operation writes pictures into an argument of that name; by the names of the contract."""
    if argument == "out":
        return "_backward" not in operation
    if argument == "array":
        return operation in ("clip", "fill")
    return argument == "norms" or (argument.startswith("grad_") and argument != "grad_out")


def adds(operation: str, given: dict[str, Any]) -> bool:
    """Whether an operation adds to what is in the arrays that it writes, or changes it."""
    accumulate = given.get("accumulate", False)
    return operation in ("add", "clip") or (any(accumulate) if isinstance(accumulate, Sequence) else bool(accumulate))


def on_tensor_cores(operation: str, given: dict[str, Any]) -> bool:
    """Whether a device computes one of :data:`PRODUCTS` there; see cuda/convolution.py."""
    if operation.startswith("linear_"):
        return True
    is_gradient = operation == "convolution_backward_weights"
    geometry, weights = given["geometry"], given["grad_weights" if is_gradient else "weights"]
    if is_depthwise(weights.shape, geometry):
        return False
    if operation == "convolution_backward_input":
        return True
    out = given["grad_out" if is_gradient else "out"]
    return FirstLayer.of(given["x"].shape, out.shape, geometry) is None


def _rounded(name: str) -> Callable[..., Any]:
    signature = inspect.signature(getattr(Backend, name))
    written = [argument for argument in signature.parameters if is_written(name, argument)]

    def operation(self: HostBackend, *arguments: Any, **options: Any) -> Any:
        given = signature.bind(self, *arguments, **options).arguments
        del given["self"]
        copies = Copies(self)
        only_written = () if adds(name, given) else written
        in_order = sorted(given, key=lambda key: key in only_written)  # what is read too is copied first
        taken = {key: copies.of(given[key], key not in only_written) for key in in_order}
        multiplies = self.precision == "tf32" or self.dtype != self.activation_dtype == _picture_dtype(given)
        reads_copies = name in FROM_COPIES and self.precision != "tf32"
        if multiplies and (reads_copies or (name in PRODUCTS and on_tensor_cores(name, given))):
            for key in OPERANDS:
                if key in given and not self._is_short(given[key]):
                    taken[key] = copies.multiplied(given[key])
        result = getattr(self.host, name)(**taken)
        for key in written:
            copies.bring_back(given.get(key))
        return result

    operation.__name__ = name
    operation.__doc__ = f"See :meth:`Backend.{name}`; rounded."
    return operation


def _picture_dtype(given: dict[str, Any]) -> Any:
    """The type of the pictures that a convolution reads."""
    pictures = given.get("x", given.get("grad_out"))
    return None if pictures is None else pictures.dtype


_OWN = {name for name in vars(HostBackend) if not name.startswith("__")}
_NAMES = sorted({*Backend.__abstractmethods__, *IN_ONE, "pack_objects", "free_memory"} - _OWN)

#: All operations of the contract, but those that it makes of others.
Operations: Any = type("Operations", (HostBackend,), {name: _rounded(name) for name in _NAMES})
