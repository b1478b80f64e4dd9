"""Results that a backend may still be computing, and the journal in which an update writes them down.

On the CPU an operation returns its result. On a device the host goes on while it computes: there a loss is a
:class:`Pending`, read some updates later, and what is not finite is kept away from the parameters by the device itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from darkpy.errors import NotFinite

if TYPE_CHECKING:
    from darkpy.backends.base_memory import MemoryContract
    from darkpy.backends.base_words import Array
    from darkpy.backends.loss_scale import LossScale

Result = TypeVar("Result")


class Pending(ABC, Generic[Result]):
    """A result that is read when it is there."""

    @abstractmethod
    def read(self) -> Result:
        """The result; waits for the device."""


def known(result: Any) -> Any:
    """A result as it is, or a pending one waited for."""
    return result.read() if isinstance(result, Pending) else result


def cost_of(loss: Any) -> float:
    """The cost of a known loss, which is a number or has parts."""
    return float(getattr(loss, "cost", loss))


class Journal:
    """The losses of an update's passes, and whether they and the gradients were finite.

    This is the CPU's: everything is known at once. It is written in the order of the work: :meth:`add` after each
    pass, :meth:`check` once the gradients are complete; then it can be read.
    """

    def __init__(self, backend: MemoryContract) -> None:
        self.backend = backend
        self.passes: list[list[Any]] = []

    def add(self, losses: Sequence[Any], pictures: tuple[int, int]) -> None:
        """The losses of a pass over these pictures of the batch, first and last + 1; some may be pending."""
        check_finite(losses, pictures)
        self.passes.append(list(losses))

    def check(self, gradients: Array, pictures: tuple[int, int], loss_scale: LossScale) -> None:
        """Raise NotFinite unless all gradients are finite, or see to it that the update then does nothing.

        With a loss scale it is its to judge what that means.
        """
        if not self.backend.is_finite(gradients):
            raise NotFinite("gradient", pictures)

    @property
    def is_known(self) -> bool:
        """Whether :meth:`read` need not wait."""
        return True

    def wait(self) -> None:
        """Wait until it is known, and all that were written before it."""

    def read(self) -> list[list[Any]]:
        """The losses of every pass; raises NotFinite if something was not finite and nothing was updated."""
        return self.passes


def check_finite(losses: Sequence[Any], pictures: tuple[int, int]) -> None:
    """Raise NotFinite if a loss that is known already is NaN or infinite."""
    if not all(isinstance(loss, Pending) or math.isfinite(cost_of(loss)) for loss in losses):
        raise NotFinite("loss", pictures)
