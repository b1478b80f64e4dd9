"""``darkpy data check``, ``convert`` and ``split``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli.command import Command
from darkpy.cli.detect import FRACTION
from darkpy.cli.detector import COUNT
from darkpy.cli.evaluation import write_numbers
from darkpy.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from darkpy.data.check import Report

SHOWN = 50
"""Problems, and remarks, that are printed; a data set may have as many as pictures."""

BAR = 24
"""Letters of the longest bar of a table."""

QUIET = click.option("--quiet", is_flag=True, help="Show no progress.")
NAMES = click.option("--names", metavar="FILE", help="Class names, one a line. [the data set's own]")


def parse_size(text: str) -> tuple[int, int]:
    """``416`` or ``608x416`` as width and height."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.UsageError(f"--size {text}: expected pixels such as 416, or 608x416")
    return int(parts[0]), int(parts[-1])


def read_class_names(path: str | None) -> Sequence[str] | None:
    """The names in a file, if one is given."""
    if path is None:
        return None
    from darkpy.config.data_files import read_names
    from darkpy.resources import find

    return read_names(find("data", path))


def notify(line: str) -> None:
    """Say what takes a while."""
    click.echo(line, err=True)


@click.command("check", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="DATA [CFG]")
@click.option("--cfg", metavar="CFG", help="The network it is for: its size, its classes, its anchors.")
@click.option("--size", metavar="N", default="416", show_default=True, help="The input, N or WxH, without a cfg.")
@NAMES
@click.option("--all", "show_all", is_flag=True, help=f"Print all problems, not only the first {SHOWN}.")
@click.option("--plot", metavar="FILE", help="Draw classes, box sizes, shapes and places into a .png file.")
@click.option("--json", "json_file", metavar="FILE", help="Write everything to a json file.")
@click.option("--fix", is_flag=True, help="Write lists without the bad pictures; labels stay as they are.")
@click.option("--out", metavar="FOLDER", default=".", show_default=True, help="Where --fix writes.")
@QUIET
def check(
    files: tuple[str, ...],
    cfg: str | None,
    size: str,
    names: str | None,
    show_all: bool,
    plot: str | None,
    json_file: str | None,
    fix: bool,
    out: str,
    quiet: bool,
) -> None:
    """Find what is wrong with a data set; exit status 2 if there is anything.

    Looks for pictures that are missing, damaged, empty or there twice, for labels that are malformed, out of range or
    of no class, and shows classes, box sizes and how the anchors fit.
    """
    data, cfg = data_and_cfg(files, cfg)

    from darkpy.cli.output import print_table, shown_progress
    from darkpy.data.check import Target, open_all
    from darkpy.data.check import check as look_through
    from darkpy.text import plural

    if cfg is not None:
        from darkpy.fitting import read_target

        target = read_target(cfg)
    else:
        width, height = parse_size(size)
        target = Target(width=width, height=height)
    splits, problems = open_all(data, read_class_names(names), notify)
    with shown_progress("looking", shown=not quiet) as progress:
        report = look_through(splits, target, progress, problems)
    _print_places(report, show_all)
    click.echo(f"{data}   {_counted_classes(len(report.names))}   {target.width}x{target.height}   {target.name}")
    for table in (_splits_table(report), _classes_table(report), _sizes_table(report)):
        click.echo()
        print_table(table)
    if report.coverage is not None:
        click.echo(f"\nanchors of {target.name}: {report.coverage.text()}")
    click.echo()
    write_numbers(json_file, report.to_dict())
    if plot is not None:
        from darkpy.data.check_figure import draw_report

        draw_report(report, data, plot)
        click.echo(f"plot: {plot}")
    if fix:
        _write_clean(report, data, Path(out))
    bad = sum(len(part.bad) for part in report.splits.values())
    pictures = sum(len(part.dataset) for part in report.splits.values())
    if report.problems:
        found = plural(len(report.problems), "problem")
        click.echo(f"{found}; {bad:,} of {plural(pictures, 'picture')} affected", err=True)
        click.get_current_context().exit(InputError.exit_code)
    click.echo(f"nothing is wrong with {plural(pictures, 'picture')}")


def data_and_cfg(files: Sequence[str], cfg: str | None) -> tuple[str, str | None]:
    """The data set and the cfg among the arguments, told apart by their endings."""
    cfgs = [*([cfg] if cfg else []), *(file for file in files if file.lower().endswith(".cfg"))]
    others = [file for file in files if not file.lower().endswith(".cfg")]
    if len(others) != 1 or len(cfgs) > 1:
        raise click.UsageError("name one data set, and the cfg of its network if there is one")
    return others[0], cfgs[0] if cfgs else None


def _counted_classes(number: int) -> str:
    return f"{number:,} class{'' if number == 1 else 'es'}"


def _print_places(report: Report, show_all: bool) -> None:
    for listed, what in ((report.remarks, "remark: "), (report.problems, "")):
        shown = listed if show_all else listed[:SHOWN]
        for item in shown:
            click.echo(f"{what}{item}", err=True)
        if len(shown) < len(listed):
            click.echo(f"{what}... and {len(listed) - len(shown):,} more; --all prints them", err=True)


def _splits_table(report: Report) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in report.splits:
        table.add_column(name, justify="right")
    parts = report.splits.values()
    table.add_row("pictures", *(f"{len(part.dataset):,}" for part in parts))
    table.add_row("  unreadable", *(f"{part.unreadable:,}" for part in parts))
    table.add_row("  there twice", *(f"{part.repeated:,}" for part in parts))
    table.add_row("  without objects", *(f"{part.empty:,}" for part in parts))
    table.add_row("objects", *(f"{len(part.boxes):,}" for part in parts))
    return table


def _classes_table(report: Report) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right")
    table.add_column("class", overflow="fold")
    for name in report.splits:
        table.add_column(f"{name} objects", justify="right")
        table.add_column("pictures", justify="right")
    table.add_column("")
    counts = [part.objects().tolist() for part in report.splits.values()]
    pictures = [part.pictures_with().tolist() for part in report.splits.values()]
    totals = [sum(column) for column in zip(*counts)]
    for number, name in enumerate(report.names):
        cells = [f"{column[number]:,}" for pair in zip(counts, pictures) for column in pair]
        table.add_row(str(number), escape(name), *cells, _bar(totals[number], max(totals)))
    return table


def _sizes_table(report: Report) -> Table:
    from rich.table import Table

    from darkpy.data.check_figure import size_names

    table = Table(box=None, pad_edge=False)
    table.add_column(f"size at {report.target.width}x{report.target.height}", justify="right")
    for name in report.splits:
        table.add_column(name, justify="right")
    table.add_column("")
    counts = [part.size_counts().tolist() for part in report.splits.values()]
    totals = [sum(column) for column in zip(*counts)]
    for place, name in enumerate(size_names()):
        table.add_row(name, *(f"{column[place]:,}" for column in counts), _bar(totals[place], max(totals)))
    return table


def _bar(count: int, most: int) -> str:
    return "█" * max(round(BAR * count / max(most, 1)), int(count > 0))


def _write_clean(report: Report, data: str, out: Path) -> None:
    from darkpy.data.lists import Part, write_lists

    parts = {name: Part(part.dataset, part.good) for name, part in report.splits.items()}
    name = f"{Path(data).resolve().stem}-clean"
    written = write_lists(parts, out, name, f"{data} without the pictures that darkpy data check found bad.", "-clean")
    kept = "   ".join(f"{split} {len(part.indexes):,}" for split, part in parts.items())
    click.echo(f"cleaned: {written[0]}   {kept}")


@click.command("convert", cls=Command)
@click.argument("data")
@click.option("--to", "form", required=True, type=click.Choice(["yolo", "voc", "coco"]), help="The form to write.")
@click.option("--out", required=True, metavar="FOLDER", help="Where to write, a new folder.")
@click.option("--link", is_flag=True, help="Make symbolic links to the pictures, do not copy them.")
@NAMES
@QUIET
def convert(data: str, form: str, out: str, link: bool, names: str | None, quiet: bool) -> None:
    """Write a data set in another form: YOLO's text files, Pascal VOC, COCO.

    Reads all forms and all splits. The new folder has the pictures, the labels and data.yaml, which describes it.
    """
    from darkpy.cli.output import shown_progress
    from darkpy.data.convert import DESCRIPTION
    from darkpy.data.convert import convert as write
    from darkpy.data.opening import open_splits
    from darkpy.text import plural

    splits = open_splits(data, read_class_names(names), notify=notify)
    with shown_progress("converting", shown=not quiet) as progress:
        done = write(splits, form, out, link=link, progress=progress)
    for line in (*done.problems, *done.notes):
        click.echo(str(line), err=True)
    what = f"{plural(done.pictures, 'picture')}, {plural(done.objects, 'object')}"
    click.echo(f"{done.folder / DESCRIPTION}   {', '.join(splits)}   {what}")


@click.command("split", cls=Command)
@click.argument("data")
@click.option("--val", default=0.2, help="Share of the pictures to validate with.", **FRACTION)
@click.option("--test", default=0.0, help="Share of the pictures to test with.", **FRACTION)
@click.option("--seed", default=0, help="Source of everything random.", **COUNT)
@click.option("--out", metavar="FOLDER", default=".", show_default=True, help="Where to write the lists.")
@click.option("--name", metavar="NAME", help="Of the .yaml file. [<name of DATA>-split]")
@NAMES
@QUIET
def split(
    data: str, val: float, test: float, seed: int, out: str, name: str | None, names: str | None, quiet: bool
) -> None:
    """Divide pictures to train, to validate and to test with.

    Every part gets its share of each class. Writes lists and a .yaml file; pictures and labels stay where they are.
    A data set that is divided already is divided anew.
    """
    shares = {"train": 1 - val - test, "val": val, "test": test}

    from darkpy.cli.output import print_table, shown_progress
    from darkpy.data.lists import Part, write_lists
    from darkpy.data.opening import open_splits
    from darkpy.data.split import class_counts, pooled
    from darkpy.data.split import split as divide

    dataset = pooled(list(open_splits(data, read_class_names(names), notify=notify).values()))
    with shown_progress("reading labels", shown=not quiet) as progress:
        counts = class_counts(dataset, progress)
    parts = divide(counts, {name: share for name, share in shares.items() if share}, seed)
    for problem in dataset.problems:
        click.echo(str(problem), err=True)
    print_table(_shares_table(dataset.names, {part: counts[rows] for part, rows in parts.items()}))
    comment = f"{data}, divided by darkpy data split with seed {seed}."
    chosen = {part: Part(dataset, rows) for part, rows in parts.items()}
    written = write_lists(chosen, Path(out), name or f"{Path(data).resolve().stem}-split", comment)
    click.echo(f"written: {', '.join(map(str, written))}")


def _shares_table(names: Sequence[str], parts: dict[str, np.ndarray]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for part in parts:
        table.add_column(part, justify="right")
        table.add_column("%", justify="right")
    rows = {"pictures": [len(part) for part in parts.values()]}
    rows |= {escape(name): [int(part[:, place].sum()) for part in parts.values()] for place, name in enumerate(names)}
    for title, values in rows.items():
        total = max(sum(values), 1)
        table.add_row(title, *(cell for value in values for cell in (f"{value:,}", f"{100 * value / total:.1f}")))
    return table


COMMANDS = (check, convert, split)
