"""[dropout]: in training, values are set to zero at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Layer, register


@register("dropout")
class Dropout(Layer):
    """In training, drops each value with ``probability`` and scales the others by 1 / (1 - probability).

    Input and output have the same shape; at inference the input is passed on (Darknet, dropout_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        probability: float = option(0.2, minimum=0, maximum=0.999, help="share of the values that are dropped")

        ineffective = {
            "dropblock": "single values are dropped, as Darknet does on the CPU",
            "dropblock_size_rel": "single values are dropped, as Darknet does on the CPU",
            "dropblock_size_abs": "single values are dropped, as Darknet does on the CPU",
        }

    mask: Any = None

    def is_identity(self, training: bool) -> bool:
        """Nothing is dropped at inference."""
        return not training

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The random numbers that decided."""
        assert self.output_shape is not None
        return {"mask": Buffer((batch, *self.output_shape))} if training else {}

    def describe(self) -> str:
        """The probability."""
        return f"p {self.options.probability:g}"

    def draw(self, mask: Any) -> None:
        """Fill ``mask`` with uniform numbers that depend on the seed, the pictures seen and the layer."""
        sequence = np.random.SeedSequence([self.graph.seed, self.graph.seen, self.index])
        self.backend.uniform(np.random.default_rng(sequence), mask)

    def forward(self, x: Any, *, training: bool) -> None:
        """Drop and scale; a frozen layer copies."""
        if not training:
            self.backend.copy(x, self.output)
            return
        self.draw(self.mask)
        self.backend.dropout_forward(x, self.mask, self.output, self.options.probability)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The same values are dropped from the gradient."""
        if grad_x is not None:
            self.backend.dropout_backward(
                grad_output, self.mask, grad_x, self.options.probability, self.accumulate[0]
            )
