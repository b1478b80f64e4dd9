"""[empty]: nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions
from darkpy.layers.base import Layer, register


@register("empty", "silence")
class Empty(Layer):
    """Passes its input on, (n, c, h, w), so that layers keep their numbers (Darknet, parse_network_cfg_custom)."""

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section: none of its own."""

    def is_identity(self, training: bool) -> bool:
        """The output is the input."""
        return True

    def forward(self, x: Any, *, training: bool) -> None:
        """Nothing to do: the output is the input."""

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The same gradient."""
        if grad_x is not None:
            self.backend.copy_channels(grad_output, grad_x, self.accumulate[0])
