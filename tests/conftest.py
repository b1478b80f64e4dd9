from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import pytest

# Tests say what they compute on; where none is named it is the CPU, also on a machine with a GPU.
os.environ.setdefault("DARKPY_DEVICE", "cpu")

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
