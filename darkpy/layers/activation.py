"""[activation]: a function applied to every value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions
from darkpy.layers.base import Layer, register
from darkpy.layers.common import activation_option


@register("activation")
class Activation(Layer):
    """An activation as a layer of its own: input and output (n, c, h, w) (Darknet, activation_layer.c)."""

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        activation: str = activation_option("linear")

    x: Any = None

    def is_identity(self, training: bool) -> bool:
        """The linear activation changes nothing."""
        return self.options.activation == "linear"

    def describe(self) -> str:
        """The activation's name."""
        return self.options.activation

    def forward(self, x: Any, *, training: bool) -> None:
        """Apply the function."""
        self.x = x
        self.backend.activation_forward(x, self.output, self.options.activation)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The gradient times the function's derivative."""
        if grad_x is not None:
            self.backend.activation_backward(
                self.x, self.output, grad_output, grad_x, self.options.activation, self.accumulate[0]
            )
