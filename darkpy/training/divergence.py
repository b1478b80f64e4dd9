"""What to say when the numbers of a training are not finite any more: where, since when, with which pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.errors import NotFinite, TrainingError

if TYPE_CHECKING:
    from darkpy.layers.base import Layer
    from darkpy.network import Network
    from darkpy.parameters import Slot

MOST_PICTURES = 8


class Diverged(TrainingError):
    """The loss, a gradient or the weights are NaN or infinite; what was saved before is good. ``what`` says no more."""

    def __init__(self, what: str, network: Network) -> None:
        self.what = what
        options = network.options
        advice = "; fp16 ends at 65,504: try --amp bf16" if network.backend.precision == "fp16" else ""
        super().__init__(
            f"{what}. Training has diverged: try a smaller learning_rate (it is "
            f"{network.rate_scale * options.learning_rate:g}) or a longer burn_in (it is {options.burn_in:,}){advice}"
        )


def diverged(network: Network, error: NotFinite, pictures: Sequence[str], x: np.ndarray | None) -> Diverged:
    """What is to be said about an iteration that came to nothing.

    network: as it was when the error was raised. pictures: names of those of the batch ``x``, which is None if the
    network's arrays are those of a later one, so that they tell nothing.
    """
    start, stop = error.pictures
    suspects = list(range(start, stop))
    place = ""
    if x is None:
        pass
    elif error.what == "gradient":
        layer = _last(network, network.parameters.slots, network.parameters.gradients)
        place = f"; it begins in layer {name_of(layer)}" if layer else ""
    elif not np.isfinite(x[start:stop]).all():
        place = "; the pictures themselves have such values"
        suspects = [number for number in suspects if not np.isfinite(x[number]).all()]
    elif (layer := _first(network, network.parameters.slots, network.parameters.values)) is not None:
        # Running statistics tell nothing here: the forward pass has just spread to them what was bad.
        place = f"; the weights of layer {name_of(layer)} are not finite"
    elif (found := bad_output(network)) is not None:
        layer, rows = found
        place = f"; the first bad values are in the output of layer {name_of(layer)}"
        suspects = [start + row for row in rows if start + row < stop]
    names = _listed([pictures[number] for number in suspects])
    what = f"iteration {network.iteration + 1:,}: the {error.what} is NaN or infinite{place}; the pictures: {names}"
    return Diverged(what, network)


def name_of(layer: Layer) -> str:
    """``3 [convolutional] (my.cfg:41)``."""
    return f"{layer.index} [{layer.name}] ({layer.section.where})"


def bad_weights(network: Network) -> Layer | None:
    """The first layer with a parameter or a running statistic that is not finite."""
    parameters = network.parameters
    learned = _first(network, parameters.slots, parameters.values)
    running = _first(network, parameters.statistic_slots, parameters.statistics)
    found = [layer for layer in (learned, running) if layer is not None]
    return min(found, key=lambda layer: layer.index, default=None)


def bad_output(network: Network) -> tuple[Layer, list[int]] | None:
    """The first layer whose output of the last pass is not finite, and the rows of the mini-batch it shows in."""
    for layer in network.layers:
        if layer.output is None:
            continue
        output = np.asarray(network.backend.to_host(layer.output))
        rows = [row for row in range(len(output)) if not np.isfinite(output[row]).all()]
        if rows:
            return layer, rows
    return None


def _first(network: Network, slots: Sequence[Slot], vector: Any) -> Layer | None:
    return min(_owners(network, slots, vector), key=lambda layer: layer.index, default=None)


def _last(network: Network, slots: Sequence[Slot], vector: Any) -> Layer | None:
    """The last layer with bad values: the first one that the backward pass came to."""
    return max(_owners(network, slots, vector), key=lambda layer: layer.index, default=None)


def _owners(network: Network, slots: Sequence[Slot], vector: Any) -> list[Layer]:
    is_finite = network.backend.is_finite
    if is_finite(vector):  # as nearly always: one look instead of one for each
        return []
    return [slot.layer for slot in slots if not is_finite(vector[slot.start : slot.stop])]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_PICTURES
    return ", ".join(names[:MOST_PICTURES]) + (f" and {more:,} more" if more > 0 else "")
