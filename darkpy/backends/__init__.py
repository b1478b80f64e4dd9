"""Array operations, one package per kind of hardware, behind one contract (:class:`darkpy.backends.base.Backend`).

A backend knows arrays and shapes and nothing of layers, networks or files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.errors import InputError, suggestion

if TYPE_CHECKING:
    from darkpy.backends.base import Backend

DEVICES = ("cpu", "numba", "numpy")


def create(device: str = "cpu", dtype: Any = np.float32) -> Backend:
    """The backend for a device, working in a float type.

    ``"cpu"`` is the compiled backend where Numba is installed and the environment does not say ``DARKPY_NUMBA=0``,
    else pure NumPy; ``"numba"`` and ``"numpy"`` ask for one of them.

    Raises :class:`~darkpy.errors.InputError` for an unknown device, or for ``"numba"`` where it is not installed.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device {device!r}{suggestion(device, DEVICES)}; choose from {', '.join(DEVICES)}")
    if device == "numba" or (device == "cpu" and os.environ.get("DARKPY_NUMBA", "1") != "0"):
        try:
            from darkpy.backends.numba import NumbaBackend

            return NumbaBackend(dtype)
        except ImportError as error:
            if device == "numba":
                message = f"device 'numba' needs the package numba: pip install numba, or use 'numpy' ({error})"
                raise InputError(message) from error
    from darkpy.backends.numpy import NumpyBackend

    return NumpyBackend(dtype)
