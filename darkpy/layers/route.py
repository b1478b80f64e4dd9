"""[route]: the outputs of earlier layers, one behind the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Shape, register


@register("route")
class Route(Layer):
    """Concatenates the channels of earlier layers.

    Inputs (n, c_i, h, w), output (n, sum of c_i / groups, h, w). With ``groups`` each input gives only its part
    ``group_id`` (Darknet, route_layer.c). One input without groups is passed on without a copy.
    """

    @dataclass(frozen=True)
    class Options(CommonOptions):
        """Keys of the section."""

        layers: tuple[int, ...] = option(help="layers to read; negative values count back from this one")
        groups: int = option(1, minimum=1, help="parts the channels of each input are divided into")
        group_id: int = option(0, minimum=0, help="which of these parts is taken, from 0")

        ineffective = {
            "stream": "layers run one after the other",
            "wait_stream": "layers run one after the other",
        }

    def find_sources(self) -> list[int]:
        """The layers named."""
        found = [self.resolve(value, "layers") for value in self.options.layers]
        return [index for index in found if index is not None]

    def shape(self, *inputs: Shape) -> Shape:
        """Channels added up; height and width must agree."""
        o = self.options
        _, h, w = inputs[0]
        for source, other in zip(self.sources, inputs):
            if other[1:] != (h, w):
                self.problem(
                    "layers",
                    f"joins layer {self.sources[0]} of {w}x{h} with layer {source} of {other[2]}x{other[1]}; "
                    f"their widths and heights must agree",
                )
            if other[0] % o.groups:
                self.problem("groups", f"groups={o.groups} does not divide the {other[0]} channels of layer {source}")
        if o.group_id >= o.groups:
            self.problem("group_id", f"group_id={o.group_id}: of groups={o.groups} the last is {o.groups - 1}")
        return sum(c for c, _, _ in inputs) // o.groups, h, w

    def is_identity(self, training: bool) -> bool:
        """One whole input is simply passed on."""
        return len(self.sources) == 1 and self.options.groups == 1

    def describe(self) -> str:
        """The layers joined, and the part taken."""
        o = self.options
        part = f" {o.group_id}/{o.groups}" if o.groups > 1 else ""
        return ", ".join(str(source) for source in self.sources) + part

    def forward(self, *inputs: Any, training: bool) -> None:
        """Copy each input's part to its place."""
        start = 0
        for x in inputs:
            part = self._part(x)
            channels = part.shape[1]
            self.backend.copy_channels(part, self.output[:, start : start + channels])
            start += channels

    def backward(self, grad_output: Any, *grad_inputs: Any) -> None:
        """Hand each input its part of the gradient; channels that were not taken get none."""
        start = 0
        for (channels, _, _), grad, accumulate in zip(self.input_shapes, grad_inputs, self.accumulate):
            stop = start + channels // self.options.groups
            if grad is not None:
                if not accumulate and self.options.groups > 1:
                    self.backend.fill(grad, 0.0)
                self.backend.copy_channels(grad_output[:, start:stop], self._part(grad), accumulate)
            start = stop

    def _part(self, array: Any) -> Any:
        channels = array.shape[1] // self.options.groups
        start = channels * self.options.group_id
        return array[:, start : start + channels]
