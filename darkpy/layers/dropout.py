"""[dropout]: in training, values, or blocks of them, are set to zero at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Layer, register

MOST = 0.999
"""The largest share of values that is dropped: the others grow by 1 / (1 - share)."""

FULL_BLOCKS = 0.85
"""Share of a training over which blocks grow to their size and their probability (Darknet)."""


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

        probability: float = option(0.2, minimum=0, maximum=MOST, help="share of the values that are dropped")

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
    shares: Sequence[float] = ()
    """Below which number of the mask a value is dropped: one for all pictures, or one for each."""

    def is_identity(self, training: bool) -> bool:
        """Nothing is dropped at inference."""
        return not training

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """The random numbers that decided."""
        assert self.output_shape is not None
        return {"mask": Buffer((batch, *self.output_shape), self.backend.dtype)} if training else {}

    def describe(self) -> str:
        """The probability."""
        o = self.options
        return f"p {o.probability:g}" + (" in blocks" if o.dropblock else "")

    def generator(self) -> np.random.Generator:
        """Random numbers for blocks, that depend on the seed, the pictures seen and the layer."""
        return np.random.default_rng(np.random.SeedSequence([self.graph.seed, self.graph.seen, self.index]))

    def draw(self, mask: Any) -> None:
        """Fill ``mask`` with uniform numbers that depend on the seed, the pictures seen and the layer."""
        self.backend.uniform(self.graph.seed, self.index, mask)

    def draw_blocks(self, shape: Sequence[int]) -> np.ndarray:
        """For each value of (n, c, h, w) 0 where a block covers it, else 1."""
        o = self.options
        height, width = shape[2:]
        growth = min(self.graph.progress / FULL_BLOCKS, 1.0)
        side = o.dropblock_size_abs or o.dropblock_size_rel * min(height, width)
        side = min(max(1, int(min(side, height, width) * growth)), height, width)
        starts = 1 - (1 - growth * o.probability / side**2) ** (height * width)
        generator = self.generator()
        with_block = generator.random(shape[:2]) < starts
        corners = generator.integers((height, width), size=(*shape[:2], 2))
        kept = np.ones(shape, self.backend.dtype)
        for picture, channel in np.argwhere(with_block):
            y, x = (_moved_inside(int(at), length, side) for at, length in zip(corners[picture, channel], shape[2:]))
            kept[picture, channel, y : y + side, x : x + side] = 0
        return kept

    def forward(self, x: Any, *, training: bool) -> None:
        """Drop and scale; a frozen layer copies."""
        if not training:
            self.backend.copy(x, self.output)
            return
        if self.options.dropblock:
            kept = self.draw_blocks(self.mask.shape)
            self.backend.copy(kept, self.mask)
            self.shares = [min(1 - float(picture.mean()), MOST) for picture in kept]
        else:
            self.draw(self.mask)
            self.shares = [self.options.probability]
        for part, share in self._parts():
            self.backend.dropout_forward(x[part], self.mask[part], self.output[part], share)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The same values are dropped from the gradient."""
        if grad_x is None:
            return
        for part, share in self._parts():
            self.backend.dropout_backward(grad_output[part], self.mask[part], grad_x[part], share, self.accumulate[0])

    def _parts(self) -> Iterator[tuple[slice, float]]:
        """The pictures that share a probability, and that."""
        if len(self.shares) == 1:
            yield slice(None), self.shares[0]
        else:
            for picture, share in enumerate(self.shares):
                yield slice(picture, picture + 1), share


def _moved_inside(at: int, length: int, side: int) -> int:
    """Where a block begins whose place was drawn among all positions; at the far end as Darknet moves it."""
    last = length - side
    return min(at - last if at > last else at, last)
