"""Run folders looked at together: how far each is, what they did differently, and their curves in one chart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.config.cfg import Section, read_cfg
from darkpy.errors import InputError, Problem
from darkpy.files import atomic_write
from darkpy.training.chart import FAINT, INK, MOST_POINTS, Curves
from darkpy.training.json_log import read_log
from darkpy.training.run_folder import RunFolder
from darkpy.training.status import RUNNING, Status, read_status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAILED = "failed"
NOT_COMPARED = ("working_folder", "out")
"""Arguments that say where a run was made, not how."""

COLORS = ("#2a6f97", "#c8553d", "#588157", "#8e5ea2", "#d99a2b", "#4d4d4d", "#3aa6a6", "#b5838d")
STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Run:
    """What a run folder says of its run."""

    path: Path
    arguments: dict[str, Any] = field(repr=False)
    status: Status

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name or str(self.path)

    @property
    def cfg(self) -> Path:
        """The run's copy of the cfg."""
        return self.path / Path(str(self.arguments.get("cfg", ""))).name

    @cached_property
    def curves(self) -> Curves:
        """Losses and scores over the iterations, from its log; empty if there is none."""
        found = Curves(self.name, self.status.max_batches, 0.0)
        log = RunFolder(self.path).log
        if log.exists():
            found.extend(read_log(log), self.status.max_batches or 10**12)
        return found


def open_run(path: str | Path) -> Run:
    """Read a run folder. Raises :class:`~darkpy.errors.InputError` if it is none."""
    folder = RunFolder.open(path)
    status = read_status(folder.status)
    if status is None:
        status = Status(FAILED, reason="ended before it began")
    if status.state == RUNNING and folder.is_locked() is False:
        status = Status(**{**vars(status), "state": FAILED, "reason": "its process is gone"})
    return Run(folder.path, folder.read_arguments(), status)


def find_runs(paths: Iterable[str | Path]) -> list[Run]:
    """The runs in folders: each a run folder itself, or one whose subfolders are, those by name and number.

    Raises InputError for every folder without any.
    """
    runs: list[Run] = []
    problems: list[Problem] = []
    for path in map(Path, paths):
        if RunFolder(path).arguments.is_file():
            found = [path]
        else:
            found = sorted((file.parent for file in path.glob("*/args.yaml")), key=_by_number)
        if not found:
            problems.append(Problem(str(path), "no runs are here" if path.is_dir() else "no such folder"))
        runs += map(open_run, found)
    if problems:
        raise InputError(problems=problems)
    return runs


def _by_number(path: Path) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


# What differs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Something that runs do not have in common: the value of each, None where a run has none."""

    what: str
    values: tuple[Any, ...]


def differing_arguments(runs: Sequence[Run]) -> list[Difference]:
    """The arguments that are not the same in all runs."""
    return _differing([{k: v for k, v in run.arguments.items() if k not in NOT_COMPARED} for run in runs])


def differing_cfg(runs: Sequence[Run]) -> list[Difference]:
    """The lines of the cfg files that are not the same in all runs.

    Layers are compared one by one where all have the same sections; otherwise their number is told.
    """
    configs = [read_cfg(run.cfg) for run in runs]
    found = _differing([_entries("[net]", config.net) for config in configs])
    layouts = [[section.name for section in config.layers] for config in configs]
    if any(layout != layouts[0] for layout in layouts):
        return [*found, Difference("layers", tuple(f"{len(layout)}, other kinds" for layout in layouts))]
    layers = [
        {
            key: value
            for index, section in enumerate(config.layers)
            for key, value in _entries(f"{index} [{section.name}]", section).items()
        }
        for config in configs
    ]
    return found + _differing(layers)


def _entries(title: str, section: Section) -> dict[str, str]:
    """What counts of a section: of a key that is given twice the first value."""
    found: dict[str, str] = {}
    for entry in section.entries:
        found.setdefault(f"{title} {entry.key}", entry.value)
    return found


def _differing(facts: Sequence[dict[str, Any]]) -> list[Difference]:
    keys = list(dict.fromkeys(key for each in facts for key in each))
    rows = [Difference(key, tuple(each.get(key) for each in facts)) for key in keys]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


# Chart -----------------------------------------------------------------------------------------------------------


def plot_runs(runs: Sequence[Run], path: str | Path) -> None:
    """Draw the running averages of the losses, and below them the main scores if any were measured, into a png file.

    Raises :class:`~darkpy.errors.InputError` if no run has a log.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = [run for run in runs if run.curves.iterations]
    if not drawn:
        raise InputError("no iteration is logged", where=", ".join(str(run.path) for run in runs))
    measured = any(run.curves.scores for run in drawn)
    labels = _labels(drawn)
    figure = Figure(figsize=(11, 8 if measured else 5), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 if measured else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw_losses(axes[0], drawn, labels)
    if measured:
        _draw_scores(axes[1], drawn, labels)
    axes[-1].set_xlabel("iteration", color=INK)
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _labels(runs: Sequence[Run]) -> list[str]:
    """Names where they tell the runs apart, otherwise paths."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _look(number: int) -> dict[str, Any]:
    """Colour and line of the n-th run, so that 32 can be told apart."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": STYLES[number // len(COLORS) % len(STYLES)]}


def _draw_losses(axes: Axes, runs: Sequence[Run], labels: Sequence[str]) -> None:
    top = 0.0
    for number, run in enumerate(runs):
        curves = run.curves
        step = -(-len(curves.iterations) // MOST_POINTS)
        label = f"{labels[number]}   {curves.averages[-1]:.3g}"
        axes.plot(curves.iterations[::step], curves.averages[::step], linewidth=1.8, label=label, **_look(number))
        # The first losses are many times the others and would leave no room for these.
        top = max(top, 1.2 * float(np.percentile(curves.averages[len(curves.averages) // 10 :], 95)))
    axes.set_ylim(0, top or 1.0)
    axes.set_xlim(left=0)
    axes.set_ylabel("loss, running average", color=INK)
    _finish(axes)


def _draw_scores(axes: Axes, runs: Sequence[Run], labels: Sequence[str]) -> None:
    names = []
    for number, run in enumerate(runs):
        if not run.curves.scores:
            continue
        name, points = next(iter(run.curves.scores.items()))
        names.append(name)
        iterations, values = zip(*((iteration, 100 * value) for iteration, value in points))
        label = f"{labels[number]}   best {max(values):.1f}"
        look = {**_look(number), "linewidth": 1.8, "marker": "o", "markersize": 3.5, "clip_on": False}
        axes.plot(iterations, values, label=label, **look)
    axes.set_ylim(0, 100)
    axes.set_ylabel(f"{', '.join(dict.fromkeys(names))} %", color=INK)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    # Beside the lines, not over them; many runs make two columns.
    handles = axes.get_legend_handles_labels()[0]
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, labelcolor=INK, ncols=1 + len(handles) // 24
    )
