"""The words of the contract of backends: arrays, geometry, names of activations, constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

#: An array where the backend computes: numpy.ndarray on the CPU, a device array elsewhere.
Array: TypeAlias = Any

Item = TypeVar("Item")

#: Added to a variance before its root is taken (Darknet, batchnorm_layer.c).
BATCHNORM_EPSILON = 1e-5

#: Added to the sums that normalise channels or the weights of a shortcut (Darknet, activations.c, blas.c).
NORMALIZATION_EPSILON = 1e-4

#: The largest share of a picture that dropout takes away: what is left grows by 1 / (1 - share).
MOST_DROPPED = 0.999

#: Share of a training over which dropped blocks grow to their size and their probability (Darknet,
#: dropout_layer_kernels.cu).
BLOCKS_GROWN = 0.85

#: Truth of a value that a loss leaves out (Darknet, SECRET_NUM).
IGNORED_TRUTH = -1234.0

#: Activations that need, for their derivative, the value that went in; the others are differentiated from their result.
_NEED_INPUT = ("gelu", "hard_mish", "mish", "swish")

_DIFFERENTIATED_FROM_OUTPUT = (
    "elu",
    "hardtan",
    "leaky",
    "lhtan",
    "linear",
    "loggy",
    "logistic",
    "plse",
    "ramp",
    "relie",
    "relu",
    "relu6",
    "revleaky",
    "selu",
    "stair",
    "tanh",
)

#: Functions of one number, allowed in fused operations.
ELEMENTWISE_ACTIVATIONS = tuple(sorted(_NEED_INPUT + _DIFFERENTIATED_FROM_OUTPUT))

#: Functions of all channels of one position.
CHANNEL_ACTIVATIONS = (
    "normalize_channels",
    "normalize_channels_softmax",
    "normalize_channels_softmax_maxval",
)


def gradient_needs_input(activation: str) -> bool:
    """Whether the derivative needs the activation's input to be kept; if not, its output is enough."""
    return activation in _NEED_INPUT or activation in CHANNEL_ACTIVATIONS


@dataclass(frozen=True)
class ConvolutionGeometry:
    """How a square kernel moves over a picture, in pixels.

    ``padding`` is what lies outside the picture on each side, dilation included: output row y, kernel row k reads
    picture row ``y * stride_y - padding + k * dilation``, which is 0 outside the picture.
    """

    size: int
    stride_y: int = 1
    stride_x: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


@dataclass(frozen=True)
class PoolGeometry:
    """How a square window moves over a picture: window y starts at row ``y * stride_y - offset``."""

    size: int
    stride_y: int = 1
    stride_x: int = 1
    offset: int = 0
