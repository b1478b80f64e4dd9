"""The backends that can be tested on this machine, and how to compare their results."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from darkpy.backends import create
from darkpy.backends.base import Backend


def _importable() -> list[str]:
    try:
        from darkpy.backends.numba import NumbaBackend  # noqa: F401
    except ImportError:
        return ["numpy"]
    return ["numpy", "numba"]


#: Names to parametrise a test over: ``@pytest.mark.parametrize("name", BACKENDS)``.
BACKENDS = _importable()


@cache
def backend(name: str = "numpy", dtype: Any = np.float32) -> Backend:
    """One backend of each kind for all tests."""
    return create(name, dtype)


def random(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Normally distributed numbers, the same for every dtype."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float = 2e-6) -> None:
    """The largest difference is small beside the largest expected value."""
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    error = np.abs(actual.astype(np.float64) - expected).max(initial=0)
    largest = np.abs(expected).max(initial=1e-30)
    assert error <= tolerance * largest, f"off by {error:.3g}, {error / largest:.3g} of the largest value"
