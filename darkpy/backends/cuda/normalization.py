"""Local response normalisation, and vectors of length one: kernels/normalization.cu."""

from __future__ import annotations

from darkpy.backends.cuda.activations import ROWS, lanes_of
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.compiler import MOST_SHARED
from darkpy.backends.cuda.launching import FLOAT, THREADS
from darkpy.backends.cuda.memory import MemoryOperations


class NormalizationOperations(MemoryOperations):
    """Normalisation over the channels of a position, which are neighbours in memory."""

    def response_norm_forward(
        self,
        x: DeviceArray,
        norms: DeviceArray,
        out: DeviceArray,
        size: int,
        alpha: float,
        beta: float,
        kappa: float,
    ) -> None:
        """See :meth:`Backend.response_norm_forward`."""
        grid, block, rows, channels, *strides, _ = self.over_channels(x, norms, out, by_four=False)
        self.launch(
            "normalization", "response_norm_forward", grid, block,
            x, strides[0], norms, strides[1], out, strides[2], rows, channels, *_window(size, channels), alpha, beta,
            kappa,
        )  # fmt: skip

    def response_norm_backward(
        self,
        x: DeviceArray,
        norms: DeviceArray,
        grad_out: DeviceArray,
        grad_x: DeviceArray,
        size: int,
        alpha: float,
        beta: float,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.response_norm_backward`."""
        rows, channels, strides = self.rows_of(x, norms, grad_out, grad_x)
        row = FLOAT.itemsize * channels
        at_once = max(1, min(ROWS, MOST_SHARED // row))
        self.launch(
            "normalization", "response_norm_backward", self.blocks_for(rows, at_once), 32 * at_once,
            x, strides[0], norms, strides[1], grad_out, strides[2], grad_x, strides[3], rows, channels,
            *_window(size, channels), alpha, beta, accumulate, shared=at_once * row,
        )  # fmt: skip

    def unit_length_forward(self, x: DeviceArray, out: DeviceArray) -> None:
        """See :meth:`Backend.unit_length_forward`."""
        rows, channels, strides = self.rows_of(x, out)
        lanes = lanes_of(channels)
        self.launch(
            "normalization", "unit_length_forward", self.blocks_for(rows * lanes), THREADS,
            x, strides[0], out, strides[1], rows, channels, lanes,
        )  # fmt: skip

    def unit_length_backward(
        self,
        x: DeviceArray,
        out: DeviceArray,
        grad_out: DeviceArray,
        grad_x: DeviceArray,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.unit_length_backward`."""
        rows, channels, strides = self.rows_of(x, out, grad_out, grad_x)
        lanes = lanes_of(channels)
        self.launch(
            "normalization", "unit_length_backward", self.blocks_for(rows * lanes), THREADS,
            x, strides[0], out, strides[1], grad_out, strides[2], grad_x, strides[3], rows, channels, lanes, accumulate,
        )  # fmt: skip


def _window(size: int, channels: int) -> tuple[int, int]:
    """How far the window of a channel reaches before it and after it, at most as many as there are channels."""
    return min((size - 1) // 2, channels), min(size // 2, channels)
