"""The driver's graphs, which PyCUDA does not know: work of a stream recorded instead of done, to be launched as one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from darkpy.backends.cuda.device import Gpu, Loan
from darkpy.errors import DarkpyError

#: CU_STREAM_CAPTURE_MODE_RELAXED: memory may be allocated and freed meanwhile, as Python lets go of arrays at any time.
RELAXED = 2


class NotRepeatable(DarkpyError):
    """Work that cannot be recorded, because the host takes part in it."""


@cache
def _library() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _call(name: str, *arguments: Any) -> None:
    function = getattr(_library(), name, None)
    if function is None:  # before CUDA 11.4
        raise NotRepeatable(f"the driver has no {name}")
    code = function(*arguments)
    if code:
        text = ctypes.c_char_p()
        _library().cuGetErrorString(code, ctypes.byref(text))
        raise NotRepeatable(f"{name}: {(text.value or b'').decode() or code}")


class RecordedMemory:
    """Device memory that recorded work takes for a moment, to be used again by other recorded work only.

    None of it goes back to the driver as long as this object lives, even if there is no other: a graph may use it. That
    is why it is no pool of PyCUDA's.
    """

    def __init__(self, gpu: Gpu, allocate: Callable[[int], Any]) -> None:
        self._gpu = gpu
        self._allocate = allocate
        self._free: dict[int, list[Any]] = {}

    def __del__(self) -> None:
        self._gpu.release(self._free)

    def allocate(self, nbytes: int) -> Loan:
        """So many bytes, or up to an eighth more; they come back when the loan is let go of."""
        step = 1 << max(nbytes.bit_length() - 4, 8)
        size = -(-nbytes // step) * step
        free = self._free.setdefault(size, [])
        return Loan(free, free.pop() if free else self._allocate(size))


class Executable:
    """A graph that can be launched; destroyed with the object, in the thread that lets go of it."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle

    def launch(self, stream: Any) -> None:
        """Do the work in the order of the stream."""
        _call("cuGraphLaunch", self._handle, ctypes.c_void_p(stream.handle))

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the program there may be no library any more
            _library().cuGraphExecDestroy(self._handle)


class Capture:
    """The recording of a stream's work between :meth:`begin` and :meth:`end`.

    ``kept``: what has to live as long as the graph.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = ctypes.c_void_p(stream.handle)
        self.kept: list[Any] = []

    def begin(self) -> None:
        """From now on the stream does nothing."""
        _call("cuStreamBeginCapture_v2", self._stream, RELAXED)

    def cancel(self) -> None:
        """The stream works again; what was recorded is forgotten."""
        graph = ctypes.c_void_p()
        _library().cuStreamEndCapture(self._stream, ctypes.byref(graph))  # an invalid capture says so once more
        if graph:
            _call("cuGraphDestroy", graph)

    def end(self) -> Executable:
        """The stream works again; what was recorded, ready to be launched."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            _call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            _call("cuGraphDestroy", graph)
        return Executable(executable)
