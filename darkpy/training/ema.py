"""``ema_alpha``: a moving average of the parameters over the second half of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from darkpy.training.callback import Callback
from darkpy.training.run_folder import RunFolder

if TYPE_CHECKING:
    from darkpy.network import Network
    from darkpy.training.trainer import Trainer

TAIL = 1000
"""Iterations at the end that go on from the average, so that the running statistics fit it again."""


def has_effect(alpha: float, max_batches: int) -> bool:
    """Whether there is anything to average: the second half has to be longer than the tail."""
    return alpha > 0 and max_batches - TAIL > max_batches // 2


class Ema(Callback):
    """Averages the parameters after each iteration from the middle on, and puts the average in their place at the end.

    With w the parameters: ``average = w`` at iteration max_batches / 2, from then on ``average = alpha * average +
    (1 - alpha) * w``; 1000 iterations before the end ``w = average``, and training goes on from there (Darknet,
    train_network_waitkey and ema_update). All learned parameters are averaged, in Darknet those of convolutional layers
    only. Running statistics are not: they are of the last batches, whatever the weights.

    ``average`` is None before the middle.
    """

    def __init__(self, alpha: float, max_batches: int) -> None:
        self.alpha = alpha
        self.first = max_batches // 2
        self.last = max_batches - TAIL
        self.average: Any = None
        self._spare: Any = None
        self._done = 0

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the average."""
        self._done = state["done"]
        self.average = state.get("average")

    def start(self, trainer: Trainer) -> None:
        """Bring what was restored to where the parameters are."""
        self._parameters = parameters = trainer.network.parameters
        if self.average is not None:
            restored, self.average = self.average, trainer.network.backend.empty(parameters.values.shape)
            parameters.write_vector(self.average, parameters.slots, restored)

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Never: it does not look at the loss."""
        return False

    def after_update(self, trainer: Trainer, iteration: int) -> None:
        """Average, where the parameters are."""
        if not max(self.first, self._done + 1) <= iteration <= self.last:
            return
        self._done = iteration
        backend, values = trainer.network.backend, trainer.network.parameters.values
        if self.average is None:
            self.average = _copy(trainer.network, values)
        elif iteration == self.last:
            backend.copy(self.average, values)
        else:
            backend.scaled_copy(self.average, self.average, self.alpha)
            backend.scaled_copy(values, self.average, 1 - self.alpha, accumulate=True)

    def state(self) -> dict[str, Any]:
        """The average, and the iteration it is of."""
        if self.average is None:
            return {"done": self._done}
        return {"done": self._done, "average": self._parameters.read_vector(self.average, self._parameters.slots)}

    def save(self, network: Network, folder: RunFolder) -> None:
        """Write ``ema.weights`` with the present running statistics, as Darknet does; nothing before the middle."""
        if self.average is None:
            return
        backend, values = network.backend, network.parameters.values
        if self._spare is None:
            self._spare = _copy(network, values)
        backend.copy(values, self._spare)
        try:
            backend.copy(self.average, values)
            folder.save_weights(network, "ema")
        finally:
            backend.copy(self._spare, values)


def _copy(network: Network, source: Any) -> Any:
    copied = network.backend.empty(source.shape)
    network.backend.copy(source, copied)
    return copied
