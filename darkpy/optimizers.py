"""Learning-rate policies as pure functions of the iteration, and the optimizers that use them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from darkpy.backends.base import Backend
    from darkpy.config.net import NetOptions
    from darkpy.parameters import Parameters


def learning_rate(options: NetOptions, iteration: int, seed: int = 0) -> float:
    """Rate of one update by the cfg's policy (Darknet, get_current_rate).

    Below ``burn_in`` every policy warms up as ``learning_rate * (iteration / burn_in) ** power``. ``seed`` matters
    to ``policy=random`` only.
    """
    if iteration < options.burn_in:
        return options.learning_rate * (iteration / options.burn_in) ** options.power
    return _POLICIES[options.policy](options, iteration, seed)


def _constant(options: NetOptions, iteration: int, seed: int) -> float:
    return options.learning_rate


def _step(options: NetOptions, iteration: int, seed: int) -> float:
    return options.learning_rate * options.scale ** (iteration // options.step)


def _steps(options: NetOptions, iteration: int, seed: int) -> float:
    rate = options.learning_rate
    for step, scale in zip(options.steps, options.scales):
        if step > iteration:
            break
        rate *= scale
    return rate


def _exp(options: NetOptions, iteration: int, seed: int) -> float:
    return options.learning_rate * options.gamma**iteration


def _poly(options: NetOptions, iteration: int, seed: int) -> float:
    # Past the end the base is negative; Darknet's pow has no value there unless the power is a whole number.
    left = 1 - iteration / options.max_batches
    return options.learning_rate * left**options.power if left >= 0 or options.power.is_integer() else 0.0


def _random(options: NetOptions, iteration: int, seed: int) -> float:
    draw = np.random.default_rng(np.random.SeedSequence([seed, iteration])).random()
    return options.learning_rate * float(draw) ** options.power


def _sigmoid(options: NetOptions, iteration: int, seed: int) -> float:
    return options.learning_rate / (1 + math.exp(min(options.gamma * (iteration - options.step), 700.0)))


def _sgdr(options: NetOptions, iteration: int, seed: int) -> float:
    start, length = 0, options.sgdr_cycle or options.max_batches
    while start + length < iteration:
        start += length
        length *= options.sgdr_mult
    wave = 0.5 * (1 + math.cos((iteration - start) * math.pi / length))
    return options.learning_rate_min + (options.learning_rate - options.learning_rate_min) * wave


_POLICIES: dict[str, Callable[[NetOptions, int, int], float]] = {
    "constant": _constant,
    "step": _step,
    "steps": _steps,
    "exp": _exp,
    "poly": _poly,
    "random": _random,
    "sigmoid": _sigmoid,
    "sgdr": _sgdr,
}


def update_batch(options: NetOptions, iteration: int) -> int:
    """The number that gradients are divided by: the pictures of an update, times the mini-batches of a sequence.

    (Darknet, update_network_gpu; its CPU code leaves the second factor out.)
    """
    return options.batch * options.sequence(iteration)


class Sgd:
    """Gradient descent with momentum and weight decay, as Darknet applies them.

    With B pictures in an update: ``velocity = momentum * velocity - (gradient + decay * B * w)``, then
    ``w += rate / B * velocity``. Gradients are sums over the pictures. See :func:`update_batch` for B.
    """

    vectors = ("velocity",)

    def __init__(self, options: NetOptions, backend: Backend, size: int) -> None:
        self.options = options
        self.backend = backend
        self.velocity = backend.zeros((size,))

    def update(self, parameters: Parameters, rate: float, iteration: int) -> None:
        """One step on every segment of the parameters that learns at this iteration."""
        options = self.options
        pictures = update_batch(options, iteration)
        for segment in parameters.segments(iteration, options.burn_in):
            part = slice(segment.start, segment.stop)
            self.backend.sgd_step(
                parameters.values[part],
                parameters.gradients[part],
                self.velocity[part],
                rate=rate * segment.rate_scale / pictures,
                momentum=options.momentum,
                decay=options.decay * pictures if segment.decay else 0.0,
            )


class Adam:
    """Adam in Darknet's form: bias-corrected, decay inside the gradient of every parameter, gradients not averaged."""

    vectors = ("first", "second")

    def __init__(self, options: NetOptions, backend: Backend, size: int) -> None:
        self.options = options
        self.backend = backend
        self.first = backend.zeros((size,))
        self.second = backend.zeros((size,))

    def update(self, parameters: Parameters, rate: float, iteration: int) -> None:
        """One step on every segment of the parameters that learns at this iteration."""
        options = self.options
        for segment in parameters.segments(iteration, options.burn_in):
            part = slice(segment.start, segment.stop)
            self.backend.adam_step(
                parameters.values[part],
                parameters.gradients[part],
                self.first[part],
                self.second[part],
                rate=rate * segment.rate_scale,
                beta1=options.B1,
                beta2=options.B2,
                epsilon=options.eps,
                decay=options.decay * update_batch(options, iteration),
                step=max(iteration, 1),
            )


Optimizer = Sgd | Adam


def create_optimizer(options: NetOptions, backend: Backend, size: int) -> Optimizer:
    """The optimizer a cfg asks for: ``adam=1`` or gradient descent with momentum."""
    chosen: Any = Adam if options.adam else Sgd
    return chosen(options, backend, size)
