"""Array operations, one package per kind of hardware, behind one contract (:class:`darkpy.backends.base.Backend`).

A backend knows arrays and shapes and nothing of layers, networks or files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.backends.precision import activation_dtype
from darkpy.errors import InputError, suggestion

if TYPE_CHECKING:
    from darkpy.backends.base import Backend

#: What a user can ask for; ``gpu:1`` is the second GPU, and ``cuda`` another word for gpu.
DEVICES = ("auto", "cpu", "gpu", "numba", "numpy", "emulated")

#: Of what :func:`choose` says, the CPU itself.
CPU = ("numba", "numpy")

_GPU = re.compile(r"(gpu|cuda)(?::(\d+))?")


@dataclass(frozen=True)
class Choice:
    """A device, and in one line why it is this one; an empty line where it was asked for by name.

    device: ``gpu:0``, ``numba``, ``numpy`` or ``emulated``.
    """

    device: str
    notice: str = ""


def choose(device: str = "auto", dtype: Any = np.float32) -> Choice:
    """What to compute on.

    ``"auto"`` is what ``DARKPY_DEVICE`` in the environment says, else the first GPU if there is one that can be used,
    else the CPU. ``"cpu"`` is the compiled backend where Numba is installed and the environment does not say
    ``DARKPY_NUMBA=0``, else pure NumPy; ``"numba"``, ``"numpy"``, ``"gpu"``, ``"gpu:1"`` ask for one of them.
    ``"emulated"`` is the CPU that rounds as a GPU does in another precision than fp32.

    Raises :class:`~darkpy.errors.InputError` for an unknown device.
    """
    device = (device if device != "auto" else os.environ.get("DARKPY_DEVICE") or "auto").lower()
    gpu = _GPU.fullmatch(device)
    if gpu is not None:
        return Choice(f"gpu:{int(gpu[2] or 0)}")
    if device not in DEVICES:
        known = ("auto", "cpu", "gpu", "gpu:1", "numba", "numpy", "emulated")
        raise InputError(f"unknown device {device!r}{suggestion(device, known)}; choose from {', '.join(known)}")
    if device != "auto":
        return Choice(_cpu() if device == "cpu" else device)
    if np.dtype(dtype) != np.float32:
        return Choice(_cpu())
    from darkpy.backends.cuda import device as cuda

    reason = cuda.why_not()
    if reason is None:
        return Choice("gpu:0", f"computing on the GPU: {cuda.open_gpu(0).name} (--device cpu for the CPU)")
    # Where there is nothing to choose, there is nothing to say.
    return Choice(_cpu(), f"computing on the CPU: {reason}" if cuda.may_be_there() else "")


def usable(device: str = "auto", dtype: Any = np.float32, precision: str = "fp32") -> Choice:
    """What :func:`choose` says, if it is there and computes in this float type and precision (see precision.py).

    Raises :class:`~darkpy.errors.InputError` if not, with what to do. A precision other than fp32 needs a GPU, or
    ``"emulated"``.
    """
    choice = choose(device, dtype)
    activation_dtype(precision)
    on_cpu = choice.device in CPU
    if not on_cpu and np.dtype(dtype) != np.float32:
        raise InputError(f"a GPU computes in float32, not {np.dtype(dtype)}; use --device cpu")
    if on_cpu and precision != "fp32":
        notice = f" ({choice.notice})" if choice.notice else ""
        raise InputError(
            f"{precision} needs a GPU; the CPU computes in float32: leave it out, or see what it does to the numbers "
            f"with --device emulated{notice}"
        )
    if choice.device == "numba":
        _numba()
    elif choice.device.startswith("gpu"):
        from darkpy.backends.cuda.device import open_gpu

        open_gpu(_index(choice))
    return choice


def create(
    device: str = "auto", dtype: Any = np.float32, precision: str = "fp32", *, only_plans: bool = False
) -> Backend:
    """The backend for a :func:`usable` device, working in a float type and a precision.

    One that ``only_plans`` what another machine will do may be the CPU's in any precision. Raises
    :class:`~darkpy.errors.InputError` for what cannot be used.
    """
    if only_plans and precision != "fp32" and choose(device, dtype).device in CPU:
        backend = create(device, dtype)
        backend.precision, backend.activation_dtype = precision, activation_dtype(precision)
        return backend
    choice = usable(device, dtype, precision)
    if choice.device == "emulated":
        from darkpy.backends.emulated import EmulatedBackend

        return EmulatedBackend(create(_cpu()), precision)
    if choice.device == "numba":
        return _numba()(dtype)
    if choice.device == "numpy":
        from darkpy.backends.numpy import NumpyBackend

        return NumpyBackend(dtype)
    from darkpy.backends.cuda import CudaBackend

    return CudaBackend(_index(choice), precision)


def _numba() -> Callable[[Any], Backend]:
    try:
        from darkpy.backends.numba import NumbaBackend
    except ImportError as error:
        message = f"device 'numba' needs the package numba: pip install numba, or use 'numpy' ({error})"
        raise InputError(message) from error
    return NumbaBackend


def _index(choice: Choice) -> int:
    return int(choice.device.partition(":")[2])


def _cpu() -> str:
    """The backend for the CPU: compiled where it can be."""
    if os.environ.get("DARKPY_NUMBA", "1") == "0":
        return "numpy"
    try:
        import darkpy.backends.numba  # noqa: F401
    except ImportError:
        return "numpy"
    return "numba"
