"""An update of a network's parameters whose losses may not be known yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from darkpy.backends.base_yolo import LossParts
from darkpy.backends.journal import Journal, cost_of
from darkpy.errors import NotFinite

if TYPE_CHECKING:
    from darkpy.network_passes import NetworkPasses


class Update:
    """What :meth:`~darkpy.network.Network.start_update` began.

    On a device the host need not wait for it: several may be on their way, and are read in their order. Nothing is
    updated from the first one on in which the loss or a gradient is not finite; reading that one raises
    :class:`~darkpy.errors.NotFinite` and takes ``network.seen`` back to where it began. Those begun after it have come
    to nothing then, and are to be forgotten.
    """

    def __init__(self, network: NetworkPasses, journal: Journal, seen_before: int) -> None:
        self._network = network
        self._journal = journal
        self._seen_before = seen_before

    @property
    def is_known(self) -> bool:
        """Whether :meth:`read` need not wait."""
        return self._journal.is_known

    def wait(self) -> None:
        """Wait until it is known, and all that were begun before it."""
        self._journal.wait()

    def read(self) -> float:
        """The loss: the mean over the subdivisions of Darknet's get_network_cost. Heads get their ``loss_parts``."""
        network = self._network
        try:
            passes = self._journal.read()
        except NotFinite:
            network.seen = self._seen_before
            raise
        for head, loss in zip(network.heads, passes[-1]):
            if isinstance(loss, LossParts):
                head.loss_parts = loss
        cost = 0.0
        for losses in passes:
            cost += float(np.mean([cost_of(loss) for loss in losses]))
        return cost / len(passes)
