"""[local]: a convolution whose every position has filters of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.backends.base import ConvolutionGeometry
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Parameter, Shape, register, uniform_fan_in
from darkpy.layers.common import ActivatedLayer, activation_option


@register("local")
class Local(ActivatedLayer):
    """Sliding filters that are others at every position, then an activation (Darknet, local_layer.c).

    Input (n, c, h, w), output (n, filters, h', w') with h' = (h - 1) / stride + 1, rounded down, with ``pad`` and
    h' = (h - size) / stride + 1 without. Weights (h' * w', filters, c, size, size), one bias for every output value.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        filters: int = option(1, minimum=1, help="number of output channels")
        size: int = option(1, minimum=1, help="side of a filter")
        stride: int = option(1, minimum=1, help="step between windows")
        pad: int = option(0, minimum=0, help="zeros added on each side: 0, or half of size")
        activation: str = activation_option("logistic")

    def shape(self, *inputs: Shape) -> Shape:
        """(filters, h', w')."""
        _, h, w = inputs[0]
        o = self.options
        self.geometry = ConvolutionGeometry(o.size, o.stride, o.stride, o.pad)
        if o.pad and o.size != 2 * o.pad + 1:
            # Darknet computes its output size as if, and its columns for another.
            self.problem("pad", f"pad={o.pad} goes with size={2 * o.pad + 1} only, not with size={o.size}")
        if h + 2 * o.pad < o.size or w + 2 * o.pad < o.size:
            self.problem("size", f"size={o.size} is larger than its input of {w}x{h} with a padding of {o.pad}")
            return inputs[0]
        height, width = ((side + 2 * o.pad - o.size) // o.stride + 1 for side in (h, w))
        return o.filters, height, width

    def parameters(self) -> list[Parameter]:
        """Biases (values of the output,), weights (positions, filters, c, size, size)."""
        return [Parameter("biases", (self.outputs,)), self._weights()]

    def _weights(self) -> Parameter:
        assert self.output_shape is not None
        (channels, _, _), (filters, h, w), size = self.input_shapes[0], self.output_shape, self.options.size
        shape = (h * w, filters, channels, size, size)
        return Parameter("weights", shape, uniform_fan_in(size * size * channels), decay=True)

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes the backend asks for."""
        return self.backend.local_workspace((batch, *self.input_shapes[0]), self._weights().shape, self.geometry)

    def operations(self) -> float:
        """Two per multiply-add."""
        return 2.0 * self._weights().size

    def receptive_step(self) -> tuple[float, float]:
        """Filter side and stride."""
        return self.options.size, self.options.stride

    def describe(self) -> str:
        """Such as ``3x3/1``."""
        return f"{self.options.size}x{self.options.size}/{self.options.stride}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Multiply, add the biases, activate."""
        self.x = x
        target = self.before_activation()
        self.backend.local_forward(x, self.weights, target, self.geometry)
        rows = _rows(target)
        self.backend.bias_activation_forward(rows, self.biases, rows, "linear")
        self.activate()

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Gradients of weights, biases and of the input."""
        grad = self.grad_before_activation(grad_output)
        self.backend.bias_backward(_rows(grad), self.grad_biases)
        self.backend.local_backward_weights(self.x, grad, self.grad_weights, self.geometry)
        if grad_x is not None:
            self.backend.local_backward_input(grad, self.weights, grad_x, self.geometry, self.accumulate[0])


def _rows(array: Any) -> Any:
    return array.reshape(array.shape[0], -1)
