"""[control_channels]: each channel multiplied by one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("control_channels")
class ControlChannels(Layer):
    """Multiplies each channel of the previous layer by one value, as a rule of an [implicit_mul] (YOLOR's cfg files).

    Previous layer and output (n, c, h, w), the factors (n, c, 1, 1). [scale_channels] does the same with the roles of
    the two layers exchanged.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        from_: int = option(help="layer that gives the factors; a negative value counts back from this one")

    def find_sources(self) -> list[int]:
        """The previous layer and the factors."""
        index = self.resolve(self.options.from_, "from")
        return [self.index - 1] if index is None else [self.index - 1, index]

    def shape(self, *inputs: Shape) -> Shape:
        """That of the previous layer."""
        (c, h, w), factors = inputs
        if factors != (c, 1, 1):
            self.problem(
                "from",
                f"layer {self.sources[1]} must give one factor for each of the {c} channels, (channels, height, width) "
                f"= {(c, 1, 1)}, not {factors}",
            )
        return c, h, w

    def operations(self) -> float:
        """One per value."""
        return float(self.outputs)

    def describe(self) -> str:
        """Where the factors come from."""
        return str(self.sources[1])

    def forward(self, x: Any, factors: Any, *, training: bool) -> None:
        """Multiply."""
        self.x, self.factors = x, factors
        self.backend.scale_channels_forward(x, factors, self.output)

    def backward(self, grad_output: Any, grad_x: Any, grad_factors: Any) -> None:
        """Each gets the other times the gradient."""
        accumulate = (self.accumulate[0], self.accumulate[1])
        self.backend.scale_channels_backward(self.x, self.factors, grad_output, grad_x, grad_factors, accumulate)
