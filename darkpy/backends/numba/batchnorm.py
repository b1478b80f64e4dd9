"""Batch normalisation and biases, with the activation that follows: channel by channel.

A task takes some channels. It goes over a channel's planes twice, in rows of 16 KiB that stay in the first-level cache
while the steps of a formula go over them: once for sums, once to write. Sums are float32 within a row and float64 beyond.

Bytes per value: forward reads 4 + 4 and writes 4; backward reads 8 + 8 and writes 4. The second reading comes from the second-level
cache where a channel's planes of all pictures fit in there. Nothing is kept between the two readings of backward: to
compute the activation's derivative again is faster than to write and read it.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from darkpy.backends.base import BATCHNORM_EPSILON
from darkpy.backends.numba.activations import CODES, LINEAR, LOGISTIC, ROW, activate_row, differentiate_row, scale_row
from darkpy.backends.numba.jit import compiled, entry
from darkpy.backends.numba.memory import MemoryOperations, flat, shares
from darkpy.backends.numpy.batchnorm import BatchNormOperations as NumpyBatchNormOperations
from darkpy.backends.numpy.tiles import Array

#: Rough nanoseconds per value of one pass on one core.
PASS = 0.5


# --- Compiled: x, out and gradients are flat, (pictures, channels, plane).


@entry
def channel_moments(x, pictures, channels, plane, channel, last_channel, mean, variance):
    """Mean and N - 1 variance of some channels, from those of rows (Chan, Golub and LeVeque 1979)."""
    for c in range(channel, last_channel):
        count, average, squares = 0, 0.0, 0.0
        for picture in range(pictures):
            start = (picture * channels + c) * plane
            for at in range(start, start + plane, ROW):
                row = x[at : min(at + ROW, start + plane)]
                row_average = _sum(row) / len(row)
                difference = row_average - average
                total = count + len(row)
                squares += _squares(row, np.float32(row_average)) + difference * difference * count * len(row) / total
                average += difference * len(row) / total
                count = total
        mean[c] = average
        variance[c] = squares / max(count - 1, 1)


@compiled
def _sum(row):
    total = np.float32(0)
    for i in range(len(row)):
        total += row[i]
    return np.float64(total)


@compiled
def _squares(row, average):
    total = np.float32(0)
    for i in range(len(row)):
        total += (row[i] - average) * (row[i] - average)
    return np.float64(total)


@entry
def normalize(x, out, pictures, channels, plane, channel, last_channel, scales, biases, mean, variance, code):
    """``out = activation(scales * (x - mean) / sqrt(variance + epsilon) + biases)`` for some channels."""
    for c in range(channel, last_channel):
        factor = np.float32(scales[c] / sqrt(variance[c] + BATCHNORM_EPSILON))
        for picture in range(pictures):
            start = (picture * channels + c) * plane
            for at in range(start, start + plane, ROW):
                end = min(at + ROW, start + plane)
                _normalize_row(x[at:end], out[at:end], mean[c], factor, biases[c])
                activate_row(out[at:end], code)


@compiled
def _normalize_row(x, out, mean, factor, bias):
    for i in range(len(x)):
        out[i] = (x[i] - mean) * factor + bias


@entry
def normalize_backward(
    x, out, grad_out, grad_x, pictures, channels, plane, channel, last_channel,
    mean, variance, scales, biases, grad_scales, grad_biases, code, accumulate, gradients, values
):  # fmt: skip
    """The formula of :meth:`BatchNormOperations.batchnorm_backward` for some channels; gradients, values: a row each."""
    samples = pictures * plane
    for c in range(channel, last_channel):
        inverse = 1 / sqrt(variance[c] + BATCHNORM_EPSILON)
        factor = np.float32(scales[c] * inverse)
        sum_g, sum_gd = 0.0, 0.0
        for picture in range(pictures):
            start = (picture * channels + c) * plane
            for at in range(start, start + plane, ROW):
                end = min(at + ROW, start + plane)
                g = gradients[: end - at]
                _before_activation(x[at:end], out[at:end], grad_out[at:end], mean[c], factor, biases[c], code, g, values)
                sum_g += _sum(g)
                sum_gd += _product_with_deviation(g, x[at:end], mean[c])
        grad_biases[c] += np.float32(sum_g)
        grad_scales[c] += np.float32(sum_gd * inverse)
        average = np.float32(sum_g / samples)
        slope = np.float32(sum_gd * inverse * inverse / max(samples - 1, 1))
        for picture in range(pictures):
            start = (picture * channels + c) * plane
            for at in range(start, start + plane, ROW):
                end = min(at + ROW, start + plane)
                g = gradients[: end - at]
                _before_activation(x[at:end], out[at:end], grad_out[at:end], mean[c], factor, biases[c], code, g, values)
                _input_gradient(g, x[at:end], mean[c], average, slope, factor, grad_x[at:end], accumulate)


@compiled
def _before_activation(x, out, grad_out, mean, factor, bias, code, gradients, values):
    """``gradients = grad_out * activation'``; all but logistic are differentiated at their input, computed again."""
    for i in range(len(gradients)):
        gradients[i] = grad_out[i]
    if code == LOGISTIC:
        differentiate_row(gradients, out, code)
    elif code != LINEAR:
        inputs = values[: len(gradients)]
        _normalize_row(x, inputs, mean, factor, bias)
        differentiate_row(gradients, inputs, code)


@compiled
def _product_with_deviation(gradients, x, mean):
    total = np.float32(0)
    for i in range(len(gradients)):
        total += gradients[i] * (x[i] - mean)
    return np.float64(total)


@compiled
def _input_gradient(gradients, x, mean, average, slope, factor, grad_x, accumulate):
    if accumulate:
        for i in range(len(gradients)):
            grad_x[i] += (gradients[i] - average - (x[i] - mean) * slope) * factor
    else:
        for i in range(len(gradients)):
            grad_x[i] = (gradients[i] - average - (x[i] - mean) * slope) * factor


@entry
def add_biases(x, out, same, channels, plane, first, last, biases, code):
    """``out = activation(x + biases)`` for planes ``first`` to ``last``, counted through all pictures."""
    for number in range(first, last):
        start = number * plane
        for at in range(start, start + plane, ROW):
            row = out[at : min(at + ROW, start + plane)]
            if not same:
                row[:] = x[at : at + len(row)]
            scale_row(row, np.float32(1), biases[number % channels])
            activate_row(row, code)


@entry
def sum_channels(x, pictures, channels, plane, channel, last_channel, sums):
    """``sums[c] += `` everything in channel c, for some channels."""
    for c in range(channel, last_channel):
        total = 0.0
        for picture in range(pictures):
            start = (picture * channels + c) * plane
            for at in range(start, start + plane, ROW):
                total += _sum(x[at : min(at + ROW, start + plane)])
        sums[c] += np.float32(total)


# --- The operations.


class BatchNormOperations(MemoryOperations, NumpyBatchNormOperations):
    """Operations with one parameter per channel, in float32."""

    def bias_activation_forward(self, x: Array, biases: Array, out: Array, activation: str) -> None:
        """See :meth:`Backend.bias_activation_forward`."""
        code = CODES.get(activation)
        if code is None:
            super().bias_activation_forward(x, biases, out, activation)
            return
        channels, plane = x.shape[1], _plane(x)
        ranges = shares(x.shape[0] * channels, self.threads)
        source, target, same = flat(x), flat(out), x.ctypes.data == out.ctypes.data

        def task(worker: int, number: int) -> None:
            add_biases(source, target, same, channels, plane, *ranges[number], biases, code)

        self.run(task, len(ranges), PASS * x.size)

    def bias_backward(self, grad: Array, grad_biases: Array) -> None:
        """See :meth:`Backend.bias_backward`."""
        pictures, channels, plane = grad.shape[0], grad.shape[1], _plane(grad)
        ranges = shares(channels, self.threads)
        source = flat(grad)

        def task(worker: int, number: int) -> None:
            sum_channels(source, pictures, channels, plane, *ranges[number], grad_biases)

        self.run(task, len(ranges), PASS * grad.size)

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
        code = CODES.get(activation, LINEAR)
        pictures, channels, plane = x.shape[0], x.shape[1], _plane(x)
        ranges = shares(channels, self.threads)
        source, target = flat(x), flat(out)

        def task(worker: int, number: int) -> None:
            where = pictures, channels, plane, *ranges[number]
            channel_moments(source, *where, mean, variance)
            normalize(source, target, *where, scales, biases, mean, variance, code)

        self.run(task, len(ranges), 3 * PASS * x.size)
        for rolling, new in ((rolling_mean, mean), (rolling_variance, variance)):
            rolling *= 1 - momentum
            rolling += momentum * new
        if activation not in CODES:
            self.activation_forward(out, out, activation)

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
        code = CODES.get(activation, LINEAR)
        pictures, channels, plane = x.shape[0], x.shape[1], _plane(x)
        ranges = shares(channels, self.threads)
        source, target = flat(x), flat(out)

        def task(worker: int, number: int) -> None:
            where = pictures, channels, plane, *ranges[number]
            normalize(source, target, *where, scales, biases, rolling_mean, rolling_variance, code)

        self.run(task, len(ranges), 2 * PASS * x.size)
        if activation not in CODES:
            self.activation_forward(out, out, activation)

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
        """See :meth:`Backend.batchnorm_backward`."""
        code = CODES.get(activation)
        if code is None:
            super().batchnorm_backward(
                x, out, grad_out, mean, variance, scales, biases, grad_scales, grad_biases, grad_x, activation, accumulate
            )
            return
        pictures, channels, plane = x.shape[0], x.shape[1], _plane(x)
        ranges = shares(channels, self.threads)
        arrays = [flat(array) for array in (x, out, grad_out, grad_x)]
        rows = self.carve((self.threads, 2, ROW), dtype=np.float32)[0]

        def task(worker: int, number: int) -> None:
            normalize_backward(
                *arrays, pictures, channels, plane, *ranges[number],
                mean, variance, scales, biases, grad_scales, grad_biases, code, accumulate, *rows[worker]
            )  # fmt: skip

        self.run(task, len(ranges), 4 * PASS * x.size)


def _plane(array: Array) -> int:
    """Values per picture and channel of (n, c, h, w) or (n, c)."""
    return array.size // max(array.shape[0] * array.shape[1], 1)
