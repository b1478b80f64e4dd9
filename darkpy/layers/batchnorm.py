"""[batchnorm]: each channel normalised over the batch, then scaled and shifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions
from darkpy.layers.base import NETWORK_INPUT, Buffer, Layer, Parameter, register
from darkpy.layers.convolutional import ROLLING_MOMENTUM


@register("batchnorm")
class BatchNorm(Layer):
    """Normalises each channel to mean 0 and variance 1, then scales and shifts it.

    Input and output (n, c, h, w). In training over the batch, with the N - 1 variance; at inference with the rolling
    statistics (Ioffe and Szegedy 2015; Darknet, batchnorm_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section: none of its own."""

    def parameters(self) -> list[Parameter]:
        """Biases, scales, rolling mean and variance, each (c,)."""
        channels = (self.input_shapes[0][0],)
        return [
            Parameter("biases", channels),
            Parameter("scales", channels, 1.0),
            Parameter("rolling_mean", channels, trained=False),
            Parameter("rolling_variance", channels, trained=False),
        ]

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The statistics of the batch."""
        if not training:
            return {}
        statistic = Buffer((self.input_shapes[0][0],), self.backend.dtype)
        found = {"mean": statistic, "variance": statistic}
        if self.sources[0] == NETWORK_INPUT:
            found["unwanted"] = Buffer((batch, *self.input_shapes[0]), scratch=True, during=("backward",))
        return found

    def forward(self, x: Any, *, training: bool) -> None:
        """Normalise, scale, shift."""
        self.x = x
        rolling = self.rolling_mean, self.rolling_variance
        if training:
            self.backend.batchnorm_forward_training(
                x, self.output, self.scales, self.biases, self.mean, self.variance, *rolling, ROLLING_MOMENTUM
            )
        else:
            self.backend.batchnorm_forward_inference(x, self.output, self.scales, self.biases, *rolling)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Gradients of scales, biases and of the input."""
        target = self.unwanted if grad_x is None else grad_x
        self.backend.batchnorm_backward(
            self.x,
            self.output,
            grad_output,
            self.mean,
            self.variance,
            self.scales,
            self.biases,
            self.grad_scales,
            self.grad_biases,
            target,
            accumulate=grad_x is not None and self.accumulate[0],
        )
