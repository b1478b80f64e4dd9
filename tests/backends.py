"""The backends that can be tested on this machine, and how to compare their results.

The GPU's is among them where there is a GPU, or the stand-in of tests/hostcuda, and takes NumPy arrays here like the
others: see :class:`OnDevice`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from darkpy.backends import create
from darkpy.backends.base import Backend
from darkpy.backends.journal import known
from tests import hostcuda

#: ``DARKPY_TEST_GPU=1`` tests on a real GPU (make test-gpu); otherwise the stand-in is used.
ON_REAL_GPU = os.environ.get("DARKPY_TEST_GPU") == "1"


def _importable() -> list[str]:
    try:
        from darkpy.backends.numba import NumbaBackend  # noqa: F401
    except ImportError:
        return ["numpy"]
    return ["numpy", "numba"]


def why_no_gpu() -> str | None:
    """Why the GPU's backend cannot be tested here; None if it can."""
    return None if ON_REAL_GPU else hostcuda.reason_not_to()


if not ON_REAL_GPU and why_no_gpu() is None:
    hostcuda.start()

_CUDA: Any = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]
)

#: Names to parametrise a test over: ``@pytest.mark.parametrize("name", BACKENDS)``.
BACKENDS = [*_importable(), _CUDA]

#: The same without the GPU's.
CPU_BACKENDS = _importable()

#: Precisions of 16 bits, for tests of the GPU's backend.
SHORT_PRECISIONS: list[Any] = [
    "fp16",
    pytest.param("bf16", marks=pytest.mark.skipif(find_spec("ml_dtypes") is None, reason="ml_dtypes is not installed")),
]

#: Backends that round to 16 bits: the GPU's, and the one that emulates it.
ROUNDING_DEVICES: list[Any] = [
    pytest.param(
        "gpu", marks=[pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]
    ),
    "emulated",
]

#: For tests of whole published networks, which take too long on the stand-in.
FAST_BACKENDS = BACKENDS if ON_REAL_GPU else CPU_BACKENDS


def need_tensor_cores(precision: str) -> None:
    """Skip a test of products in this precision where the GPU multiplies in float32 instead."""
    from darkpy.backends.cuda.device import open_gpu

    if precision == "bf16":
        pytest.importorskip("ml_dtypes")
    gpu = open_gpu(0)
    if precision != "fp32" and not gpu.has_tensor_cores(precision):
        pytest.skip(f"{gpu.name} of {gpu.architecture} has no tensor cores for {precision}")


@cache
def backend(name: str = "numpy", dtype: Any = np.float32) -> Backend:
    """One backend of each kind for all tests; it takes NumPy arrays."""
    return fresh(name, dtype)


def fresh(name: str = "numpy", dtype: Any = np.float32) -> Any:
    """A new backend that takes NumPy arrays."""
    return OnDevice(create(name, dtype)) if name == "cuda" else create(name, dtype)


class OnDevice:
    """A backend on a device that is called with NumPy arrays: they are copied there, and back after each operation.

    An array given twice is one on the device too. A view of some channels becomes a view into a larger array, whose
    other elements must not change. Operations of the contract only; everything else is the backend's own.
    """

    def __init__(self, device: Any) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._device, name)
        is_operation = name in Backend.__abstractmethods__ or name in WITH_DEFAULT
        is_operation = is_operation and callable(found) and name not in NOT_WRAPPED
        return self._wrapped(name, found) if is_operation else found

    def _wrapped(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(getattr(Backend, name))

        def call(*arguments: Any, **options: Any) -> Any:
            given = signature.bind(self, *arguments, **options).arguments
            copies = Copies(self._device)
            on_device = {
                key: value if (name, key) in STAYS_ON_HOST else copies.to_device(value)
                for key, value in given.items()
                if key != "self"
            }
            result = known(operation(**on_device))
            copies.bring_back()
            return result

        return call


#: Operations that the contract itself makes of others.
WITH_DEFAULT = (
    "convolution_batchnorm_forward_inference",
    "convolution_batchnorm_forward_training",
    "convolution_residual_forward",
)

#: Operations that make or take arrays of the device, or none at all.
NOT_WRAPPED = ("asarray", "empty", "parallel", "running", "set_workspace", "to_host", "winner_dtype", "zeros")

#: Arguments that the contract calls host arrays.
STAYS_ON_HOST = {
    ("grouped_softmax_forward", "starts"),
    ("detections", "shares"),
    ("yolo_loss", "truth"),
    ("region_loss", "truth"),
    ("gaussian_yolo_loss", "truth"),
    ("contrastive_loss", "truth"),
}


def with_host_arrays(layer: Any) -> Any:
    """A layer of a network on a device, made to compute on NumPy arrays: its own, and those it is given."""
    if isinstance(layer.backend, OnDevice) or not hasattr(layer.backend, "gpu"):
        return layer
    for name, value in vars(layer).items():
        if hasattr(value, "strides") and not isinstance(value, np.ndarray):
            setattr(layer, name, np.array(value))
    layer.backend = OnDevice(layer.backend)
    return layer


class Copies:
    """The arrays of one call on the device."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.made: dict[int, tuple[np.ndarray, Any, Any]] = {}

    def to_device(self, value: Any) -> Any:
        """The argument as the device takes it; sequences of arrays too."""
        is_sequence = isinstance(value, list | tuple) and not hasattr(value, "_fields")  # settings are named tuples
        if is_sequence and any(isinstance(item, np.ndarray) for item in value):
            return [self.to_device(item) for item in value]
        if not isinstance(value, np.ndarray) or not (value.dtype.kind == "f" or value.dtype in (np.uint8, np.int32)):
            return value
        if id(value) not in self.made:
            dtype = self.device.dtype if value.dtype.kind == "f" else value.dtype
            whole = self.device.empty(_surrounding_shape(value), dtype)
            self.device.fill(whole, 77)
            part = whole
            if whole.shape != value.shape:
                part = whole[:, 1 : 1 + value.shape[1]]
            self.device.copy(value, part)
            self.made[id(value)] = (value, whole, part)
        return self.made[id(value)][2]

    def bring_back(self) -> None:
        """Copy everything back, and see that nothing beside it has changed."""
        for host, whole, part in self.made.values():
            found = self.device.to_host(part)
            if host.flags.writeable:
                host[...] = found
            if part is not whole:
                around = self.device.to_host(whole)
                around[:, 1 : 1 + host.shape[1]] = 77
                assert (around == 77).all(), "something beside the view was written to"


def _surrounding_shape(array: np.ndarray) -> Sequence[int]:
    """The array's own shape, or for a view of some channels or columns, one with a few more."""
    if array.ndim not in (2, 4) or array.flags.c_contiguous:
        return array.shape
    return (array.shape[0], array.shape[1] + 4, *array.shape[2:])


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
