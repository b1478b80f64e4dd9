"""Writing the report, at the end of a run or later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from darkpy.config.cfg import read_cfg
from darkpy.data.dataset import Dataset
from darkpy.errors import DataError, InputError
from darkpy.files import atomic_write
from darkpy.network import Network
from darkpy.report.facts import Facts
from darkpy.report.page import render
from darkpy.runs import Run, open_run
from darkpy.training.callback import Measured
from darkpy.training.classifier_job import PreparedClassifier
from darkpy.training.preparation import Prepared, found_data, with_subdivisions
from darkpy.training.resuming import run_settings
from darkpy.training.run_folder import RunFolder, writing

WEIGHTS = ("best", "final", "last")
"""Which of the weights a report is about: the first there are."""


def write_report(facts: Facts, out: str | Path | None = None) -> Path:
    """Write the page, by default ``report.html`` in the run folder; returns where it is."""
    path = RunFolder(facts.run.path).report if out is None else Path(out)
    page = render(facts)
    with writing(path), atomic_write(path, "w") as file:
        file.write(page)
    return path


def report_run(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    notify: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Report on a run, finished or not: measure its best weights, if there is a validation set, and write the page.

    notify: hears of what is missing, such as a data set that has been moved; the page says so too, and has what the
    log knows. progress: called with (pictures done, pictures in all).

    Raises :class:`~darkpy.errors.InputError` if ``folder`` is no run folder.
    """
    run = open_run(folder)
    try:
        job = _prepared(run, device, notify)
        measured = _measured(job, run, progress)
    except InputError as error:
        note = f"nothing could be measured: {' '.join(str(error).split())}"
        notify(note)
        return write_report(Facts(run, notes=[note]), out)
    for note in job.notes:
        notify(note)
    return write_report(Facts(run, measured, job.train_set, job.val_set, job.network, job.notes), out)


def _prepared(run: Run, device: str, notify: Callable[[str], None]) -> Prepared:
    """The run's network, for inference, and its data."""
    kind: type[Prepared] = PreparedClassifier if run.arguments.get("task") == "classifier" else Prepared
    folder = RunFolder(run.path)
    settings = run_settings(folder, kind, run.arguments, {})
    folder.load_plugins()
    config = with_subdivisions(read_cfg(settings.cfg), settings.subdivisions)
    network = Network(config, batch=kind.evaluation_batch, device=device)
    data = found_data(settings.data or "")
    train_set = kind.open(data, "train", None, notify)
    val_set: Dataset | None = None
    notes: list[str] = []
    try:
        val_set = kind.open(data, "val", train_set.names, notify)
    except DataError as error:
        notes.append(f"nothing was measured: {' '.join(str(error).split())}")
    return kind(settings, config, data, train_set, val_set, network, network, 0, None, notes)


def _measured(job: Prepared, run: Run, progress: Callable[[int, int], None] | None) -> Measured | None:
    """What the best weights there are can do; None without a validation set or weights."""
    folder = RunFolder(run.path)
    weights = next((path for path in map(folder.weights, WEIGHTS) if path.exists()), None)
    if job.val_set is None or weights is None:
        return None
    job.network.load_weights(weights)
    job.network.names = job.val_set.names
    return job.measure(job.val_set)(job.network, progress=progress)
