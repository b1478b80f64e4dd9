"""Pictures on their way to the device: kernels/pictures.cu.

They go through one of two berths in turn, in a second stream, so that the next ones are copied while the device still
works on the last; events say when they have arrived, and when the berth is free again. The copy needs no help of the
host if they lie in pinned memory, see :meth:`PictureOperations.picture_memory`. Bytes are divided by 255 on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from darkpy.backends.base import PictureFitting
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.device import PinnedBlock
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import MemoryOperations, in_order_as

#: Bytes of a picture of any size that are reckoned with, those of 1920 x 1080. As many as these pictures have, but no
#: more than MOST_BYTES, are fetched at a time; or one picture that is larger.
PICTURE_BYTES, MOST_BYTES = 1920 * 1080 * 3, 16 << 20


class Berth:
    """Device memory for pictures as the host has them, and its two events."""

    def __init__(self, backend: MemoryOperations) -> None:
        self.memory = backend.empty((0,), np.uint8)
        self.arrived, self.left = backend.gpu.event(), backend.gpu.event()


class PictureOperations(PictureFitting, MemoryOperations):
    """The network's input."""

    bytes_preferred = True
    _is_fetching = False
    _input_memory: DeviceArray | None = None

    @cached_property
    def _berths(self) -> list[Berth]:
        return [Berth(self), Berth(self)]

    def own_memory(self, input_values: int, parameters: int, pictures: int = 0) -> int:
        """See :meth:`Backend.own_memory`: the berths too, unless a picture is larger than is reckoned with."""
        berth = max(4 * input_values, _berth_bytes(pictures))
        return super().own_memory(input_values, parameters, pictures) + 2 * berth

    def pictures(self, x: np.ndarray) -> DeviceArray:
        """See :meth:`Backend.pictures`."""
        out = self._input(x.shape)
        host = _as_it_lies(x if x.dtype == np.uint8 else np.asarray(x, self.dtype))
        berth = self._fetch([host])
        there = berth.memory[: host.nbytes].view(host.dtype)
        if host.dtype == np.uint8:
            self.launch("pictures", "from_bytes", self.blocks_for(out.size), THREADS, there, out, out.size)
        else:
            self.move(in_order_as(there, x.shape), out)
        berth.left.record(self.stream)
        return out

    def fitted_pictures(
        self, images: Sequence[np.ndarray], frames: Sequence[tuple[int, int, int, int]], height: int, width: int
    ) -> DeviceArray:
        """See :meth:`PictureFitting.fitted_pictures`: the bytes are fetched as they are, and resized on the device."""
        channels, most = images[0].shape[2], _berth_bytes(len(images))
        out = self._input((len(images), channels, height, width))
        first = 0
        while first < len(images):
            last, nbytes = first + 1, images[first].nbytes
            while last < len(images) and nbytes + images[last].nbytes <= most:
                nbytes += images[last].nbytes
                last += 1
            self._fit(images[first:last], frames[first:last], out[first:last])
            first = last
        return out

    def _fit(self, images: Sequence[np.ndarray], frames: Sequence[tuple[int, int, int, int]], out: DeviceArray) -> None:
        starts = np.cumsum([0, *(image.nbytes for image in images)]).tolist()
        rows = [(start, *image.shape[:2], *frame) for start, image, frame in zip(starts, images, frames)]
        table = self.asarray(np.array(rows, np.int64))
        berth = self._fetch([np.ascontiguousarray(image) for image in images])
        pictures, channels, height, width = out.shape
        count = pictures * height * width
        self.launch(
            "pictures", "fitted", self.blocks_for(count), THREADS,
            berth.memory, table, out, count, channels, height, width,
        )  # fmt: skip
        berth.left.record(self.stream)

    def _fetch(self, hosts: Sequence[np.ndarray]) -> Berth:
        """Arrays, one behind the other in a berth, which later work in the first stream waits for."""
        self._berths.reverse()
        berth = self._berths[0]
        nbytes = sum(host.nbytes for host in hosts)
        if berth.memory.size < nbytes:
            berth.memory = self.empty((nbytes,), np.uint8)
        stream = self.gpu.copies
        berth.left.holds_back(stream)
        address = berth.memory.address
        for host in hosts:
            self._driver.memcpy_htod_async(address, host, stream)
            address += host.nbytes
        berth.arrived.record(stream)
        are_pinned = all(map(PinnedBlock.holds, hosts))
        if not are_pinned and self.gpu.reads_pageable:
            berth.arrived.synchronize()  # else the driver has copied by now what is not pinned
        self._is_fetching |= are_pinned
        berth.arrived.holds_back(self.stream)
        return berth

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


def _berth_bytes(pictures: int) -> int:
    """Of pictures of any size as many bytes are fetched at a time."""
    return min(pictures * PICTURE_BYTES, MOST_BYTES)


def _as_it_lies(x: np.ndarray) -> np.ndarray:
    """Bytes channels last, as the device has them and pictures come; floats in the order of the axes."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if x.dtype == np.uint8 else x)
