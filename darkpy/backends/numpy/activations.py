"""Activations and their true derivatives.

The elementwise ones work tile by tile (see tiles.py), so the temporaries in their formulas are small and stay in the
cache. Constants are Darknet's (activations.h). Where Darknet's own gradient is not the derivative of its forward pass
(gelu, swish, the channel activations) the derivative is used here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from darkpy.backends.base import NORMALIZATION_EPSILON, gradient_needs_input
from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import TILE, Array, matrix, per_channel, tiles, write

SELU_SCALE = 1.0507
SELU_ALPHA = 1.6732
GELU_LINEAR = 0.797885
GELU_CUBIC = 0.035677

#: Further out the tanh in gelu is 1 to the last bit of float64; cubes of larger numbers might overflow.
GELU_SATURATION = 10.0

#: Above this, softplus(x) is x (Darknet), and tanh of it 1 to the last bit of float64.
MISH_THRESHOLD = 20.0


class ActivationOperations(MemoryOperations):
    """Elementwise and channel activations, found by name."""

    def activation_forward(self, x: Array, out: Array, activation: str) -> None:
        """See :meth:`Backend.activation_forward`."""
        if activation in CHANNEL_FORWARD:
            CHANNEL_FORWARD[activation](per_channel(x), per_channel(out))
        elif activation == "linear":
            if x is not out:
                np.copyto(out, x)
        else:
            source, target = matrix(x), matrix(out)
            for tile in tiles(*target.shape):
                FORWARD[activation](source[tile], target[tile])

    def activation_backward(
        self,
        x: Array | None,
        out: Array,
        grad_out: Array,
        grad_x: Array,
        activation: str,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.activation_backward`."""
        value = x if gradient_needs_input(activation) else out
        if value is None:
            raise ValueError(f"the gradient of {activation} needs the activation's input")
        if activation in CHANNEL_BACKWARD:
            CHANNEL_BACKWARD[activation](per_channel(value), per_channel(grad_out), per_channel(grad_x), accumulate)
            return
        values, grads, targets = matrix(value), matrix(grad_out), matrix(grad_x)
        for tile in tiles(*targets.shape):
            write(grads[tile] * DERIVATIVE[activation](values[tile]), targets[tile], accumulate)


def epilogue(result: Array, scale: Array | None, bias: Array | None, activation: str) -> None:
    """``activation(result * scale + bias)`` in place: result (f, pixels), scale and bias (f,) or None."""
    for rows, columns in tiles(*result.shape):
        tile = result[rows, columns]
        if scale is not None:
            tile *= scale[rows, None]
        if bias is not None:
            tile += bias[rows, None]
        FORWARD[activation](tile, tile)


# --- Elementwise, forward: (x, out), x may be out.


def linear(x: Array, out: Array) -> None:
    """The value itself."""
    if x is not out:
        np.copyto(out, x)


def logistic(x: Array, out: Array) -> None:
    """1 / (1 + exp(-x))."""
    # exp(-x) may reach infinity, and 1 / infinity is the limit wanted.
    with np.errstate(over="ignore"):
        grown = np.exp(-x)
    grown += 1
    np.divide(1, grown, out=out)


def loggy(x: Array, out: Array) -> None:
    """2 / (1 + exp(-x)) - 1."""
    np.tanh(0.5 * x, out=out)


def tanh(x: Array, out: Array) -> None:
    """The hyperbolic tangent."""
    np.tanh(x, out=out)


def relu(x: Array, out: Array) -> None:
    """max(x, 0)."""
    np.maximum(x, 0, out=out)


def relu6(x: Array, out: Array) -> None:
    """min(max(x, 0), 6)."""
    np.clip(x, 0, 6, out=out)


def leaky(x: Array, out: Array) -> None:
    """x above 0, 0.1 x below."""
    np.maximum(x, 0.1 * x, out=out)


def relie(x: Array, out: Array) -> None:
    """x above 0, 0.01 x below."""
    np.maximum(x, 0.01 * x, out=out)


def ramp(x: Array, out: Array) -> None:
    """max(x, 0) + 0.1 x."""
    np.add(np.maximum(x, 0), 0.1 * x, out=out)


def elu(x: Array, out: Array) -> None:
    """x above 0, exp(x) - 1 below."""
    # The upper part is cut off before exp, which would overflow there; it is added back as max(x, 0).
    np.add(np.maximum(x, 0), np.expm1(np.minimum(x, 0)), out=out)


def selu(x: Array, out: Array) -> None:
    """1.0507 x above 0, 1.0507 * 1.6732 (exp(x) - 1) below."""
    below = (SELU_SCALE * SELU_ALPHA) * np.expm1(np.minimum(x, 0))
    np.add(SELU_SCALE * np.maximum(x, 0), below, out=out)


def gelu(x: Array, out: Array) -> None:
    """x (1 + tanh(0.797885 x + 0.035677 x^3)) / 2."""
    t = np.tanh(_gelu_argument(np.clip(x, -GELU_SATURATION, GELU_SATURATION)))
    np.multiply(0.5 * x, 1 + t, out=out)


def swish(x: Array, out: Array) -> None:
    """x logistic(x)."""
    np.multiply(x, _sigmoid(x), out=out)


def mish(x: Array, out: Array) -> None:
    """x tanh(softplus(x))."""
    np.multiply(x, _tanh_softplus(x), out=out)


def hard_mish(x: Array, out: Array) -> None:
    """x above 0, x^2 / 2 + x between -2 and 0, 0 below."""
    middle = np.clip(x, -2, 0)
    np.add(np.maximum(x, 0), middle * (0.5 * middle + 1), out=out)


def hardtan(x: Array, out: Array) -> None:
    """x, held between -1 and 1."""
    np.clip(x, -1, 1, out=out)


def lhtan(x: Array, out: Array) -> None:
    """x between 0 and 1; outside, on with slope 0.001."""
    middle = np.clip(x, 0, 1)
    np.add(middle, 0.001 * (x - middle), out=out)


def plse(x: Array, out: Array) -> None:
    """x / 8 + 1/2 between -4 and 4; outside, on with slope 0.01."""
    middle = np.clip(x, -4, 4)
    np.add(0.125 * middle + 0.5, 0.01 * (x - middle), out=out)


def stair(x: Array, out: Array) -> None:
    """Steps of two: flat from each even number to the next odd one, then up by one with slope 1."""
    step = np.floor(x)
    rising = np.remainder(step, 2)
    np.add(np.floor(0.5 * x), rising * (x - step), out=out)


# --- Elementwise, derivative: of the input for those that need it, else of the output.


def linear_derivative(y: Array) -> Array:
    """1 everywhere."""
    return np.ones_like(y)


def logistic_derivative(y: Array) -> Array:
    """y (1 - y)."""
    return (1 - y) * y


def loggy_derivative(y: Array) -> Array:
    """(1 - y^2) / 2."""
    return 0.5 - 0.5 * y * y


def tanh_derivative(y: Array) -> Array:
    """1 - y^2."""
    return 1 - y * y


def relu_derivative(y: Array) -> Array:
    """1 above 0."""
    return (y > 0).astype(y.dtype)


def relu6_derivative(y: Array) -> Array:
    """1 between 0 and 6."""
    return ((y > 0) & (y < 6)).astype(y.dtype)


def leaky_derivative(y: Array) -> Array:
    """1 above 0, 0.1 below."""
    return _slopes(y > 0, 1, 0.1, y)


def relie_derivative(y: Array) -> Array:
    """1 above 0, 0.01 below."""
    return _slopes(y > 0, 1, 0.01, y)


def ramp_derivative(y: Array) -> Array:
    """1.1 above 0, 0.1 below."""
    return _slopes(y > 0, 1.1, 0.1, y)


def elu_derivative(y: Array) -> Array:
    """1 above 0, exp(x) = y + 1 below."""
    return np.minimum(y, 0) + 1


def selu_derivative(y: Array) -> Array:
    """1.0507 above 0, y + 1.0507 * 1.6732 below."""
    return np.where(y >= 0, y.dtype.type(SELU_SCALE), y + SELU_SCALE * SELU_ALPHA)


def gelu_derivative(x: Array) -> Array:
    """Product and chain rule, at the input."""
    x = np.clip(x, -GELU_SATURATION, GELU_SATURATION)
    t = np.tanh(_gelu_argument(x))
    slope = GELU_LINEAR + (3 * GELU_CUBIC) * x * x
    return 0.5 + 0.5 * t + (0.5 * x) * (1 - t * t) * slope


def swish_derivative(x: Array) -> Array:
    """s + x s (1 - s) with s = logistic(x)."""
    s = _sigmoid(x)
    return s + x * s * (1 - s)


def mish_derivative(x: Array) -> Array:
    """t + x (1 - t^2) logistic(x) with t = tanh(softplus(x))."""
    t = _tanh_softplus(x)
    return t + x * (1 - t * t) * _sigmoid(x)


def hard_mish_derivative(x: Array) -> Array:
    """1 above 0, x + 1 between -2 and 0, 0 below."""
    return (np.minimum(x, 0) + 1) * (x > -2)


def hardtan_derivative(y: Array) -> Array:
    """1 between -1 and 1."""
    return ((y > -1) & (y < 1)).astype(y.dtype)


def lhtan_derivative(y: Array) -> Array:
    """1 between 0 and 1, 0.001 outside."""
    return _slopes((y > 0) & (y < 1), 1, 0.001, y)


def plse_derivative(y: Array) -> Array:
    """1/8 between 0 and 1, 0.01 outside."""
    return _slopes((y >= 0) & (y <= 1), 0.125, 0.01, y)


def stair_derivative(y: Array) -> Array:
    """0 where flat, that is at whole values of the output, 1 where rising."""
    return (np.floor(y) != y).astype(y.dtype)


def _slopes(condition: Array, yes: float, no: float, like: Array) -> Array:
    """``yes`` where the condition holds, the smaller ``no`` elsewhere; many times faster than np.where."""
    result = condition.astype(like.dtype)
    result *= yes
    return np.maximum(result, no, out=result)


def _sigmoid(x: Array) -> Array:
    result = np.empty_like(x)
    logistic(x, result)
    return result


def _gelu_argument(x: Array) -> Array:
    return x * (GELU_LINEAR + GELU_CUBIC * x * x)


def _tanh_softplus(x: Array) -> Array:
    # With e = exp(x): tanh(log(1 + e)) = ((1 + e)^2 - 1) / ((1 + e)^2 + 1).
    e = np.exp(np.minimum(x, MISH_THRESHOLD))
    n = e * (e + 2)
    return n / (n + 2)


FORWARD: dict[str, Callable[[Array, Array], None]] = {
    "elu": elu,
    "gelu": gelu,
    "hard_mish": hard_mish,
    "hardtan": hardtan,
    "leaky": leaky,
    "lhtan": lhtan,
    "linear": linear,
    "loggy": loggy,
    "logistic": logistic,
    "mish": mish,
    "plse": plse,
    "ramp": ramp,
    "relie": relie,
    "relu": relu,
    "relu6": relu6,
    "revleaky": leaky,
    "selu": selu,
    "stair": stair,
    "swish": swish,
    "tanh": tanh,
}

DERIVATIVE: dict[str, Callable[[Array], Array]] = {
    "elu": elu_derivative,
    "gelu": gelu_derivative,
    "hard_mish": hard_mish_derivative,
    "hardtan": hardtan_derivative,
    "leaky": leaky_derivative,
    "lhtan": lhtan_derivative,
    "linear": linear_derivative,
    "loggy": loggy_derivative,
    "logistic": logistic_derivative,
    "mish": mish_derivative,
    "plse": plse_derivative,
    "ramp": ramp_derivative,
    "relie": relie_derivative,
    "relu": relu_derivative,
    "relu6": relu6_derivative,
    "revleaky": leaky_derivative,
    "selu": selu_derivative,
    "stair": stair_derivative,
    "swish": swish_derivative,
    "tanh": tanh_derivative,
}


# --- Over the channels of each position: x, out, gradients (n, c, positions).


def _position_tiles(shape: tuple[int, ...]) -> list[tuple[int, slice, slice]]:
    n, c, positions = shape
    step = max(1, TILE // max(c, 1))
    return [(i, slice(None), slice(p, p + step)) for i in range(n) for p in range(0, positions, step)]


def normalize_channels(x: Array, out: Array) -> None:
    """relu(x) / (1e-4 + sum of relu(x) over channels)."""
    for tile in _position_tiles(x.shape):
        positive = np.maximum(x[tile], 0)
        np.divide(positive, positive.sum(axis=0) + NORMALIZATION_EPSILON, out=out[tile])


def normalize_channels_backward(x: Array, grad_out: Array, grad_x: Array, accumulate: bool) -> None:
    """Derivative of the quotient; channels with x <= 0 get nothing."""
    for tile in _position_tiles(x.shape):
        positive = np.maximum(x[tile], 0)
        total = positive.sum(axis=0) + NORMALIZATION_EPSILON
        shared = (grad_out[tile] * positive).sum(axis=0) / total
        write((grad_out[tile] - shared) * (x[tile] > 0) / total, grad_x[tile], accumulate)


def normalize_channels_softmax(x: Array, out: Array) -> None:
    """exp(x) / (1e-4 + sum of exp(x) over channels)."""
    for tile in _position_tiles(x.shape):
        out[tile] = _channel_softmax(x[tile], subtract_maximum=False)[0]


def normalize_channels_softmax_maxval(x: Array, out: Array) -> None:
    """exp(x - max) / (1e-4 + sum of exp(x - max) over channels), max the largest of the position."""
    for tile in _position_tiles(x.shape):
        out[tile] = _channel_softmax(x[tile], subtract_maximum=True)[0]


def normalize_channels_softmax_backward(x: Array, grad_out: Array, grad_x: Array, accumulate: bool) -> None:
    """y (g - sum of g y)."""
    for tile in _position_tiles(x.shape):
        y, _ = _channel_softmax(x[tile], subtract_maximum=False)
        shared = (grad_out[tile] * y).sum(axis=0)
        write(y * (grad_out[tile] - shared), grad_x[tile], accumulate)


def normalize_channels_softmax_maxval_backward(x: Array, grad_out: Array, grad_x: Array, accumulate: bool) -> None:
    """As above, and the part that flows through the maximum, which the 1e-4 keeps from cancelling."""
    for tile in _position_tiles(x.shape):
        y, total = _channel_softmax(x[tile], subtract_maximum=True)
        shared = (grad_out[tile] * y).sum(axis=0)
        gradient = y * (grad_out[tile] - shared)
        largest = x[tile].argmax(axis=0)
        gradient[largest, np.arange(largest.size)] -= NORMALIZATION_EPSILON * shared / total
        write(gradient, grad_x[tile], accumulate)


def _channel_softmax(x: Array, subtract_maximum: bool) -> tuple[Array, Array]:
    """The outputs (c, positions) and what they were divided by.

    Without the maximum, exp would overflow from 89 on; numerator and denominator are both divided by exp(largest) then.
    """
    shift = x.max(axis=0)
    epsilon: float | Array = NORMALIZATION_EPSILON
    if not subtract_maximum:
        shift = np.maximum(shift, 0)
        epsilon = NORMALIZATION_EPSILON * np.exp(-shift)
    grown = np.exp(x - shift)
    total = grown.sum(axis=0) + epsilon
    return grown / total, total


CHANNEL_FORWARD: dict[str, Callable[[Array, Array], None]] = {
    "normalize_channels": normalize_channels,
    "normalize_channels_softmax": normalize_channels_softmax,
    "normalize_channels_softmax_maxval": normalize_channels_softmax_maxval,
}

CHANNEL_BACKWARD: dict[str, Callable[[Array, Array, Array, bool], None]] = {
    "normalize_channels": normalize_channels_backward,
    "normalize_channels_softmax": normalize_channels_softmax_backward,
    "normalize_channels_softmax_maxval": normalize_channels_softmax_maxval_backward,
}
