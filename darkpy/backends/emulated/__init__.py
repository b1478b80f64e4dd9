"""A GPU's precisions on the CPU: what is rounded there is rounded here, and the CPU's backend does the arithmetic.

Slower than the CPU's own float32. It is there to see what a precision does to a training without a GPU, and to compare
the GPU's kernels with something that rounds as they do. :mod:`.operations` says what is rounded when.
"""

from __future__ import annotations

from darkpy.backends.emulated.loss_scale import LossScaleOperations
from darkpy.backends.emulated.operations import Operations

__all__ = ["EmulatedBackend"]


class EmulatedBackend(LossScaleOperations, Operations):
    """Any precision, computed by another backend in float32."""

    name = "emulated"
