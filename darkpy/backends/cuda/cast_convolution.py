"""Convolutions of arrays of 16 bits by way of float32 copies, where there is no kernel for their type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.convolution import ConvolutionOperations
from darkpy.backends.cuda.memory import FLOAT


class CastConvolutionOperations(ConvolutionOperations):
    """Each operation with its pictures in float32; parameters are so already."""

    def convolution_forward(
        self,
        x: DeviceArray,
        weights: DeviceArray,
        out: DeviceArray,
        geometry: ConvolutionGeometry,
        scale: DeviceArray | None = None,
        bias: DeviceArray | None = None,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.convolution_forward`."""
        with self._to_write(out, False) as target:
            super().convolution_forward(self._to_read(x), weights, target, geometry, scale, bias, activation)

    def convolution_backward_weights(
        self, x: DeviceArray, grad_out: DeviceArray, grad_weights: DeviceArray, geometry: ConvolutionGeometry
    ) -> None:
        """See :meth:`Backend.convolution_backward_weights`."""
        super().convolution_backward_weights(self._to_read(x), self._to_read(grad_out), grad_weights, geometry)

    def convolution_backward_input(
        self,
        grad_out: DeviceArray,
        weights: DeviceArray,
        grad_x: DeviceArray,
        geometry: ConvolutionGeometry,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.convolution_backward_input`."""
        with self._to_write(grad_x, accumulate) as target:
            # What a copy holds is added when it is moved to its place.
            adds = accumulate and target is grad_x
            super().convolution_backward_input(self._to_read(grad_out), weights, target, geometry, adds)

    def _to_read(self, array: DeviceArray) -> DeviceArray:
        if array.dtype == FLOAT:
            return array
        copy = self.scratch(array.shape)
        self.move(array, copy)
        return copy

    @contextmanager
    def _to_write(self, array: DeviceArray, accumulate: bool) -> Iterator[DeviceArray]:
        if array.dtype == FLOAT:
            yield array
            return
        copy = self.scratch(array.shape)
        yield copy
        self.move(copy, array, accumulate=accumulate)
