"""Depthwise convolution: every channel has a kernel of its own, and each output is size * size products.

NumPy is fast where its inner loop is long. So a channel is laid out such that each tap (one place under the kernel)
meets all output pixels in one contiguous run: zeros stand around the picture, and output rows are as long as the rows
of that layout, with a few meaningless values at their ends. A stride s deals the picture's rows and columns out to
s * s such layouts ("phases"), in each of which the kernel advances by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.numpy.activations import epilogue
from darkpy.backends.numpy.memory import MemoryOperations, workspace_bytes
from darkpy.backends.numpy.tiles import Array, planes, planes_per_tile
from darkpy.backends.numpy.windows import overlap


def is_depthwise(weights_shape: Sequence[int], geometry: ConvolutionGeometry) -> bool:
    """Whether every channel has one kernel of its own."""
    return geometry.groups > 1 and weights_shape[0] == geometry.groups and weights_shape[1] == 1


@dataclass(frozen=True)
class Layout:
    """Where the values of a channel stand: phases (stride_y, stride_x), each a flat run of ``rows * pitch`` and a bit.

    ``height`` and ``width`` are those of the output, ``x_height`` and ``x_width`` those of the input.
    """

    geometry: ConvolutionGeometry
    x_height: int
    x_width: int
    height: int
    width: int

    @property
    def pitch(self) -> int:
        """From one row to the next."""
        return self.width + (self.geometry.size - 1) * self.geometry.dilation // self.geometry.stride_x

    @property
    def rows(self) -> int:
        """Rows of a phase."""
        return self.height + (self.geometry.size - 1) * self.geometry.dilation // self.geometry.stride_y

    @property
    def run(self) -> int:
        """Output pixels, row ends included."""
        return self.height * self.pitch

    def shapes(self, channels: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of the phases (the last tap's run ends beyond the last row), of the output run, and of products."""
        length = self.rows * self.pitch + self.pitch - self.width
        run = (channels, self.run)
        return (channels, self.geometry.stride_y, self.geometry.stride_x, length), run, run

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, int, int, slice]]]:
        """Each tap's row and column, and the index of the run of values it meets."""
        g = self.geometry
        for ky in range(g.size):
            row, phase_y = divmod(ky * g.dilation, g.stride_y)
            for kx in range(g.size):
                column, phase_x = divmod(kx * g.dilation, g.stride_x)
                start = row * self.pitch + column
                yield ky, kx, (slice(None), phase_y, phase_x, slice(start, start + self.run))

    def pairs(self, phases: Array, x: Array) -> Iterator[tuple[Array, Array]]:
        """For every phase, the views of it and of x (channels, h, w) that are the same pixels."""
        g = self.geometry
        grid = phases[..., : self.rows * self.pitch].reshape(*phases.shape[:3], self.rows, self.pitch)
        for phase_y in range(g.stride_y):
            rows, rows_of_x = overlap(phase_y - g.padding, g.stride_y, self.x_height, self.rows)
            for phase_x in range(g.stride_x):
                columns, columns_of_x = overlap(phase_x - g.padding, g.stride_x, self.x_width, self.pitch)
                yield grid[:, phase_y, phase_x, rows, columns], x[:, rows_of_x, columns_of_x]

    def picture(self, run: Array) -> Array:
        """The output pixels (channels, height, width) of a run, without the row ends."""
        return run.reshape(-1, self.height, self.pitch)[:, :, : self.width]


class DepthwiseOperations(MemoryOperations):
    """The three passes, some channels at a time; called by the operations of the same names without ``depthwise``."""

    def depthwise_workspace(
        self, x_shape: Sequence[int], out_shape: Sequence[int], geometry: ConvolutionGeometry
    ) -> int:
        """Bytes that any of the passes needs."""
        layout = Layout(geometry, *x_shape[2:], *out_shape[2:])
        return workspace_bytes(*layout.shapes(planes_per_tile(out_shape)), itemsize=self.dtype.itemsize)

    def depthwise_forward(
        self,
        x: Array,
        weights: Array,
        out: Array,
        geometry: ConvolutionGeometry,
        scale: Array | None,
        bias: Array | None,
        activation: str,
    ) -> None:
        """``out = activation(convolution * scale + bias)``."""
        layout = Layout(geometry, *x.shape[2:], *out.shape[2:])
        phases, sums, products = self._depthwise_buffers(layout, out)
        for picture, channels in planes(out.shape):
            count = channels.stop - channels.start
            for inside, values in layout.pairs(phases[:count], x[picture, channels]):
                inside[...] = values
            sums.fill(0)
            for ky, kx, met in layout.taps():
                np.multiply(phases[:count][met], weights[channels, :, ky, kx], out=products[:count])
                sums[:count] += products[:count]
            factor, summand = (None if values is None else values[channels] for values in (scale, bias))
            epilogue(sums[:count], factor, summand, activation)
            out[picture, channels] = layout.picture(sums[:count])

    def depthwise_backward_weights(
        self, x: Array, grad_out: Array, grad_weights: Array, geometry: ConvolutionGeometry
    ) -> None:
        """Each tap's weight gets the inner product of the gradient and the values it met."""
        layout = Layout(geometry, *x.shape[2:], *grad_out.shape[2:])
        phases, gradient, _ = self._depthwise_buffers(layout, grad_out)
        for picture, channels in planes(grad_out.shape):
            count = channels.stop - channels.start
            for inside, values in layout.pairs(phases[:count], x[picture, channels]):
                inside[...] = values
            layout.picture(gradient[:count])[...] = grad_out[picture, channels]
            for ky, kx, met in layout.taps():
                grad_weights[channels, 0, ky, kx] += np.einsum("cp,cp->c", phases[:count][met], gradient[:count])

    def depthwise_backward_input(
        self, grad_out: Array, weights: Array, grad_x: Array, geometry: ConvolutionGeometry, accumulate: bool
    ) -> None:
        """Each tap hands the gradient back to the values it met."""
        layout = Layout(geometry, *grad_x.shape[2:], *grad_out.shape[2:])
        phases, gradient, products = self._depthwise_buffers(layout, grad_out)
        if not accumulate:
            grad_x.fill(0)
        for picture, channels in planes(grad_out.shape):
            count = channels.stop - channels.start
            layout.picture(gradient[:count])[...] = grad_out[picture, channels]
            phases.fill(0)
            for ky, kx, met in layout.taps():
                np.multiply(gradient[:count], weights[channels, :, ky, kx], out=products[:count])
                phases[:count][met] += products[:count]
            for inside, target in layout.pairs(phases[:count], grad_x[picture, channels]):
                target += inside

    def _depthwise_buffers(self, layout: Layout, out: Array) -> list[Array]:
        """Phases and runs, zero where no pixel will be written."""
        buffers = self.carve(*layout.shapes(planes_per_tile(out.shape)), dtype=out.dtype)
        for buffer in buffers:
            buffer.fill(0)
        return buffers
