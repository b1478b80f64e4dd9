"""[connected]: every output sees every input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Parameter, Shape, register, uniform_fan_in
from darkpy.layers.common import NormalizedLayer, activation_option

ROLLING_MOMENTUM = 0.05
"""Share of the new batch in the rolling statistics (Darknet, forward_connected_layer)."""


@register("connected", "conn")
class Connected(NormalizedLayer):
    """Every output is a weighted sum of all inputs, with optional batch normalisation, then an activation.

    Input (n, c, h, w) taken as n rows, output (n, output, 1, 1), weights (output, c * h * w) (Darknet,
    connected_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        output: int = option(1, minimum=1, help="number of outputs")
        activation: str = activation_option("logistic")
        batch_normalize: bool = option(False, help="normalise each output over the batch, then scale and shift")

    rolling_momentum = ROLLING_MOMENTUM

    def shape(self, *inputs: Shape) -> Shape:
        """(output, 1, 1)."""
        return self.options.output, 1, 1

    @property
    def inputs(self) -> int:
        """Values of one picture that every output sees."""
        return int(np.prod(self.input_shapes[0]))

    def parameters(self) -> list[Parameter]:
        """Biases, weights (output, inputs), then batch-norm scales and statistics."""
        outputs = self.options.output
        return [
            Parameter("biases", (outputs,)),
            Parameter("weights", (outputs, self.inputs), uniform_fan_in(self.inputs), decay=True),
            *self.normalization_parameters(outputs),
        ]

    def operations(self) -> float:
        """Two per multiply-add."""
        return 2.0 * self.inputs * self.options.output

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes the backend asks for."""
        return self.backend.linear_workspace(batch, self.inputs, self.options.output, training)

    def linear_forward(self, x: Any, out: Any) -> None:
        """All inputs times the weights."""
        self.backend.linear_forward(_rows(x), self.weights, _rows(out))

    def linear_backward(self, grad: Any, grad_x: Any) -> None:
        """Gradients of the weights and of the input."""
        self.backend.linear_backward_weights(_rows(self.x), _rows(grad), self.grad_weights)
        if grad_x is not None:
            self.backend.linear_backward_input(_rows(grad), self.weights, _rows(grad_x), self.accumulate[0])


def _rows(array: Any) -> Any:
    return array.reshape(array.shape[0], -1)
