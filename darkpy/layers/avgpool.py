"""[avgpool]: the mean of each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions
from darkpy.layers.base import Layer, Shape, register


@register("avgpool", "avg")
class AvgPool(Layer):
    """Mean of each channel over the whole picture.

    Input (n, c, h, w), output (n, c, 1, 1) (Darknet, avgpool_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section: none of its own."""

    def shape(self, *inputs: Shape) -> Shape:
        """(c, 1, 1)."""
        return inputs[0][0], 1, 1

    def receptive_step(self) -> tuple[float, float]:
        """The whole input."""
        return float(max(self.input_shapes[0][1:])), 1.0

    def forward(self, x: Any, *, training: bool) -> None:
        """Mean of each channel."""
        self.backend.avgpool_forward(x, self.output)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Every position gets an equal share."""
        if grad_x is not None:
            self.backend.avgpool_backward(grad_output, grad_x, self.accumulate[0])
