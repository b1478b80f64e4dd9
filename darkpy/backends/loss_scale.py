"""A factor on all gradients, which keeps those of 16 bits away from zero and is found as training goes.

The gradients of the losses are multiplied by it before the backward pass, those of the parameters, which are float32,
divided by it before the update (Micikevicius et al. 2018). An update with a gradient that is not finite is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darkpy.backends.base import Array


@dataclass(frozen=True)
class LossScaleRule:
    """How the factor changes.

    first: where it begins. is_dynamic: it is halved when an update is left out, and doubled after ``good`` updates in a
    row that were done, up to ``largest``; otherwise it stays. most_skipped: updates in a row that may be left out with
    a factor that stays; then, as with one that has come down to 1, the scale is not to blame.
    """

    first: float = 1.0
    is_dynamic: bool = False
    good: int = 1000
    largest: float = 2.0**24
    most_skipped: int = 16


class LossScale:
    """That of a backend whose gradients are float32: none.

    Attributes:
        scale: the factor, and ``skipped``, the updates left out so far: as of the last update that was read.
        is_used: whether there can be a factor at all.
        values: on a device, all it depends on as a vector of floats, which :meth:`learn` takes on the host.
    """

    scale: float = 1.0
    skipped: int = 0
    is_used: bool = False
    values: Any = None

    def multiply(self, gradient: Array) -> None:
        """Multiply the gradient of a loss, in place."""

    def judge(self, gradients: Array) -> None:
        """Look at the gradients of all parameters: the update is left out if one is not finite, and the factor changed.

        If the scale is not to blame, it is as without one: nothing is updated any more until the host has read of it.
        """

    def divide(self, gradients: Array) -> None:
        """Take the factor out of the gradients of parameters, in place."""

    def learn(self, values: Any) -> None:
        """Take what the values were after an update."""

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes to go on from here; waits for the device."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where another was; nothing changes without a state."""
