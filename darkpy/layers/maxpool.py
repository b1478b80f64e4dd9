"""[maxpool]: the largest value of each window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.backends.base import PoolGeometry
from darkpy.config.options import CommonOptions, option
from darkpy.layers.antialiasing import Blur, antialiasing_option
from darkpy.layers.base import Buffer, Layer, Shape, register


@register("maxpool", "max")
class MaxPool(Layer):
    """Largest value of each window, channel by channel.

    Input (n, c, h, w), output (n, c, h', w') with h' = (h + padding - size) / stride + 1, rounded down. Windows start
    at -(padding / 2); positions outside the picture never win; of equal values the first in row order wins (Darknet,
    maxpool_layer.c).

    With ``maxpool_depth`` the windows are channels instead: output channel g is the largest of the input channels g,
    g + out_channels, g + 2 out_channels and so on, and the output is (n, out_channels, h, w).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        stride: int = option(1, minimum=1, help="step between windows")
        stride_x: int = option(same_as="stride", minimum=1, help="horizontal step")
        stride_y: int = option(same_as="stride", minimum=1, help="vertical step")
        size: int = option(same_as="stride", minimum=1, help="side of a window")
        padding: int = option(
            lambda o: o.size - 1, default_text="size - 1", minimum=0, help="total padding of a row or column"
        )

        maxpool_depth: bool = option(False, help="1 pools over channels; size, stride and padding then mean nothing")
        out_channels: int = option(1, minimum=1, help="maxpool_depth: number of output channels")
        antialiasing: int = antialiasing_option()

        refused = {
            "maxpool_zero_nonmax": "values that are not the largest around them are not set to 0; Darknet's CUDA code "
            "only, no published cfg asks for it"
        }

    winners: Any = None
    sharp: Any = None
    blur: Blur | None = None

    def shape(self, *inputs: Shape) -> Shape:
        """(c, h', w'), or (out_channels, h, w) with ``maxpool_depth``."""
        c, h, w = inputs[0]
        o = self.options
        if o.maxpool_depth:
            return self._shape_over_channels(c, h, w)
        stride_y, stride_x = (1, 1) if o.antialiasing else (o.stride_y, o.stride_x)
        self.geometry = PoolGeometry(o.size, stride_y, stride_x, o.padding // 2)
        if h + o.padding < o.size or w + o.padding < o.size:
            what = f"its input of {w}x{h} with a total padding of {o.padding}"
            self.problem("size", f"size={o.size} is larger than {what}")
            return inputs[0]
        self.pooled_shape = (c, (h + o.padding - o.size) // stride_y + 1, (w + o.padding - o.size) // stride_x + 1)
        return self._blurred() if o.antialiasing else self.pooled_shape

    def _shape_over_channels(self, c: int, h: int, w: int) -> Shape:
        o = self.options
        if o.out_channels > c:
            self.problem("out_channels", f"out_channels={o.out_channels} is more than its {c} input channels")
        if o.antialiasing:
            self.problem("antialiasing", f"antialiasing={o.antialiasing} does not go with maxpool_depth=1")
        self.pooled_shape = (o.out_channels, h, w)
        return self.pooled_shape

    def _blurred(self) -> Shape:
        o = self.options
        self.blur = Blur(self.backend, o.antialiasing, o.stride_y, o.stride_x, self.pooled_shape)
        if min(self.blur.shape) < 1:
            _, h, w = self.pooled_shape
            self.problem("antialiasing", f"antialiasing={o.antialiasing} needs more than {w}x{h} values to blur")
        return self.blur.shape

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """Which position of its window won, and what is blurred."""
        shape = (batch, *self.pooled_shape)
        found: dict[str, Buffer] = {}
        if self.blur is not None:
            found["sharp"] = Buffer(shape, scratch=True)
        if training:
            over_channels = self.options.maxpool_depth
            found["winners"] = Buffer(shape, np.int32 if over_channels else self.backend.winner_dtype(self.geometry))
        return found

    def workspace(self, batch: int, training: bool) -> int:
        """Bytes the blur asks for."""
        return 0 if self.blur is None else self.blur.workspace(batch, training)

    def receptive_step(self) -> tuple[float, float]:
        """Window side and stride."""
        if self.options.maxpool_depth:
            return 1.0, 1.0
        return self.options.size, max(self.options.stride_x, self.options.stride_y)

    def describe(self) -> str:
        """Such as ``2x2/2``."""
        o = self.options
        if o.maxpool_depth:
            return "channels"
        stride = f"{o.stride_x}" if o.stride_x == o.stride_y else f"{o.stride_x},{o.stride_y}"
        return f"{o.size}x{o.size}/{stride}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Largest value of each window."""
        winners = self.winners if training else None
        if self.options.maxpool_depth:
            self.backend.depth_maxpool_forward(x, self.output, winners)
        elif self.blur is None:
            self.backend.maxpool_forward(x, self.output, self.geometry, winners)
        else:
            self.backend.maxpool_forward(x, self.sharp, self.geometry, winners)
            self.blur.forward(self.sharp, self.output)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The whole gradient goes to the winner."""
        if grad_x is None:
            return
        if self.options.maxpool_depth:
            self.backend.depth_maxpool_backward(grad_output, self.winners, grad_x, self.accumulate[0])
            return
        if self.blur is not None:
            self.blur.backward(grad_output, self.sharp)
            grad_output = self.sharp
        self.backend.maxpool_backward(grad_output, self.winners, grad_x, self.geometry, self.accumulate[0])
