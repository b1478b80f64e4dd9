"""Dropout: random numbers, squares at random, and what they leave of pictures."""

from __future__ import annotations

import numpy as np

from darkpy.backends.base import BLOCKS_GROWN, MOST_DROPPED
from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array, matrix, tiles, write


class DropoutOperations(MemoryOperations):
    """Random numbers depend on seed, clock and place; there is no generator with a state of its own."""

    def generator(self, seed: int, place: int) -> np.random.Generator:
        """The random numbers of a place at the present time."""
        return np.random.default_rng(np.random.SeedSequence([seed, self.clock, place]))

    def uniform(self, seed: int, place: int, out: Array) -> None:
        """See :meth:`Backend.uniform`."""
        self.generator(seed, place).random(dtype=out.dtype, out=out)

    def drop_blocks(self, seed: int, place: int, mask: Array, shares: Array, probability: float, side: float) -> None:
        """See :meth:`Backend.drop_blocks`."""
        height, width = mask.shape[2:]
        growth = min(self.progress / BLOCKS_GROWN, 1.0)
        whole_side = min(max(1, int(min(side, height, width) * growth)), height, width)
        starts = 1 - (1 - growth * probability / whole_side**2) ** (height * width)
        generator = self.generator(seed, place)
        with_block = generator.random(mask.shape[:2]) < starts
        corners = generator.integers((height, width), size=(*mask.shape[:2], 2))
        mask.fill(1)
        for picture, channel in np.argwhere(with_block):
            y, x = (
                moved_inside(int(at), length, whole_side)
                for at, length in zip(corners[picture, channel], (height, width))
            )
            mask[picture, channel, y : y + whole_side, x : x + whole_side] = 0
        shares[:] = np.minimum(1 - mask.mean(axis=(1, 2, 3)), MOST_DROPPED)

    def dropout_forward(self, x: Array, mask: Array, out: Array, probability: float | Array) -> None:
        """See :meth:`Backend.dropout_forward`."""
        drop(x, mask, out, probability, accumulate=False)

    def dropout_backward(
        self, grad_out: Array, mask: Array, grad_x: Array, probability: float | Array, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.dropout_backward`."""
        drop(grad_out, mask, grad_x, probability, accumulate)


def drop(x: Array, mask: Array, out: Array, probability: float | Array, accumulate: bool) -> None:
    """x / (1 - probability) where mask >= probability, 0 elsewhere; picture by picture where each has its own."""
    if isinstance(probability, np.ndarray):
        for picture, own in enumerate(probability):
            part = slice(picture, picture + 1)
            drop(x[part], mask[part], out[part], float(own), accumulate)
        return
    scale = 1 / (1 - probability) if probability < 1 else 0.0
    source, chances, target = matrix(x), matrix(mask), matrix(out)
    for tile in tiles(*target.shape):
        write((source[tile] * scale) * (chances[tile] >= probability), target[tile], accumulate)


def moved_inside(at: int, length: int, side: int) -> int:
    """Where a block begins whose place was drawn among all positions; at the far end as Darknet moves it."""
    last = length - side
    return min(at - last if at > last else at, last)
