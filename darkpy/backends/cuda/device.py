"""Finding a GPU, and saying in one line why there is none."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from darkpy.errors import InputError

INSTALL = "pip install darkpy-detector[cuda]"

TRACES = ("/dev/nvidiactl", "/proc/driver/nvidia", "/usr/lib/wsl/lib/libcuda.so.1", r"C:\Windows\System32\nvcuda.dll")
"""Files that NVIDIA's driver leaves on Linux, below Windows (WSL) and on Windows."""


TENSOR_CORES = {"fp16": 75, "bf16": 80, "tf32": 80}
"""Compute capabilities from which on tensor cores multiply numbers of a precision."""


@dataclass(eq=False)
class Gpu:
    """A device that is open.

    index: as in ``gpu:1``. architecture: as nvcc names it, ``sm_90a``. capability: the same as a number, 90. memory:
    bytes. shared_memory, threads: of a multiprocessor, in bytes and altogether. context, stream, copies: PyCUDA's; all
    work is done in the order of ``stream``, what the host brings meanwhile in that of ``copies``. reads_pageable:
    whether it reads memory of the host that is not pinned by itself, some time, instead of what the driver has copied
    of it. is_recorded: whether work is being recorded, and nothing may be freed.
    """

    index: int
    name: str
    architecture: str
    capability: int
    memory: int
    multiprocessors: int
    shared_memory: int
    threads: int
    driver_version: int
    context: Any
    stream: Any
    copies: Any
    reads_pageable: bool = False
    is_recorded: bool = False
    _released: deque[Any] = field(default_factory=deque)
    _thread: int = field(default_factory=threading.get_ident)

    @property
    def driver(self) -> str:
        """The newest CUDA version the installed driver runs, as ``12.4``."""
        return f"{self.driver_version // 1000}.{self.driver_version % 1000 // 10}"

    def has_tensor_cores(self, precision: str) -> bool:
        """Whether it multiplies numbers of a precision on tensor cores by kernels/tensor_convolution.cuh."""
        return self.capability >= TENSOR_CORES.get(precision, sys.maxsize)

    def release(self, thing: Any) -> None:
        """Give memory or an event back when :meth:`collect` is called: Python may let go of it in any thread."""
        if not isinstance(thing, Loan):
            self._released.append(thing)

    def collect(self) -> None:
        """Free what was released; PyCUDA can do so only in the thread that opened the device."""
        if threading.get_ident() == self._thread and not self.is_recorded:
            while self._released:
                self._released.pop()

    def pinned(self, nbytes: int) -> np.ndarray:
        """A vector of bytes, with arbitrary contents, in host memory that the device reads and writes by itself."""
        import pycuda.driver as driver

        self.collect()
        return np.asarray(PinnedBlock(self, driver.pagelocked_empty((max(nbytes, 1),), np.uint8)))[:nbytes]

    def event(self) -> Event:
        """A new event, to be recorded in a stream; it takes no time of its own."""
        import pycuda.driver as driver

        return Event(self, driver.Event(driver.event_flags.DISABLE_TIMING))


class Loan:
    """Memory that goes back to where it came from, without the driver: in any thread, at any time."""

    __slots__ = ("_allocation", "_home")

    def __init__(self, home: list[Any], allocation: Any) -> None:
        self._home = home
        self._allocation = allocation

    def __int__(self) -> int:
        return int(self._allocation)

    def __del__(self) -> None:
        self._home.append(self._allocation)


class Block:
    """Device memory that is released when nobody holds it any more."""

    __slots__ = ("address", "allocation", "gpu")

    def __init__(self, gpu: Gpu, allocation: Any) -> None:
        self.gpu = gpu
        self.allocation = allocation
        self.address = int(allocation)

    def __del__(self) -> None:
        self.gpu.release(self.allocation)


class PinnedBlock:
    """What pinned arrays are views of; released as :class:`Block`."""

    def __init__(self, gpu: Gpu, allocation: np.ndarray) -> None:
        self.gpu = gpu
        self.allocation = allocation
        self.__array_interface__ = allocation.__array_interface__

    def __del__(self) -> None:
        self.gpu.release(self.allocation)

    @staticmethod
    def holds(array: np.ndarray) -> bool:
        """Whether an array lies in such memory."""
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        return isinstance(base, PinnedBlock)


class Event:
    """A point in the order of a stream's work; released as :class:`Block`."""

    def __init__(self, gpu: Gpu, event: Any) -> None:
        self.gpu = gpu
        self.event = event

    def __del__(self) -> None:
        self.gpu.release(self.event)

    def record(self, stream: Any) -> None:
        """The point is after what the stream has to do by now."""
        self.event.record(stream)

    def holds_back(self, stream: Any) -> None:
        """What the stream is given from now on waits for the point."""
        stream.wait_for_event(self.event)

    def query(self) -> bool:
        """Whether the device has come so far."""
        return bool(self.event.query())

    def synchronize(self) -> None:
        """Wait until it has."""
        self.event.synchronize()


def why_not(index: int = 0) -> str | None:
    """Why the GPU cannot be used, in a line that says what to do; None if it can."""
    try:
        import pycuda.driver as driver
    except ImportError as error:
        if "libcuda" in str(error):
            return "there is no NVIDIA driver (libcuda.so.1): install it from your distribution or nvidia.com"
        return f"PyCUDA is not installed: {INSTALL}"
    try:
        driver.init()
        count = driver.Device.count()
    except driver.Error as error:
        return _in_words(error)
    if index < count:
        return None
    return f"there {'is' if count == 1 else 'are'} {count or 'no'} GPU{'' if count == 1 else 's'}, counted from 0"


def may_be_there() -> bool:
    """Whether somebody here seems to count on a GPU: PyCUDA is installed, or a driver of NVIDIA's."""
    return find_spec("pycuda") is not None or any(map(os.path.exists, TRACES))


def _in_words(error: Exception) -> str:
    text = str(error)
    if "no CUDA-capable device" in text:
        return "the driver finds no NVIDIA GPU (is CUDA_VISIBLE_DEVICES set?)"
    if "mismatch" in text or "unsupported display driver" in text:
        return "the driver's library and its kernel module are of different versions: restart, or install it anew"
    return f"the NVIDIA driver does not start: {text}"


@cache
def open_gpu(index: int) -> Gpu:
    """The GPU of that number, ready for use; raises InputError that says why not."""
    reason = why_not(index)
    if reason is not None:
        raise InputError(f"gpu:{index} cannot be used: {reason}")
    import pycuda.driver as driver

    device = driver.Device(index)
    context = device.retain_primary_context()
    context.push()
    # PyCUDA ends the program if a context is still current then.
    atexit.register(context.pop)
    major, minor = device.compute_capability()
    attributes = driver.device_attribute
    return Gpu(
        index=index,
        name=device.name(),
        # The newest instructions of a Hopper GPU are there for code compiled for it alone.
        architecture=f"sm_{major}{minor}{'a' if major == 9 else ''}",
        capability=10 * major + minor,
        memory=device.total_memory(),
        multiprocessors=device.get_attribute(attributes.MULTIPROCESSOR_COUNT),
        shared_memory=device.get_attribute(attributes.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
        threads=device.get_attribute(attributes.MAX_THREADS_PER_MULTIPROCESSOR),
        driver_version=driver.get_driver_version(),
        context=context,
        stream=driver.Stream(),
        copies=driver.Stream(),
        reads_pageable=bool(device.get_attribute(attributes.PAGEABLE_MEMORY_ACCESS)),
    )
