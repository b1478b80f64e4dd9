"""How much memory the passes of a network take for a moment, beside what is planned, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from darkpy.layers.base import NETWORK_INPUT

if TYPE_CHECKING:
    from darkpy.network import Network


def scratch_memory(network: Network) -> int:
    """Bytes of a device's memory that layers take and give back during their passes; 0 where the backend needs none.

    The network has its arrays; they are left as they are. Losses are not gone through, they take some kilobytes.
    """
    if network.backend.free_memory() is None:
        return 0
    shape = (network.batch, *network.graph.input_shape)
    most = network.backend.rehearsed(_steps(network, shape))
    network.rebind()
    return most


def _steps(network: Network, shape: tuple[int, ...]) -> Iterator[Callable[[], Any]]:
    """The passes of one layer after the other."""
    x = network.backend.empty(shape, network.backend.activation_dtype)
    for layer in network.layers:
        inputs = [x if source == NETWORK_INPUT else network.layers[source].output for source in layer.sources]
        if layer.is_identity(network.training):
            layer.output = inputs[0].reshape(inputs[0].shape[0], *(layer.output_shape or ()))
        else:
            yield partial(layer.forward, *inputs, training=network.training and not layer.frozen)
    for layer in network.backward_order if network.training else ():
        yield partial(layer.backward, layer.grad_output, *map(network.gradient_of, layer.sources))
