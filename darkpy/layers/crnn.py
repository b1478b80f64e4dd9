"""[crnn]: a layer with a memory, of convolutional parts."""

from __future__ import annotations

from dataclasses import dataclass

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.common import activation_option
from darkpy.layers.convolutional import Convolutional
from darkpy.layers.recurrent import HiddenState


@register("crnn")
class Crnn(HiddenState):
    """A recurrent layer: state' = input(x) + self(state), output(state'), each part a [convolutional] of its own.

    Input (steps * n, c, h, w), the first of all n sequences before the second; output (steps * n, output, h, w). The
    parts keep height and width (Darknet, crnn_layer.c). Parameters: those of the parts input, self and output.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        output: int = option(1, minimum=1, help="number of output channels")
        hidden: int = option(1, minimum=1, help="number of channels remembered")
        size: int = option(3, minimum=1, help="side of a filter")
        stride: int = option(1, minimum=1, help="step between windows")
        pad: bool = option(False, help="1 pads each side by size/2, whatever padding says")
        padding: int = option(0, minimum=0, help="zeros added on each side, before dilation")
        dilation: int = option(1, minimum=1, help="distance between a filter's taps")
        groups: int = option(1, minimum=1, help="independent parts the channels are divided into")
        activation: str = activation_option("logistic")
        batch_normalize: bool = option(False, help="batch normalisation in every part")
        shortcut: bool = option(False, help="1 adds the state before to the one after")

        refused = {"xnor": "recurrent layers compute with numbers, not signs; no published cfg asks for it"}

    def shape(self, *inputs: Shape) -> Shape:
        """(output, h, w)."""
        o = self.options
        c, h, w = inputs[0]
        common = {
            key: getattr(o, key)
            for key in ("size", "stride", "pad", "padding", "dilation", "groups", "activation", "batch_normalize")
        }
        before = len(self.graph.problems)
        first = self.part("input_layer", Convolutional, (c, h, w), filters=o.hidden, **common)
        if len(self.graph.problems) == before and first.output_shape != (o.hidden, h, w):
            self.problem("size", f"size={o.size}, stride={o.stride} do not keep height and width; add pad=1")
        if len(self.graph.problems) == before:
            self.part("self_layer", Convolutional, (o.hidden, h, w), filters=o.hidden, **common)
            self.part("output_layer", Convolutional, (o.hidden, h, w), filters=o.output, **common)
        return o.output, h, w

    def receptive_step(self) -> tuple[float, float]:
        """Two filters, one after the other."""
        return 2.0 * (self.options.size - 1) * self.options.dilation + 1, 1.0

    def describe(self) -> str:
        """Such as ``3x3 hidden 64``."""
        return f"{self.options.size}x{self.options.size} hidden {self.options.hidden}"
