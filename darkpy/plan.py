"""Where every array of a network lives in memory, known before anything is allocated.

The order of work is fixed (forward through the layers, then backward), so each array has a first and a last step at
which it is needed. Arrays whose times do not overlap share memory: a greedy first-fit placement, largest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass
class Lifetime:
    """One array: its size in bytes and the steps, first to last inclusive, during which it must be kept."""

    name: str
    nbytes: int
    first: int
    last: int
    offset: int = -1

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are needed at some same step."""
        return self.first <= other.last and other.first <= self.last


def place(arrays: Iterable[Lifetime]) -> int:
    """Give every array its ``offset`` so that no two live ones overlap; returns the bytes needed in all."""
    placed: list[Lifetime] = []
    total = 0
    for array in sorted(arrays, key=lambda a: (-a.nbytes, a.first, a.name)):
        size = _aligned(array.nbytes)
        offset = 0
        for other in placed:
            if not array.overlaps(other):
                continue
            if offset + size <= other.offset:
                break
            offset = max(offset, other.offset + _aligned(other.nbytes))
        array.offset = offset
        total = max(total, offset + size)
        placed.append(array)
        placed.sort(key=lambda a: a.offset)
    return total


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes a network needs, by purpose.

    ``arena`` holds outputs, saved arrays, gradients of outputs and scratch, sharing memory over time; ``separate``
    is what these would take if nothing were shared. ``backend`` is what the backend takes for itself, such as pictures
    on their way to a device.
    """

    batch: int
    training: bool
    parameters: int
    gradients: int
    optimizer: int
    input: int
    arena: int
    separate: int
    workspace: int
    backend: int = 0

    @property
    def total(self) -> int:
        """Peak bytes while the network runs."""
        learned = self.parameters + self.gradients + self.optimizer
        return learned + self.input + self.arena + self.workspace + self.backend

    def rows(self) -> list[tuple[str, int]]:
        """(purpose, bytes) for printing, the total last."""
        return [
            ("parameters", self.parameters),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("input", self.input),
            ("activations", self.arena),
            ("workspace", self.workspace),
            *([("device", self.backend)] if self.backend else []),
            ("peak", self.total),
        ]
