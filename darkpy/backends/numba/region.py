"""The YOLOv2 head with compiled steps: those of :mod:`darkpy.backends.numpy.region_cells` as they stand there."""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable

from darkpy.backends.numba.jit import entry
from darkpy.backends.numba.yolo import YoloOperations
from darkpy.backends.numpy import region as plain
from darkpy.backends.numpy import region_cells

for _function in region_cells.PLAIN_FUNCTIONS:
    register_jitable(forceinline=True)(_function)

_teach_fitting_cells = entry(region_cells.teach_fitting_cells)
_assign_objects = entry(region_cells.assign_objects)


class RegionOperations(YoloOperations, plain.RegionOperations):
    """The operations of [region]; any float type is compiled for when it is first met."""

    @staticmethod
    def _region_fitting(*arguments: Any) -> None:
        _teach_fitting_cells(*arguments)

    @staticmethod
    def _region_assign(*arguments: Any) -> None:
        _assign_objects(*arguments)
