"""[sam]: the product of the previous layer and an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.common import ActivatedLayer, activation_option


@register("sam")
class SpatialAttention(ActivatedLayer):
    """Multiplies the previous layer by an earlier one, value by value (spatial attention of YOLOv4).

    All shapes (n, c, h, w) (Darknet, sam_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        from_: int = option(help="layer to multiply with; a negative value counts back from this one")
        activation: str = activation_option("linear")

    def find_sources(self) -> list[int]:
        """The previous layer and the earlier one."""
        index = self.resolve(self.options.from_, "from")
        return [self.index - 1] if index is None else [self.index - 1, index]

    def shape(self, *inputs: Shape) -> Shape:
        """That of both inputs."""
        if inputs[0] != inputs[1]:
            self.problem(
                "from",
                f"multiplies the previous layer of (channels, height, width) = {inputs[0]} with layer "
                f"{self.sources[1]} of {inputs[1]}; they must agree",
            )
        return inputs[0]

    def operations(self) -> float:
        """One per value."""
        return float(self.outputs)

    def describe(self) -> str:
        """The layer multiplied with."""
        return str(self.sources[1])

    def forward(self, a: Any, b: Any, *, training: bool) -> None:
        """Multiply, activate."""
        self.factors = a, b
        self.backend.multiply_forward(a, b, self.before_activation())
        self.activate()

    def backward(self, grad_output: Any, grad_a: Any, grad_b: Any) -> None:
        """Each factor's gradient is the other factor times the gradient."""
        grad = self.grad_before_activation(grad_output)
        accumulate = (self.accumulate[0], self.accumulate[1])
        self.backend.multiply_backward(*self.factors, grad, grad_a, grad_b, accumulate)
