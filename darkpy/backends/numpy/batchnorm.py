"""Biases and batch normalisation, with the activation that follows.

Everything goes tile by tile: the values of a tile are read once, and the temporaries are small. Sums are float64 across
tiles, so that the statistics of a large layer are as exact as those of a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from darkpy.backends.base import BATCHNORM_EPSILON, gradient_needs_input
from darkpy.backends.numpy.activations import DERIVATIVE, FORWARD
from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array, per_channel, tiles, write

#: Picture, channels, positions.
Tile: TypeAlias = tuple[int, slice, slice]


class BatchNormOperations(MemoryOperations):
    """Operations with one parameter per channel."""

    def bias_activation_forward(self, x: Array, biases: Array, out: Array, activation: str) -> None:
        """See :meth:`Backend.bias_activation_forward`."""
        source, target = per_channel(x), per_channel(out)
        for tile in channel_tiles(target):
            np.add(source[tile], biases[tile[1], None], out=target[tile])
            FORWARD[activation](target[tile], target[tile])

    def bias_backward(self, grad: Array, grad_biases: Array) -> None:
        """See :meth:`Backend.bias_backward`."""
        gradient = per_channel(grad)
        grad_biases += channel_sums(gradient, lambda tile: gradient[tile]).astype(grad.dtype)

    def batchnorm_forward_training(
        self,
        x: Array,
        out: Array,
        scales: Array,
        biases: Array,
        mean: Array,
        variance: Array,
        rolling_mean: Array,
        rolling_variance: Array,
        momentum: float,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.batchnorm_forward_training`."""
        source = per_channel(x)
        count = source.shape[0] * source.shape[2]
        mean[...] = channel_sums(source, lambda tile: source[tile]) / count
        squares = channel_sums(source, lambda tile: np.square(source[tile] - mean[tile[1], None]))
        variance[...] = squares / max(count - 1, 1)
        for rolling, new in ((rolling_mean, mean), (rolling_variance, variance)):
            rolling *= 1 - momentum
            rolling += momentum * new
        normalize(source, per_channel(out), scales, biases, mean, variance, activation)

    def batchnorm_forward_inference(
        self,
        x: Array,
        out: Array,
        scales: Array,
        biases: Array,
        rolling_mean: Array,
        rolling_variance: Array,
        activation: str = "linear",
    ) -> None:
        """See :meth:`Backend.batchnorm_forward_inference`."""
        normalize(per_channel(x), per_channel(out), scales, biases, rolling_mean, rolling_variance, activation)

    def batchnorm_backward(
        self,
        x: Array,
        out: Array,
        grad_out: Array,
        mean: Array,
        variance: Array,
        scales: Array,
        biases: Array,
        grad_scales: Array,
        grad_biases: Array,
        grad_x: Array,
        activation: str = "linear",
        accumulate: bool = False,
    ) -> None:
        """Exact derivative of the forward pass.

        With g the gradient before the activation, d = x - mean and r = 1 / sqrt(variance + epsilon)::

            grad_biases += sum(g)
            grad_scales += r sum(g d)
            grad_x       = scale r (g - sum(g) / N - d r^2 sum(g d) / (N - 1))
        """
        values, outputs, gradients, target = (per_channel(array) for array in (x, out, grad_out, grad_x))
        count = values.shape[0] * values.shape[2]
        inverse = 1 / np.sqrt(variance + BATCHNORM_EPSILON)
        factor = scales * inverse

        def before_activation(tile: Tile) -> Array:
            if activation == "linear":
                return gradients[tile]
            if not gradient_needs_input(activation):
                return gradients[tile] * DERIVATIVE[activation](outputs[tile])
            channels = tile[1], None
            z = (values[tile] - mean[channels]) * factor[channels] + biases[channels]
            return gradients[tile] * DERIVATIVE[activation](z)

        sum_g, sum_gd = np.zeros(mean.shape), np.zeros(mean.shape)
        for tile in channel_tiles(values):
            g = before_activation(tile)
            sum_g[tile[1]] += g.sum(axis=1)
            sum_gd[tile[1]] += np.einsum("cp,cp->c", g, values[tile] - mean[tile[1], None])
            if not accumulate:
                target[tile] = g

        average = (sum_g / count).astype(x.dtype)
        slope = (sum_gd * inverse**2 / max(count - 1, 1)).astype(x.dtype)
        for tile in channel_tiles(values):
            channels = tile[1], None
            g = before_activation(tile) if accumulate else target[tile]
            gradient = values[tile] - mean[channels]
            gradient *= slope[channels]
            gradient += average[channels]
            np.subtract(g, gradient, out=gradient)
            gradient *= factor[channels]
            write(gradient, target[tile], accumulate)
        grad_biases += sum_g.astype(x.dtype)
        grad_scales += (sum_gd * inverse).astype(x.dtype)


def normalize(
    x: Array, out: Array, scales: Array, biases: Array, mean: Array, variance: Array, activation: str
) -> None:
    """``out = activation(scales * (x - mean) / sqrt(variance + epsilon) + biases)``; x, out (n, c, positions)."""
    factor = scales / np.sqrt(variance + BATCHNORM_EPSILON)
    for tile in channel_tiles(x):
        channels, target = (tile[1], None), out[tile]
        np.subtract(x[tile], mean[channels], out=target)
        target *= factor[channels]
        target += biases[channels]
        FORWARD[activation](target, target)


def channel_tiles(array: Array) -> Iterator[Tile]:
    """Indices of an array (n, c, positions) that cover it tile by tile; the second one slices the channels."""
    pictures, channels, positions = array.shape
    for picture in range(pictures):
        for rows, columns in tiles(channels, positions):
            yield picture, rows, columns


def channel_sums(array: Array, values: Callable[[Tile], Array]) -> Array:
    """Sum per channel, in float64, of ``values(tile)`` over all tiles of an array (n, c, positions)."""
    total = np.zeros(array.shape[1])
    for tile in channel_tiles(array):
        total[tile[1]] += values(tile).sum(axis=1)
    return total
