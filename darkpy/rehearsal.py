"""How much memory the passes of a network take beside what is planned, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.layers.base import NETWORK_INPUT, Layer
from darkpy.layers.heads import ObjectHead
from darkpy.parameters import Parameters

if TYPE_CHECKING:
    from darkpy.network import Network
    from darkpy.network_passes import Truth


def scratch_memory(network: Network, batch: int | None = None) -> int:
    """Bytes of a device's memory that layers take during a pass; 0 where the backend needs none.

    What they take and give back, and in training what the truth is brought to, with as many objects in every picture as
    the heads learn. batch: the (mini-)batch, by default the network's, as for :meth:`Network.memory_plan`. The
    network's arrays are left as they are; one that only plans has none, and needs none.
    """
    if network.backend.free_memory() is None:
        return 0
    before = [(thing, dict(vars(thing))) for thing in (network, *network.heads)]
    most = network.backend.rehearsed(_steps(network, network.pictures_of(batch)))
    for thing, values in before:
        vars(thing).clear()
        vars(thing).update(values)
    network.graph.forget_truth()
    if not network.plan_only:
        network.rebind()
    return most


def _steps(network: Network, batch: int) -> Iterator[Callable[[], Any]]:
    """What is done for a pass, in its order."""
    if network.plan_only:
        network.parameters = Parameters(network.layers, network.backend, network.training)
    network.prepare(batch)
    x = network.backend.empty((batch, *network.graph.input_shape), network.backend.activation_dtype)
    # A head with a loss() alone, which returns a number, waits for the device: nothing could be told of it.
    heads = [head for head in network.heads if network.training and type(head).compare is not Layer.compare]
    truth = most_truth(network, batch)
    network.graph.begin_truth()
    for head in heads:
        yield partial(head.expect, truth)
    for layer in network.layers:
        inputs = [x if source == NETWORK_INPUT else network.layers[source].output for source in layer.sources]
        if layer.is_identity(network.training):
            layer.output = inputs[0].reshape(inputs[0].shape[0], *(layer.output_shape or ()))
        else:
            yield partial(layer.forward, *inputs, training=network.training and not layer.frozen)
    for head in heads:
        yield head.compare
    for layer in network.backward_order if network.training else ():
        yield partial(layer.backward, layer.grad_output, *map(network.gradient_of, layer.sources))


def most_truth(network: Network, batch: int) -> Truth:
    """Truth that fits the heads: in every picture of a batch as many objects as they take, or the first class."""
    if any(isinstance(head, ObjectHead) for head in network.heads):
        count = max(getattr(head.options, "max", 1) for head in network.heads)
        return [np.tile(np.array([0, 0.5, 0.5, 0.3, 0.3, 0], np.float32), (count, 1))] * batch
    return np.eye(1, int(np.prod(network.output.shape[1:])), dtype=np.float32).repeat(batch, axis=0)
