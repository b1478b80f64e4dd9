"""The loss scale on the device, where it changes without anybody waiting: kernels/loss_scale.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.journal import JournalOperations
from darkpy.backends.loss_scale import LossScale, LossScaleRule

#: What is kept on the device; ``enum Value`` in kernels/loss_scale.cu has the same order.
VALUES = ("scale", "inverse", "skipped", "good", "in_a_row")


class LossScaleOperations(JournalOperations):
    """Makes loss scales."""

    def loss_scale(self, rule: LossScaleRule) -> LossScale:
        """See :meth:`Backend.loss_scale`; none for a scale of 1 that stays so."""
        return DeviceLossScale(self, rule) if rule.is_dynamic or rule.first != 1 else LossScale()


class DeviceLossScale(LossScale):
    """See :class:`LossScale`; ``values`` has on the device what :data:`VALUES` names."""

    is_used = True

    def __init__(self, backend: LossScaleOperations, rule: LossScaleRule) -> None:
        self.backend = backend
        self.rule = rule
        self.values = backend.empty((len(VALUES),))
        self._set([rule.first, 1 / rule.first, 0, 0, 0])

    def multiply(self, gradient: DeviceArray) -> None:
        """See :meth:`LossScale.multiply`."""
        grid, block, rows, columns, stride, by_four = self.backend.over(gradient)
        self.backend.launch(
            "loss_scale", "multiply", grid, block,
            gradient, stride, rows, columns, by_four, self.values, self.backend.alarm,
        )  # fmt: skip

    def judge(self, gradients: DeviceArray) -> None:
        """See :meth:`LossScale.judge`."""
        rule = self.rule
        self.backend.watch(gradients, self.backend.alarm[1:])
        self.backend.launch(
            "loss_scale", "judge", 1, 1,
            self.values, self.backend.alarm, rule.is_dynamic, rule.good, rule.largest, rule.most_skipped,
        )  # fmt: skip

    def divide(self, gradients: DeviceArray) -> None:
        """See :meth:`LossScale.divide`."""
        grid, block, rows, columns, stride, by_four = self.backend.over(gradients)
        self.backend.launch(
            "loss_scale", "divide", grid, block, gradients, stride, rows, columns, by_four, self.values
        )

    def learn(self, values: Any) -> None:
        """See :meth:`LossScale.learn`."""
        found = dict(zip(VALUES, values))
        self.scale, self.skipped = float(found["scale"]), int(found["skipped"])

    def state(self) -> dict[str, Any]:
        """See :meth:`LossScale.state`."""
        return {name: float(value) for name, value in zip(VALUES, self.backend.to_host(self.values))}

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`LossScale.restore`."""
        if state:
            self._set([state[name] for name in VALUES])

    def _set(self, values: Any) -> None:
        self.backend.copy(np.array(values, np.float32), self.values)
        self.learn(values)
