"""``darkpy runs list``, ``compare`` and ``plot``: run folders side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.command import Command, Group

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.runs import Difference, Run

FOLDER = "runs"


@click.group(cls=Group)
def runs() -> None:
    """List trainings, see what they did differently, and their curves in one chart."""


@runs.command("list", cls=Command)
@click.argument("folders", nargs=-1, metavar="[FOLDER]...")
def list_runs(folders: tuple[str, ...]) -> None:
    """List the runs in folders, by default in runs/: how far they are, and how good."""
    from darkpy import text
    from darkpy.cli.output import print_table
    from darkpy.runs import find_runs

    table = _table("run", "cfg", "data", "iterations", "loss", "best", "at", "time", "state", "")
    for column in (3, 4, 5, 6, 7):
        table.columns[column].justify = "right"
    for run in find_runs(folders or [FOLDER]):
        status = run.status
        _add(
            table,
            str(run.path),
            run.cfg.name,
            str(run.arguments.get("data", "")),
            f"{status.iteration:,}/{status.max_batches:,}",
            "" if status.loss is None else text.short(status.loss),
            _best(run),
            "" if status.best is None else f"{status.best_iteration:,}",
            text.duration(status.seconds),
            status.state,
            _shortened(status.reason),
        )
    print_table(table)


@runs.command("compare", cls=Command)
@click.argument("folders", nargs=-1, required=True, metavar="RUN RUN...")
def compare_runs(folders: tuple[str, ...]) -> None:
    """Show what differs between runs: arguments, lines of the cfg, and results."""
    from darkpy import text
    from darkpy.cli.output import print_table
    from darkpy.runs import differing_arguments, differing_cfg, find_runs

    found = find_runs(folders)
    if len(found) < 2:
        raise click.UsageError("it takes two runs to compare")
    for title, differences in (
        ("arguments", differing_arguments(found)),
        ("cfg", differing_cfg(found)),
    ):
        print_table(_comparison(title, found, differences))
        click.echo()
    table = _table("results", *(str(run.path) for run in found))
    for name, show in (
        ("iterations", lambda run: f"{run.status.iteration:,}/{run.status.max_batches:,}"),
        ("loss", lambda run: "" if run.status.loss is None else text.short(run.status.loss)),
        ("best", _best),
        ("at iteration", lambda run: "" if run.status.best is None else f"{run.status.best_iteration:,}"),
        ("time", lambda run: text.duration(run.status.seconds)),
        ("state", lambda run: run.status.state),
    ):
        _add(table, name, *map(show, found))
    print_table(table)


@runs.command("plot", cls=Command)
@click.argument("folders", nargs=-1, metavar="[RUN]...")
@click.option("--out", default="runs.png", show_default=True, metavar="FILE", help="The picture, a .png file.")
def plot(folders: tuple[str, ...], out: str) -> None:
    """Draw loss and mAP of several runs into one chart, by default of all in runs/."""
    from darkpy.runs import find_runs, plot_runs

    if not out.lower().endswith(".png"):
        raise click.UsageError(f"{out}: the chart is a .png file")
    found = find_runs(folders or [FOLDER])
    plot_runs(found, out)
    click.echo(f"{len(found)} {'run' if len(found) == 1 else 'runs'} drawn: {out}")


def _table(*headers: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _comparison(title: str, found: list[Run], differences: list[Difference]) -> Table:
    table = _table(title, *(str(run.path) for run in found))
    for difference in differences:
        _add(table, difference.what, *map(_shown, difference.values))
    if not differences:
        _add(table, "the same")
    return table


def _add(table: Table, *cells: str) -> None:
    """Brackets are meant as they stand."""
    from rich.markup import escape

    table.add_row(*map(escape, cells))


def _shown(value: Any) -> str:
    """``yes`` and ``no`` are read faster than True and False; what is not there is ``-``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _best(run: Run) -> str:
    status = run.status
    return "" if status.best is None else f"{status.metric} {100 * status.best:.1f}"


def _shortened(reason: str, most: int = 60) -> str:
    return reason if len(reason) <= most else f"{reason[: most - 3]}..."
