"""[local_avgpool]: the mean of each window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.backends.base import PoolGeometry
from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("local_avgpool", "local_avg")
class LocalAvgPool(Layer):
    """Mean of each window, channel by channel; positions outside the picture are not counted.

    Input (n, c, h, w), output (n, c, h', w') with h' = (h + padding - size) / stride + 1, rounded down; windows start
    at -(padding / 2), as in [maxpool] (Darknet, forward_local_avgpool_layer).
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

    def receptive_step(self) -> tuple[float, float]:
        """Window side and stride."""
        return self.options.size, max(self.options.stride_x, self.options.stride_y)

    def describe(self) -> str:
        """Such as ``2x2/2``."""
        o = self.options
        stride = f"{o.stride_x}" if o.stride_x == o.stride_y else f"{o.stride_x},{o.stride_y}"
        return f"{o.size}x{o.size}/{stride}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Mean of each window."""
        self.backend.local_avgpool_forward(x, self.output, self.geometry)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Equal shares to what was averaged."""
        if grad_x is not None:
            self.backend.local_avgpool_backward(grad_output, grad_x, self.geometry, self.accumulate[0])
