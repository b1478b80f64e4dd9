"""[deconvolutional]: a convolution run backwards, which enlarges its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.backends.base import ConvolutionGeometry
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Parameter, Shape, register, uniform_fan_in
from darkpy.layers.common import NormalizedLayer, activation_option
from darkpy.layers.convolutional import ROLLING_MOMENTUM


@register("deconvolutional", "deconv")
class Deconvolutional(NormalizedLayer):
    """Every input value is spread over a window of the output; windows are ``stride`` apart and add up.

    Input (n, c, h, w), output (n, filters, h', w') with h' = (h - 1) stride + size - 2 padding, weights (c, filters,
    size, size): the transpose of a convolution, also in its arithmetic (first Darknet, deconvolutional_layer.c). Then
    batch normalisation or a bias, and an activation.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        filters: int = option(1, minimum=1, help="number of output channels")
        size: int = option(1, minimum=1, help="side of a window")
        stride: int = option(1, minimum=1, help="step between windows: the factor of enlargement")
        pad: bool = option(False, help="1 cuts off size/2 on each side, whatever padding says")
        padding: int = option(0, minimum=0, help="what is cut off on each side of the output")
        batch_normalize: bool = option(False, help="normalise each channel over the batch, then scale and shift")
        activation: str = activation_option("logistic")

    rolling_momentum = ROLLING_MOMENTUM

    def shape(self, *inputs: Shape) -> Shape:
        """(filters, h', w')."""
        _, h, w = inputs[0]
        o = self.options
        padding = o.size // 2 if o.pad else o.padding
        self.geometry = ConvolutionGeometry(o.size, o.stride, o.stride, padding)
        height, width = ((side - 1) * o.stride + o.size - 2 * padding for side in (h, w))
        if height < 1 or width < 1:
            self.problem("padding", f"leaves nothing of its output: {width}x{height} after cutting off {padding}")
        return o.filters, height, width

    def parameters(self) -> list[Parameter]:
        """Biases, then batch-norm scales and statistics, then weights (c, filters, size, size)."""
        o = self.options
        shape = (self.input_shapes[0][0], o.filters, o.size, o.size)
        weights = Parameter("weights", shape, uniform_fan_in(o.size * o.size * shape[0]), decay=True)
        return [Parameter("biases", (o.filters,)), *self.normalization_parameters(o.filters), weights]

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """Also the input's gradient, where it has to be added to another."""
        found = super().buffers(batch, training)
        if training and self.accumulate and self.accumulate[0]:
            found["share"] = Buffer((batch, *self.input_shapes[0]), scratch=True, during=("backward",))
        return found

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes the backend's convolution asks for, which has our output as its input."""
        assert self.output_shape is not None
        weights = self.parameters()[-1].shape
        pictures, ours = (batch, *self.input_shapes[0]), (batch, *self.output_shape)
        return self.backend.convolution_workspace(ours, weights, pictures, self.geometry, training=True)

    def operations(self) -> float:
        """Two per multiply-add."""
        _, h, w = self.input_shapes[0]
        return 2.0 * self.parameters()[-1].size * h * w

    def receptive_step(self) -> tuple[float, float]:
        """A finer grid, of which each value comes from a few windows."""
        o = self.options
        return -(-o.size // o.stride), 1.0 / o.stride

    def describe(self) -> str:
        """Such as ``4x4 x2``."""
        o = self.options
        return f"{o.size}x{o.size} x{o.stride}"

    def linear_forward(self, x: Any, out: Any) -> None:
        """What would be the gradient of a convolution's input."""
        self.backend.convolution_backward_input(x, self.weights, out, self.geometry)

    def linear_backward(self, grad: Any, grad_x: Any) -> None:
        """The convolution is the gradient of its own gradient."""
        backend = self.backend
        backend.convolution_backward_weights(grad, self.x, self.grad_weights, self.geometry)
        if grad_x is None:
            return
        if not self.accumulate[0]:
            backend.convolution_forward(grad, self.weights, grad_x, self.geometry)
            return
        backend.convolution_forward(grad, self.weights, self.share, self.geometry)
        backend.add(self.share, grad_x)
