"""[lstm]: long short-term memory, of connected parts."""

from __future__ import annotations

from dataclasses import dataclass

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Shape, register
from darkpy.layers.connected import Connected
from darkpy.layers.recurrent import MemoryCell


@register("lstm")
class Lstm(MemoryCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997): gates decide what is kept, written and shown.

    Input (steps * n, c, h, w), the first of all n sequences before the second; output (steps * n, output, 1, 1). The
    parts wf wi wg wo, of the output before, and uf ui ug uo, of the input, are each a [connected] (Darknet,
    lstm_layer.c).
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        output: int = option(1, minimum=1, help="number of outputs, and of values remembered")
        batch_normalize: bool = option(False, help="batch normalisation in every part")

    def shape(self, *inputs: Shape) -> Shape:
        """(output, 1, 1)."""
        o = self.options
        for seen, shape in (("w", (o.output, 1, 1)), ("u", inputs[0])):
            for gate in "figo":
                self.part(
                    seen + gate,
                    Connected,
                    shape,
                    output=o.output,
                    activation="linear",
                    batch_normalize=o.batch_normalize,
                )
        return o.output, 1, 1
