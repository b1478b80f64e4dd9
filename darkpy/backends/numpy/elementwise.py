"""Copies, products and weighted sums of whole pictures, clipping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darkpy.backends.base import NORMALIZATION_EPSILON
from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array, planes, write


class ElementwiseOperations(MemoryOperations):
    """Operations between values at one place."""

    def copy_channels(self, source: Array, out: Array, accumulate: bool = False) -> None:
        """See :meth:`Backend.copy_channels`."""
        write(source, out, accumulate)

    def add_forward(self, a: Array, b: Array, out: Array, activation: str = "linear") -> None:
        """See :meth:`Backend.add_forward`."""
        np.add(a, b, out=out)
        if activation != "linear":
            self.activation_forward(out, out, activation)

    def scale_channels_forward(self, x: Array, factors: Array, out: Array) -> None:
        """See :meth:`Backend.scale_channels_forward`."""
        np.multiply(x, factors, out=out)

    def scale_channels_backward(
        self,
        x: Array,
        factors: Array,
        grad_out: Array,
        grad_x: Array | None,
        grad_factors: Array | None,
        accumulate: tuple[bool, bool] = (False, False),
    ) -> None:
        """See :meth:`Backend.scale_channels_backward`."""
        if grad_x is not None:
            write_product(grad_out, np.broadcast_to(factors, x.shape), grad_x, accumulate[0])
        if grad_factors is not None:
            kept = "".join(axis for axis, length in zip("nchw", factors.shape, strict=True) if length > 1)
            gradient = np.einsum(f"nchw,nchw->{kept}", grad_out, x)
            write(np.reshape(gradient, factors.shape), grad_factors, accumulate[1])

    def shift_channels_forward(self, x: Array, values: Array, out: Array) -> None:
        """See :meth:`Backend.shift_channels_forward`."""
        np.add(x, values, out=out)

    def shift_channels_backward(self, grad_out: Array, grad_values: Array, accumulate: bool = False) -> None:
        """See :meth:`Backend.shift_channels_backward`."""
        write(grad_out.sum(axis=(2, 3), keepdims=True), grad_values, accumulate)

    def multiply_forward(self, a: Array, b: Array, out: Array) -> None:
        """See :meth:`Backend.multiply_forward`."""
        np.multiply(a, b, out=out)

    def multiply_backward(
        self,
        a: Array,
        b: Array,
        grad_out: Array,
        grad_a: Array | None,
        grad_b: Array | None,
        accumulate: tuple[bool, bool] = (False, False),
    ) -> None:
        """See :meth:`Backend.multiply_backward`."""
        if grad_a is not None:
            write_product(grad_out, b, grad_a, accumulate[0])
        if grad_b is not None:
            write_product(grad_out, a, grad_b, accumulate[1])

    def weighted_sum_forward(self, inputs: Sequence[Array], weights: Array, out: Array, normalization: str) -> None:
        """See :meth:`Backend.weighted_sum_forward`."""
        factors = normalized_weights(weights, normalization)
        for picture, channels in planes(out.shape):
            terms = (x[picture, channels] * factor_of(f, channels) for x, f in zip(inputs, factors, strict=True))
            out[picture, channels] = sum(terms)

    def weighted_sum_backward(
        self,
        inputs: Sequence[Array],
        weights: Array,
        grad_out: Array,
        grad_inputs: Sequence[Array | None],
        grad_weights: Array,
        normalization: str,
        accumulate: Sequence[bool] | None = None,
    ) -> None:
        """See :meth:`Backend.weighted_sum_backward`."""
        factors = normalized_weights(weights, normalization)
        grad_factors = np.empty_like(weights)
        for i, x in enumerate(inputs):
            per_channel = np.einsum("nchw,nchw->c", x, grad_out)
            grad_factors[i] = per_channel if weights.ndim == 2 else per_channel.sum()
            target = grad_inputs[i]
            if target is not None:
                factor = np.broadcast_to(np.reshape(factors[i], (-1, 1, 1)), x.shape)
                write_product(grad_out, factor, target, accumulate is not None and accumulate[i])
        grad_weights += normalized_weights_backward(weights, grad_factors, normalization)

    def clip(self, array: Array, limit: float) -> None:
        """See :meth:`Backend.clip`."""
        np.clip(array, -limit, limit, out=array)


def write_product(a: Array, b: Array, out: Array, accumulate: bool) -> None:
    """``out = a * b``, or ``out += a * b`` without a temporary of that size: arrays (n, c, h, w)."""
    if not accumulate:
        np.multiply(a, b, out=out)
        return
    for index in planes(out.shape):
        out[index] += a[index] * b[index]


# --- Weights of a weighted sum: (inputs,) or (inputs, c), normalised over the inputs.


def factor_of(factors: Array, channels: slice) -> Array:
    """One input's factor, for all channels or one for each, shaped to multiply (channels, h, w)."""
    return factors if factors.ndim == 0 else factors[channels, None, None]


def normalized_weights(weights: Array, normalization: str) -> Array:
    """What the inputs are multiplied by."""
    if normalization == "none":
        return weights
    numerators = _numerators(weights, normalization)
    return numerators / (numerators.sum(axis=0) + NORMALIZATION_EPSILON)


def normalized_weights_backward(weights: Array, grad_factors: Array, normalization: str) -> Array:
    """Gradient with respect to the weights, from that with respect to :func:`normalized_weights`."""
    if normalization == "none":
        return grad_factors
    numerators = _numerators(weights, normalization)
    total = numerators.sum(axis=0) + NORMALIZATION_EPSILON
    shared = (grad_factors * numerators).sum(axis=0) / total
    if normalization == "relu":
        return (grad_factors - shared) * (weights > 0) / total
    gradient = (grad_factors - shared) * numerators / total
    # The largest weight, subtracted before exp, would cancel but for the epsilon in the total.
    largest = np.arange(len(weights)).reshape(-1, *[1] * (weights.ndim - 1)) == weights.argmax(axis=0)
    return gradient - largest * (shared * NORMALIZATION_EPSILON / total)


def _numerators(weights: Array, normalization: str) -> Array:
    if normalization == "relu":
        return np.maximum(weights, 0)
    if normalization == "softmax":
        return np.exp(weights - weights.max(axis=0))
    raise ValueError(f"unknown normalization {normalization!r}: none, relu or softmax")
