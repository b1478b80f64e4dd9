"""A whole training from files to files: what ``darkpy detector train`` does."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from darkpy.config.data_files import read_data_file
from darkpy.data.dataset import Dataset
from darkpy.evaluation import evaluate
from darkpy.summary import layer_rows
from darkpy.training import text
from darkpy.training.callback import Callback, Outcome
from darkpy.training.chart import Chart
from darkpy.training.checkpoint import EVERY, Checkpoint
from darkpy.training.csv_log import CsvLog
from darkpy.training.evaluator import Evaluator, iterations_between
from darkpy.training.interrupt import Interrupt
from darkpy.training.preparation import Prepared, prepare
from darkpy.training.problems import ProblemLog
from darkpy.training.progress import Progress
from darkpy.training.run_folder import RunFolder
from darkpy.training.settings import TrainingSettings
from darkpy.training.trainer import Trainer
from darkpy.version import __version__

if TYPE_CHECKING:
    from darkpy.evaluation import Evaluation

COUNTED = 20_000
"""Of a data set with more pictures the labels are read as they are needed, not counted before the start."""

NOTICEABLE = 0.05
"""Share of the time spent waiting for pictures from which it is worth a word."""


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
    began = time.perf_counter()
    progress = progress or Progress()
    job = prepare(settings, progress.message)
    folder = RunFolder.create(Path(job.config.path).stem, settings.out)
    _keep_origin(folder, job)
    _say_what_is_trained(progress, job)
    problems = ProblemLog(folder.problems, progress)
    problems.add_all([*job.train_set.problems, *(job.val_set.problems if job.val_set else [])])
    evaluator = _evaluator(job, folder, progress)
    with Interrupt() as interrupt, job.loader(problems.add) as loader:
        callbacks = _callbacks(job, folder, progress, evaluator)
        trainer = Trainer(job.network, loader, callbacks, interrupt, job.train_set.pictures)
        outcome = trainer.run()
    result = TrainingResult(
        folder=folder.path,
        outcome=outcome,
        iteration=job.network.iteration,
        average_loss=trainer.average,
        best=evaluator.best if evaluator else None,
        evaluation=evaluator.last if evaluator else None,
        seconds=time.perf_counter() - began,
    )
    problems.conclude()
    _say_how_it_went(progress, result, evaluator, loader.waited)
    return result


def _keep_origin(folder: RunFolder, job: Prepared) -> None:
    """Copy the cfg, and write down the settings with the files that were found for them."""
    folder.keep_cfg(job.config.path)
    used = {**asdict(job.settings), "cfg": job.config.path, "data": job.data}
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in used.items()}
    folder.keep_arguments({"darkpy": __version__, **plain})


def _evaluator(job: Prepared, folder: RunFolder, progress: Progress) -> Evaluator | None:
    if job.val_set is None or job.measured is None:
        return None
    settings, options = job.settings, job.network.options
    measure = partial(
        evaluate,
        dataset=job.val_set,
        thresh=settings.thresh,
        iou_thresh=settings.iou_thresh,
        points=settings.points,
    )
    return Evaluator(
        job.measured,
        measure,
        folder,
        progress,
        every=settings.every or iterations_between(options, len(job.train_set), settings.epochs),
        not_before=0 if settings.every else options.burn_in,
    )


def _callbacks(job: Prepared, folder: RunFolder, progress: Progress, evaluator: Evaluator | None) -> list[Callback]:
    """In the order of their work: the log and the chart want to know the evaluation's result."""
    every, keep_every = _saving(job)
    return [
        progress,
        *([evaluator] if evaluator else []),
        CsvLog(folder.results),
        Checkpoint(folder, progress, every=every, keep_every=keep_every),
        Chart(folder.chart, f"{Path(job.config.path).name}   {folder.path}"),
    ]


def _saving(job: Prepared) -> tuple[int, int]:
    """Iterations between two ``last.weights`` and between weights to keep; a .data file may say so."""
    if not _is_data_file(job.data):
        return EVERY, job.settings.keep_every
    extra = read_data_file(job.data).extra
    return extra["savelast"], job.settings.keep_every or extra["saveweights"]


def _is_data_file(data: Path) -> bool:
    return data.suffix.lower() == ".data"


# What the user is told -------------------------------------------------------------------------------------------


def _say_what_is_trained(progress: Progress, job: Prepared) -> None:
    network = job.network
    rows = layer_rows(network.layers, network.graph.input_shape)
    parameters = sum(row.parameters for row in rows)
    operations = sum(row.operations for row in rows)
    progress.heading(
        f"darkpy {__version__}   {job.config.path}   {len(rows)} layers, {parameters / 1e6:.2f} M parameters, "
        f"{operations / 1e9:.2f} BFLOPs   {network.backend.name} backend, "
        f"{text.plural(network.backend.threads, 'thread')}"
    )
    val = f"   val {len(job.val_set):,}" if job.val_set else ""
    progress.heading(
        f"train {_size(job.train_set)}{val}   {job.train_set.classes} classes   "
        f"memory {text.quantity(job.memory, 'B')} planned"
    )
    for note in job.notes:
        progress.message(note)
    if _is_data_file(job.data) and read_data_file(job.data).backup is not None:
        progress.message(f"{job.data}  backup= is not used: weights are saved in the run folder")


def _size(dataset: Dataset) -> str:
    """``2,000 pictures, 6,112 boxes``."""
    pictures = text.plural(len(dataset), "picture")
    if len(dataset) > COUNTED:
        return pictures
    boxes = sum(len(dataset.boxes(index)) for index in range(len(dataset)))
    return f"{pictures}, {boxes:,} {'box' if boxes == 1 else 'boxes'}"


def _say_how_it_went(progress: Progress, result: TrainingResult, evaluator: Evaluator | None, waited: float) -> None:
    if waited > NOTICEABLE * result.seconds:
        progress.message(f"{text.duration(waited)} were spent waiting for pictures; try more --workers")
    if result.outcome is not Outcome.FINISHED:
        return
    measured = ""
    if evaluator is not None and evaluator.last is not None and evaluator.best is not None:
        label = f"mAP@{100 * evaluator.last.iou_thresh:.0f}"
        final = 100 * evaluator.last.mean_average_precision
        measured = f"   {label} {final:.1f}, best {100 * evaluator.best:.1f} at it {evaluator.best_iteration:,}"
    progress.heading(f"done in {text.duration(result.seconds)}   loss {text.short(result.average_loss)}{measured}")
    progress.heading(f"weights, results.csv and chart.png are in {result.folder}")
