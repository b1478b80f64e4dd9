"""[l2norm]: the channels of each position as a vector of length one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions
from darkpy.layers.base import Layer, register


@register("l2norm")
class L2Norm(Layer):
    """Divides the channels of each position by their length, the root of the sum of their squares.

    Input and output (n, c, h, w) (first Darknet, l2norm_layer.c, which divides by 0 where all channels are 0; here
    they stay 0).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section: none of its own."""

    def forward(self, x: Any, *, training: bool) -> None:
        """Divide by the length."""
        self.x = x
        self.backend.unit_length_forward(x, self.output)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """What is along the vector is lost."""
        if grad_x is not None:
            self.backend.unit_length_backward(self.x, self.output, grad_output, grad_x, self.accumulate[0])
