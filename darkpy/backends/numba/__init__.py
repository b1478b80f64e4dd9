"""The backend for CPUs: Numba compiles it."""

from __future__ import annotations

from darkpy.backends.numba.jit import discard_outdated_code

discard_outdated_code()

from darkpy.backends.numba.convolution import ConvolutionOperations  # noqa: E402
from darkpy.backends.numpy import NumpyBackend  # noqa: E402


class NumbaBackend(ConvolutionOperations, NumpyBackend):
    """float32 on the CPU."""

    name = "numba"
