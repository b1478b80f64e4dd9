"""Looking into weights files, comparing them, and making new ones of them.

Every tool takes the cfg that the file belongs to, by name or path, and files of every kind that
:mod:`darkpy.weight_files` knows. A file may hold all layers or the first ones, unless a tool says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darkpy import builder, resources, weight_files
from darkpy.backends.base import BATCHNORM_EPSILON
from darkpy.backends.numpy import NumpyBackend
from darkpy.config.cfg import Config, read_cfg
from darkpy.errors import ConfigError, InputError, Problem, WeightsError
from darkpy.files import atomic_write
from darkpy.weight_files import StoredWeights
from darkpy.weights import FLOAT, SCALES, Header, Tensor, stored_parameters

if TYPE_CHECKING:
    from darkpy.layers.base import Layer


# What is in a file ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistics:
    """Mean, standard deviation and extremes of some values, leaving out those that are not finite.

    count: how many values there are, of a layer not only the weights. not_finite: how many of these are no numbers.
    """

    name: str
    count: int
    mean: float
    deviation: float
    smallest: float
    largest: float
    not_finite: int

    @property
    def remark(self) -> str:
        """What is odd about the values."""
        if self.not_finite:
            return f"{self.not_finite:,} NaN or infinite"
        return f"all {self.smallest:g}" if self.smallest == self.largest and self.count > 1 else ""


@dataclass(frozen=True)
class Description:
    """A file in words and numbers.

    values: how many the file holds. covered: layers before the first one whose weights it lacks. layers: those of
    the cfg, 0 without one. fits: without a cfg, those with as many values in all or in their first layers.
    """

    header: Header
    values: int
    covered: int
    layers: int
    fits: tuple[str, ...]
    rows: tuple[Statistics, ...]


def describe(path: str | Path, cfg: str | Path | None = None, *, by_tensor: bool = False) -> Description:
    """What is in a file: of each layer the statistics of its weights, or of each tensor those of its values.

    Without a cfg there is one row for the whole file, and the cfg files beside it and those of darkpy are tried on.
    """
    if cfg is None:
        header, values = weight_files.read_values(path)
        rows = [_statistics("all", [values])]
        return Description(header, len(values), 0, 0, tuple(_fitting_cfgs(Path(path), len(values))), tuple(rows))
    config, layers = _layers(cfg)
    stored = weight_files.read(path, layers, cfg=config.path)
    if by_tensor:
        rows = [_statistics(tensor.name, [tensor.values]) for tensor in stored.tensors]
    else:
        rows = [_layer_statistics(tensors) for tensors in _by_layer(stored.tensors)]
    values_in_all = sum(row.count for row in rows)
    return Description(stored.header, values_in_all, _covered(stored.tensors, layers), len(layers), (), tuple(rows))


def _layer_statistics(tensors: Sequence[Tensor]) -> Statistics:
    """Those of the weights, but with the count of everything, and of everything that is not finite."""
    weights = [tensor.values for tensor in tensors if tensor.parameter.name.endswith("weights")]
    everything = [tensor.values for tensor in tensors]
    found = _statistics(_title(tensors[0].layer), weights or everything)
    count = sum(values.size for values in everything)
    return replace(found, count=count, not_finite=sum(_not_finite(values) for values in everything))


def _statistics(name: str, arrays: Sequence[np.ndarray]) -> Statistics:
    values = np.concatenate([array.ravel() for array in arrays])
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        finite = np.array([np.nan])
    return Statistics(
        name,
        count=values.size,
        mean=float(finite.mean()),
        deviation=float(finite.std()),
        smallest=float(finite.min()),
        largest=float(finite.max()),
        not_finite=_not_finite(values),
    )


def _not_finite(values: np.ndarray) -> int:
    return values.size - int(np.count_nonzero(np.isfinite(values)))


def _fitting_cfgs(path: Path, count: int) -> Iterator[str]:
    """Names of the cfg files that have so many values, or whose first layers have."""
    candidates = [*sorted(path.parent.glob("*.cfg")), *map(Path, resources.available("cfg"))]
    for candidate in candidates:
        try:
            config, layers = _layers(candidate)
        except ConfigError:
            continue  # whatever it is, it does not fit
        total = 0
        for layer in layers:
            stored = stored_parameters(layer)
            total += sum(parameter.size for parameter in stored)
            if stored and total == count:
                complete = not any(stored_parameters(later) for later in layers[layer.index + 1 :])
                yield config.path if complete else f"{config.path} (its first {layer.index + 1} layers)"


# How two files differ ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """How the values of a layer or tensor differ between two files.

    differing: how many of ``count`` do. largest, mean: of the distances. relative: length of the difference over
    length of the first file's values.
    """

    name: str
    count: int
    differing: int
    largest: float
    mean: float
    relative: float


@dataclass(frozen=True)
class Comparison:
    """Two files, compared where both have values; first_layers, second_layers: how far each of them goes."""

    first_layers: int
    second_layers: int
    rows: tuple[Difference, ...]

    @property
    def are_equal(self) -> bool:
        """Whether the files hold the same values, bit for bit but for the kinds of NaN and zero."""
        return self.first_layers == self.second_layers and not any(row.differing for row in self.rows)


def compare(
    cfg: str | Path, first: str | Path, second: str | Path, *, by_tensor: bool = False
) -> Comparison:
    """The differences between two files, layer by layer or tensor by tensor."""
    config, layers = _layers(cfg)
    one, other = (weight_files.read(path, layers, cfg=config.path) for path in (first, second))
    values = {tensor.name: tensor.values for tensor in other.tensors}
    shared = [tensor for tensor in one.tensors if tensor.name in values]
    groups = [[tensor] for tensor in shared] if by_tensor else _by_layer(shared)
    rows = tuple(
        _difference(
            group[0].name if by_tensor else _title(group[0].layer),
            np.concatenate([tensor.values.ravel() for tensor in group]).astype(np.float64),
            np.concatenate([values[tensor.name].ravel() for tensor in group]).astype(np.float64),
        )
        for group in groups
    )
    return Comparison(_covered(one.tensors, layers), _covered(other.tensors, layers), rows)


def _difference(name: str, first: np.ndarray, second: np.ndarray) -> Difference:
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):
        distance = np.where(same, 0.0, np.abs(first - second))
        length = float(np.linalg.norm(first))
        relative = float(np.linalg.norm(distance)) / length if length else float(np.any(distance))
    differing = int(np.count_nonzero(~same))
    return Difference(name, first.size, differing, float(distance.max()), float(distance.mean()), relative)


# New files from old --------------------------------------------------------------------------------------------


def average(cfg: str | Path, sources: Sequence[str | Path], out: str | Path) -> StoredWeights:
    """Write the mean of several files, which must hold the same layers; ``seen`` is that of the first.

    All parameters are averaged, running statistics too (Darknet's ``average`` leaves out those of layers other than
    [convolutional], and the batch normalisation of [connected]). Returns what was written.
    """
    if len(sources) < 2:
        raise InputError("an average takes two weights files or more")
    config, layers = _layers(cfg)
    first = weight_files.read(sources[0], layers, cfg=config.path)
    covered = _covered(first.tensors, layers)
    sums = [tensor.values.astype(np.float64) for tensor in first.tensors]
    for source in sources[1:]:
        stored = weight_files.read(source, layers, cfg=config.path)
        others = _covered(stored.tensors, layers)
        if others != covered:
            message = f"holds the first {others} layers, {first.path} the first {covered}: no average"
            raise WeightsError(message, where=str(source))
        for total, tensor in zip(sums, stored.tensors, strict=True):
            total += tensor.values
    tensors = [_with(tensor, total / len(sources)) for tensor, total in zip(first.tensors, sums)]
    return _write(out, first.header, tensors)


def cut(cfg: str | Path, source: str | Path, count: int, out: str | Path) -> StoredWeights:
    """Write the weights of the first ``count`` layers, with ``seen`` = 0, to start a training from.

    As Darknet's ``partial``. Returns what was written.
    """
    config, layers = _layers(cfg)
    if not 1 <= count <= len(layers):
        raise InputError(f"{config.path} has {len(layers)} layers; the first {count} of them cannot be cut out")
    stored = weight_files.read(source, layers, cfg=config.path)
    covered = _covered(stored.tensors, layers)
    if covered < count:
        raise WeightsError(f"holds the first {covered} layers only, not {count}", where=str(source))
    tensors = [tensor for tensor in stored.tensors if tensor.layer.index < count]
    if not tensors:
        raise InputError(f"the first {count} layers of {config.path} have no weights")
    return _write(out, replace(stored.header, seen=0), tensors)


def convert(cfg: str | Path, source: str | Path, out: str | Path) -> StoredWeights:
    """Write the same weights to a file of the kind that its ending says; nothing is lost. Returns what was written.

    Raises :class:`~darkpy.errors.InputError` for an ending of another kind, such as that of another program's files.
    """
    weight_files.check_ending(out)
    config, layers = _layers(cfg)
    stored = weight_files.read(source, layers, cfg=config.path)
    return _write(out, stored.header, stored.tensors)


def fold_batchnorm(cfg: str | Path, source: str | Path, out: str | Path) -> tuple[StoredWeights, Path]:
    """Write weights with batch normalisation folded into them, and beside them the cfg that goes with these.

    In every layer with ``batch_normalize=1`` (also [connected] and recurrent ones) weights and biases take over what
    scales, mean and variance do at inference; [batchnorm] sections stay. The outputs are the same up to rounding, as
    with Darknet's ``denormalize``; training would not go on as before. The file must hold all layers.

    Returns the weights and the path of the cfg: ``out`` with the ending .cfg.
    """
    config, layers = _layers(cfg)
    new_cfg = Path(out).with_suffix(".cfg")
    if new_cfg.exists() and new_cfg.samefile(config.path):
        raise InputError(f"would take the place of the cfg itself; give {out} another name", where=str(new_cfg))
    normalized = [layer for layer in layers if getattr(layer.options, "batch_normalize", False)]
    if not normalized:
        raise ConfigError("has no batch_normalize=1: there is nothing to fold", where=config.path)
    problems = [
        Problem(layer.where(key), f"[{layer.section.name}] {key}=1: nothing is known of its batch normalisation")
        for layer in normalized
        for key in ("dontload", "dontloadscales")
        if getattr(layer.options, key)
    ]
    if problems:
        raise ConfigError(problems=problems)
    stored = weight_files.read(source, layers, cfg=config.path)
    covered = _covered(stored.tensors, layers)
    if covered < len(layers):
        raise WeightsError(f"holds the first {covered} layers only; all {len(layers)} are needed", where=str(source))
    tensors: list[Tensor] = []
    for group in _by_layer(stored.tensors):
        tensors += _folded(group) if group[0].layer in normalized else group
    written = _write(out, stored.header, tensors)
    _write_folded_cfg(config, normalized, new_cfg)
    return written, new_cfg


def _folded(tensors: Sequence[Tensor]) -> list[Tensor]:
    """A layer's tensors without batch normalisation; a recurrent layer has several parts, each with its own."""
    found = {tensor.parameter.name: tensor.values for tensor in tensors}
    kept: list[Tensor] = []
    for tensor in tensors:
        part, _, kind = tensor.parameter.name.rpartition(".")
        scales, mean, variance = (found[f"{part}.{name}" if part else name].astype(np.float64) for name in SCALES)
        factor = scales / np.sqrt(variance + BATCHNORM_EPSILON)
        if kind == "biases":
            kept.append(_with(tensor, tensor.values - mean * factor))
        elif kind == "weights":
            # A [deconvolutional] has its weights by input channel, every other layer by output.
            axis = 1 if tensor.layer.name == "deconvolutional" else 0
            shape = [-1 if i == axis else 1 for i in range(tensor.values.ndim)]
            kept.append(_with(tensor, tensor.values * factor.reshape(shape)))
    return kept


def _write_folded_cfg(config: Config, normalized: Sequence[Layer], path: Path) -> None:
    """The text of the cfg with the keys of these layers changed in their lines; all else, comments too, stays."""
    lines = Path(config.path).read_text(encoding="utf-8-sig").split("\n")
    changes = {"batch_normalize": 0, "cbn": 0, "bias": 1}
    for layer in normalized:
        for entry in layer.section.entries:
            if entry.key in changes:
                lines[entry.line - 1] = f"{entry.key}={changes[entry.key]}"
    with atomic_write(path, "w") as file:
        file.write("\n".join(lines))


# What the tools share ------------------------------------------------------------------------------------------


def _layers(cfg: str | Path) -> tuple[Config, list[Layer]]:
    """A cfg and its layers; nothing is allocated."""
    config = read_cfg(resources.find("cfg", cfg))
    return config, builder.build(config, NumpyBackend()).layers


def _by_layer(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    return [list(group) for _, group in groupby(tensors, key=lambda tensor: tensor.layer.index)]


def _covered(tensors: Sequence[Tensor], layers: Sequence[Layer]) -> int:
    """How many layers there are before the first one whose weights are lacking."""
    last = tensors[-1].layer.index if tensors else -1
    return next((layer.index for layer in layers[last + 1 :] if stored_parameters(layer)), len(layers))


def _title(layer: Layer) -> str:
    return f"{layer.index} {layer.name}"


def _with(tensor: Tensor, values: np.ndarray) -> Tensor:
    return replace(tensor, values=values.astype(FLOAT))


def _write(path: str | Path, header: Header, tensors: list[Tensor]) -> StoredWeights:
    weight_files.write(path, header, tensors)
    return StoredWeights(Path(path), header, tensors)
