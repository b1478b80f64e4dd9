"""Precisions: in which type the numbers of pictures are kept, and which products of matrices may be less exact.

Parameters, their gradients, statistics and losses are float32 in all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpy.errors import InputError, suggestion

#: ``fp32``: everything in float32. ``tf32``: so are all arrays, but convolutions multiply with 10 bits of the fraction.
#: ``fp16``, ``bf16``: outputs of layers and their gradients have 16 bits.
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


def activation_dtype(precision: str) -> Any:
    """The NumPy type of outputs and their gradients.

    Raises :class:`~darkpy.errors.InputError` for an unknown precision, and for bf16 where its NumPy type is missing.
    """
    if precision not in PRECISIONS:
        hint = suggestion(precision, PRECISIONS)
        raise InputError(f"unknown precision {precision!r}{hint}; choose from {', '.join(PRECISIONS)}")
    if precision == "bf16":
        return _bfloat16()
    return np.dtype(np.float16 if precision == "fp16" else np.float32)


def _bfloat16() -> Any:
    try:
        from ml_dtypes import bfloat16
    except ImportError as error:
        raise InputError("bf16 needs the package ml_dtypes: pip install ml_dtypes, or use fp16") from error
    return np.dtype(bfloat16)


def is_float(dtype: Any) -> bool:
    """Whether a NumPy type holds floating point numbers; NumPy itself does not know that of bfloat16."""
    return dtype.kind == "f" or dtype.name == "bfloat16"
