"""The backend for NVIDIA GPUs: kernels of our own in ``kernels/``, launched through PyCUDA.

One module per family of operations, each beside the ``.cu`` file of its name. docs/kernels.md says how to add one.
"""

from __future__ import annotations

from darkpy.backends.cuda import plan_table
from darkpy.backends.cuda.activations import ActivationOperations
from darkpy.backends.cuda.compiler import cache_folder
from darkpy.backends.cuda.contrastive import ContrastiveOperations
from darkpy.backends.cuda.convolution import ConvolutionOperations
from darkpy.backends.cuda.detection import DetectionOperations
from darkpy.backends.cuda.detections import SuppressionOperations
from darkpy.backends.cuda.elementwise import ElementwiseOperations
from darkpy.backends.cuda.gaussian_yolo import GaussianYoloOperations
from darkpy.backends.cuda.graphs import GraphOperations
from darkpy.backends.cuda.local import LocalOperations
from darkpy.backends.cuda.loss_scale import LossScaleOperations
from darkpy.backends.cuda.normalization import NormalizationOperations
from darkpy.backends.cuda.optimizers import OptimizerOperations
from darkpy.backends.cuda.pictures import PictureOperations
from darkpy.backends.cuda.random import RandomOperations
from darkpy.backends.cuda.rearranging import RearrangingOperations
from darkpy.backends.cuda.region import RegionOperations
from darkpy.backends.cuda.rehearsal import RehearsalOperations
from darkpy.backends.cuda.softmax import SoftmaxOperations

__all__ = ["CudaBackend"]


class CudaBackend(
    ConvolutionOperations,
    LocalOperations,
    ElementwiseOperations,
    ActivationOperations,
    NormalizationOperations,
    RearrangingOperations,
    SoftmaxOperations,
    OptimizerOperations,
    LossScaleOperations,
    SuppressionOperations,
    DetectionOperations,
    GaussianYoloOperations,
    ContrastiveOperations,
    RegionOperations,
    RandomOperations,
    PictureOperations,
    RehearsalOperations,
    GraphOperations,
):
    """float32, or pictures of 16 bits (``precision``); pictures lie channels last in memory."""

    name = "cuda"

    def __init__(self, index: int = 0, precision: str = "fp32") -> None:
        super().__init__(index, precision)
        self.plans.update({key: entry.plan for key, entry in plan_table.load(self.gpu).items()})

    @property
    def first_use(self) -> str | None:  # type: ignore[override]
        """See :attr:`Backend.first_use`."""
        kept = (cache_folder() / "kernels").glob(f"*-{self.activation_dtype}-{self.gpu.architecture}-*")
        return None if any(kept) else "compiling the GPU's kernels, once on this machine: up to a minute"
