"""Activations: kernels/activations.cu."""

from __future__ import annotations

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, gradient_needs_input
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import MemoryOperations

#: Numbers by which kernels know the activations; ``enum Activation`` and ``ChannelActivation`` have the same order.
KINDS = {name: number for number, name in enumerate(ELEMENTWISE_ACTIVATIONS)}
CHANNEL_KINDS = {name: number for number, name in enumerate(CHANNEL_ACTIVATIONS)}

#: Rows of a kernel that takes a warp for each.
ROWS = THREADS // 32


class ActivationOperations(MemoryOperations):
    """Elementwise and channel activations."""

    def activation_forward(self, x: DeviceArray, out: DeviceArray, activation: str) -> None:
        """See :meth:`Backend.activation_forward`."""
        if x.dtype != out.dtype:
            self.move(x, out)
            x = out
        if activation in CHANNEL_KINDS:
            rows, channels, strides = self.rows_of(x, out)
            lanes = lanes_of(channels)
            self.launch(
                "activations", "channel_activation_forward", self.blocks_for(rows * lanes), THREADS,
                x, strides[0], out, strides[1], rows, channels, lanes, CHANNEL_KINDS[activation],
            )  # fmt: skip
            return
        grid, block, rows, columns, *strides, by_four = self.over(x, out)
        self.launch(
            "activations", "activation_forward", grid, block,
            x, strides[0], out, strides[1], rows, columns, by_four, KINDS[activation],
        )  # fmt: skip

    def activation_backward(
        self,
        x: DeviceArray | None,
        out: DeviceArray,
        grad_out: DeviceArray,
        grad_x: DeviceArray,
        activation: str,
        accumulate: bool = False,
    ) -> None:
        """See :meth:`Backend.activation_backward`."""
        value = x if gradient_needs_input(activation) else out
        if value is None:
            raise ValueError(f"the gradient of {activation} needs the activation's input")
        if activation in CHANNEL_KINDS:
            rows, channels, strides = self.rows_of(value, grad_out, grad_x)
            lanes = lanes_of(channels)
            self.launch(
                "activations", "channel_activation_backward", self.blocks_for(rows * lanes), THREADS,
                value, strides[0], grad_out, strides[1], grad_x, strides[2], rows, channels, lanes,
                CHANNEL_KINDS[activation], accumulate,
            )  # fmt: skip
            return
        grid, block, rows, columns, *strides, by_four = self.over(value, grad_out, grad_x)
        self.launch(
            "activations", "activation_backward", grid, block,
            value, strides[0], grad_out, strides[1], grad_x, strides[2], rows, columns, by_four, KINDS[activation],
            accumulate,
        )  # fmt: skip


def lanes_of(channels: int) -> int:
    """Lanes of a warp that share the channels of a position: a power of two."""
    return min(32, 1 << max(0, channels - 1).bit_length())
