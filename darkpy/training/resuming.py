"""Going on with a run: what ``darkpy detector train --resume RUN`` does."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from darkpy.errors import InputError, Problem
from darkpy.training.callback import Outcome
from darkpy.training.job import TrainingResult, conduct, origin
from darkpy.training.preparation import Prepared, prepare
from darkpy.training.progress import Progress
from darkpy.training.run_folder import RunFolder
from darkpy.training.settings import CHANGEABLE, TrainingSettings
from darkpy.training.state import State, restore


def resume(
    run: str | Path, progress: Progress | None = None, kind: type[Prepared] = Prepared, **changes: Any
) -> TrainingResult:
    """Go on with the run in a folder from where it was saved last, as if it had never stopped.

    The folder is all it takes, and the data set. Final weights and logs are those of a run without interruption, bit
    for bit, on the same machine with as many threads; what cannot be the same is told. ``changes`` are settings to
    change, of those in :data:`~darkpy.training.settings.CHANGEABLE`; they stay changed.

    Raises what :func:`darkpy.training.train` raises, and :class:`~darkpy.errors.InputError` if there is nothing left to
    do.
    """
    progress = progress or Progress()
    folder = RunFolder.open(run)
    with folder.locked():
        folder.remove_leftovers()
        arguments = folder.read_arguments()
        settings = run_settings(folder, kind, arguments, changes)
        folder.load_plugins()
        state = State.load(folder.state) if folder.state.exists() else None
        job = _prepared(settings, progress, kind, state, arguments)
        if state is None:
            job.notes.append("nothing was saved yet: starting from the beginning")
        else:
            restore(job.network, state, str(folder.state))
            _check_what_is_left(job, folder, state)
            job.notes += _differences(state.origin, origin(job))
            job.notes.append(f"going on with {folder.path} from iteration {job.network.iteration:,}")
        if changes:
            folder.keep_arguments({**arguments, **changes})
        return conduct(job, folder, progress, state)


def run_settings(
    folder: RunFolder, kind: type[Prepared], arguments: dict[str, Any], changes: dict[str, Any]
) -> TrainingSettings:
    """The settings the run was started with, its own copy of the cfg, and what is to be changed."""
    task = arguments.get("task", kind.task)
    if task != kind.task:
        raise InputError(f"is a run of darkpy {task} train; resume it with that", where=str(folder.path))
    fixed = [name for name in changes if name not in CHANGEABLE]
    if fixed:
        message = f"{', '.join(fixed)} cannot be changed when a run is resumed; start a new one"
        raise InputError(message, where=str(folder.path))
    known = {field.name for field in fields(kind.settings_type)}
    settings = kind.settings_type(**{name: value for name, value in arguments.items() if name in known})
    cfg = folder.path / Path(settings.cfg).name
    return replace(settings, cfg=cfg, data=_found(settings.data, arguments), **changes)


def _found(data: str | Path | None, arguments: dict[str, Any]) -> str | Path | None:
    """The data set as it was named, or where that was relative to the working folder of then."""
    started_in = arguments.get("working_folder", "")
    if data is not None and not Path(data).exists() and (elsewhere := Path(started_in) / data).exists():
        return elsewhere
    return data


def _prepared(
    settings: TrainingSettings, progress: Progress, kind: type[Prepared], state: State | None, arguments: dict[str, Any]
) -> Prepared:
    """Everything built; without a state also the weights loaded that the run began with."""
    wanted = settings if state is None else replace(settings, weights=None)
    try:
        return prepare(wanted, progress.message, kind)
    except InputError as error:
        started_in = arguments.get("working_folder", "")
        if started_in and Path(started_in) != Path.cwd():
            error.problems.append(Problem("", f"the run was started in {started_in}: can it be resumed there?"))
            raise type(error)(problems=error.problems) from error
        raise


def _check_what_is_left(job: Prepared, folder: RunFolder, state: State) -> None:
    """Raise InputError if there is nothing to go on with."""
    network = job.network
    last = network.options.max_batches
    if state.outcome == Outcome.FINISHED.value and network.iteration >= last:
        raise InputError(
            f"has done all its {last:,} iterations; to train longer, raise max_batches in {job.config.path}",
            where=str(folder.path),
        )
    patience = job.settings.patience
    fruitless = state.callbacks.get("Evaluator", {}).get("fruitless", 0)
    if state.outcome == Outcome.FINISHED.value and patience is not None and fruitless >= patience:
        raise InputError(
            f"ended after {fruitless} evaluations without a better result; to go on, give a larger --patience",
            where=str(folder.path),
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What keeps the run from ending as it would have without an interruption."""
    notes = []
    if before.get("cfg") != now["cfg"]:
        notes.append("the cfg in the run folder was changed since it was saved last")
    if before.get("pictures") != now["pictures"]:
        notes.append(f"the data set had {before.get('pictures')} pictures to train with, it now has {now['pictures']}")
    if before.get("computed by") != now["computed by"]:
        notes.append(
            f"computed by {now['computed by']}, before by {before.get('computed by')}: the last digits will differ"
        )
    return notes
