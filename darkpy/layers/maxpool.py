"""[maxpool]: the largest value of each window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.backends.base import PoolGeometry
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Buffer, Layer, Shape, register


@register("maxpool", "max")
class MaxPool(Layer):
    """Largest value of each window, channel by channel.

    Input (n, c, h, w), output (n, c, h', w') with h' = (h + padding - size) / stride + 1, rounded down. Windows start
    at -(padding / 2); positions outside the picture never win; of equal values the first in row order wins (Darknet,
    maxpool_layer.c).
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

        ineffective = {"maxpool_zero_nonmax": "Darknet's CPU code ignores it"}
        refused = {
            "maxpool_depth": "pooling over channels is not available",
            "antialiasing": "blurred downsampling is not available",
        }

    winners: Any = None

    def shape(self, *inputs: Shape) -> Shape:
        """(c, h', w')."""
        c, h, w = inputs[0]
        o = self.options
        self.geometry = PoolGeometry(o.size, o.stride_y, o.stride_x, o.padding // 2)
        if h + o.padding < o.size or w + o.padding < o.size:
            what = f"its input of {w}x{h} with a total padding of {o.padding}"
            self.problem("size", f"size={o.size} is larger than {what}")
            return inputs[0]
        return c, (h + o.padding - o.size) // o.stride_y + 1, (w + o.padding - o.size) // o.stride_x + 1

    def buffers(self, batch: int, training: bool) -> dict[str, Buffer]:
        """Which position of its window won."""
        assert self.output_shape is not None
        if not training:
            return {}
        return {"winners": Buffer((batch, *self.output_shape), self.backend.winner_dtype(self.geometry))}

    def receptive_step(self) -> tuple[float, float]:
        """Window side and stride."""
        return self.options.size, max(self.options.stride_x, self.options.stride_y)

    def describe(self) -> str:
        """Such as ``2x2/2``."""
        o = self.options
        stride = f"{o.stride_x}" if o.stride_x == o.stride_y else f"{o.stride_x},{o.stride_y}"
        return f"{o.size}x{o.size}/{stride}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Largest value of each window."""
        self.backend.maxpool_forward(x, self.output, self.geometry, self.winners if training else None)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The whole gradient goes to the winner."""
        if grad_x is not None:
            self.backend.maxpool_backward(grad_output, self.winners, grad_x, self.geometry, self.accumulate[0])
