"""``state.npz``: everything a training has to know to go on as if it had never stopped.

It holds the parameters too, so that this one file, written at once or not at all, is always consistent in itself,
whatever moment the process is killed at; ``last.weights`` beside it is for everybody else. Pictures, their order, their
augmentation and the sizes of multi-scale training depend on the seed and the iteration only, so there is no state of
random generators to keep.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.errors import InputError
from darkpy.files import atomic_write

if TYPE_CHECKING:
    from darkpy.network import Network
    from darkpy.parameters import Slot

FORMAT = 1
FACTS = "facts"


@dataclass
class State:
    """A training between two iterations.

    seen: pictures so far. width, height: the present size of multi-scale training. loss, average: of the last
    iteration; None before the first. seconds: time so far. loss_scale: its state. rate_scale: factor on the learning
    rate, and rollbacks: how often training has been taken back because of it. outcome: how it ended, empty while it
    goes on. record: the last iteration, if its evaluation is still to be done. origin: what it was made from, for
    comparison. callbacks: their states by name. arrays: those of the network by name.
    """

    seen: int
    width: int
    height: int
    loss: float | None = None
    average: float | None = None
    seconds: float = 0.0
    rate_scale: float = 1.0
    rollbacks: int = 0
    loss_scale: dict[str, Any] = field(default_factory=dict)
    outcome: str = ""
    record: dict[str, Any] | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write to a file, at once or not at all."""
        arrays = {f"network/{name}": array for name, array in self.arrays.items()}
        facts = {name: value for name, value in vars(self).items() if name not in ("arrays", "callbacks")}
        facts["callbacks"] = {}
        for name, state in self.callbacks.items():
            found = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
            arrays |= {f"{name}/{key}": value for key, value in found.items()}
            facts["callbacks"][name] = {key: value for key, value in state.items() if key not in found}
        text = json.dumps({"format": FORMAT, **facts})
        with atomic_write(path) as file:
            arrays[FACTS] = np.array(text)
            np.savez(file, **arrays)  # type: ignore[arg-type]  # one of its keywords is not an array

    @classmethod
    def load(cls, path: Path) -> State:
        """Read a file; raises :class:`~darkpy.errors.InputError` for one that is damaged or of another version."""
        try:
            with np.load(path) as file:
                facts = json.loads(str(file[FACTS]))
                arrays = {name: file[name] for name in file.files if name != FACTS}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"cannot be read: {error}", where=str(path)) from None
        if facts.pop("format", None) != FORMAT:
            raise InputError("was written by another version of darkpy; start from last.weights", where=str(path))
        state = cls(**facts)
        for name, array in arrays.items():
            owner, _, key = name.partition("/")
            target = state.arrays if owner == "network" else state.callbacks.setdefault(owner, {})
            target[key] = array
        return state


def vectors(network: Network) -> dict[str, tuple[Any, Sequence[Slot]]]:
    """The vectors that the next iteration depends on, by name, and how each is laid out."""
    parameters, optimizer = network.parameters, network.optimizer
    moments = {name: getattr(optimizer, name) for name in optimizer.vectors} if optimizer else {}
    trained = {name: (vector, parameters.slots) for name, vector in {"values": parameters.values, **moments}.items()}
    return {**trained, "statistics": (parameters.statistics, parameters.statistic_slots)}


def capture(network: Network) -> dict[str, np.ndarray]:
    """The arrays of a network in training that the next iteration depends on, by name, for :class:`State`.

    Their elements are in the order of the axes, so that training can go on on another device.
    """
    found = {name: network.parameters.read_vector(*laid_out) for name, laid_out in vectors(network).items()}
    dtype = network.backend.dtype  # as in any precision
    memories = {name: np.array(network.backend.to_host(memory), dtype) for name, memory in network.memories().items()}
    return {**found, **memories}


def restore(network: Network, state: State, where: str) -> None:
    """Give a network the size, the arrays and the counts of a state; ``where``: the state's file, for messages."""
    network.resize(state.width, state.height)
    laid_out, memories = vectors(network), network.memories()
    shapes = {name: tuple(vector.shape) for name, (vector, _) in laid_out.items()}
    shapes |= {name: tuple(memory.shape) for name, memory in memories.items()}
    stored = {name: tuple(array.shape) for name, array in state.arrays.items()}
    if shapes != stored:
        raise InputError(
            f"does not fit {network.config.path}: was the network or the optimizer changed? Start a new run from "
            f"last.weights instead",
            where=where,
        )
    for name, (vector, slots) in laid_out.items():
        network.parameters.write_vector(vector, slots, state.arrays[name])
    for name, memory in memories.items():
        network.backend.copy(np.asarray(state.arrays[name], memory.dtype), memory)
    network.seen = state.seen
    network.rate_scale = state.rate_scale
    network.loss_scale.restore(state.loss_scale)
