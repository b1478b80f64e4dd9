"""[reorg3d]: blocks of pixels to channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("reorg3d")
class Reorg3d(Layer):
    """Blocks of stride x stride pixels become channels: output channel (dy * stride + dx) * c + k.

    Input (n, c, h, w), output (n, c * stride^2, h / stride, w / stride). ``reverse`` is not the inverse: the input's
    memory is taken for an array of the output's shape (c / stride^2, h * stride, w * stride), and depth moved to space
    there (Darknet, reorg_layer.c).
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
        if not self.options.reverse:
            if h % stride or w % stride:
                self.problem("stride", f"stride={stride} does not divide its input of {w}x{h}")
            return c * stride**2, h // stride, w // stride
        if c % stride**4:
            self.problem("stride", f"stride={stride} with reverse=1: needs a multiple of {stride**4} channels, not {c}")
        return c // stride**2, h * stride, w * stride

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
            self.backend.depth_to_space(self._as_output(x), self._unfolded(self.output), stride)
        else:
            self.backend.space_to_depth(x, self.output, stride)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """Move back."""
        if grad_x is None:
            return
        stride, accumulate = self.options.stride, self.accumulate[0]
        if self.options.reverse:
            self.backend.space_to_depth(self._unfolded(grad_output), self._as_output(grad_x), stride, accumulate)
        else:
            self.backend.depth_to_space(grad_output, grad_x, stride, accumulate)

    def _as_output(self, x: Any) -> Any:
        """The input's memory in the shape of the output."""
        assert self.output_shape is not None
        return x.reshape(x.shape[0], *self.output_shape)

    def _unfolded(self, output: Any) -> Any:
        """The output's memory as fewer, larger channels."""
        assert self.output_shape is not None
        (c, h, w), stride = self.output_shape, self.options.stride
        return output.reshape(output.shape[0], c // stride**2, h * stride, w * stride)
