"""Optimizer steps over flat vectors of all parameters, in one pass: bytes are all they cost."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from darkpy.backends.numba.jit import entry
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numpy.optimizers import OptimizerOperations as NumpyOptimizerOperations
from darkpy.backends.numpy.tiles import Array


@entry
def step_sgd(parameters, gradients, velocity, rate, momentum, decay):
    """See :meth:`Backend.sgd_step`."""
    for i in range(len(parameters)):
        velocity[i] = momentum * velocity[i] - (gradients[i] + decay * parameters[i])
        parameters[i] += rate * velocity[i]


@entry
def step_adam(parameters, gradients, first, second, rate, beta1, beta2, rest1, rest2, share1, share2, epsilon, decay):
    """See :meth:`Backend.adam_step`; rest is 1 - beta, share is 1 - beta^step."""
    for i in range(len(parameters)):
        gradient = gradients[i] + decay * parameters[i]
        first[i] = beta1 * first[i] + rest1 * gradient
        second[i] = beta2 * second[i] + rest2 * gradient * gradient
        parameters[i] -= rate * (first[i] / share1) / (sqrt(second[i] / share2) + epsilon)


class OptimizerOperations(MemoryOperations, NumpyOptimizerOperations):
    """Stochastic gradient descent with momentum, and Adam, in float32."""

    def sgd_step(
        self, parameters: Array, gradients: Array, velocity: Array, rate: float, momentum: float, decay: float
    ) -> None:
        """See :meth:`Backend.sgd_step`."""
        arrays = [flat(array) for array in (parameters, gradients, velocity)]
        factors = [np.float32(factor) for factor in (rate, momentum, decay)]
        self._divide_vectors(lambda *parts: step_sgd(*parts, *factors), arrays)

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
        arrays = [flat(array) for array in (parameters, gradients, first, second)]
        shares_of_step = 1 - beta1**step, 1 - beta2**step
        numbers = rate, beta1, beta2, 1 - beta1, 1 - beta2, *shares_of_step, epsilon, decay
        factors = [np.float32(number) for number in numbers]
        self._divide_vectors(lambda *parts: step_adam(*parts, *factors), arrays)

    def _divide_vectors(self, function: Callable[..., object], arrays: list[Array]) -> None:
        ranges = shares(arrays[0].size, self.threads)

        def task(worker: int, number: int) -> None:
            function(*(array[slice(*ranges[number])] for array in arrays))

        self.run(task, len(ranges), 1.0 * arrays[0].size)
