"""Derivatives checked against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def check_gradient(
    function: Callable[..., np.ndarray],
    inputs: Sequence[np.ndarray],
    gradients: Callable[[np.ndarray], Sequence[np.ndarray | None]],
    *,
    step: float = 1e-5,
    tolerance: float = 1e-7,
    directions: int = 3,
    seed: int = 0,
) -> None:
    """Compare ``gradients`` with central differences of ``function`` along random directions.

    ``function(*inputs)`` returns an array; ``gradients(grad_out)`` the gradients of ``sum(grad_out * function(...))``
    at ``inputs``, one per input, None for one that is not to be checked. All in float64. Inputs must be further than
    ``step`` from any kink. The error allowed is ``tolerance`` times the length of the gradient.
    """
    generator = np.random.default_rng(seed)
    grad_out = generator.standard_normal(np.shape(function(*inputs)))
    found = [None if gradient is None else np.array(gradient) for gradient in gradients(grad_out)]
    assert len(found) == len(inputs)

    def loss(position: int, moved: np.ndarray) -> float:
        arguments = [moved if i == position else array for i, array in enumerate(inputs)]
        return float(np.sum(grad_out * function(*arguments)))

    for position, (array, gradient) in enumerate(zip(inputs, found, strict=True)):
        if gradient is None:
            continue
        assert array.dtype == gradient.dtype == np.float64
        assert gradient.shape == array.shape, f"gradient {position} has shape {gradient.shape}, not {array.shape}"
        length = np.linalg.norm(gradient) + np.linalg.norm(grad_out) * 1e-3
        for _ in range(directions):
            direction = generator.choice([-1.0, 1.0], array.shape)
            ahead, behind = loss(position, array + step * direction), loss(position, array - step * direction)
            expected = (ahead - behind) / (2 * step)
            actual = float(np.sum(gradient * direction))
            assert abs(actual - expected) <= tolerance * length, (
                f"input {position}: derivative {actual:.9g}, finite difference {expected:.9g}"
            )
