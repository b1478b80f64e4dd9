"""[conv_lstm]: long short-term memory, of convolutional parts."""

from __future__ import annotations

from dataclasses import dataclass

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.common import activation_option
from darkpy.layers.convolutional import Convolutional
from darkpy.layers.recurrent import MemoryCell


@register("conv_lstm")
class ConvLstm(MemoryCell):
    """Long short-term memory for pictures (Shi et al. 2015): the gates are convolutions.

    Input (steps * n, c, h, w), the first of all n sequences before the second; output (steps * n, output, h, w). The
    parts wf wi wg wo, of the output before, uf ui ug uo, of the input, and with ``peephole`` vf vi vo, of the cell,
    are each a [convolutional] that keeps height and width (Darknet, conv_lstm_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        output: int = option(1, minimum=1, help="number of output channels, and of channels remembered")
        size: int = option(3, minimum=1, help="side of a filter")
        stride: int = option(1, minimum=1, help="step between windows")
        pad: bool = option(False, help="1 pads each side by size/2, whatever padding says")
        padding: int = option(0, minimum=0, help="zeros added on each side, before dilation")
        dilation: int = option(1, minimum=1, help="distance between a filter's taps")
        groups: int = option(1, minimum=1, help="independent parts the channels are divided into")
        activation: str = activation_option("linear")
        lstm_activation: str = option("tanh", choices=("tanh",), help="function of the cell and of what is written")
        batch_normalize: bool = option(False, help="batch normalisation in every part")
        peephole: bool = option(False, help="1 lets the gates see the cell")
        state_constrain: int = option(
            lambda o: None,
            default_text="32 * time_steps",
            minimum=0,
            help="hold the cell within this distance of 0; 0 is no limit",
        )

        ineffective = {
            "shortcut": "Darknet reads it and does not use it",
            "time_normalizer": "Darknet's CPU code ignores it",
        }
        refused = {
            "xnor": "recurrent layers compute with numbers, not signs; no published cfg asks for it",
            "bottleneck": "it exists in Darknet's CUDA code only; no published cfg asks for it",
        }

    def shape(self, *inputs: Shape) -> Shape:
        """(output, h, w)."""
        o = self.options
        _, h, w = inputs[0]
        kept = (o.output, h, w)
        common = {
            key: getattr(o, key)
            for key in ("size", "stride", "pad", "padding", "dilation", "groups", "activation", "batch_normalize")
        }
        parts = [f"v{gate}" for gate in "fio" if o.peephole] + [f"w{gate}" for gate in "figo"]
        before = len(self.graph.problems)
        for name in (*parts, *(f"u{gate}" for gate in "figo")):
            of_input = name.startswith("u")
            part = self.part(name, Convolutional, inputs[0] if of_input else kept, filters=o.output, **common)
            if len(self.graph.problems) == before and part.output_shape != kept:
                self.problem("size", f"size={o.size}, stride={o.stride} do not keep height and width; add pad=1")
            if len(self.graph.problems) > before:
                break
        return kept

    @property
    def limit(self) -> float:
        """How far the cell may get from 0."""
        limit = self.options.state_constrain
        return 32.0 * self.steps if limit is None else limit

    def receptive_step(self) -> tuple[float, float]:
        """Filter side."""
        return float((self.options.size - 1) * self.options.dilation + 1), 1.0

    def describe(self) -> str:
        """Such as ``3x3``."""
        return f"{self.options.size}x{self.options.size}"
