"""Small arrays on their way from the host to the device, for which the host does not wait."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from darkpy.backends.cuda.device import Event, Gpu

#: Bytes of an array that goes through pinned memory, at most; and how many of a size may be on their way.
LARGEST, MOST = 1 << 20, 256


class Parcels:
    """Copies in the order of a stream.

    An array goes through pinned memory, which the device reads by itself and which is used again when it has. A larger
    one goes as it is: then the host may have to wait for what the device does before.
    """

    def __init__(self, driver: Any, gpu: Gpu) -> None:
        self._driver = driver
        self._gpu = gpu
        self.under_way: dict[int, deque[tuple[np.ndarray, Event]]] = {}

    def send(self, values: np.ndarray, address: int, stream: Any) -> None:
        """Copy an array without gaps to device memory; it may be changed at once."""
        if values.nbytes > LARGEST:
            self._driver.memcpy_htod_async(address, values, stream)
            if self._gpu.reads_pageable:
                stream.synchronize()
            return
        size = 1 << max(values.nbytes - 1, 255).bit_length()
        parcels = self.under_way.setdefault(size, deque())
        if len(parcels) == MOST:
            parcels[0][1].synchronize()
        if parcels and parcels[0][1].query():
            memory, read = parcels.popleft()
        else:
            memory, read = self._gpu.pinned(size), self._gpu.event()
        memory[: values.nbytes] = values.reshape(-1).view(np.uint8)
        self._driver.memcpy_htod_async(address, memory[: values.nbytes], stream)
        read.record(stream)
        parcels.append((memory, read))
