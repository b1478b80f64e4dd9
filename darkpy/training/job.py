"""A whole training from files to files: what ``darkpy detector train`` does."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from errno import EACCES
from hashlib import sha256
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from darkpy import plugins, text
from darkpy.config.data_files import DataDescription, read_data
from darkpy.detection import detection_heads
from darkpy.errors import NotFinite
from darkpy.network import Network
from darkpy.summary import layer_rows
from darkpy.training.callback import Callback, Measured, Outcome
from darkpy.training.chart import Chart
from darkpy.training.checkpoint import EVERY, Checkpoint
from darkpy.training.divergence import Diverged
from darkpy.training.ema import Ema, has_effect
from darkpy.training.evaluator import Evaluator, iterations_between
from darkpy.training.interrupt import Interrupt
from darkpy.training.json_log import JsonLog
from darkpy.training.preparation import Prepared, prepare
from darkpy.training.problems import ProblemLog
from darkpy.training.progress import Progress
from darkpy.training.report_file import ReportFile
from darkpy.training.run_folder import RunFolder
from darkpy.training.settings import TrainingSettings
from darkpy.training.skipped_updates import SkippedUpdates
from darkpy.training.state import State, restore
from darkpy.training.status import StatusFile
from darkpy.training.tensorboard import TensorBoard
from darkpy.training.time_limit import TimeLimit
from darkpy.training.trainer import Trainer
from darkpy.version import __version__

NOTICEABLE, NOTICEABLE_SECONDS = 0.05, 1.0
"""Share of the time, and time, spent waiting for pictures from which it is worth a word."""


ROLLBACKS = 3
"""How often a run is taken back to what was saved last, each time with half the learning rate."""


@dataclass(frozen=True)
class TrainingResult:
    """What came of it.

    best: the best score, mAP or top-1 accuracy, 0..1; None if none was measured. reason: why it ended before the last
    iteration. signal: the number of the signal that stopped it.
    """

    folder: Path
    outcome: Outcome
    iteration: int
    average_loss: float
    best: float | None
    evaluation: Measured | None
    seconds: float
    reason: str = ""
    signal: int | None = None


def train(
    settings: TrainingSettings,
    progress: Progress | None = None,
    kind: type[Prepared] = Prepared,
) -> TrainingResult:
    """Train a detector; everything it leaves is in the folder of the result.

    ``kind`` says what is trained and how it is measured, another than a detector's if need be.

    Files, network, whether the data set fits it and whether there is memory enough are checked before anything is
    written or computed. Ctrl-C and SIGTERM complete the iteration, save and return, see
    :func:`darkpy.training.resume`; a second one raises KeyboardInterrupt at once.

    Raises :class:`~darkpy.errors.InputError` for what is found beforehand, :class:`~darkpy.errors.TrainingError` for
    what goes wrong later, such as a loss that is not a number or a full disk.
    """
    progress = progress or Progress()
    job = prepare(settings, progress.message, kind)
    folder = RunFolder.create(Path(job.config.path).stem, settings.out)
    with folder.locked():
        _keep_origin(folder, job)
        return conduct(job, folder, progress)


def conduct(job: Prepared, folder: RunFolder, progress: Progress, state: State | None = None) -> TrainingResult:
    """Train what was prepared, from ``state`` on if the network was restored from one."""
    _warm_up(job, progress)
    began = time.perf_counter()
    folder.backups = _backups(job, progress)
    _say_what_is_trained(progress, job)
    problems = ProblemLog(folder.problems, progress)
    problems.add_all([*job.train_set.problems, *(job.val_set.problems if job.val_set else [])])
    outcome = None
    with Interrupt() as interrupt:
        while outcome is None:
            part = Part(job, folder, progress, interrupt, problems, state, began)
            try:
                outcome = part.run()
            except Diverged as error:
                state = _rolled_back(part, error)  # or raised again
            except BaseException:
                part.say_what_is_saved()
                raise
    result = TrainingResult(
        folder=folder.path,
        outcome=outcome,
        iteration=job.network.iteration,
        average_loss=part.trainer.average,
        best=part.evaluator.best if part.evaluator else None,
        evaluation=part.evaluator.last if part.evaluator else None,
        seconds=time.perf_counter() - began,
        reason=part.trainer.reason,
        signal=interrupt.signal,
    )
    problems.conclude()
    _say_how_it_went(progress, result, part)
    return result


def _warm_up(job: Prepared, progress: Progress) -> None:
    """Get over with what a detector's first step on this machine would wait for: a copy's step with black pictures."""
    network = job.network
    is_detector = len(detection_heads(network)) == len(network.heads)
    if network.backend.first_use is None or not is_detector or network.options.time_steps > 1:
        return
    progress.message(network.backend.first_use)
    config = job.config.with_net(batch=2, subdivisions=1, sequential_subdivisions=1)
    device, precision = job.settings.device, job.settings.precision
    copy = Network(config, training=True, keep_gradients=False, device=device, precision=precision)
    black = np.zeros((2, copy.channels, copy.height, copy.width), np.float32)
    with suppress(NotFinite):  # then the training itself will say so
        copy.train_batch(black, [np.array([[0, 0.5, 0.5, 0.5, 0.5]], np.float32)] * 2)


class Part:
    """A run from where it is to its end, to an interruption, or to a loss that is not finite.

    state: where it is, None at the beginning. began: when the process began to train, by ``time.perf_counter``.
    """

    def __init__(
        self,
        job: Prepared,
        folder: RunFolder,
        progress: Progress,
        interrupt: Interrupt,
        problems: ProblemLog,
        state: State | None,
        began: float,
    ) -> None:
        self.began = began
        self.job = job
        self.folder = folder
        self.progress = progress
        self.rollbacks = state.rollbacks if state else 0
        self.evaluator = _evaluator(job, folder, progress)
        self.checkpoint = _checkpoint(job, folder, progress, self.rollbacks)
        self.loader = job.loader(problems.add)
        self.trainer = Trainer(
            job.network, self.loader, self._callbacks(), interrupt, job.train_set.pictures, state
        )

    def _callbacks(self) -> list[Callback]:
        """In the order of their work: what is logged comes after what is measured, what is saved after both.

        The report reads what the others have written.
        """
        job, folder, limit = self.job, self.folder, self.job.settings.time_limit
        return [
            self.progress,
            *([TimeLimit(limit, self.began)] if limit is not None else []),
            *([SkippedUpdates(self.progress)] if job.network.loss_scale.is_used else []),
            *([self.checkpoint.ema] if self.checkpoint.ema else []),
            *([self.evaluator] if self.evaluator else []),
            job.log(folder),
            JsonLog(folder.log),
            *([TensorBoard(folder.tensorboard)] if job.settings.tensorboard else []),
            *job.more_callbacks(folder),
            self.checkpoint,
            Chart(folder.chart, f"{Path(job.config.path).name}   {folder.path}", folder.log),
            StatusFile(folder.status, self.evaluator),
            *([ReportFile(job, folder, self.evaluator, self.progress)] if job.settings.report else []),
        ]

    def run(self) -> Outcome:
        """Train."""
        return self.trainer.run()

    def say_what_is_saved(self, option: str | None = "") -> None:
        """After a failure or a stop, how to go on, with an option that helps; None if nothing does."""
        if self.checkpoint.saved is not None:
            last = self.folder.weights("last")
            self.progress.message(f"iteration {self.checkpoint.saved:,} is saved, its weights are in {last}")
            if option is not None:
                command = f"darkpy {self.job.task} train --resume {quote(str(self.folder.path))}{option}"
                self.progress.message(f"to go on: {command}")
            self.progress.message(f"how it went: darkpy report {quote(str(self.folder.path))}")


def _rolled_back(part: Part, error: Diverged) -> State:
    """Bring the network back to what was saved last, with half the learning rate; or raise the error.

    Where it was brought back to that before, and came to the same end, what was saved then was perhaps no good any
    more, its numbers being finite but huge: then to what was saved before.
    """
    job, folder, progress = part.job, part.folder, part.progress
    if job.settings.on_nan != "rollback" or part.checkpoint.saved is None or part.rollbacks == ROLLBACKS:
        # Without a rollback it would come to the same end again.
        part.say_what_is_saved(" --on-nan rollback" if job.settings.on_nan != "rollback" else None)
        raise error
    came_to_nothing = part.rollbacks > 0 and part.checkpoint.saved == part.checkpoint.first
    path = folder.state_before if came_to_nothing and folder.state_before.exists() else folder.state
    state = State.load(path)
    state.rollbacks = part.rollbacks + 1
    state.rate_scale = job.network.rate_scale / 2
    restore(job.network, state, str(path))
    progress.message(error.what)
    progress.message(
        f"rollback {state.rollbacks} of {ROLLBACKS}: back to iteration {job.network.iteration:,}, with "
        f"{state.rate_scale:g} of the learning rate"
    )
    return state


def _keep_origin(folder: RunFolder, job: Prepared) -> None:
    """Copy the cfg and the layers it may use, and write down the settings with the files that were found for them."""
    folder.keep_cfg(job.config.path)
    own_layers = folder.keep_plugins(plugins.loaded())
    used = {**asdict(job.settings), "cfg": job.config.path, "data": job.data}
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in used.items()}
    if own_layers:
        plain["plugins"] = own_layers
    folder.keep_arguments({"darkpy": __version__, "task": job.task, "working_folder": str(Path.cwd()), **plain})


def _evaluator(job: Prepared, folder: RunFolder, progress: Progress) -> Evaluator | None:
    if job.val_set is None or job.measured is None:
        return None
    settings, options = job.settings, job.network.options
    return Evaluator(
        job.measured,
        job.measure(job.val_set),
        folder,
        progress,
        every=settings.every or iterations_between(options, len(job.train_set), settings.epochs),
        not_before=0 if settings.every else options.burn_in,
        patience=settings.patience,
    )


def _checkpoint(job: Prepared, folder: RunFolder, progress: Progress, rollbacks: int) -> Checkpoint:
    """Saves as often as the settings or a .data file say."""
    description = _description(job)
    extra = description.extra if description else {}
    alpha, max_batches = job.network.options.ema_alpha, job.network.options.max_batches
    return Checkpoint(
        folder,
        progress,
        every=extra.get("savelast", EVERY),
        keep_every=job.settings.keep_every or extra.get("saveweights", 0),
        ema=Ema(alpha, max_batches) if has_effect(alpha, max_batches) else None,
        keep_before=job.settings.on_nan == "rollback",
        rollbacks=rollbacks,
        origin=origin(job),
    )


def origin(job: Prepared) -> dict[str, Any]:
    """What has to be the same for a resumed run to be the same run."""
    backend = job.network.backend
    return {
        "cfg": sha256(Path(job.config.path).read_bytes()).hexdigest(),
        "pictures": len(job.train_set),
        "computed by": f"{backend.name}, {text.plural(backend.threads, 'thread')}",
    }


def _description(job: Prepared) -> DataDescription | None:
    """The file that describes the data set; None for a folder or a list."""
    return read_data(job.data) if job.data.suffix.lower() in (".data", ".yaml", ".yml") else None


def _backups(job: Prepared, progress: Progress) -> tuple[Path, str] | None:
    """Folder and first part of the name of the second copies of weights that ``backup=`` asks for."""
    description = _description(job)
    folder = description.backup if description else None
    if description is None or folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except OSError as error:
        where = description.where("backup")
        progress.message(f"{where}  backup={folder}: {error.strerror}; weights are saved in the run folder only")
        return None
    return folder, Path(job.config.path).stem


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
        f"train {job.size()}{val}   {job.train_set.classes} classes   "
        f"memory {text.quantity(job.memory, 'B')} planned"
    )
    for note in job.notes:
        progress.message(note)


def _say_how_it_went(progress: Progress, result: TrainingResult, part: Part) -> None:
    waited, evaluator = part.loader.waited, part.evaluator
    if waited > max(NOTICEABLE * result.seconds, NOTICEABLE_SECONDS):
        progress.message(f"{text.duration(waited)} were spent waiting for pictures; try more --workers")
    if result.outcome is not Outcome.FINISHED:
        progress.message(f"stopped at iteration {result.iteration:,} by {result.reason}")
        part.say_what_is_saved()
        return
    if result.reason:
        progress.message(f"ended at iteration {result.iteration:,}: {result.reason}")
    measured = ""
    if evaluator is not None and evaluator.last is not None and evaluator.best is not None:
        label, final = next(iter(evaluator.last.scores.items()))
        measured = f"   {label} {100 * final:.1f}, best {100 * evaluator.best:.1f} at it {evaluator.best_iteration:,}"
    progress.heading(f"done in {text.duration(result.seconds)}   loss {text.short(result.average_loss)}{measured}")
    progress.heading(f"weights, results.csv and chart.png are in {result.folder}")
