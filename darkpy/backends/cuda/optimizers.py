"""Optimizer steps over flat vectors: kernels/optimizers.cu."""

from __future__ import annotations

from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.journal import JournalOperations


class OptimizerOperations(JournalOperations):
    """Stochastic gradient descent with momentum, and Adam; while the alarm is set they change nothing."""

    def sgd_step(
        self,
        parameters: DeviceArray,
        gradients: DeviceArray,
        velocity: DeviceArray,
        rate: float,
        momentum: float,
        decay: float,
    ) -> None:
        """See :meth:`Backend.sgd_step`."""
        grid, block, _, count, *_, by_four = self.over(parameters, gradients, velocity)
        self.launch(
            "optimizers", "sgd", grid, block,
            parameters, gradients, velocity, count, by_four, rate, momentum, decay, self.alarm,
        )  # fmt: skip

    def adam_step(
        self,
        parameters: DeviceArray,
        gradients: DeviceArray,
        first: DeviceArray,
        second: DeviceArray,
        rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        decay: float,
        step: int,
    ) -> None:
        """See :meth:`Backend.adam_step`."""
        grid, block, _, count, *_, by_four = self.over(parameters, gradients, first, second)
        self.launch(
            "optimizers", "adam", grid, block,
            parameters, gradients, first, second, count, by_four, rate, beta1, beta2, 1 - beta1, 1 - beta2, epsilon,
            decay, 1 - beta1**step, 1 - beta2**step, self.alarm,
        )  # fmt: skip
