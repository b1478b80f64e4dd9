"""Fitting a cfg to a data set: what its network expects of the data, its anchors, its classes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy import builder, resources
from darkpy.backends.numpy import NumpyBackend
from darkpy.builder import Blueprint
from darkpy.config.cfg import Config, read_cfg
from darkpy.config.edit import CfgText
from darkpy.data.anchors import anchors_text, box_shapes, coverage, find_anchors
from darkpy.data.check import Target
from darkpy.data.dataset import Dataset
from darkpy.errors import ConfigError, InputError, Problem
from darkpy.layers.base import Layer
from darkpy.network import Network
from darkpy.summary import layer_rows
from darkpy.training.memory import available_memory, fewest_subdivisions
from darkpy.training.preparation import size_at

Floats = NDArray[np.float64]

LEAST_ITERATIONS, ITERATIONS_PER_CLASS = 6000, 2000
"""How long to train: Darknet's advice."""

STEPS = (0.8, 0.9)
"""Where the learning rate falls, as shares of the iterations."""

_BURN_IN = 0.1  # at most so much of a training is for warming up
_NAMED = 20  # classes named in the comment
_SPARE = 0.8  # of the free memory; the pictures and the measuring need some too


@dataclass(frozen=True)
class Head:
    """A head that finds boxes, and what its cfg says of it."""

    layer: Layer

    @property
    def options(self) -> Any:
        """The keys of its section."""
        return self.layer.options

    @property
    def anchors_used(self) -> int:
        """Anchors of this head, each with channels of its own."""
        return len(self.options.mask) if hasattr(self.options, "mask") else int(self.options.num)

    @property
    def channels_per_anchor(self) -> int:
        """Channels for each anchor beside the classes: coordinates and objectness."""
        return self.layer.input_shapes[0][0] // self.anchors_used - int(self.options.classes)

    @property
    def cell(self) -> Floats:
        """Width and height, in pixels of the input, of what anchors are counted in: cells for [region], else pixels."""
        if self.layer.name != "region":
            return np.ones(2)
        return self.stride

    @property
    def stride(self) -> Floats:
        """Width and height of a cell in pixels of the input."""
        assert self.layer.output_shape is not None
        _, rows, columns = self.layer.output_shape
        _, height, width = self.layer.graph.input_shape
        return np.array([width / columns, height / rows])

    @property
    def anchors(self) -> Floats:
        """All anchors (k, 2) in pixels of the input."""
        return np.reshape(self.options.anchors, (-1, 2)).astype(np.float64) * self.cell


def build(config: Config) -> Blueprint:
    """The layers of a cfg, with nothing allocated. Raises ConfigError with all that is wrong."""
    return builder.build(config, NumpyBackend())


def heads(blueprint: Blueprint) -> list[Head]:
    """The heads with anchors. Raises ConfigError if there is none."""
    found = [Head(layer) for layer in blueprint.layers if hasattr(layer.options, "anchors")]
    if not found:
        raise ConfigError("has no head with anchors, [yolo] or [region]", where=blueprint.config.path)
    return found


def read_target(cfg: str | Path) -> Target:
    """What the network of a cfg expects of its data. Raises ConfigError for a cfg that is no detector."""
    blueprint = build(read_cfg(resources.find("cfg", cfg)))
    found = [layer for layer in blueprint.layers if hasattr(layer, "boxes")]
    if not found:
        raise ConfigError("has no detection head such as [yolo]: it is no detector", where=blueprint.config.path)
    channels, height, width = blueprint.graph.input_shape
    return Target(
        name=blueprint.config.path,
        width=width,
        height=height,
        channels=channels,
        letter_box=bool(blueprint.options.letter_box),
        classes=found[-1].options.classes,
        anchors=Head(found[-1]).anchors if hasattr(found[-1].options, "anchors") else None,
    )


def bases() -> list[str]:
    """Names, without ending, of darkpy's own cfgs that have anchors to be fitted."""
    paths = sorted(resources.folder("cfg").glob("*.cfg"))
    return [path.stem for path in paths if any(layer.get("anchors") for layer in read_cfg(path).layers)]


def check_base(cfg: str | Path, width: int | None = None, height: int | None = None) -> None:
    """Raise ConfigError for a cfg that cannot be fitted, InputError for a size that its network cannot have."""
    found = heads(build(read_cfg(resources.find("cfg", cfg))))
    if width is not None and height is not None:
        _check_size(found, width, height)


def set_anchors(text: CfgText, anchors: Floats) -> None:
    """Write anchors (k, 2), in pixels of the input, into all heads of a cfg.

    Raises:
        ConfigError: the heads have another number of anchors, or not all the same ones.
    """
    found = heads(build(text.config))
    problems = []
    for head in found:
        count = len(head.anchors)
        if head.options.anchors != found[0].options.anchors:
            message = "the heads have different anchors; they cannot be fitted together"
            problems.append(Problem(head.layer.where("anchors"), message))
        elif count != len(anchors):
            message = f"[{head.layer.name}] has {count} anchors, not {len(anchors)}: use -num_of_clusters {count}, or"
            problems.append(Problem(head.layer.where("anchors"), f"{message} change num=, mask= and filters= too"))
    if problems:
        raise ConfigError(problems=problems)
    for head in found:
        decimals = 0 if (head.cell == 1).all() else 4
        text.set_layer(head.layer.index, "anchors", anchors_text(anchors / head.cell, decimals))


# A cfg for one's own classes ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """What a new cfg is for.

    path: where it will be. data: how the data set is named. width, height: of the input. iterations: how long to
    train, None for as long as Darknet advises. seed: of the search for anchors.
    """

    path: str
    data: str
    dataset: Dataset
    width: int
    height: int
    iterations: int | None = None
    seed: int = 0


def fit_cfg(
    base: str | Path, wanted: Wanted, progress: Callable[[int, int], None] | None = None
) -> CfgText:
    """A cfg for one's own classes, made from another one: ready to train, with comments on what was changed.

    Changed are width and height, classes and filters of the heads, their anchors, max_batches and steps, burn_in where
    it is long beside them, and subdivisions where the memory would not do. ``progress`` is called with (pictures whose
    labels are read, all).

    Raises:
        ConfigError: the base cannot be built, or is none of [yolo] or [region].
        DataError: the data set has no objects.
        InputError: a size the network cannot have, or fewer shapes of objects than anchors.
    """
    path = resources.find("cfg", base)
    text = CfgText.read(path)
    before = build(text.config)
    found = heads(before)
    _check_size(found, wanted.width, wanted.height)
    shapes = box_shapes(
        wanted.dataset, wanted.width, wanted.height, bool(before.options.letter_box), progress
    )
    text.set_net("width", wanted.width)
    text.set_net("height", wanted.height)
    _set_classes(text, found, wanted.dataset.classes)
    anchors = find_anchors(shapes, len(found[0].anchors), wanted.seed)
    set_anchors(text, anchors)
    _set_schedule(text, wanted)
    _set_subdivisions(text)
    fit = f"on the average they overlap the {len(shapes):,} objects by {100 * coverage(shapes, anchors).mean_iou:.0f} %"
    text.set_header([*_old_header(text), *_new_header(path.name, wanted, build(text.config), fit)])
    return text


def iterations(classes: int, pictures: int) -> int:
    """Darknet's advice on how long to train: 2,000 for each class, at least 6,000, and one for each picture."""
    return max(LEAST_ITERATIONS, ITERATIONS_PER_CLASS * classes, pictures)


def _check_size(found: Sequence[Head], width: int, height: int) -> None:
    stride = max(int(max(head.stride)) for head in found)
    for name, size in (("width", width), ("height", height)):
        if size % stride or size < stride:
            near = max(round(size / stride), 1) * stride
            raise InputError(f"{name} {size} is no multiple of {stride}, as this network needs it; take {near}")


def _set_classes(text: CfgText, found: Sequence[Head], classes: int) -> None:
    for head in found:
        index = head.layer.sources[0]
        layer = head.layer.graph.layers[index]
        if layer is None or layer.name != "convolutional":
            message = f"[{head.layer.name}] follows no [convolutional] that could be given other filters"
            raise ConfigError(message, where=head.layer.where("classes"))
        text.set_layer(head.layer.index, "classes", classes)
        text.set_layer(index, "filters", head.anchors_used * (head.channels_per_anchor + classes))


def _set_schedule(text: CfgText, wanted: Wanted) -> None:
    count = wanted.iterations or iterations(wanted.dataset.classes, len(wanted.dataset))
    blueprint = build(text.config)
    text.set_net("max_batches", count)
    text.set_net("policy", "steps")
    text.set_net("steps", ",".join(str(round(share * count)) for share in STEPS))
    text.set_net("scales", ".1,.1")
    if blueprint.options.burn_in > _BURN_IN * count:
        text.set_net("burn_in", round(_BURN_IN * count))


def _set_subdivisions(text: CfgText) -> None:
    """More of them, if with those of the base a mini-batch does not fit into the memory there is now."""
    free = available_memory()
    if free is None:
        return
    network = Network(text.config, training=True, keep_gradients=False, plan_only=True)
    network.resize(*size_at(network, 0)(0))
    fewest = fewest_subdivisions(network, network.options, round(_SPARE * free))
    if fewest is not None and fewest > network.options.subdivisions:
        text.set_net("subdivisions", fewest)


def train_command(cfg: str | Path, data: str) -> str:
    """What to type to train a cfg."""
    return f"darkpy detector train {quote(str(cfg))} --data {quote(data)}"


def _old_header(text: CfgText) -> list[str]:
    """The comments before [net] that say what the network is, without those on its size and how to change it."""
    lines = []
    for line in text.text.splitlines()[: text.config.net.line - 1]:
        comment = line.lstrip("#; ").rstrip()
        if not comment or " layers, " in comment:
            break
        lines.append(comment)
    return lines


def _new_header(base: str, wanted: Wanted, blueprint: Blueprint, fit: str) -> list[str]:
    rows = layer_rows(blueprint.layers, blueprint.graph.input_shape)
    parameters = sum(row.parameters for row in rows) / 1e6
    operations = sum(row.operations for row in rows) / 1e9
    names = wanted.dataset.names
    listed = ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
    advice = f"max_batches is {ITERATIONS_PER_CLASS:,} for each class, at least {LEAST_ITERATIONS:,}, and one for each"
    length = f"{advice} picture." if wanted.iterations is None else "max_batches is as it was asked for."
    changed = (
        f"Made by darkpy init from {base}: width and height, classes and filters of the heads, anchors, max_batches "
        f"and steps are those for {wanted.data} ({listed}). The anchors are found by k-means; {fit}. {length} "
        f"The steps are at {100 * STEPS[0]:.0f} % and {100 * STEPS[1]:.0f} % of it; "
        f"burn_in is at most {100 * _BURN_IN:.0f} %."
    )
    size = f"{wanted.width} x {wanted.height}"
    train = f"Train:  {train_command(wanted.path, wanted.data)}"
    return [
        f"{len(rows)} layers, {parameters:.2f} M parameters, {operations:.2f} BFLOPs at {size}.",
        "",
        *textwrap.wrap(changed, 117, break_long_words=False, break_on_hyphens=False),
        train,
    ]
