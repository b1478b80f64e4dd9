from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from darkpy.backends.numpy.memory import MemoryOperations

# Tests say what they compute on; where none is named it is the CPU, also on a machine with a GPU.
os.environ.setdefault("DARKPY_DEVICE", "cpu")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def spoiled(array: np.ndarray) -> np.ndarray:
    """The array, with every byte 255: NaN in floating point, -1 or the largest number otherwise."""
    array.reshape(-1).view(np.uint8).fill(255)
    return array


@pytest.fixture(autouse=True)
def unwritten_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """New arrays and working memory of the CPU begin as NaN: who reads what was never written is found out each time.

    The stand-in GPU does so too. Without it, what memory holds depends on the tests before.
    """
    empty, carve = MemoryOperations.empty, MemoryOperations.carve

    def empty_spoiled(backend: MemoryOperations, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return spoiled(empty(backend, shape, dtype))

    def carve_spoiled(backend: MemoryOperations, *shapes: Sequence[int], dtype: Any) -> list[np.ndarray]:
        return [spoiled(array) for array in carve(backend, *shapes, dtype=dtype)]

    monkeypatch.setattr(MemoryOperations, "empty", empty_spoiled)
    monkeypatch.setattr(MemoryOperations, "carve", carve_spoiled)


@pytest.fixture(autouse=True)
def order_of_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test on the stand-in GPU runs its threads in one of four orders, always the same, unless one is set."""
    if request.node.get_closest_marker("cuda") and "HOSTCUDA_ORDER" not in os.environ:
        monkeypatch.setenv("HOSTCUDA_ORDER", str(crc32(request.node.nodeid.encode()) % 4))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference inputs beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference folder at {SHARED}")
    return SHARED
