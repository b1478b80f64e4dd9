"""[connected]: every output sees every input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Parameter, Shape, register, uniform_fan_in
from darkpy.layers.common import ActivatedLayer, activation_option

ROLLING_MOMENTUM = 0.05
"""Share of the new batch in the rolling statistics (Darknet, forward_connected_layer)."""


@register("connected", "conn")
class Connected(ActivatedLayer):
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

    summed: Any = None

    def shape(self, *inputs: Shape) -> Shape:
        """(output, 1, 1)."""
        return self.options.output, 1, 1

    @property
    def inputs(self) -> int:
        """Values of one picture that every output sees."""
        return int(np.prod(self.input_shapes[0]))

    def parameters(self) -> list[Parameter]:
        """Biases, weights (output, inputs), then batch-norm scales and statistics."""
        outputs = (self.options.output,)
        found = [
            Parameter("biases", outputs),
            Parameter("weights", (*outputs, self.inputs), uniform_fan_in(self.inputs), decay=True),
        ]
        if self.options.batch_normalize:
            found += [
                Parameter("scales", outputs, 1.0),
                Parameter("rolling_mean", outputs, trained=False),
                Parameter("rolling_variance", outputs, trained=False),
            ]
        return found

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The sums before normalisation, and gradients."""
        found = super().buffers(batch, training)
        if self.options.batch_normalize:
            shape = (batch, self.options.output, 1, 1)
            statistic = Buffer((self.options.output,))
            found |= {"summed": Buffer(shape, scratch=not training, during=("forward", "backward"))}
            if training:
                found |= {"mean": statistic, "variance": statistic}
                found["grad_summed"] = Buffer(shape, scratch=True, during=("backward",))
        return found

    def operations(self) -> float:
        """Two per multiply-add."""
        return 2.0 * self.inputs * self.options.output

    def forward(self, x: Any, *, training: bool) -> None:
        """Multiply, normalise, add the bias, activate."""
        self.x = x
        backend, target = self.backend, self.before_activation()
        sums = target if self.summed is None else self.summed
        backend.linear_forward(_rows(x), self.weights, _rows(sums))
        if not self.options.batch_normalize:
            backend.bias_activation_forward(sums, self.biases, target, "linear")
        elif training:
            backend.batchnorm_forward_training(
                sums,
                target,
                self.scales,
                self.biases,
                self.mean,
                self.variance,
                self.rolling_mean,
                self.rolling_variance,
                ROLLING_MOMENTUM,
            )
        else:
            backend.batchnorm_forward_inference(
                sums, target, self.scales, self.biases, self.rolling_mean, self.rolling_variance
            )
        self.activate()

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Gradients of weights, biases, scales and of the input."""
        backend = self.backend
        grad = self.grad_before_activation(grad_output)
        if self.options.batch_normalize:
            backend.batchnorm_backward(
                self.summed,
                self.before_activation(),
                grad,
                self.mean,
                self.variance,
                self.scales,
                self.biases,
                self.grad_scales,
                self.grad_biases,
                self.grad_summed,
            )
            grad = self.grad_summed
        else:
            backend.bias_backward(grad, self.grad_biases)
        backend.linear_backward_weights(_rows(self.x), _rows(grad), self.grad_weights)
        if grad_x is not None:
            backend.linear_backward_input(_rows(grad), self.weights, _rows(grad_x), self.accumulate[0])


def _rows(array: Any) -> Any:
    return array.reshape(array.shape[0], -1)
