"""[shift_channels]: one value added to each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("shift_channels")
class ShiftChannels(Layer):
    """Adds one value to each channel of the previous layer, as a rule those of an [implicit] (YOLOR's cfg files).

    Previous layer and output (n, c, h, w), the values added (n, c, 1, 1).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        from_: int = option(help="layer that gives the values; a negative value counts back from this one")

    def find_sources(self) -> list[int]:
        """The previous layer and the values."""
        index = self.resolve(self.options.from_, "from")
        return [self.index - 1] if index is None else [self.index - 1, index]

    def shape(self, *inputs: Shape) -> Shape:
        """That of the previous layer."""
        (c, h, w), values = inputs
        if values != (c, 1, 1):
            self.problem(
                "from",
                f"layer {self.sources[1]} must give one value for each of the {c} channels, (channels, height, width) "
                f"= {(c, 1, 1)}, not {values}",
            )
        return c, h, w

    def operations(self) -> float:
        """One per value."""
        return float(self.outputs)

    def describe(self) -> str:
        """Where the values come from."""
        return str(self.sources[1])

    def forward(self, x: Any, values: Any, *, training: bool) -> None:
        """Add."""
        self.backend.shift_channels_forward(x, values, self.output)

    def backward(self, grad_output: Any, grad_x: Any, grad_values: Any) -> None:
        """The gradient, and its sum over each channel."""
        if grad_x is not None:
            self.backend.copy_channels(grad_output, grad_x, self.accumulate[0])
        if grad_values is not None:
            self.backend.shift_channels_backward(grad_output, grad_values, self.accumulate[1])
