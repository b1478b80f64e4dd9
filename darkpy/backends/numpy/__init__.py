"""The pure NumPy backend: the definition of every operation, in array language, and fast for that.

One module per family of operations; each module begins with how it works.
"""

from __future__ import annotations

from darkpy.backends.numpy.activations import ActivationOperations
from darkpy.backends.numpy.batchnorm import BatchNormOperations
from darkpy.backends.numpy.binarization import BinarizationOperations
from darkpy.backends.numpy.contrastive import ContrastiveOperations
from darkpy.backends.numpy.convolution import ConvolutionOperations
from darkpy.backends.numpy.detections import SuppressionOperations
from darkpy.backends.numpy.dropout import DropoutOperations
from darkpy.backends.numpy.elementwise import ElementwiseOperations
from darkpy.backends.numpy.linear import LinearOperations
from darkpy.backends.numpy.local import LocalOperations
from darkpy.backends.numpy.local_pooling import LocalPoolingOperations
from darkpy.backends.numpy.losses import LossOperations
from darkpy.backends.numpy.normalization import NormalizationOperations
from darkpy.backends.numpy.optimizers import OptimizerOperations
from darkpy.backends.numpy.pooling import PoolingOperations
from darkpy.backends.numpy.rearranging import RearrangingOperations
from darkpy.backends.numpy.softmax import SoftmaxOperations

__all__ = ["NumpyBackend"]


class NumpyBackend(
    SuppressionOperations,
    ContrastiveOperations,
    ConvolutionOperations,
    BatchNormOperations,
    ActivationOperations,
    PoolingOperations,
    LocalPoolingOperations,
    RearrangingOperations,
    NormalizationOperations,
    LocalOperations,
    BinarizationOperations,
    DropoutOperations,
    ElementwiseOperations,
    LinearOperations,
    SoftmaxOperations,
    LossOperations,
    OptimizerOperations,
):
    """Works in any float type; float64 is there to check gradients."""

    name = "numpy"
