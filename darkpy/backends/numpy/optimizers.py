"""Optimizer steps over flat vectors of all parameters, tile by tile."""

from __future__ import annotations

import numpy as np

from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import TILE, Array


class OptimizerOperations(MemoryOperations):
    """Stochastic gradient descent with momentum, and Adam."""

    def sgd_step(
        self, parameters: Array, gradients: Array, velocity: Array, rate: float, momentum: float, decay: float
    ) -> None:
        """See :meth:`Backend.sgd_step`."""
        for start in range(0, parameters.size, TILE):
            tile = slice(start, start + TILE)
            p, v = parameters[tile], velocity[tile]
            v *= momentum
            v -= gradients[tile] + decay * p
            p += rate * v

    def adam_step(
        self,
        parameters: Array,
        gradients: Array,
        first: Array,
        second: Array,
        rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        decay: float,
        step: int,
    ) -> None:
        """See :meth:`Backend.adam_step`."""
        first_share = 1 - beta1**step
        second_share = 1 - beta2**step
        for start in range(0, parameters.size, TILE):
            tile = slice(start, start + TILE)
            p, m, v = parameters[tile], first[tile], second[tile]
            g = gradients[tile] + decay * p
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * g * g
            p -= rate * (m / first_share) / (np.sqrt(v / second_share) + epsilon)
