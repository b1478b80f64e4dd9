"""[softmax]: scores to probabilities, and the cross-entropy loss of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("softmax", "soft")
class Softmax(Layer):
    """Probabilities exp(x / temperature) / sum, over all values of a picture or within each group.

    Input and output (n, c, h, w). In training its loss is the cross-entropy -sum(truth * log(p)), summed over the
    pictures, and its gradient p - truth whatever the temperature (Darknet, softmax_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        groups: int = option(1, minimum=1, help="parts of the input that each sum to one")
        temperature: float = option(1.0, help="divides the scores; above 1 evens them out")
        noloss: bool = option(False, help="no loss of its own, for a network that computes one elsewhere")
        spatial: bool = option(False, help="one distribution over the channels at every position")

        refused = {"tree": "hierarchies of classes are not available"}

    @property
    def is_head(self) -> bool:
        """It has a loss unless told otherwise."""
        return not self.options.noloss

    @property
    def classes(self) -> int:
        """Classes told apart in each group."""
        return self.input_shapes[0][0] if self.options.spatial else self._size // self.options.groups

    @property
    def _size(self) -> int:
        return int(np.prod(self.input_shapes[0]))

    def shape(self, *inputs: Shape) -> Shape:
        """That of the input."""
        size = int(np.prod(inputs[0]))
        if size % self.options.groups:
            self.problem("groups", f"groups={self.options.groups} does not divide its {size} inputs")
        if self.options.temperature == 0:
            self.problem("temperature", "temperature=0: scores cannot be divided by it")
        return inputs[0]

    def forward(self, x: Any, *, training: bool) -> None:
        """Probabilities."""
        n, c, h, w = x.shape
        if self.options.spatial:
            positions = [array.reshape(n, c, h * w).transpose(0, 2, 1) for array in (x, self.output)]
            self.backend.softmax_forward(*positions, self.options.temperature)
            return
        rows = (n * self.options.groups, -1)
        self.backend.softmax_forward(x.reshape(rows), self.output.reshape(rows), self.options.temperature)

    def loss(self, truth: np.ndarray) -> float:
        """Cross-entropy with ``truth`` (n, values of the output), summed over the pictures."""
        expected = self.backend.asarray(_as_output(truth, self.output.shape, self.backend.dtype))
        return self.backend.cross_entropy(self.output, expected, self.grad_output)

    def backward(self, grad_output: Any, grad_x: Any) -> None:  # type: ignore[override]
        """p - truth, straight to the scores."""
        if grad_x is not None:
            self.backend.copy_channels(grad_output, grad_x, self.accumulate[0])


def _as_output(truth: np.ndarray, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.ascontiguousarray(truth, dtype).reshape(shape)
