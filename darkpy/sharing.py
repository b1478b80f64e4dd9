"""Whose memory holds which array: layers that only join or take channels need no memory and no copies of their own.

A [route] puts channels of earlier layers side by side (:meth:`~darkpy.layers.base.Layer.channel_parts`). Where the
backend takes views of some channels of a larger array, a layer that goes whole into a route writes its output straight
to its place in the joined array, and finds its gradient there; a route of a part of one layer's channels is a view of
that layer's arrays. What cannot be had so, such as a layer in two routes, is copied by the second one. A joined array
is needed from the first of its layers on: at inference, where arrays are given back, :func:`worthwhile_joins` leaves
out the routes for which that would make the network larger.

A [shortcut] hands its gradient on to the layer before as it is. At inference its sum takes the place of what that layer
has written, or is written by that layer, where the backend adds better on the way (:func:`residuals`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from darkpy.backends.base import ELEMENTWISE_ACTIVATIONS
from darkpy.layers.base import NETWORK_INPUT, Layer, Part


@dataclass(frozen=True)
class Place:
    """Channels ``first`` to ``first + channels`` of the array of layer ``owner``."""

    owner: int
    first: int
    channels: int

    def within(self, outer: Place) -> Place:
        """Where this lies if the owner's array lies at ``outer``."""
        return Place(outer.owner, outer.first + self.first, self.channels)

    def part(self, part: Part) -> Place:
        """Some of these channels."""
        return Place(self.owner, self.first + part.first, part.channels)


@dataclass
class Sharing:
    """For each layer where its output and the gradient of it lie, and what follows for its passes.

    in_place, gradients_in_place: for each source of a layer with parts, whether its part of the output, or of the
    gradient, needs no copy. accumulate: for each source, whether the layer adds its share of the gradient.
    """

    outputs: list[Place]
    gradients: list[Place]
    accumulate: dict[int, list[bool]]
    in_place: dict[int, list[bool]] = field(default_factory=dict)
    gradients_in_place: dict[int, list[bool]] = field(default_factory=dict)


def share(
    layers: Sequence[Layer],
    order: Sequence[Layer],
    accumulate: Mapping[int, Sequence[bool]],
    *,
    training: bool,
    step: int,
    keep_gradients: bool,
    keep_outputs: bool = False,
    joins: Collection[int] | None = None,
) -> Sharing:
    """Find out what can be shared.

    order: the layers with a gradient, as the backward pass goes through them; accumulate: who adds its share to what
    others have put there, if every gradient has memory of its own. step: views begin at multiples of so many channels,
    of arrays with such a number of them; 0: the backend takes no views. With ``keep_gradients`` every gradient can be
    read after the pass, with ``keep_outputs`` every output. joins: the layers whose sources may write to their outputs,
    by index; None: all.
    """
    outputs = _Outputs(layers, training, step, keep_outputs, joins).places()
    gradients = _Gradients(layers, order, accumulate, step, keep_gradients)
    sharing = Sharing(outputs, gradients.places(), gradients.accumulate)
    for layer in layers:
        parts = layer.channel_parts()
        if parts is not None:
            sharing.in_place[layer.index] = _in_place(layer, parts, sharing.outputs)
            sharing.gradients_in_place[layer.index] = _in_place(layer, parts, sharing.gradients)
        elif layer.may_overwrite() or layer.passes_gradient():
            first, others = [Part(0, _channels(layer))], [False] * (len(layer.sources) - 1)
            sharing.in_place[layer.index] = _in_place(layer, first, sharing.outputs) + others
            sharing.gradients_in_place[layer.index] = _in_place(layer, first, sharing.gradients) + others
    return sharing


def worthwhile_joins(layers: Sequence[Layer], memory: Callable[[Collection[int]], int]) -> Collection[int]:
    """The layers that join others without a larger network: all if that is so, else those that spare most copies first.

    memory: bytes that the network needs if these layers' sources write straight to their outputs.
    """
    joining = [layer for layer in layers if len(layer.channel_parts() or ()) > 1]
    joining.sort(key=lambda layer: -layer.outputs)
    every, most = {layer.index for layer in joining}, memory(())
    if memory(every) <= most:
        return every
    found: set[int] = set()
    for layer in joining:
        if memory(found | {layer.index}) <= most:
            found.add(layer.index)
    return found


def residuals(layers: Sequence[Layer], sharing: Sharing) -> list[tuple[Layer, Layer]]:
    """Pairs, at inference: a layer that can add what the other one, a [shortcut] right behind it, adds to its output.

    Both have the same memory, and nobody wants to see what was there before.
    """
    found = []
    for layer in layers:
        if layer.may_overwrite() and sharing.in_place[layer.index][0] and NETWORK_INPUT not in layer.sources:
            before = layers[layer.sources[0]]
            if before.adds_residual() and layer.options.activation in ELEMENTWISE_ACTIVATIONS:
                found.append((before, layer))
    return found


def _in_place(layer: Layer, parts: Sequence[Part], places: Sequence[Place]) -> list[bool]:
    """For each source, whether its part already is where the layer has it."""
    found, offset = [], 0
    for source, part in zip(layer.sources, parts):
        here = places[layer.index].part(Part(offset, part.channels))
        found.append(source != NETWORK_INPUT and places[source].part(part) == here)
        offset += part.channels
    return found


def _channels(layer: Layer) -> int:
    assert layer.output_shape is not None
    return layer.output_shape[0]


class _Arrays:
    """Arrays of one kind, an output or a gradient of each layer; ``inside`` says which lie in another's."""

    def __init__(self, layers: Sequence[Layer], step: int) -> None:
        self.layers = layers
        self.step = step
        self.inside: dict[int, Place] = {}

    def place(self, index: int) -> Place:
        """Where a layer's array lies in the end."""
        found = Place(index, 0, _channels(self.layers[index]))
        while found.owner in self.inside:
            found = found.within(self.inside[found.owner])
        return found

    def places(self) -> list[Place]:
        """Of all layers."""
        return [self.place(layer.index) for layer in self.layers]

    def allows(self, first: int, whole: Layer) -> bool:
        """Whether the backend takes channels from ``first`` on of a layer's array."""
        return self.step > 0 and not (first % self.step or _channels(whole) % self.step)


class _Outputs(_Arrays):
    """Outputs: a layer puts its sources into its own array, or itself into that of its source."""

    def __init__(
        self, layers: Sequence[Layer], training: bool, step: int, keep: bool, joins: Collection[int] | None
    ) -> None:
        super().__init__(layers, step)
        self.readers: dict[int, list[int]] = {}
        for layer in layers:
            for source in layer.sources:
                self.readers.setdefault(source, []).append(layer.index)
        for layer in layers:
            parts = layer.channel_parts()
            if layer.is_identity(training):
                self._take(layer, Part(0, _channels(layer)))
            elif parts is not None and len(parts) == 1:
                if layer.sources[0] != NETWORK_INPUT and self.allows(parts[0].first, layers[layer.sources[0]]):
                    self._take(layer, parts[0])
            elif parts is not None:
                if joins is None or layer.index in joins:
                    self._join(layer, parts)
            elif layer.may_overwrite() and not training and not keep:
                self._overwrite(layer)

    def _take(self, layer: Layer, part: Part) -> None:
        source = layer.sources[0] if layer.sources else NETWORK_INPUT
        if source != NETWORK_INPUT:
            self.inside[layer.index] = Place(source, part.first, part.channels)

    def _join(self, layer: Layer, parts: Sequence[Part]) -> None:
        offset = 0
        for source, part in zip(layer.sources, parts):
            if source != NETWORK_INPUT and self.allows(offset, layer):
                owner = self.layers[self.place(source).owner]
                # The whole of what lies in the owner's array, and that array not in another's yet.
                is_whole = part.channels == _channels(owner) and owner.output_shape == self.layers[source].output_shape
                if is_whole and owner is not layer and not owner.is_head:
                    self.inside[owner.index] = Place(layer.index, offset, part.channels)
            offset += part.channels


    def _overwrite(self, layer: Layer) -> None:
        """Take the place of the first source, if it is a whole array that nobody else reads from here on."""
        if layer.sources[0] == NETWORK_INPUT:
            return
        owner = self.layers[self.place(layer.sources[0]).owner]
        inside = [other for other in self.layers[: layer.index] if self.place(other.index).owner == owner.index]
        readers = sorted(reader for other in inside for reader in self.readers.get(other.index, []))
        is_last = readers[-1] == layer.index and readers.count(layer.index) == 1
        if is_last and owner.output_shape == layer.output_shape and not any(other.is_head for other in inside):
            self.inside[owner.index] = Place(layer.index, 0, _channels(layer))


class _Gradients(_Arrays):
    """Gradients: a source's lies in that of the route which is the first to hand it a share, or the route's in it."""

    def __init__(
        self,
        layers: Sequence[Layer],
        order: Sequence[Layer],
        accumulate: Mapping[int, Sequence[bool]],
        step: int,
        keep_gradients: bool,
    ) -> None:
        super().__init__(layers, step)
        self.keep = keep_gradients
        self.accumulate = {index: list(flags) for index, flags in accumulate.items()}
        self.learning = {layer.index for layer in order}
        self.givers: dict[int, list[int]] = {}  # who hands on a share, the first first
        for layer in order:
            for source in layer.sources:
                self.givers.setdefault(source, []).append(layer.index)
        routes = [(layer, parts) for layer in order if (parts := layer.channel_parts()) is not None]
        for layer in order:
            parts = [Part(0, _channels(layer))] if layer.passes_gradient() else layer.channel_parts()
            self._give_room(layer, parts or [])
        for layer, parts in reversed(routes):
            if len(parts) == 1:
                self._take_room(layer, parts[0])

    def _give_room(self, layer: Layer, parts: Sequence[Part]) -> None:
        """Let the sources that get their first share from this layer find it in this layer's gradient."""
        offset = 0
        for source, part, adds in zip(layer.sources, parts, self.accumulate[layer.index]):
            is_whole = source in self.learning and part.channels == _channels(self.layers[source])
            may_change = len(self.givers[source]) == 1 or not self.keep
            fits = len(parts) == 1 or self.allows(offset, layer)
            is_free = source not in self.inside and not self.layers[source].is_head
            if is_whole and may_change and fits and is_free and not adds:
                self.inside[source] = Place(layer.index, offset, part.channels)
            offset += part.channels

    def _take_room(self, layer: Layer, part: Part) -> None:
        """Let the layers that read this one put their shares straight into the source's gradient."""
        index, source = layer.index, layer.sources[0]
        readers = self.givers.get(index)
        is_free = index not in self.inside and source in self.learning and self.place(source).owner != index
        if not is_free or not readers or self.layers[source].is_head:
            return
        if part.channels != _channels(self.layers[source]) and not self.allows(part.first, self.layers[source]):
            return
        if (self.keep and len(self.givers[source]) > 1) or self._is_interrupted(layer, readers[0]):
            return
        self.inside[index] = Place(source, part.first, part.channels)
        if self.accumulate[index][0]:
            first = self.layers[readers[0]]
            self.accumulate[first.index][first.sources.index(index)] = True

    def _is_interrupted(self, layer: Layer, first: int) -> bool:
        """Whether, from layer ``first`` back to this one, another layer hands a share to where this one's would lie."""
        source = layer.sources[0]
        others = [giver for giver in self.givers[source] if giver != layer.index]
        if any(layer.index < other <= first for other in others):
            return True
        outer = self.layers[source]
        takes_room = source in self.inside and self.inside[source].owner in outer.sources
        return takes_room and self._is_interrupted(outer, first)
