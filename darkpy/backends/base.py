"""The contract every backend fulfils: its words, and what each operation computes.

Conventions, everywhere:

- Pictures are ``(n, c, h, w)``, C-contiguous, unless an operation says it takes views.
- Outputs of layers and their gradients (x, out, a, b, inputs, factors, a loss's output, ``grad_`` of these) are of the
  backend's float type or of its ``activation_dtype``, all those of an operation alike. Everything else is of the float
  type: parameters and their gradients, statistics, masks, truth. Of 16-bit inputs a head, a softmax or an activation
  may also make outputs of the float type, and the ``grad`` that a loss writes is always of it.
- Operations write into arrays that the caller owns (``out``, ``grad_...``); none returns a new one.
- ``grad_...`` is a true gradient, dL/d(...), summed over the batch.
- A target documented with ``+=`` is added to. Another is overwritten, unless its ``accumulate`` is true: then it is
  added to as well.
- Big intermediate arrays live in the workspace, one buffer that all operations use in turn.
"""

from __future__ import annotations

from darkpy.backends.base_convolution import ConvolutionContract
from darkpy.backends.base_losses import LossContract
from darkpy.backends.base_memory import MemoryContract, PictureFitting
from darkpy.backends.base_words import (
    BATCHNORM_EPSILON,
    BLOCKS_GROWN,
    CHANNEL_ACTIVATIONS,
    ELEMENTWISE_ACTIVATIONS,
    IGNORED_TRUTH,
    MOST_DROPPED,
    NORMALIZATION_EPSILON,
    Array,
    ConvolutionGeometry,
    Item,
    PoolGeometry,
    gradient_needs_input,
)

__all__ = [
    "BATCHNORM_EPSILON",
    "BLOCKS_GROWN",
    "CHANNEL_ACTIVATIONS",
    "ELEMENTWISE_ACTIVATIONS",
    "IGNORED_TRUTH",
    "MOST_DROPPED",
    "NORMALIZATION_EPSILON",
    "Array",
    "Backend",
    "ConvolutionGeometry",
    "Item",
    "PictureFitting",
    "PoolGeometry",
    "gradient_needs_input",
]


class Backend(MemoryContract, ConvolutionContract, LossContract):
    """The operations a layer may ask for. Shapes and formulas stand here; how each is done, in the backends."""
