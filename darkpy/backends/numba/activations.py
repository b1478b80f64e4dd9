"""Activations in one pass over memory, each written once, as a formula of one number.

The compiler makes vector code of a loop over such a formula; what it lacks, an exponential without branches, is here.
Activations that published detectors do not use stay with NumPy.

The functions on rows work on a stretch of one channel that other steps have just brought into the first-level cache.
A loop that reads and writes the same array in place is fast only if both are one variable: two that overlap would be
done number by number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from darkpy.backends.base import gradient_needs_input
from darkpy.backends.numba.jit import compiled, entry, exact
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numpy.activations import ActivationOperations as NumpyActivationOperations
from darkpy.backends.numpy.tiles import Array

LINEAR, LEAKY, RELU, LOGISTIC, SWISH, MISH = range(6)

#: Numbers by which compiled functions know the activations they can do.
CODES = {
    "linear": LINEAR,
    "leaky": LEAKY,
    "revleaky": LEAKY,
    "relu": RELU,
    "logistic": LOGISTIC,
    "swish": SWISH,
    "mish": MISH,
}

#: Elements that operations take at a time: 16 KiB of float32, half a first-level cache.
ROW = 4096

ZERO, ONE, TWO, TENTH = np.float32(0), np.float32(1), np.float32(2), np.float32(0.1)

#: Above this, mish(x) is x.
MISH_LIMIT = np.float32(20)


# --- Formulas of one float32.


@intrinsic
def _float_of_bits(typingctx, bits):
    """The float32 whose bits are those of an int32."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@exact
def exponential(x):
    """exp(x) within two units in the last place; 0 below -87.3, 2.2e38 above 88.3; NaN stays NaN.

    exp(x) = 2^n exp(r), with n the whole number nearest to x / log 2, and exp(r) a polynomial (Cephes, expf).
    """
    x = np.float32(88.3) if x > np.float32(88.3) else x
    # Adding and subtracting 1.5 * 2^23 rounds to a whole number.
    n = (x * np.float32(1.44269504) + np.float32(12582912.0)) - np.float32(12582912.0)
    r = (x - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + ONE
    power = _float_of_bits(np.int32((np.int32(n) + 127) << 23))
    return ZERO if x < np.float32(-87.3) else p * power


@compiled
def leaky(x):
    """x above 0, 0.1 x below."""
    return x if x > ZERO else TENTH * x


@compiled
def leaky_derivative(x):
    """1 above 0, 0.1 below; of the input or of the output."""
    return ONE if x > ZERO else TENTH


@compiled
def relu(x):
    """max(x, 0)."""
    return ZERO if x < ZERO else x


@compiled
def relu_derivative(x):
    """1 above 0; of the input or of the output."""
    return ONE if x > ZERO else ZERO


@exact
def logistic(x):
    """1 / (1 + exp(-x))."""
    return ONE / (ONE + exponential(-x))


@exact
def logistic_derivative(y):
    """y (1 - y), of the output."""
    return y * (ONE - y)


@exact
def swish(x):
    """x logistic(x)."""
    return x / (ONE + exponential(-x))


@exact
def swish_derivative(x):
    """s + x s (1 - s) with s = logistic(x)."""
    s = logistic(x)
    return s + x * s * (ONE - s)


@exact
def mish(x):
    """x tanh(log(1 + exp(x))): with e = exp(x), the tanh is (e^2 + 2 e) / (e^2 + 2 e + 2)."""
    e = exponential(MISH_LIMIT if x > MISH_LIMIT else x)
    n = e * (e + TWO)
    return x * (n / (n + TWO))


@exact
def mish_derivative(x):
    """t + x (1 - t^2) logistic(x) with t = tanh(log(1 + exp(x))), over one denominator."""
    e = exponential(MISH_LIMIT if x > MISH_LIMIT else x)
    n = e * (e + TWO)
    inverse = ONE / (n + TWO)
    return inverse * (n + x * inverse * (np.float32(4) * e * (e + ONE)))


# --- Rows: contiguous stretches of one channel, given as views. Counting from 0 within a view lets the compiler see that
# no index is negative, without which it makes no vector code.


def _forward_row(formula: Any) -> Any:
    @compiled
    def apply(row):
        for i in range(len(row)):
            row[i] = formula(row[i])

    return apply


def _derivative_row(derivative: Any) -> Any:
    @compiled
    def apply(gradients, values):
        for i in range(len(gradients)):
            gradients[i] *= derivative(values[i])

    return apply


_leaky_row, _leaky_derivative_row = _forward_row(leaky), _derivative_row(leaky_derivative)
_relu_row, _relu_derivative_row = _forward_row(relu), _derivative_row(relu_derivative)
_logistic_row, _logistic_derivative_row = _forward_row(logistic), _derivative_row(logistic_derivative)
_swish_row, _swish_derivative_row = _forward_row(swish), _derivative_row(swish_derivative)
_mish_row, _mish_derivative_row = _forward_row(mish), _derivative_row(mish_derivative)


@compiled
def activate_row(row, code):
    """``row = activation(row)``."""
    if code == LEAKY:
        _leaky_row(row)
    elif code == RELU:
        _relu_row(row)
    elif code == LOGISTIC:
        _logistic_row(row)
    elif code == SWISH:
        _swish_row(row)
    elif code == MISH:
        _mish_row(row)


@compiled
def differentiate_row(gradients, values, code):
    """``gradients *= activation'``, at ``values``: the outputs of logistic, the inputs of the others.

    leaky and relu may be given either.
    """
    if code == LEAKY:
        _leaky_derivative_row(gradients, values)
    elif code == RELU:
        _relu_derivative_row(gradients, values)
    elif code == LOGISTIC:
        _logistic_derivative_row(gradients, values)
    elif code == SWISH:
        _swish_derivative_row(gradients, values)
    elif code == MISH:
        _mish_derivative_row(gradients, values)


@compiled
def scale_row(row, scale, bias):
    """``row = row * scale + bias``."""
    for i in range(len(row)):
        row[i] = row[i] * scale + bias


@compiled
def write_row(source, target, add):
    """``target = source``, or ``target += source``; the two must not overlap."""
    if add:
        for i in range(len(target)):
            target[i] += source[i]
    else:
        for i in range(len(target)):
            target[i] = source[i]


# --- The operations.


@entry
def activate(values, first, last, code):
    """``values = activation(values)`` for a part of a flat array."""
    activate_row(values[first:last], code)


@entry
def differentiate(values, grad_out, grad_x, first, last, code, accumulate, buffer):
    """``grad_x = grad_out * activation'`` (or +=) for a part of flat arrays; buffer: one row."""
    for at in range(first, last, ROW):
        end = min(at + ROW, last)
        row = buffer[: end - at]
        row[:] = grad_out[at:end]
        differentiate_row(row, values[at:end], code)
        write_row(row, grad_x[at:end], accumulate)


class ActivationOperations(MemoryOperations, NumpyActivationOperations):
    """The activations that have a code, in float32."""

    def activation_forward(self, x: Array, out: Array, activation: str) -> None:
        """See :meth:`Backend.activation_forward`."""
        code = CODES.get(activation)
        if code is None:
            super().activation_forward(x, out, activation)
            return
        source, target, same = flat(x), flat(out), x.ctypes.data == out.ctypes.data
        ranges = shares(x.size, 4 * self.threads, ROW)

        def task(worker: int, number: int) -> None:
            first, last = ranges[number]
            if not same:
                np.copyto(target[first:last], source[first:last])
            activate(target, first, last, code)

        self.run(task, len(ranges), 0.5 * x.size)

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
        code = CODES.get(activation)
        values = x if gradient_needs_input(activation) else out
        if code is None or values is None:
            super().activation_backward(x, out, grad_out, grad_x, activation, accumulate)
            return
        arrays = [flat(array) for array in (values, grad_out, grad_x)]
        ranges = shares(out.size, 4 * self.threads, ROW)
        buffers = self.carve((self.threads, ROW), dtype=np.float32)[0]

        def task(worker: int, number: int) -> None:
            differentiate(*arrays, *ranges[number], code, accumulate, buffers[worker])

        self.run(task, len(ranges), 1.0 * out.size)
