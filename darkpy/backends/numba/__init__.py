"""The backend for CPUs: loops that Numba compiles, on threads of its own.

float32 only; other float types are computed by NumPy, as are the operations that are not here: those that no large
network spends its time in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpy.backends.numba.jit import discard_outdated_code, has_compiled_code

discard_outdated_code()

from darkpy.backends.numba.activations import ActivationOperations  # noqa: E402
from darkpy.backends.numba.batchnorm import BatchNormOperations  # noqa: E402
from darkpy.backends.numba.convolution import ConvolutionOperations  # noqa: E402
from darkpy.backends.numba.elementwise import ElementwiseOperations  # noqa: E402
from darkpy.backends.numba.gaussian_yolo import GaussianYoloOperations  # noqa: E402
from darkpy.backends.numba.optimizers import OptimizerOperations  # noqa: E402
from darkpy.backends.numba.pooling import PoolingOperations  # noqa: E402
from darkpy.backends.numba.region import RegionOperations  # noqa: E402
from darkpy.backends.numpy import NumpyBackend  # noqa: E402

__all__ = ["NumbaBackend"]


class NumbaBackend(RegionOperations, GaussianYoloOperations, NumpyBackend):
    """Compiled loops for float32; for another float type, an object of this class works as NumPy's backend does."""

    name = "numba"

    def __new__(cls, dtype: Any = np.float32) -> NumbaBackend:
        """An object with the float32 loops, if that is the type asked for."""
        return super().__new__(SinglePrecision if np.dtype(dtype) == np.float32 else cls)


class SinglePrecision(
    ConvolutionOperations,
    BatchNormOperations,
    ActivationOperations,
    PoolingOperations,
    ElementwiseOperations,
    OptimizerOperations,
    NumbaBackend,
):
    """The float32 loops."""

    @property
    def first_use(self) -> str | None:  # type: ignore[override]
        """See :attr:`Backend.first_use`."""
        return None if has_compiled_code() else "compiling the fast loops, once on this machine: up to half a minute"
