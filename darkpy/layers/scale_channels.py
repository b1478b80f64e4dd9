"""[scale_channels]: an earlier layer, weighted by the previous one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.common import ActivatedLayer, activation_option


@register("scale_channels")
class ScaleChannels(ActivatedLayer):
    """Multiplies each channel of an earlier layer by one value (squeeze and excitation, Hu et al. 2018).

    Previous layer (n, c, 1, 1), earlier layer and output (n, c, h, w). With ``scale_wh`` the previous layer is
    (n, 1, h, w) and weighs positions instead of channels (Darknet, scale_channels_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        from_: int = option(help="layer that is weighted; a negative value counts back from this one")
        scale_wh: bool = option(False, help="1 weighs positions instead of channels")
        activation: str = activation_option("linear")

    def find_sources(self) -> list[int]:
        """The weights, then what is weighted."""
        index = self.resolve(self.options.from_, "from")
        return [self.index - 1] if index is None else [self.index - 1, index]

    def shape(self, *inputs: Shape) -> Shape:
        """That of the earlier layer."""
        factors, (c, h, w) = inputs
        expected = (1, h, w) if self.options.scale_wh else (c, 1, 1)
        if factors != expected:
            self.problem(
                "from",
                f"weighs layer {self.sources[1]} of (channels, height, width) = {(c, h, w)}: the previous layer must "
                f"give {expected}, it gives {factors}",
            )
        return c, h, w

    def operations(self) -> float:
        """One per value."""
        return float(self.outputs)

    def describe(self) -> str:
        """The layer weighted."""
        return str(self.sources[1])

    def forward(self, factors: Any, x: Any, *, training: bool) -> None:
        """Multiply, activate."""
        self.factors, self.x = factors, x
        self.backend.scale_channels_forward(x, factors, self.before_activation())
        self.activate()

    def backward(self, grad_output: Any, grad_factors: Any, grad_x: Any) -> None:
        """Gradients of the weights and of what is weighted."""
        grad = self.grad_before_activation(grad_output)
        accumulate = (self.accumulate[1], self.accumulate[0])
        self.backend.scale_channels_backward(self.x, self.factors, grad, grad_x, grad_factors, accumulate)
