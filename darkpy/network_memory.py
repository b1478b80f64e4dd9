"""The memory of a network: what arrays its layers need, when, and where they lie."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.errors import ConfigError
from darkpy.layers.base import NETWORK_INPUT, Graph, Layer
from darkpy.parameters import assign, view
from darkpy.plan import Lifetime, MemoryPlan, place
from darkpy.sharing import Place, Sharing, residuals, share, worthwhile_joins

if TYPE_CHECKING:
    from darkpy.backends.base import Backend
    from darkpy.config.net import NetOptions


class NetworkMemory:
    """What :class:`~darkpy.network.Network` plans once for a batch and an input size, and allocates at once."""

    backend: Backend
    options: NetOptions
    layers: list[Layer]
    graph: Graph
    batch: int
    training: bool
    keep_outputs: bool
    keep_gradients: bool
    backward_order: list[Layer]
    _accumulate: Any
    _with_gradient: set[int]
    _arena: Any
    _arena_bytes: int
    _bound: tuple[int, Any] | None
    _worthwhile_joins: dict[tuple[int, Any], Collection[int]]

    def memory_plan(self, batch: int | None = None) -> MemoryPlan:
        """Bytes needed for a (mini-)batch of pictures, or of whole sequences when trained with ``time_steps``.

        Computed without allocating anything.
        """
        batch = self.pictures_of(batch)
        lifetimes = list(self._lifetimes(batch, self._share(batch)).values())
        if self._bound is not None:
            self._share(self._bound[0])
        itemsize = self._itemsize(self.backend.dtype)
        trained = sum(p.size for layer in self.layers for p in layer.parameters() if p.trained)
        statistics = sum(p.size for layer in self.layers for p in layer.parameters() if not p.trained)
        moments = (2 if self.options.adam else 1) * trained if self.training else 0
        input_values = batch * int(np.prod(self.graph.input_shape))
        return MemoryPlan(
            batch=batch,
            training=self.training,
            parameters=itemsize * (trained + statistics),
            gradients=itemsize * trained if self.training else 0,
            optimizer=itemsize * moments,
            input=self._itemsize() * input_values,
            arena=place(lifetimes),
            separate=sum(lifetime.nbytes for lifetime in lifetimes),
            workspace=self._workspace(batch),
            backend=self.backend.own_memory(input_values, trained, 0 if self.training else batch),
        )

    def pictures_of(self, batch: int | None) -> int:
        """Pictures in a (mini-)batch, of sequences when trained with ``time_steps``; None: the network's own."""
        return self.batch if batch is None else batch * self.graph.time_steps

    def _check_types(self) -> None:
        """Raise ConfigError for a layer that would take the float32 output of a head among arrays of 16 bits."""
        if self.backend.activation_dtype == self.backend.dtype:
            return
        places = self._share(self.batch).outputs
        for layer in self.layers:
            if layer.is_head or layer.is_identity(self.training):
                continue
            read = [self.layers[places[source].owner] for source in layer.sources if source != NETWORK_INPUT]
            for head in [owner for owner in read if owner.is_head]:
                layer.problem("", f"reads the output of [{head.name}], which stays float32: not with 16 bits (--amp)")
        if self.graph.problems:
            raise ConfigError(problems=self.graph.problems)

    def _share(self, batch: int) -> Sharing:
        """Find out whose memory holds the output and the gradient of each layer, and tell the layers what follows."""
        sharing = self._sharing(batch, self._joins(batch))
        for layer in self.layers:
            layer.accumulate = sharing.accumulate.get(layer.index, ())
            nowhere = [False] * len(layer.sources)
            layer.in_place = sharing.in_place.get(layer.index, nowhere)
            layer.gradients_in_place = sharing.gradients_in_place.get(layer.index, nowhere)
        return sharing

    def _sharing(self, batch: int, joins: Collection[int] | None) -> Sharing:
        return share(
            self.layers,
            self.backward_order if self.training else (),
            self._accumulate,
            training=self.training,
            step=self.backend.channel_views(batch),
            keep_gradients=self.keep_gradients,
            keep_outputs=self.keep_outputs,
            joins=joins,
        )

    def _joins(self, batch: int) -> Collection[int] | None:
        """Which layers join others in place: in training all, since outputs are kept anyway."""
        if self.training or self.keep_outputs or not self.backend.channel_views(batch):
            return None
        key = (batch, self.graph.input_shape)
        if key not in self._worthwhile_joins:
            self._worthwhile_joins[key] = worthwhile_joins(
                self.layers, lambda joins: place(self._lifetimes(batch, self._sharing(batch, joins)).values())
            )
        return self._worthwhile_joins[key]

    def _lifetimes(self, batch: int, sharing: Sharing) -> dict[tuple[int, str], Lifetime]:
        """Every planned array by (layer, attribute). Steps: layer i forward at i, backward at 2L - 1 - i."""
        count = len(self.layers)
        end = 2 * count
        found: dict[tuple[int, str], Lifetime] = {}

        def add(index: int, name: str, nbytes: int, first: int, last: int) -> None:
            """From ``first`` to ``last``; arrays in the same memory together from the first to the last of all."""
            known = found.get((index, name))
            if known is not None:
                first, last = min(first, known.first), max(last, known.last)
            found[index, name] = Lifetime(f"{index} {name}", nbytes, first, last)

        last_use = {layer.index: layer.index for layer in self.layers}
        first_gradient: dict[int, int] = {}
        for layer in self.layers:
            for source in layer.sources:
                if source != NETWORK_INPUT:
                    last_use[source] = max(last_use[source], layer.index)
                    back = end - 1 - layer.index
                    first_gradient[source] = min(first_gradient.get(source, back), back)
        keep = self.training or self.keep_outputs
        for layer in self.layers:
            i, back = layer.index, end - 1 - layer.index
            is_result = layer.is_head or i >= count - 2
            owner = sharing.outputs[i].owner
            add(owner, "output", self._bytes(owner, batch), i, end if keep or is_result else last_use[i])
            if i in self._with_gradient and self.training:
                first = i if layer.is_head else first_gradient.get(i, count)
                owner = sharing.gradients[i].owner
                add(owner, "grad_output", self._bytes(owner, batch), first, end if self.keep_gradients else back)
            for name, buffer in layer.buffers(batch, self.training).items():
                nbytes = int(np.prod(buffer.shape)) * self._itemsize(buffer.dtype)
                first = back if buffer.scratch and "forward" not in buffer.during else i
                last = back if self.training and "backward" in buffer.during else i
                add(i, name, nbytes, *((0, end) if buffer.lasting else (first, last)))
        return found

    def _bytes(self, index: int, batch: int) -> int:
        """Of a layer's output."""
        layer = self.layers[index]
        return self._itemsize(layer.loss_dtype) * batch * layer.outputs

    def _itemsize(self, dtype: Any = None) -> int:
        """Bytes of an element of a type, by default that of the outputs of layers."""
        return int(np.dtype(dtype or self.backend.activation_dtype).itemsize)

    def _workspace(self, batch: int) -> int:
        return max((layer.workspace(batch, self.training) for layer in self.layers), default=0)

    def prepare(self, batch: int) -> None:
        """Plan for a batch and give every layer its arrays; nothing is done if that is already so."""
        key = (batch, self.graph.input_shape)
        if self._bound == key:
            return
        sharing = self._share(batch)
        lifetimes = self._lifetimes(batch, sharing)
        needed = place(lifetimes.values())
        if needed > self._arena_bytes:
            self._arena = None
            self._arena = self.backend.empty((needed,), np.uint8)
            self._arena_bytes = needed
        self.backend.set_workspace(self._workspace(batch))
        for layer in self.layers:
            i = layer.index
            layer.output = self._placed(lifetimes, "output", layer, sharing.outputs[i], batch)
            layer.grad_output = None
            if i in self._with_gradient and self.training:
                layer.grad_output = self._placed(lifetimes, "grad_output", layer, sharing.gradients[i], batch)
            for name, buffer in layer.buffers(batch, self.training).items():
                assign(layer, name, self._array(lifetimes[i, name], buffer.shape, buffer.dtype))
        self._add_residuals(sharing)
        self._bound = key
        self.reset_state()

    def _add_residuals(self, sharing: Sharing) -> None:
        """Let layers do the work of the [shortcut] behind them, at inference and where the backend gains by it."""
        for layer in self.layers:
            layer.residual, layer.is_done_before = None, False
        if self.training or not self.backend.adds_residuals:
            return
        for layer, shortcut in residuals(self.layers, sharing):
            layer.residual = (self.layers[shortcut.sources[1]].output, shortcut.options.activation)
            shortcut.is_done_before = True

    def _placed(
        self, lifetimes: dict[tuple[int, str], Lifetime], name: str, layer: Layer, place: Place, batch: int
    ) -> Any:
        """A layer's output or the gradient of it, where it lies."""
        owner = self.layers[place.owner]
        assert owner.output_shape is not None and layer.output_shape is not None
        whole = self._array(lifetimes[place.owner, name], (batch, *owner.output_shape), owner.loss_dtype)
        if place.channels < owner.output_shape[0]:
            whole = whole[:, place.first : place.first + place.channels]
        return whole.reshape(batch, *layer.output_shape)

    def _array(self, lifetime: Lifetime, shape: Sequence[int], dtype: Any = None) -> Any:
        flat = self._arena[lifetime.offset : lifetime.offset + lifetime.nbytes]
        return flat.view(dtype or self.backend.activation_dtype).reshape(tuple(shape))

    def rebind(self) -> None:
        """Give all layers their arrays once more, whatever they have been given since."""
        batch, self._bound = self.batch if self._bound is None else self._bound[0], None
        self.prepare(batch)

    def reset_state(self) -> None:
        """Let recurrent layers forget what they have seen; a new batch or input size does so too."""
        for memory in self.memories().values():
            self.backend.fill(memory, 0.0)

    def memories(self) -> dict[str, Any]:
        """What layers remember from one pass to the next, by ``index.name``; empty unless some are recurrent."""
        if self._bound is None:
            return {}
        return {
            f"{layer.index}.{name}": view(layer, name)
            for layer in self.layers
            for name, buffer in layer.buffers(self._bound[0], self.training).items()
            if buffer.lasting
        }
