"""[implicit], [implicit_add], [implicit_mul]: learned values that depend on no picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Parameter, Shape, register


@register("implicit", "implicit_add")
class Implicit(Layer):
    """The same learned values for every picture, (n, filters, atoms, 1) (Wang et al. 2021, YOLOR).

    It reads no layer. [shift_channels] adds the values to the channels of a picture, [control_channels] or
    [scale_channels] multiply with them. They start as ``mean`` ± ``std`` (Darknet, representation_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        filters: int = option(128, minimum=1, help="number of values, one for each channel")
        atoms: int = option(1, minimum=1, help="how many such sets of values")
        mean: float = option(0.0, help="middle of the starting values")
        std: float = option(0.2, minimum=0, help="how far the starting values are spread on each side")

    def find_sources(self) -> list[int]:
        """None."""
        return []

    def shape(self, *inputs: Shape) -> Shape:
        """(filters, atoms, 1)."""
        return self.options.filters, self.options.atoms, 1

    def parameters(self) -> list[Parameter]:
        """The values, (filters * atoms,)."""
        o = self.options

        def around_mean(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
            return generator.uniform(o.mean - o.std, o.mean + o.std, shape)

        return [Parameter("weights", (o.filters * o.atoms,), around_mean, decay=True)]

    def forward(self, *inputs: Any, training: bool) -> None:
        """Hand the values to every picture."""
        rows = self.output.reshape(self.output.shape[0], -1)
        self.backend.fill(self.output, 0.0)
        self.backend.bias_activation_forward(rows, self.weights, rows, "linear")

    def backward(self, grad_output: Any, *grad_inputs: Any) -> None:
        """Each value gets the sum over the pictures."""
        self.backend.bias_backward(grad_output.reshape(grad_output.shape[0], -1), self.grad_weights)


@register("implicit_mul")
class ImplicitFactors(Implicit):
    """As [implicit], for values that are multiplied with: they start around 1."""

    @dataclass(frozen=True)
    class Options(Implicit.Options):
        """Keys of the section."""

        mean: float = option(1.0, help="middle of the starting values")
        std: float = option(0.02, minimum=0, help="how far the starting values are spread on each side")
