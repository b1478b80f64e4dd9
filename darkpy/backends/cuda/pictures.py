"""Pictures on their way to the device: kernels/pictures.cu.

They go through one of two berths in turn, in a second stream, so that the next ones are copied while the device still
works on the last; events say when they have arrived, and when the berth is free again. The copy needs no help of the
host if they lie in pinned memory, see :meth:`PictureOperations.picture_memory`. Bytes are divided by 255 on the device.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.device import PinnedBlock
from darkpy.backends.cuda.memory import THREADS, MemoryOperations, in_order_as


class Berth:
    """Device memory for pictures as the host has them, and its two events."""

    def __init__(self, backend: MemoryOperations) -> None:
        self.memory = backend.empty((0,), np.uint8)
        self.arrived, self.left = backend.gpu.event(), backend.gpu.event()


class PictureOperations(MemoryOperations):
    """The network's input."""

    bytes_preferred = True
    _is_fetching = False
    _input_memory: DeviceArray | None = None

    @cached_property
    def _berths(self) -> list[Berth]:
        return [Berth(self), Berth(self)]

    def pictures(self, x: np.ndarray) -> DeviceArray:
        """See :meth:`Backend.pictures`."""
        out = self._input(x.shape)
        host = _as_it_lies(x if x.dtype == np.uint8 else np.asarray(x, self.dtype))
        self._berths.reverse()
        berth = self._berths[0]
        if berth.memory.size < host.nbytes:
            berth.memory = self.empty((host.nbytes,), np.uint8)
        stream = self.gpu.copies
        berth.left.holds_back(stream)
        self._driver.memcpy_htod_async(berth.memory.address, host, stream)
        berth.arrived.record(stream)
        self._is_fetching = PinnedBlock.holds(host)  # anything else the driver has copied by now
        berth.arrived.holds_back(self.stream)
        there = berth.memory[: host.nbytes].view(host.dtype)
        if host.dtype == np.uint8:
            self.launch("pictures", "from_bytes", self.blocks_for(out.size), THREADS, there, out, out.size)
        else:
            self.move(in_order_as(there, x.shape), out)
        berth.left.record(self.stream)
        return out

    def _input(self, shape: tuple[int, ...]) -> DeviceArray:
        """Where the network finds its pictures, the same memory for all sizes."""
        size = math.prod(shape)
        if self._input_memory is None or self._input_memory.size < size:
            self._input_memory = self.empty((size,), self.activation_dtype)
        return self._input_memory[:size].reshape(shape)

    def pictures_taken(self) -> None:
        """See :meth:`Backend.pictures_taken`: waits for the copy, not for what the device computes."""
        arrived = self._berths[0].arrived
        if self._is_fetching and not arrived.query():
            arrived.synchronize()
        self._is_fetching = False

    def picture_memory(self, nbytes: int) -> np.ndarray:
        """See :meth:`Backend.picture_memory`: pinned."""
        return self.pinned((nbytes,), np.uint8)


def _as_it_lies(x: np.ndarray) -> np.ndarray:
    """Bytes channels last, as the device has them and pictures come; floats in the order of the axes."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.dtype == np.uint8 else x)
