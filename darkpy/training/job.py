"""A whole training from files to files: what ``darkpy detector train`` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from darkpy import resources
from darkpy.config.cfg import read_cfg
from darkpy.config.data_files import read_data_file
from darkpy.config.net import NetOptions
from darkpy.config.options import parse_options
from darkpy.errors import ConfigError, DataError, InputError, Problem
from darkpy.evaluation import evaluate
from darkpy.network import Network
from darkpy.summary import layer_rows
from darkpy.training import text
from darkpy.training.callback import Callback, Outcome
from darkpy.training.chart import Chart
from darkpy.training.checkpoint import EVERY, Checkpoint
from darkpy.training.csv_log import CsvLog
from darkpy.training.evaluator import EPOCHS, Evaluator, iterations_between
from darkpy.training.interrupt import Interrupt
from darkpy.training.memory import available_memory, check_memory
from darkpy.training.problems import ProblemLog
from darkpy.training.progress import Progress
from darkpy.training.run_folder import RunFolder
from darkpy.training.trainer import Trainer
from darkpy.version import __version__

if TYPE_CHECKING:
    from darkpy.config.cfg import Config
    from darkpy.data.augmentation import Augmentation
    from darkpy.data.dataset import Dataset
    from darkpy.data.loader import Loader
    from darkpy.evaluation import Evaluation

COUNTED = 20_000
"""Of a data set with more pictures the labels are read as they are needed, not counted before the start."""

EVALUATION_BATCH = 8
"""Pictures of a forward pass in an evaluation."""

FLOAT_BYTES = 4

BATCHES_AHEAD = 3
"""Batches the loader keeps in memory: the one in use and those made ahead."""

NOTICEABLE = 0.05
"""Share of the time spent waiting for pictures from which it is worth a word."""


@dataclass(frozen=True)
class TrainingSettings:
    """What to train, on what, and how.

    cfg: the network; looked up in the working folder first, then among those of darkpy.
    data: the data set, anything :func:`darkpy.data.dataset.open_dataset` takes; by default
        ``data/<name of the cfg>.yaml`` or ``.data``, see :func:`default_data`.
    weights: where to start from, all layers or the first ones; training goes on at the iteration stored there.
    clear: start at iteration 0 whatever the weights say.
    out: the run folder, new or empty; by default ``runs/<name of the cfg>-N``.
    seed: the source of everything random. workers: threads of the loader, None for a number that suits the machine.
    measure: whether to evaluate on the validation set; None does so if there is one.
    every: iterations from one evaluation to the next; None for ``epochs`` times through the data, at least 100
        iterations, not before the end of burn_in. Whatever it is, the last iteration is evaluated.
    thresh, iou_thresh, points: of the evaluation, see :func:`darkpy.evaluation.evaluate`.
    keep_every: also keep the weights of every so many iterations; 0 for none, unless a .data file says saveweights.
    """

    cfg: str | Path
    data: str | Path | None = None
    weights: str | Path | None = None
    clear: bool = False
    out: str | Path | None = None
    seed: int = 0
    workers: int | None = None
    device: str = "cpu"
    measure: bool | None = None
    every: int | None = None
    epochs: int = EPOCHS
    thresh: float = 0.25
    iou_thresh: float = 0.5
    points: int = 0
    keep_every: int = 0


@dataclass(frozen=True)
class TrainingResult:
    """What came of it. ``best`` is the best mean average precision, 0..1; None if none was measured."""

    folder: Path
    outcome: Outcome
    iteration: int
    average_loss: float
    best: float | None
    evaluation: Evaluation | None
    seconds: float


def train(settings: TrainingSettings, progress: Progress | None = None) -> TrainingResult:
    """Train a detector; everything it leaves is in the folder of the result.

    Files, network, whether the data set fits it and whether there is memory enough are checked before anything is
    written or computed. Ctrl-C completes the iteration, saves ``last.weights`` and returns; a second one raises
    KeyboardInterrupt at once.

    Raises :class:`~darkpy.errors.InputError` for what is found beforehand, :class:`~darkpy.errors.TrainingError` for
    what goes wrong later, such as a loss that is not a number.
    """
    return _Job(settings, progress or Progress()).run()


def default_data(cfg: str | Path) -> Path:
    """The data set that goes with a cfg by its name: ``data/<name>.yaml`` or ``.data``, here or in darkpy."""
    names = [Path(cfg).stem + ending for ending in (".yaml", ".data")]
    for name in names:
        if Path("data", name).is_file():
            return Path("data", name)
    for name in names:
        if name in resources.available("data"):
            return resources.find("data", name)
    raise DataError(
        f"no data set is named, and there is no data/{names[0]} or data/{names[1]}; name one with --data",
        where=str(cfg),
    )


class _DetectionHead(Protocol):
    """What is needed of a head such as [yolo]."""

    name: str
    options: Any

    def where(self, key: str) -> str: ...


class _Job:
    """The steps of a training, in their order, with what they hand on to each other."""

    def __init__(self, settings: TrainingSettings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress
        self.config: Config = read_cfg(resources.find("cfg", settings.cfg))
        self.data = Path(settings.data) if settings.data is not None else default_data(self.config.path)
        self.network: Network
        self.measured: Network | None = None
        self.train_set: Dataset
        self.val_set: Dataset | None = None
        self.memory = 0
        self.cache: int | None = None
        self.notes: list[str] = []

    def run(self) -> TrainingResult:
        """All of it."""
        began = time.perf_counter()
        self._open_data()
        self._build_networks()
        self._load_weights()
        folder = RunFolder.create(Path(self.config.path).stem, self.settings.out)
        self._say_what_is_trained()
        self._keep_origin(folder)
        problems = ProblemLog(folder.problems, self.progress)
        problems.add_all([*self.train_set.problems, *(self.val_set.problems if self.val_set else [])])
        with Interrupt() as interrupt, self._loader(problems) as loader:
            evaluator = self._evaluator(folder)
            callbacks = self._callbacks(folder, evaluator)
            trainer = Trainer(self.network, loader, callbacks, interrupt, self.train_set.pictures)
            outcome = trainer.run()
        result = TrainingResult(
            folder=folder.path,
            outcome=outcome,
            iteration=self.network.iteration,
            average_loss=trainer.average,
            best=evaluator.best if evaluator else None,
            evaluation=evaluator.last if evaluator else None,
            seconds=time.perf_counter() - began,
        )
        problems.conclude()
        self._say_how_it_went(result, evaluator, loader.waited)
        return result

    # Before the first step -------------------------------------------------------------------------------------

    def _open_data(self) -> None:
        from darkpy.data.dataset import open_dataset

        self.train_set = open_dataset(self.data, "train", notify=self.progress.message)
        if self.settings.measure is False:
            return
        try:
            self.val_set = open_dataset(self.data, "val", self.train_set.names, notify=self.progress.message)
        except DataError as error:
            if self.settings.measure:
                raise
            self.notes.append(f"without a validation set the detector is not measured while it is trained: {error}")

    def _build_networks(self) -> None:
        free = available_memory()
        self.network = self._training_network(free)
        self.network.names = self.train_set.names
        if self.val_set is not None:
            self.measured = Network(self.config, batch=EVALUATION_BATCH, device=self.settings.device)
            self.measured.names = self.val_set.names
        options = self.network.options
        self.memory = check_memory(self.network, options, free, beside=self._memory_beside(self.network, options))
        # Decoded pictures are kept in what is left, not all of it: others want to live too.
        self.cache = self._cache_bytes(free)

    def _training_network(self, free: int | None) -> Network:
        """The network at the largest size it will have; OutOfMemory names what would fit."""
        make = partial(Network, self.config, training=True, keep_gradients=False, device=self.settings.device)
        try:
            network = make(seed=self.settings.seed)
            self._check_network(network)
            network.resize(*self._size_at(network)(0))
            return network
        except MemoryError:
            # The system itself refused. A network for one picture can tell what would fit.
            options = parse_options(NetOptions, self.config.net, [], [])
            assert options is not None, "the network could be built from them"
            network = make(batch=options.subdivisions)
            network.resize(*self._size_at(network)(0))
            check_memory(network, options, free, beside=self._memory_beside(network, options))
            raise

    def _check_network(self, network: Network) -> None:
        """Whether this network can be trained as a detector of these classes."""
        net = self.config.net
        heads = detection_heads(network)
        if not heads:
            raise ConfigError("has no detection head such as [yolo]: it is no detector", where=self.config.path)
        problems = []
        if network.options.max_batches < 1:
            problems.append(Problem(net.where_of("max_batches"), f"[{net.name}] needs max_batches=, where to stop"))
        classes = self.train_set.classes
        for head in heads:
            if head.options.classes != classes:
                message = f"[{head.name}] classes={head.options.classes}, but {self.data} has {classes}"
                problems.append(Problem(head.where("classes"), f"{message}; change it, and filters= before it"))
        if problems:
            raise ConfigError(problems=problems)

    def _size_at(self, network: Network) -> Callable[[int], tuple[int, int]]:
        """Width and height of the input at each iteration; the largest is that of iteration 0."""
        from darkpy.data.loader import multi_scale

        options = network.options
        return multi_scale(
            options.width,
            options.height,
            random=getattr(detection_heads(network)[-1].options, "random", 0),
            resize_step=options.resize_step,
            seed=self.settings.seed,
            max_batches=options.max_batches,
        )

    def _memory_beside(self, network: Network, options: NetOptions) -> int:
        """Bytes for the evaluation's network and the batches of the loader."""
        batch = FLOAT_BYTES * options.batch * network.channels * network.height * network.width
        return BATCHES_AHEAD * batch + (self.measured.memory_plan().total if self.measured else 0)

    def _cache_bytes(self, free: int | None) -> int | None:
        from darkpy.data.loader import default_cache_bytes

        return None if free is None else min(default_cache_bytes(), (free - self.memory) // 2)

    def _load_weights(self) -> None:
        network, settings = self.network, self.settings
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
        self.notes.append(f"{where}: {text.plural(filled, 'layer')} with weights, iteration {network.iteration:,}")

    def _keep_origin(self, folder: RunFolder) -> None:
        """Copy the cfg, and write down the settings with the files that were found for them."""
        folder.keep_cfg(self.config.path)
        used = {**asdict(self.settings), "cfg": self.config.path, "data": self.data}
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in used.items()}
        folder.keep_arguments({"darkpy": __version__, **plain})

    # The parts of the training ---------------------------------------------------------------------------------

    def _loader(self, problems: ProblemLog) -> Loader:
        from darkpy.data.loader import Loader

        network = self.network
        return Loader(
            self.train_set,
            self._augmentation(),
            batch=network.options.batch,
            size_at=self._size_at(network),
            channels=network.channels,
            seed=self.settings.seed,
            workers=self.settings.workers,
            start=network.iteration,
            cache_bytes=self.cache,
            report=problems.add,
        )

    def _augmentation(self) -> Augmentation:
        from darkpy.data.augmentation import Augmentation

        return Augmentation.from_options(self.network.options, detection_heads(self.network)[-1].options)

    def _evaluator(self, folder: RunFolder) -> Evaluator | None:
        if self.val_set is None or self.measured is None:
            return None
        settings, options = self.settings, self.network.options
        measure = partial(
            evaluate,
            dataset=self.val_set,
            thresh=settings.thresh,
            iou_thresh=settings.iou_thresh,
            points=settings.points,
        )
        by_epochs = iterations_between(options, len(self.train_set), settings.epochs)
        return Evaluator(
            self.measured,
            measure,
            folder,
            self.progress,
            every=settings.every or by_epochs,
            not_before=0 if settings.every else options.burn_in,
        )

    def _callbacks(self, folder: RunFolder, evaluator: Evaluator | None) -> list[Callback]:
        """In the order of their work: the log and the chart want to know the evaluation's result."""
        every, keep_every = self._saving()
        title = f"{Path(self.config.path).name}   {folder.path}"
        return [
            self.progress,
            *([evaluator] if evaluator else []),
            CsvLog(folder.results),
            Checkpoint(folder, self.progress, every=every, keep_every=keep_every),
            Chart(folder.chart, title),
        ]

    def _saving(self) -> tuple[int, int]:
        """Iterations between two ``last.weights`` and between weights to keep; a .data file may say so."""
        if self.data.suffix.lower() != ".data":
            return EVERY, self.settings.keep_every
        extra = read_data_file(self.data).extra
        return extra["savelast"], self.settings.keep_every or extra["saveweights"]

    # What the user is told -------------------------------------------------------------------------------------

    def _say_what_is_trained(self) -> None:
        network = self.network
        rows = layer_rows(network.layers, network.graph.input_shape)
        parameters = sum(row.parameters for row in rows)
        operations = sum(row.operations for row in rows)
        threads = text.plural(network.backend.threads, "thread")
        self.progress.heading(
            f"darkpy {__version__}   {self.config.path}   {len(rows)} layers, {parameters / 1e6:.2f} M parameters, "
            f"{operations / 1e9:.2f} BFLOPs   {network.backend.name} backend, {threads}"
        )
        val = f"   val {len(self.val_set):,}" if self.val_set else ""
        self.progress.heading(
            f"train {_size(self.train_set)}{val}   {self.train_set.classes} classes   "
            f"memory {text.quantity(self.memory, 'B')} planned"
        )
        for note in [*self.notes, *self._remarks()]:
            self.progress.message(note)

    def _remarks(self) -> list[str]:
        """What is worth knowing of cfg and data beforehand, such as keys without effect."""
        notes = [str(warning) for warning in self.network.warnings]
        notes += [f"{self.data}  {note}" for note in self.train_set.notes]
        if self.val_set is not None and self.val_set.pictures == self.train_set.pictures:
            notes.append(f"{self.data}  the validation pictures are the training pictures: mAP will look too good")
        if self.data.suffix.lower() == ".data" and read_data_file(self.data).backup is not None:
            notes.append(f"{self.data}  backup= is not used: weights are saved in the run folder")
        return notes

    def _say_how_it_went(self, result: TrainingResult, evaluator: Evaluator | None, waited: float) -> None:
        if waited > NOTICEABLE * result.seconds:
            self.progress.message(f"{text.duration(waited)} were spent waiting for pictures; try more --workers")
        if result.outcome is not Outcome.FINISHED:
            return
        measured = ""
        if evaluator is not None and evaluator.last is not None and evaluator.best is not None:
            label = f"mAP@{100 * evaluator.last.iou_thresh:.0f}"
            final = 100 * evaluator.last.mean_average_precision
            measured = f"   {label} {final:.1f}, best {100 * evaluator.best:.1f} at it {evaluator.best_iteration:,}"
        time_taken = text.duration(result.seconds)
        self.progress.heading(f"done in {time_taken}   loss {text.short(result.average_loss)}{measured}")
        self.progress.heading(f"weights, results.csv and chart.png are in {result.folder}")


def detection_heads(network: Network) -> list[Any]:
    """The heads that find boxes, in order."""
    return [head for head in network.heads if hasattr(head, "boxes")]


def _size(dataset: Dataset) -> str:
    """``2,000 pictures, 6,112 boxes``."""
    pictures = text.plural(len(dataset), "picture")
    if len(dataset) > COUNTED:
        return pictures
    boxes = sum(len(dataset.boxes(index)) for index in range(len(dataset)))
    return f"{pictures}, {boxes:,} {'box' if boxes == 1 else 'boxes'}"
