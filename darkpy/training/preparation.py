"""Everything a training needs, built and checked before its first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from darkpy import resources
from darkpy.config.cfg import Config, read_cfg
from darkpy.config.net import NetOptions
from darkpy.config.options import parse_options
from darkpy.data.augmentation import Augmentation
from darkpy.data.dataset import Dataset, open_dataset
from darkpy.data.loader import Loader, default_cache_bytes, multi_scale
from darkpy.errors import ConfigError, DataError, InputError, Problem
from darkpy.network import Network
from darkpy.training import text
from darkpy.training.memory import available_memory, check_memory
from darkpy.training.settings import TrainingSettings, default_data

EVALUATION_BATCH = 8
"""Pictures of a forward pass in an evaluation."""

FLOAT_BYTES = 4

BATCHES_AHEAD = 3
"""Batches the loader keeps in memory: the one in use and those made ahead."""


@dataclass
class Prepared:
    """A training that can begin.

    network: what is trained, with its starting weights, at the largest size it will have.
    measured: the same network for evaluation, None without a validation set.
    memory: bytes all of it needs. cache: bytes for decoded pictures, None for the loader's own choice.
    notes: what the user should know.
    """

    settings: TrainingSettings
    config: Config
    data: Path
    train_set: Dataset
    val_set: Dataset | None
    network: Network
    measured: Network | None
    memory: int
    cache: int | None
    notes: list[str]

    def loader(self, report: Callable[[Problem], None]) -> Loader:
        """The batches from where the network is; ``report`` hears of pictures and labels that cannot be used."""
        network = self.network
        return Loader(
            self.train_set,
            Augmentation.from_options(network.options, detection_heads(network)[-1].options),
            batch=network.options.batch,
            size_at=size_at(network, self.settings.seed),
            channels=network.channels,
            seed=self.settings.seed,
            workers=self.settings.workers,
            start=network.iteration,
            cache_bytes=self.cache,
            report=report,
        )


def prepare(settings: TrainingSettings, notify: Callable[[str], None]) -> Prepared:
    """Read the cfg and the data, build the networks, load the weights, and see whether there is memory enough.

    ``notify`` hears of what takes a while, such as drawing the built-in data set. Raises
    :class:`~darkpy.errors.InputError` for anything that cannot be used; nothing has been written then.
    """
    config = read_cfg(resources.find("cfg", settings.cfg))
    data = _found(settings.data) if settings.data is not None else default_data(config.path)
    notes: list[str] = []
    train_set = open_dataset(data, "train", notify=notify)
    val_set = _open_validation(data, train_set, settings.measure, notes, notify)
    free = available_memory()
    network = _training_network(config, settings, train_set, str(data), free)
    measured = None
    if val_set is not None:
        measured = Network(config, batch=EVALUATION_BATCH, device=settings.device)
        measured.names = val_set.names
    memory = check_memory(network, network.options, free, beside=_memory_beside(network, network.options, measured))
    _load_weights(network, settings, notes)
    notes += [str(warning) for warning in network.warnings]
    notes += [f"{data}  {note}" for note in train_set.notes]
    # Decoded pictures are kept in what is left, but not in all of it: others want to live too.
    cache = None if free is None else min(default_cache_bytes(), (free - memory) // 2)
    return Prepared(settings, config, data, train_set, val_set, network, measured, memory, cache, notes)


def detection_heads(network: Network) -> list[Any]:
    """The heads that find boxes, in order."""
    return [head for head in network.heads if hasattr(head, "boxes")]


def size_at(network: Network, seed: int) -> Callable[[int], tuple[int, int]]:
    """Width and height of the input at each iteration; the largest is that of iteration 0."""
    options = network.options
    return multi_scale(
        options.width,
        options.height,
        random=getattr(detection_heads(network)[-1].options, "random", 0),
        resize_step=options.resize_step,
        seed=seed,
        max_batches=options.max_batches,
    )


def _found(data: str | Path) -> Path:
    """A folder as it is; a file here or among those of darkpy."""
    return Path(data) if Path(data).is_dir() else resources.find("data", data)


def _open_validation(
    data: Path, train_set: Dataset, wanted: bool | None, notes: list[str], notify: Callable[[str], None]
) -> Dataset | None:
    """The validation set; None if it is not wanted, or if there is none and it need not be."""
    if wanted is False:
        return None
    try:
        val_set = open_dataset(data, "val", train_set.names, notify=notify)
    except DataError as error:
        if wanted:
            raise
        notes.append(f"without a validation set the detector is not measured while it is trained: {error}")
        return None
    if val_set.pictures == train_set.pictures:
        notes.append(f"{data}  the validation pictures are the training pictures: mAP will look too good")
    return val_set


def _training_network(
    config: Config, settings: TrainingSettings, train_set: Dataset, data: str, free: int | None
) -> Network:
    """The network at the largest size it will have; OutOfMemory, if the system refuses, names what would fit."""
    make = partial(Network, config, training=True, keep_gradients=False, device=settings.device, seed=settings.seed)
    try:
        network = make()
        _check_network(network, train_set.classes, data)
        network.names = train_set.names
        network.resize(*size_at(network, settings.seed)(0))
        return network
    except MemoryError:
        # A network for one picture can tell what would fit.
        options = parse_options(NetOptions, config.net, [], [])
        assert options is not None, "the network was built from them"
        network = make(batch=options.subdivisions)
        network.resize(*size_at(network, settings.seed)(0))
        check_memory(network, options, free, beside=_memory_beside(network, options, None))
        raise


def _check_network(network: Network, classes: int, data: str) -> None:
    """Whether this network can be trained as a detector of so many classes."""
    net = network.config.net
    heads = detection_heads(network)
    if not heads:
        raise ConfigError("has no detection head such as [yolo]: it is no detector", where=network.config.path)
    problems = []
    if network.options.max_batches < 1:
        problems.append(Problem(net.where_of("max_batches"), f"[{net.name}] needs max_batches=, where to stop"))
    for head in heads:
        if head.options.classes != classes:
            message = f"[{head.name}] classes={head.options.classes}, but {data} has {classes}"
            problems.append(Problem(head.where("classes"), f"{message}; change it, and filters= before it"))
    if problems:
        raise ConfigError(problems=problems)


def _memory_beside(network: Network, options: NetOptions, measured: Network | None) -> int:
    """Bytes for the batches of the loader and the evaluation's network."""
    batch = FLOAT_BYTES * options.batch * network.channels * network.height * network.width
    return BATCHES_AHEAD * batch + (measured.memory_plan().total if measured else 0)


def _load_weights(network: Network, settings: TrainingSettings, notes: list[str]) -> None:
    if settings.weights is None:
        return
    filled = network.load_weights(settings.weights, partial=True)
    if settings.clear:
        network.seen = 0
    if network.iteration >= network.options.max_batches:
        raise InputError(
            f"has done {network.iteration:,} iterations and max_batches={network.options.max_batches}: nothing is "
            f"left to train; raise max_batches, or start counting anew with -clear",
            where=str(settings.weights),
        )
    where = f"going on from {settings.weights}" if network.iteration else f"starting from {settings.weights}"
    notes.append(f"{where}: {text.plural(filled, 'layer')} with weights, iteration {network.iteration:,}")
