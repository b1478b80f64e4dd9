"""A network in a table: what each layer is, costs and sees, and the memory it all takes.

This is data; :mod:`darkpy.cli` prints it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkpy import backends, builder, resources
from darkpy.config.cfg import read_cfg
from darkpy.errors import InputError
from darkpy.layers.base import NETWORK_INPUT, Layer, Shape
from darkpy.plan import MemoryPlan

if TYPE_CHECKING:
    from darkpy.config.cfg import Config


@dataclass(frozen=True)
class LayerRow:
    """One layer. Shapes are (channels, height, width).

    type: the section's name. geometry: size and stride or the like, such as ``3x3/2``. sources: the layers it reads,
    -1 being the network's input. inputs: their shapes. parameters: values kept, running statistics included.
    operations: floating point operations of a forward pass of one picture. receptive_field: side, in pixels of the
    network's input, of what one value of the output can see; at most the whole input.
    """

    index: int
    type: str
    filters: int | None
    geometry: str
    sources: tuple[int, ...]
    inputs: tuple[Shape, ...]
    output: Shape
    parameters: int
    operations: float
    receptive_field: int


@dataclass(frozen=True)
class Summary:
    """A whole network: its layers, and its memory plans for inference and, if it can be trained, for training."""

    path: str
    input_shape: Shape
    rows: tuple[LayerRow, ...]
    inference: MemoryPlan
    training: MemoryPlan | None

    @property
    def parameters(self) -> int:
        """Values of all layers together."""
        return sum(row.parameters for row in self.rows)

    @property
    def operations(self) -> float:
        """Floating point operations of a forward pass of one picture."""
        return sum(row.operations for row in self.rows)


def summarize(
    path: str | Path, *, batch: int | None = None, device: str = "cpu", precision: str = "fp32"
) -> Summary:
    """The summary of a cfg file, looked up like that of :meth:`darkpy.Network.from_cfg`.

    batch: pictures of a forward pass at inference (default 1) and of a mini-batch in training (default: the cfg's
    ``batch / subdivisions``), each being a whole sequence with ``time_steps``. precision: that of the memory; where
    there is no GPU, the CPU plans for one.

    Raises :class:`~darkpy.errors.ConfigError` with every problem of the cfg.
    """
    if batch is not None and batch < 1:
        raise InputError(f"batch={batch}: needs at least one picture")
    config = read_cfg(resources.find("cfg", str(path)))
    blueprint = builder.build(config, backends.create(device))
    has_loss = any(layer.is_head for layer in blueprint.layers)
    part = blueprint.options.batch // blueprint.options.subdivisions
    return Summary(
        path=config.path,
        input_shape=blueprint.graph.input_shape,
        rows=tuple(layer_rows(blueprint.layers, blueprint.graph.input_shape)),
        inference=_plan(config, batch or 1, device, precision, training=False),
        training=_plan(config, batch or part, device, precision, training=True) if has_loss else None,
    )


def layer_rows(layers: Sequence[Layer], input_shape: Shape) -> list[LayerRow]:
    """One row per layer."""
    fields = _receptive_fields(layers)
    whole = max(input_shape[1:])
    return [
        LayerRow(
            index=layer.index,
            type=layer.name,
            filters=getattr(layer.options, "filters", None),
            geometry=layer.describe(),
            sources=tuple(layer.sources),
            inputs=tuple(layer.input_shapes),
            output=_known(layer.output_shape),
            parameters=sum(parameter.size for parameter in layer.parameters()),
            operations=layer.operations(),
            receptive_field=min(round(field), whole),
        )
        for layer, field in zip(layers, fields)
    ]


def _receptive_fields(layers: Sequence[Layer]) -> list[float]:
    """For each layer the side of what it sees: the largest among its inputs, widened by its window.

    A window of k values reaches (k - 1) steps further, a step being the product of the strides so far.
    """
    fields: dict[int, float] = {NETWORK_INPUT: 1.0}
    steps: dict[int, float] = {NETWORK_INPUT: 1.0}
    for layer in layers:
        side, stride = layer.receptive_step()
        sources = layer.sources or [NETWORK_INPUT]
        fields[layer.index] = max(fields[source] + (side - 1) * steps[source] for source in sources)
        steps[layer.index] = max(steps[source] for source in sources) * stride
    return [fields[layer.index] for layer in layers]


def _known(shape: Shape | None) -> Shape:
    assert shape is not None, "a network that was built has all shapes"
    return shape


def _plan(config: Config, pictures: int, device: str, precision: str, *, training: bool) -> MemoryPlan:
    """The plan for so many pictures at a time, from a network that allocates nothing."""
    from darkpy.network import Network

    network = Network(
        config, training=training, keep_gradients=False, device=device, precision=precision, plan_only=True
    )
    return network.memory_plan(pictures)
