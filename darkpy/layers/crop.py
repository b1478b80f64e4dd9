"""[crop]: a part of the picture, at random in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("crop")
class Crop(Layer):
    """Cuts out a part and spreads its values from 0..1 to -1..1.

    Input (n, c, h, w), output (n, c, crop_height, crop_width). At inference the part is in the middle; in training it
    is anywhere, the same for all pictures of a pass, and mirrored every other time with ``flip`` (Darknet,
    crop_layer.c). When the network is resized, the part stays crop_height / h of its input.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        crop_height: int = option(1, minimum=1, help="height of the part in pixels")
        crop_width: int = option(1, minimum=1, help="width of the part in pixels")
        flip: bool = option(False, help="mirror left to right, every other time, in training")
        noadjust: bool = option(False, help="1 leaves the values as they are instead of computing 2 x - 1")

        ineffective = {
            "angle": "Darknet's CPU code ignores it; use [net] angle=",
            "saturation": "Darknet's CPU code ignores it; use [net] saturation=",
            "exposure": "Darknet's CPU code ignores it; use [net] exposure=",
            "shift": "Darknet's CPU code ignores it",
        }

    first_input: tuple[int, int] | None = None
    place: tuple[int, int, bool]

    def shape(self, *inputs: Shape) -> Shape:
        """(c, crop_height, crop_width)."""
        c, h, w = inputs[0]
        o = self.options
        if self.first_input not in (None, (h, w)):
            assert self.first_input is not None
            return c, o.crop_height * h // self.first_input[0], o.crop_height * w // self.first_input[0]
        if o.crop_height > h or o.crop_width > w:
            wanted = f"crop_width={o.crop_width} and crop_height={o.crop_height}"
            self.problem("crop_height", f"{wanted} are more than its input of {w}x{h}")
        self.first_input = (h, w)
        return c, o.crop_height, o.crop_width

    def describe(self) -> str:
        """Such as ``224x224``."""
        assert self.output_shape is not None
        return f"{self.output_shape[2]}x{self.output_shape[1]}"

    def draw(self, height: int, width: int) -> tuple[int, int, bool]:
        """Top, left and whether to mirror, from the seed, the pictures seen and the layer.

        ``height`` and ``width``: what the input has more than the output.
        """
        generator = np.random.default_rng(np.random.SeedSequence([self.graph.seed, self.graph.seen, self.index]))
        flip = self.options.flip and bool(generator.integers(2))
        return int(generator.integers(height + 1)), int(generator.integers(width + 1)), flip

    def forward(self, x: Any, *, training: bool) -> None:
        """Cut out, spread."""
        height, width = (a - b for a, b in zip(x.shape[2:], self.output.shape[2:]))
        self.place = self.draw(height, width) if training else (height // 2, width // 2, False)
        scale, shift = (1.0, 0.0) if self.options.noadjust else (2.0, -1.0)
        self.backend.crop_forward(x, self.output, *self.place, scale, shift)

    def backward(self, grad_output: Any, grad_x: Any) -> None:
        """To where it came from."""
        if grad_x is not None:
            scale = 1.0 if self.options.noadjust else 2.0
            self.backend.crop_backward(grad_output, grad_x, *self.place, scale, self.accumulate[0])
