"""[cost]: the distance between the network's output and the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.backends.journal import Pending
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, register


@register("cost")
class Cost(Layer):
    """A loss on the previous layer's output, which it passes on unchanged.

    ``sse``: sum of (truth - p)^2 with the gradient p - truth; ``smooth``: with d = truth - p, d^2 below 1 and
    2 abs(d) - 1 above, and the gradient clipped to ±1; ``masked``: sse where truth is not -1234. ``scale`` multiplies
    the gradient handed back, not the loss (Darknet, cost_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        type: str = option("sse", choices=("sse", "masked", "smooth"), help="how differences are counted")
        scale: float = option(1.0, help="factor on the gradient")

        ineffective = {"ratio": "Darknet's CPU code ignores it"}

    is_head = True

    def is_identity(self, training: bool) -> bool:
        """The output is the input."""
        return True

    def forward(self, x: Any, *, training: bool) -> None:
        """Nothing to do: the output is the input."""

    def expect(self, truth: np.ndarray) -> None:
        """Take ``truth`` (n, values of the input)."""
        self.keep_truth(np.ascontiguousarray(truth, self.backend.dtype).reshape(self.output.shape))

    def compare(self) -> float | Pending[float]:
        """Difference to the truth, summed over the pictures."""
        return self.backend.difference(self.output, self.truth, self.grad_output, self.options.type)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The gradient times ``scale``."""
        if grad_x is not None:
            self.backend.scaled_copy(grad_output, grad_x, self.options.scale, self.accumulate[0])
