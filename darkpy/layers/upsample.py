"""[upsample]: every value repeated in a block, or blocks summed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("upsample")
class Upsample(Layer):
    """Nearest-neighbour enlargement by ``stride``, times ``scale``.

    Input (n, c, h, w), output (n, c, h * stride, w * stride). A negative stride sums blocks of |stride| x |stride|
    instead (Darknet, upsample_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        stride: int = option(2, help="factor of enlargement; negative: blocks of that side are summed up")
        scale: float = option(1.0, help="factor on every value")

    def shape(self, *inputs: Shape) -> Shape:
        """Height and width times (or divided by) the stride."""
        c, h, w = inputs[0]
        stride = self.options.stride
        if stride == 0:
            self.problem("stride", "stride=0: needs a factor such as 2, or -2 to sum blocks up")
            return inputs[0]
        if stride > 0:
            return c, h * stride, w * stride
        if h < -stride or w < -stride:
            self.problem("stride", f"stride={stride} needs an input of at least {-stride}x{-stride}, not {w}x{h}")
        return c, h // -stride, w // -stride

    def receptive_step(self) -> tuple[float, float]:
        """A finer grid of the same windows."""
        stride = self.options.stride
        return (1.0, 1.0 / stride) if stride > 0 else (float(-stride), float(-stride))

    def describe(self) -> str:
        """Such as ``x2``."""
        stride = self.options.stride
        return f"x{stride}" if stride > 0 else f"/{-stride}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Repeat, or sum up."""
        stride, scale = self.options.stride, self.options.scale
        if stride > 0:
            self.backend.upsample_forward(x, self.output, stride, scale)
        else:
            self.backend.downsample_forward(x, self.output, -stride, scale)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """The transposed operation."""
        if grad_x is None:
            return
        stride, scale = self.options.stride, self.options.scale
        if stride > 0:
            self.backend.upsample_backward(grad_output, grad_x, stride, scale, self.accumulate[0])
        else:
            self.backend.downsample_backward(grad_output, grad_x, -stride, scale, self.accumulate[0])
