"""[route]: the outputs of earlier layers, one behind the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from darkpy.config.options import CommonOptions, option
from darkpy.layers.base import Layer, Part, Shape, register


@register("route")
class Route(Layer):
    """Concatenates the channels of earlier layers.

    Inputs (n, c_i, h, w), output (n, sum of c_i / groups, h, w). With ``groups`` each input gives only its part
    ``group_id`` (Darknet, route_layer.c). Nothing is copied where memory can be shared: see darkpy/sharing.py.
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

    def channel_parts(self) -> list[Part]:
        """The part ``group_id`` of each input."""
        o = self.options
        counts = [channels // o.groups for channels, _, _ in self.input_shapes]
        return [Part(o.group_id * count, count) for count in counts]

    def forward(self, *inputs: Any, training: bool) -> None:
        """Copy each input's part to its place, unless it is there."""
        for x, part, place, is_there in zip(inputs, self.channel_parts(), self._places(), self.in_place):
            if not is_there:
                self.backend.copy_channels(_of(x, part), _of(self.output, place))

    def backward(self, grad_output: Any, *grad_inputs: Any) -> None:
        """Hand each input its part of the gradient; channels that were not taken get none."""
        for number, (grad, part, place) in enumerate(zip(grad_inputs, self.channel_parts(), self._places())):
            if grad is None:
                continue
            accumulate = self.accumulate[number]
            if not accumulate:
                self._clear_others(grad, part)
            if not self.gradients_in_place[number]:
                self.backend.copy_channels(_of(grad_output, place), _of(grad, part), accumulate)

    def _places(self) -> list[Part]:
        """Where each part lies in the output."""
        places, start = [], 0
        for part in self.channel_parts():
            places.append(Part(start, part.channels))
            start += part.channels
        return places

    def _clear_others(self, grad: Any, part: Part) -> None:
        """Set the gradient of the channels before and behind the part to 0."""
        stop = part.first + part.channels
        for others in (grad[:, : part.first], grad[:, stop:]):
            if others.shape[1]:
                self.backend.fill(others, 0.0)


def _of(array: Any, part: Part) -> Any:
    return array[:, part.first : part.first + part.channels]
