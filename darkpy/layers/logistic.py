"""[logistic]: independent yes-or-no probabilities, and their cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.backends.journal import Pending
from darkpy.config.options import CommonOptions
from darkpy.layers.base import Layer, register


@register("logistic")
class Logistic(Layer):
    """A probability 1 / (1 + exp(-x)) for every value, each a question of its own.

    Input and output (n, c, h, w). In training its loss is the cross-entropy -sum(truth * log(p) + (1 - truth) *
    log(1 - p)), summed over the pictures, and its gradient p - truth (first Darknet, logistic_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section: none of its own."""

    is_head = True

    @property
    def classes(self) -> int:
        """Questions answered."""
        return self.outputs

    def forward(self, x: Any, *, training: bool) -> None:
        """Probabilities."""
        self.backend.activation_forward(x, self.output, "logistic")

    def expect(self, truth: np.ndarray) -> None:
        """Take ``truth`` (n, values of the output), each 0 to 1."""
        self.keep_truth(np.ascontiguousarray(truth, self.backend.dtype).reshape(self.output.shape))

    def compare(self) -> float | Pending[float]:
        """Cross-entropy with the truth, summed over the pictures."""
        return self.backend.binary_cross_entropy(self.output, self.truth, self.grad_output)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """p - truth, straight to the scores."""
        if grad_x is not None:
            self.backend.copy_channels(grad_output, grad_x, self.accumulate[0])
