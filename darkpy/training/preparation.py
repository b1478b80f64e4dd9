"""Everything a training needs, built and checked before its first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from darkpy import backends, resources, text
from darkpy.config.cfg import Config, Entry, read_cfg
from darkpy.config.net import NetOptions
from darkpy.config.options import parse_options
from darkpy.data.augmentation import Augmentation
from darkpy.data.dataset import Dataset
from darkpy.data.loader import Loader, default_cache_bytes, multi_scale
from darkpy.data.opening import open_dataset
from darkpy.errors import ConfigError, DataError, InputError, OutOfMemory, Problem
from darkpy.evaluation import evaluate
from darkpy.network import Network
from darkpy.rehearsal import scratch_memory
from darkpy.training import ema
from darkpy.training.callback import Callback, Measured
from darkpy.training.csv_log import CsvLog
from darkpy.training.memory import available_memory, check_memory, fewest_subdivisions
from darkpy.training.run_folder import RunFolder
from darkpy.training.settings import TrainingSettings, default_data
from darkpy.training.tensorboard import require_tensorboard

EVALUATION_BATCH = 8
"""Pictures of a forward pass in an evaluation."""

FLOAT_BYTES = 4

COUNTED = 20_000
"""Of a data set with more pictures the labels are read as they are needed, not counted before the start."""

REASONS = 3
"""So many problems are told where a data set turns out to have no objects."""

BATCHES_AHEAD = 3
"""Batches the loader keeps in memory: the one in use and those made ahead."""


@dataclass
class Prepared:
    """A training of a detector that can begin; :func:`prepare` makes it. Others derive from it what they do otherwise.

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

    task: ClassVar[str] = "detector"
    settings_type: ClassVar[type[TrainingSettings]] = TrainingSettings
    evaluation_batch: ClassVar[int] = EVALUATION_BATCH

    @staticmethod
    def open(data: Path, split: str, names: Sequence[str] | None, notify: Callable[[str], None]) -> Dataset:
        """The pictures of a split; raises DataError if there is nothing to learn from those to train with."""
        dataset = open_dataset(data, split, names, notify=notify)
        if split == "train":
            _require_objects(dataset, str(data))
        return dataset

    @staticmethod
    def check(network: Network, classes: int, data: str) -> None:
        """Raise :class:`~darkpy.errors.InputError` if the network cannot be trained to tell so many classes apart."""
        check_detector(network, classes, data)

    @staticmethod
    def size_at(network: Network, seed: int) -> Callable[[int], tuple[int, int]]:
        """Width and height of the input at each iteration; the largest is that of iteration 0."""
        return size_at(network, seed)

    def size(self) -> str:
        """What there is to train with: ``2,000 pictures, 6,112 boxes``."""
        pictures = text.plural(len(self.train_set), "picture")
        if len(self.train_set) > COUNTED:
            return pictures
        boxes = sum(len(self.train_set.boxes(index)) for index in range(len(self.train_set)))
        return f"{pictures}, {boxes:,} {'box' if boxes == 1 else 'boxes'}"

    def measure(self, val_set: Dataset) -> Callable[..., Measured]:
        """The function that evaluates, see :class:`~darkpy.training.evaluator.Evaluator`."""
        return partial(
            evaluate,
            dataset=val_set,
            thresh=self.settings.thresh,
            iou_thresh=self.settings.iou_thresh,
            points=self.settings.points,
        )

    def log(self, folder: RunFolder) -> CsvLog:
        """The log, with the columns that suit."""
        return CsvLog(folder.results)

    def more_callbacks(self, folder: RunFolder) -> list[Callback]:
        """What else is to be done beside the training."""
        return []

    def loader(self, report: Callable[[Problem], None]) -> Loader:
        """The batches from where the network is; ``report`` hears of pictures and labels that cannot be used."""
        network = self.network
        return Loader(
            self.train_set,
            Augmentation.from_options(network.options, detection_heads(network)[-1].options),
            batch=network.options.batch,
            size_at=self.size_at(network, self.settings.seed),
            channels=network.channels,
            seed=self.settings.seed,
            workers=self.settings.workers,
            start=network.iteration,
            cache_bytes=self.cache,
            report=report,
            options=network.options,
            as_bytes=network.backend.bytes_preferred,
            memory=network.backend.picture_memory,
        )


def prepare(
    settings: TrainingSettings, notify: Callable[[str], None], kind: type[Prepared] = Prepared
) -> Prepared:
    """Read the cfg and the data, build the networks, load the weights, and see whether there is memory enough.

    ``notify`` hears of what takes a while, such as drawing the built-in data set. Raises
    :class:`~darkpy.errors.InputError` for anything that cannot be used; nothing has been written then.
    """
    if settings.tensorboard:
        require_tensorboard()
    config = read_cfg(resources.find("cfg", settings.cfg))
    _check_before_data(with_subdivisions(config, settings.subdivisions), settings)
    data = found_data(settings.data) if settings.data is not None else default_data(config.path)
    notes: list[str] = []
    train_set = kind.open(data, "train", None, notify)
    val_set = _open_validation(kind, data, train_set, settings.measure, notes, notify)
    free = _free_memory(settings.device)
    if settings.auto_subdivisions and settings.subdivisions is None:
        settings = replace(settings, subdivisions=_fewest_subdivisions(kind, config, settings, free, val_set))
        notes.append(f"subdivisions={settings.subdivisions} is the fewest that fits into memory")
    config = with_subdivisions(config, settings.subdivisions)
    network = _training_network(kind, config, settings, train_set, str(data), free)
    measured = None
    if val_set is not None:
        measured = Network(
            config, batch=kind.evaluation_batch, device=settings.device, precision=settings.precision
        )
        measured.names = val_set.names
    beside = _memory_beside(network, measured)
    memory = check_memory(network, net_options(config), free, beside=beside)
    _load_weights(network, settings, notes)
    notes += [str(warning) for warning in network.warnings]
    if settings.freeze:
        notes.append(f"the first {text.plural(settings.freeze, 'layer')} stay as they are")
    if network.options.ema_alpha and not ema.has_effect(network.options.ema_alpha, network.options.max_batches):
        where = config.net.where_of("ema_alpha")
        notes.append(f"{where}  ema_alpha has no effect: max_batches is too small, see {ema.TAIL} iterations")
    if network.options.loss_scale is not None and settings.precision in ("fp32", "tf32"):
        where = config.net.where_of("loss_scale")
        notes.append(f"{where}  loss_scale has no effect: gradients are float32 without --amp fp16 or bf16")
    notes += [f"{data}  {note}" for note in train_set.notes]
    # Decoded pictures are kept in what is left, but not in all of it: others want to live too.
    left = available_memory() if _has_own_memory(network) else None if free is None else free - memory
    cache = None if left is None else min(default_cache_bytes(), left // 2)
    return kind(settings, config, data, train_set, val_set, network, measured, memory, cache, notes)


def _check_before_data(config: Config, settings: TrainingSettings) -> None:
    """Find mistakes in the cfg, and a device that will not do, in milliseconds: data may take minutes to read."""
    device, precision = settings.device, settings.precision
    backends.usable(device, precision=precision)
    Network(config, training=True, device=device, precision=precision, plan_only=True)


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


def found_data(data: str | Path) -> Path:
    """A folder as it is; a file here or among those of darkpy."""
    return Path(data) if Path(data).is_dir() else resources.find("data", data)


def _require_objects(dataset: Dataset, data: str) -> None:
    """Raise DataError if no picture has an object, with what is wrong with the first ones."""
    if any(len(dataset.boxes(index)) for index in range(len(dataset))):
        return
    message = f"none of its {text.plural(len(dataset), 'picture')} has an object to be learned"
    raise DataError(problems=[*dataset.problems[:REASONS], Problem(data, message)])


def _open_validation(
    kind: type[Prepared],
    data: Path,
    train_set: Dataset,
    wanted: bool | None,
    notes: list[str],
    notify: Callable[[str], None],
) -> Dataset | None:
    """The validation set; None if it is not wanted, or if there is none and it need not be."""
    if wanted is False:
        return None
    try:
        val_set = kind.open(data, "val", train_set.names, notify)
    except DataError as error:
        if wanted:
            raise
        notes.append(f"without a validation set nothing is measured during the training: {error}")
        return None
    if val_set.pictures == train_set.pictures:
        notes.append(f"{data}  the validation pictures are the training pictures: the result will look too good")
    return val_set


def _training_network(
    kind: type[Prepared], config: Config, settings: TrainingSettings, train_set: Dataset, data: str, free: int | None
) -> Network:
    """The network at the largest size it will have; OutOfMemory, if the system refuses, names what would fit."""
    make = partial(
        Network,
        config,
        training=True,
        keep_gradients=False,
        device=settings.device,
        precision=settings.precision,
        seed=settings.seed,
        freeze=settings.freeze,
    )
    try:
        network = make()
        kind.check(network, train_set.classes, data)
        _check_freeze(network, settings.freeze)
        network.names = train_set.names
        network.resize(*kind.size_at(network, settings.seed)(0))
        return network
    except (MemoryError, OutOfMemory):
        network = make(plan_only=True)
        network.resize(*kind.size_at(network, settings.seed)(0))
        check_memory(network, net_options(config), free, beside=_memory_beside(network, None))
        raise


def net_options(config: Config) -> NetOptions:
    """``[net]`` as the cfg has it; in training a network has its batch times the ``time_steps``."""
    options = parse_options(NetOptions, config.net, [], [])
    assert options is not None, "the network was built from them"
    return options


def with_subdivisions(config: Config, subdivisions: int | None) -> Config:
    """The cfg with other subdivisions, or as it is for None."""
    if subdivisions is None:
        return config
    net = config.net
    given = net.get("subdivisions")
    others = tuple(entry for entry in net.entries if entry.key != "subdivisions")
    entry = Entry("subdivisions", str(subdivisions), given.line if given else net.line)
    return replace(config, net=replace(net, entries=(*others, entry)))


def _fewest_subdivisions(
    kind: type[Prepared], config: Config, settings: TrainingSettings, free: int | None, val_set: Dataset | None
) -> int:
    """The fewest subdivisions that fit; those of the cfg where the system does not say what is free.

    If none fit, the error comes from the check that follows.
    """
    options = net_options(config)
    if free is None:
        return options.subdivisions
    plan = partial(Network, config, device=settings.device, precision=settings.precision, plan_only=True)
    network = plan(training=True, keep_gradients=False)
    network.resize(*kind.size_at(network, settings.seed)(0))
    measured = None
    if val_set is not None:
        measured = plan(batch=kind.evaluation_batch)
    found = fewest_subdivisions(network, options, free, beside=_memory_beside(network, measured))
    return options.subdivisions if found is None else found


def _check_freeze(network: Network, freeze: int) -> None:
    """Whether anything is left to learn."""
    left = network.layers[freeze:]
    if not any(parameter.trained for layer in left for parameter in layer.parameters()):
        layers = text.plural(len(network.layers), "layer")
        raise InputError(f"--freeze {freeze} leaves nothing to train of {layers}", where=network.config.path)


def check_detector(network: Network, classes: int, data: str) -> None:
    """Whether this network can be trained as a detector of so many classes."""
    net = network.config.net
    heads = detection_heads(network)
    if not heads:
        message = "has no detection head such as [yolo]: it is no detector; see darkpy classifier"
        raise ConfigError(message, where=network.config.path)
    problems = []
    if network.options.max_batches < 1:
        problems.append(Problem(net.where_of("max_batches"), f"[{net.name}] needs max_batches=, where to stop"))
    for head in heads:
        if head.options.classes != classes:
            message = f"[{head.name}] classes={head.options.classes}, but {data} has {classes}"
            problems.append(Problem(head.where("classes"), f"{message}; change it, and filters= before it"))
    if problems:
        raise ConfigError(problems=problems)


def _memory_beside(network: Network, measured: Network | None) -> int:
    """Bytes for the batches of the loader, unless the network is elsewhere, its evaluation and the moving average."""
    options = network.options
    pictures = 0 if _has_own_memory(network) else options.batch
    batch = FLOAT_BYTES * pictures * network.channels * network.height * network.width
    average = network.memory_plan().gradients if ema.has_effect(options.ema_alpha, options.max_batches) else 0
    evaluation = measured.memory_plan().total + scratch_memory(measured) if measured else 0
    return BATCHES_AHEAD * batch + evaluation + 2 * average


def _free_memory(device: str) -> int | None:
    """Bytes that can be had where the network will be; None where the system does not say."""
    on_device = backends.create(device).free_memory()
    return available_memory() if on_device is None else on_device


def _has_own_memory(network: Network) -> bool:
    """Whether the device has memory of its own."""
    return network.backend.free_memory() is not None


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
