"""[rnn]: a layer with a memory, of connected parts."""

from __future__ import annotations

from dataclasses import dataclass

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.common import activation_option
from darkpy.layers.connected import Connected
from darkpy.layers.recurrent import HiddenState

SELF_ACTIVATION = {1: "logistic", 2: "loggy"}


@register("rnn")
class Rnn(HiddenState):
    """A recurrent layer: state' = input(x) + self(state), output(state'), each part a [connected] of its own.

    Input (steps * n, c, h, w), the first of all n sequences before the second; output (steps * n, output, 1, 1)
    (Darknet, rnn_layer.c). Parameters: those of the parts input, self and output.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        output: int = option(1, minimum=1, help="number of outputs")
        hidden: int = option(1, minimum=1, help="number of values remembered")
        activation: str = activation_option("logistic")
        batch_normalize: bool = option(False, help="batch normalisation in every part")
        shortcut: bool = option(False, help="1 adds the state before to the one after")
        logistic: int = option(
            0, choices=(0, *SELF_ACTIVATION), help="activation of the part self: 1 logistic, 2 loggy, 0 as the others"
        )

    def shape(self, *inputs: Shape) -> Shape:
        """(output, 1, 1)."""
        o = self.options
        hidden = (o.hidden, 1, 1)
        normalized = {"batch_normalize": o.batch_normalize}
        of_self = SELF_ACTIVATION.get(o.logistic, o.activation)
        self.part("input_layer", Connected, inputs[0], output=o.hidden, activation=o.activation, **normalized)
        self.part("self_layer", Connected, hidden, output=o.hidden, activation=of_self, **normalized)
        self.part("output_layer", Connected, hidden, output=o.output, activation=o.activation, **normalized)
        return o.output, 1, 1

    def describe(self) -> str:
        """The size of the state."""
        return f"hidden {self.options.hidden}"
