"""All parameters of a network as views into flat vectors.

One vector holds what is learned, one of the same length its gradient, one its momentum; running statistics have a
vector of their own. Optimizer step, all-reduce, averaging and checkpointing are then single operations on a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from darkpy.backends.base import Backend
    from darkpy.layers.base import Layer, Parameter


@dataclass(frozen=True)
class Slot:
    """Where one parameter of one layer lies: ``[start, stop)`` of the trained or the statistics vector."""

    layer: Layer
    parameter: Parameter
    start: int
    stop: int


@dataclass(frozen=True)
class Segment:
    """A stretch of the trained vector that is updated alike."""

    start: int
    stop: int
    rate_scale: float
    decay: bool


class Parameters:
    """Flat vectors with a view per layer and parameter.

    Parameters with weight decay come first and the others after them, so that an update is few long operations.
    Vectors: ``values``, ``gradients`` (training only) and ``statistics``.
    """

    def __init__(self, layers: Sequence[Layer], backend: Backend, training: bool) -> None:
        self.backend = backend
        self.layers = layers
        trained = [(layer, p) for layer in layers for p in layer.parameters() if p.trained]
        fixed = [(layer, p) for layer in layers for p in layer.parameters() if not p.trained]
        trained.sort(key=lambda pair: not pair[1].decay)
        self.slots = _lay_out(trained)
        self.statistic_slots = _lay_out(fixed)
        self.values = backend.zeros((_length(self.slots),))
        self.statistics = backend.zeros((_length(self.statistic_slots),))
        self.gradients: Any = backend.zeros((_length(self.slots),)) if training else None
        self._bind()

    def _bind(self) -> None:
        for slot in self.slots:
            name, shape = slot.parameter.name, slot.parameter.shape
            assign(slot.layer, name, self.values[slot.start : slot.stop].reshape(shape))
            if self.gradients is not None:
                assign(slot.layer, name, self.gradients[slot.start : slot.stop].reshape(shape), "grad_")
        for slot in self.statistic_slots:
            array = self.statistics[slot.start : slot.stop].reshape(slot.parameter.shape)
            assign(slot.layer, slot.parameter.name, array)
        for layer in self.layers:
            if layer.parameters_of is not None:
                self._share(layer.parameters_of, layer)

    def _share(self, owner: Layer, layer: Layer) -> None:
        for parameter in owner.parameters():
            assign(layer, parameter.name, view(owner, parameter.name))
            if parameter.trained and self.gradients is not None:
                assign(layer, parameter.name, view(owner, parameter.name, "grad_"), "grad_")

    def initialize(self, seed: int) -> None:
        """Fill every parameter with its starting value; a layer's weights depend on ``seed`` and its index only."""
        for slot in [*self.slots, *self.statistic_slots]:
            initial = slot.parameter.initial
            if callable(initial):
                generator = np.random.default_rng(np.random.SeedSequence([seed, slot.layer.index, slot.start]))
                value = np.asarray(initial(generator, slot.parameter.shape))
            else:
                value = np.full(slot.parameter.shape, initial)
            self.write(slot.layer, slot.parameter.name, value)

    def read(self, layer: Layer, name: str) -> np.ndarray:
        """A copy of one parameter as a NumPy array."""
        return np.array(self.backend.to_host(view(layer, name)))

    def write(self, layer: Layer, name: str, value: np.ndarray) -> None:
        """Set one parameter from a NumPy array of its shape."""
        target = view(layer, name)
        host = np.ascontiguousarray(value, dtype=self.backend.dtype).reshape(target.shape)
        self.backend.copy(self.backend.asarray(host), target)

    def read_vector(self, vector: Any, slots: Sequence[Slot]) -> np.ndarray:
        """A copy of a vector that is laid out by ``slots``, each parameter in the order of its axes.

        On a device the elements of a vector may lie in another order, so this is what to keep in a file.
        """
        host = np.empty(vector.shape, self.backend.dtype)
        for slot in slots:
            part = vector[slot.start : slot.stop].reshape(slot.parameter.shape)
            host[slot.start : slot.stop] = np.ravel(self.backend.to_host(part))
        return host

    def write_vector(self, vector: Any, slots: Sequence[Slot], values: np.ndarray) -> None:
        """Set a vector from what :meth:`read_vector` gave, on this device or another."""
        for slot in slots:
            part = np.asarray(values[slot.start : slot.stop], self.backend.dtype).reshape(slot.parameter.shape)
            self.backend.copy(part, vector[slot.start : slot.stop].reshape(slot.parameter.shape))

    def segments(self, iteration: int, burn_in: int) -> list[Segment]:
        """What to update at an iteration, as few stretches as possible (Darknet, update_network).

        ``dont_update=N`` holds a layer still up to iteration N, ``stopbackward=N`` those before it, ``burnin_update=K``
        until K times burn_in, ``train_only_bn`` always; the option ``learning_rate`` of a layer scales its rate.
        """
        found: list[Segment] = []
        for slot in self.slots:
            if not _is_updated(slot.layer, iteration, burn_in):
                continue
            segment = Segment(slot.start, slot.stop, slot.layer.options.learning_rate, slot.parameter.decay)
            last = found[-1] if found else None
            if last and (last.stop, last.rate_scale, last.decay) == (segment.start, segment.rate_scale, segment.decay):
                found[-1] = Segment(last.start, segment.stop, last.rate_scale, last.decay)
            else:
                found.append(segment)
        return found


def view(layer: Layer, name: str, prefix: str = "") -> Any:
    """An array of a layer; ``wf.weights`` is the ``weights`` of the part ``wf``, with "grad_" their gradient."""
    owner, last = _owner(layer, name)
    return getattr(owner, prefix + last)


def assign(layer: Layer, name: str, array: Any, prefix: str = "") -> None:
    """Give a layer, or the part named before the dot, an array of its own."""
    owner, last = _owner(layer, name)
    setattr(owner, prefix + last, array)


def _owner(layer: Layer, name: str) -> tuple[Any, str]:
    owner: Any = layer
    *parts, last = name.split(".")
    for part in parts:
        owner = getattr(owner, part)
    return owner, last


def _is_updated(layer: Layer, iteration: int, burn_in: int) -> bool:
    options = layer.options
    if not layer.is_updated or iteration <= layer.held_until:
        return False
    if options.burnin_update and options.burnin_update * burn_in > iteration:
        return False
    return options.dont_update < iteration


def _lay_out(pairs: Sequence[tuple[Layer, Parameter]]) -> list[Slot]:
    slots = []
    start = 0
    for layer, parameter in pairs:
        slots.append(Slot(layer, parameter, start, start + parameter.size))
        start += parameter.size
    return slots


def _length(slots: Sequence[Slot]) -> int:
    return slots[-1].stop if slots else 0
