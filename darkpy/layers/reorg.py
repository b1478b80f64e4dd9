"""[reorg]: blocks of pixels to channels, in the order of the first YOLOv2 networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("reorg")
class Reorg(Layer):
    """Blocks of stride x stride pixels become channels, in Darknet's old order.

    Input (n, c, h, w), output (n, c * stride^2, h / stride, w / stride). The memory of the input is taken for a
    picture of (c / stride^2, h * stride, w * stride) and space moved to depth there, which shuffles channels and
    places; networks trained so need it. For the plain order see [reorg3d]. ``reverse`` moves depth to space: output
    (n, c / stride^2, h * stride, w * stride) (Darknet, reorg_old_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        stride: int = option(1, minimum=1, help="side of a block")
        reverse: bool = option(False, help="1 moves channels to blocks of pixels")

    def shape(self, *inputs: Shape) -> Shape:
        """(c * stride^2, h / stride, w / stride), or the reverse."""
        c, h, w = inputs[0]
        stride = self.options.stride
        if c % stride**2:
            self.problem("stride", f"stride={stride}: needs a multiple of {stride**2} channels, not {c}")
        if self.options.reverse:
            return c // stride**2, h * stride, w * stride
        if h % stride or w % stride:
            self.problem("stride", f"stride={stride} does not divide its input of {w}x{h}")
        return c * stride**2, h // stride, w // stride

    def receptive_step(self) -> tuple[float, float]:
        """A coarser grid; finer for the reverse."""
        stride = self.options.stride
        return (1.0, 1.0 / stride) if self.options.reverse else (float(stride), float(stride))

    def describe(self) -> str:
        """Such as ``/2``."""
        return f"x{self.options.stride}" if self.options.reverse else f"/{self.options.stride}"

    def forward(self, x: Any, *, training: bool) -> None:
        """Move."""
        stride = self.options.stride
        if self.options.reverse:
            self.backend.depth_to_space(x, self.output, stride)
        else:
            self.backend.space_to_depth(self._unfolded(x), self._folded(self.output), stride)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Move back."""
        if grad_x is None:
            return
        stride, accumulate = self.options.stride, self.accumulate[0]
        if self.options.reverse:
            self.backend.space_to_depth(grad_output, grad_x, stride, accumulate)
        else:
            self.backend.depth_to_space(self._folded(grad_output), self._unfolded(grad_x), stride, accumulate)

    def _unfolded(self, x: Any) -> Any:
        """The input's memory as fewer, larger channels."""
        (c, h, w), stride = self.input_shapes[0], self.options.stride
        return x.reshape(x.shape[0], c // stride**2, h * stride, w * stride)

    def _folded(self, output: Any) -> Any:
        """The output's memory in the shape of the input."""
        return output.reshape(output.shape[0], *self.input_shapes[0])
