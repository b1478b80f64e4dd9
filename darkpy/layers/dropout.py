"""[dropout]: in training, values, or blocks of them, are set to zero at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.backends.base import MOST_DROPPED
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Layer, register


@register("dropout")
class Dropout(Layer):
    """In training, drops each value with ``probability`` and scales the others by 1 / (1 - probability).

    With ``dropblock`` it drops squares (Ghiasi et al. 2018), at most one of a channel: with side s, each position of
    a channel starts one with probability / s^2, and what is left of a picture is scaled by 1 / (1 - its dropped share).
    Side and probability grow from 0 over the first 85 % of the training (Darknet, dropout_layer_kernels.cu).

    Input and output have the same shape; at inference the input is passed on (Darknet, dropout_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        probability: float = option(0.2, minimum=0, maximum=MOST_DROPPED, help="share of the values that are dropped")

        dropblock: bool = option(False, help="1 drops squares instead of single values")
        dropblock_size_rel: float = option(
            0.0, minimum=0, maximum=1, help="side of a square as a share of the picture's, without dropblock_size_abs"
        )
        dropblock_size_abs: int = option(
            lambda o: 0 if o.dropblock_size_rel else 7,
            default_text="7 without dropblock_size_rel",
            minimum=0,
            help="side of a square in positions, at most the picture's",
        )

    mask: Any = None
    shares: Any = None
    """With blocks, how much of each picture they cover."""

    def is_identity(self, training: bool) -> bool:
        """Nothing is dropped at inference."""
        return not training

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The random numbers that decided, or where no block is, and how much of each picture the blocks cover."""
        assert self.output_shape is not None
        if not training:
            return {}
        mask = {"mask": Buffer((batch, *self.output_shape), self.backend.dtype)}
        return {**mask, "shares": Buffer((batch,), self.backend.dtype)} if self.options.dropblock else mask

    def describe(self) -> str:
        """The probability."""
        o = self.options
        return f"p {o.probability:g}" + (" in blocks" if o.dropblock else "")

    def forward(self, x: Any, *, training: bool) -> None:
        """Drop and scale; a frozen layer copies."""
        if not training:
            self.backend.copy(x, self.output)
            return
        self.draw()
        self.backend.dropout_forward(x, self.mask, self.output, self._probability)

    def draw(self) -> None:
        """Fill the mask at random; it depends on the seed, the pictures seen and the layer."""
        o, seed = self.options, self.graph.seed
        if o.dropblock:
            side = o.dropblock_size_abs or o.dropblock_size_rel * min(self.mask.shape[2:])
            self.backend.drop_blocks(seed, self.index, self.mask, self.shares, o.probability, side)
        else:
            self.backend.uniform(seed, self.index, self.mask)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The same values are dropped from the gradient."""
        if grad_x is not None:
            self.backend.dropout_backward(grad_output, self.mask, grad_x, self._probability, self.accumulate[0])

    @property
    def _probability(self) -> Any:
        """Below which number of the mask a value is dropped: one for all pictures, or one for each."""
        return self.shares if self.options.dropblock else self.options.probability
