"""The Gaussian YOLO head with compiled steps: those of :mod:`darkpy.backends.numpy.gaussian_yolo_cells` as they are."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from darkpy.backends.numba.jit import entry
from darkpy.backends.numba.yolo import YoloOperations
from darkpy.backends.numpy import gaussian_yolo as plain
from darkpy.backends.numpy import gaussian_yolo_cells

for _function in gaussian_yolo_cells.PLAIN_FUNCTIONS:
    register_jitable(forceinline=True)(_function)

_train_fitting = entry(gaussian_yolo_cells.train_fitting_gaussians)
_train_confident = entry(gaussian_yolo_cells.train_confident_gaussians)
_assign = entry(gaussian_yolo_cells.assign_gaussians)


class GaussianYoloOperations(YoloOperations, plain.GaussianYoloOperations):
    """The operations of [Gaussian_yolo]; any float type is compiled for when it is first met."""

    @staticmethod
    def _gaussian_fitting(*arguments: Any) -> None:
        _train_fitting(*arguments)

    @staticmethod
    def _gaussian_confident(*arguments: Any) -> None:
        _train_confident(*arguments)

    @staticmethod
    def _gaussian_assign(*arguments: Any) -> None:
        _assign(*arguments)
