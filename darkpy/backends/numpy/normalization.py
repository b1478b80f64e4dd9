"""Normalisation over channels: local response normalisation, and vectors of length one."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.tiles import Array, write


class NormalizationOperations(MemoryOperations):
    """Sums over a window of channels are one product of a small matrix with the squares, picture by picture."""

    def response_norm_forward(
        self, x: Array, norms: Array, out: Array, size: int, alpha: float, beta: float, kappa: float
    ) -> None:
        """See :meth:`Backend.response_norm_forward`."""
        window = running_window(x.shape[1], size, x.dtype)
        (squares,) = self.carve(by_channel(x[0]).shape, dtype=x.dtype)
        for picture in range(x.shape[0]):
            np.square(by_channel(x[picture]), out=squares)
            np.matmul(window, squares, out=by_channel(norms[picture]))
        norms *= norms.dtype.type(alpha)
        norms += norms.dtype.type(kappa)
        np.power(norms, norms.dtype.type(-beta), out=out)
        out *= x

    def response_norm_backward(
        self,
        x: Array,
        norms: Array,
        grad_out: Array,
        grad_x: Array,
        size: int,
        alpha: float,
        beta: float,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.response_norm_backward`."""
        window = running_window(x.shape[1], size, x.dtype)
        for picture in range(x.shape[0]):
            values, gradient = by_channel(x[picture]), by_channel(grad_out[picture])
            direct = gradient * by_channel(norms[picture]) ** -beta
            grad_norms = -beta * direct * values / by_channel(norms[picture])
            total = direct + 2 * alpha * values * (window.T @ grad_norms)
            write(total.astype(x.dtype, copy=False), by_channel(grad_x[picture]), accumulate)

    def unit_length_forward(self, x: Array, out: Array) -> None:
        """See :meth:`Backend.unit_length_forward`."""
        np.divide(x, lengths(x), out=out)

    def unit_length_backward(
        self, x: Array, out: Array, grad_out: Array, grad_x: Array, accumulate: bool = False
    ) -> None:
        """See :meth:`Backend.unit_length_backward`."""
        along = np.einsum("nchw,nchw->nhw", grad_out, out)[:, None]
        write((grad_out - out * along) / lengths(x), grad_x, accumulate)


def by_channel(picture: Array) -> Array:
    """A contiguous picture (c, h, w) as (c, positions)."""
    return picture.reshape(picture.shape[0], -1)


def lengths(x: Array) -> Array:
    """Length of the vector of channels at each position, (n, 1, h, w); 1 where all are 0."""
    length = np.sqrt(np.einsum("nchw,nchw->nhw", x, x))[:, None]
    length[length == 0] = 1
    return length


@functools.cache
def running_window(channels: int, size: int, dtype: Any) -> Array:
    """(channels, channels): how often each square is in each channel's sum.

    A window that moves from channel to channel, adding the one it reaches and taking away the one it leaves. It
    begins without channel ``size // 2`` and takes it away later, so that this one then counts -1.
    """
    window = np.zeros((channels, channels), dtype)
    current = np.zeros(channels, dtype)
    current[: size // 2] = 1
    for channel in range(channels):
        left, reached = channel - (size - 1) // 2 - 1, channel + size // 2
        if channel and left >= 0:
            current[left] -= 1
        if channel and reached < channels:
            current[reached] += 1
        window[channel] = current
    return window
