"""The loss scale where everything is known at once; by the rule of kernels/loss_scale.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpy.backends.emulated.operations import HostBackend
from darkpy.backends.journal import Journal
from darkpy.backends.loss_scale import LossScale, LossScaleRule
from darkpy.backends.numpy.tiles import Array
from darkpy.errors import NotFinite


class LossScaleOperations(HostBackend):
    """Makes loss scales, and leaves updates out.

    Attributes:
        leaves_out: whether the present update is left out.
    """

    leaves_out = False

    def journal(self) -> Journal:
        """See :meth:`Backend.journal`."""
        return ScaledJournal(self)

    def loss_scale(self, rule: LossScaleRule) -> LossScale:
        """See :meth:`Backend.loss_scale`; none for a scale of 1 that stays so."""
        return HostLossScale(self, rule) if rule.is_dynamic or rule.first != 1 else LossScale()

    def sgd_step(self, *arguments: Any, **options: Any) -> None:
        """See :meth:`Backend.sgd_step`."""
        if not self.leaves_out:
            self.host.sgd_step(*arguments, **options)

    def adam_step(self, *arguments: Any, **options: Any) -> None:
        """See :meth:`Backend.adam_step`."""
        if not self.leaves_out:
            self.host.adam_step(*arguments, **options)


class ScaledJournal(Journal):
    """The CPU's, where gradients may be too large for 16 bits."""

    def check(self, gradients: Array, pictures: tuple[int, int], loss_scale: LossScale) -> None:
        """See :meth:`Journal.check`."""
        if not loss_scale.is_used:
            super().check(gradients, pictures, loss_scale)
            return
        loss_scale.judge(gradients)
        if isinstance(loss_scale, HostLossScale) and not loss_scale.is_to_blame:
            raise NotFinite("gradient", pictures)


class HostLossScale(LossScale):
    """See :class:`LossScale`.

    Attributes:
        is_to_blame: False once a gradient was not finite for another reason than the scale.
    """

    is_used = True

    def __init__(self, backend: LossScaleOperations, rule: LossScaleRule) -> None:
        self.backend = backend
        self.rule = rule
        self.scale = float(rule.first)
        self.is_to_blame = True
        self._inverse = 1 / self.scale
        self._good = self._in_a_row = 0

    def multiply(self, gradient: Array) -> None:
        """See :meth:`LossScale.multiply`."""
        self._inverse = 1 / self.scale
        self.backend.leaves_out = False
        self.is_to_blame = True
        np.multiply(gradient, gradient.dtype.type(self.scale), out=gradient)

    def judge(self, gradients: Array) -> None:
        """See :meth:`LossScale.judge`."""
        rule = self.rule
        if self.backend.is_finite(gradients):
            self._good, self._in_a_row = self._good + 1, 0
            if rule.is_dynamic and self._good >= rule.good and self.scale < rule.largest:
                self.scale, self._good = 2 * self.scale, 0
            return
        self.backend.leaves_out = True
        if self.scale <= 1 or (not rule.is_dynamic and self._in_a_row >= rule.most_skipped):
            self.is_to_blame = False
            return
        self.skipped, self._in_a_row, self._good = self.skipped + 1, self._in_a_row + 1, 0
        if rule.is_dynamic:
            self.scale /= 2

    def divide(self, gradients: Array) -> None:
        """See :meth:`LossScale.divide`."""
        with np.errstate(invalid="ignore"):
            np.multiply(gradients, gradients.dtype.type(self._inverse), out=gradients)

    def state(self) -> dict[str, Any]:
        """See :meth:`LossScale.state`; of the same form as a device's."""
        return {
            "scale": self.scale,
            "inverse": self._inverse,
            "skipped": float(self.skipped),
            "good": float(self._good),
            "in_a_row": float(self._in_a_row),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`LossScale.restore`."""
        if state:
            self.scale, self._inverse, self.skipped = state["scale"], state["inverse"], int(state["skipped"])
            self._good, self._in_a_row = int(state["good"]), int(state["in_a_row"])
