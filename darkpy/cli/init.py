"""``darkpy init`` and ``darkpy detector calc_anchors``: fit a cfg to a data set."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli.command import Command, without_effect
from darkpy.cli.data_tools import NAMES, QUIET, data_and_cfg, notify, parse_size, read_class_names
from darkpy.cli.detector import COUNT, POSITIVE, SPLITS
from darkpy.errors import ConfigError, InputError
from darkpy.files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from darkpy.config.edit import CfgText
    from darkpy.data.anchors import Coverage

BASE, SIZE = "yolov4-tiny", "416"
CLUSTERS = 5
SMALL_INPUT = 32
"""Up to this width anchors are counted in cells, as for [region], and are no whole numbers (Darknet, calc_anchors)."""
WRITTEN = ("anchors.txt", "counters_per_class.txt", "anchors.png")


@click.command("init", cls=Command)
@click.option("--data", metavar="DATA", help="The data set: .data, .yaml, .json, list or folder.")
@click.option("--base", metavar="CFG", help=f"The cfg to begin with. [{BASE}]")
@click.option("--size", metavar="N", help=f"Width and height of the input, N or WxH. [{SIZE}]")
@click.option("--out", metavar="CFG", help="The cfg to write. [<name of DATA>-<base>.cfg]")
@click.option("--iterations", help="How long to train. [2,000 for each class, at least 6,000]", **POSITIVE)
@click.option("--seed", default=0, help="Source of everything random in the search for anchors.", **COUNT)
@click.option("--force", is_flag=True, help="Replace a cfg that is there already.")
@NAMES
@QUIET
def init(
    data: str | None,
    base: str | None,
    size: str | None,
    out: str | None,
    iterations: int | None,
    seed: int,
    force: bool,
    names: str | None,
    quiet: bool,
) -> None:
    """Write a cfg for your own classes, ready to train.

    What is not given is asked for, on a terminal. The cfg is a copy of the base, comments and all, with your classes,
    filters, anchors, max_batches and steps.
    """
    from darkpy.cli.output import shown_progress
    from darkpy.data.opening import open_dataset
    from darkpy.fitting import Wanted, bases, check_base, fit_cfg, train_command

    class_names = read_class_names(names)
    data = data or _ask("data set", None, lambda answer: open_dataset(answer, "train", class_names, notify=notify))
    known = f"cfg to begin with: a file, or {', '.join(bases())}"
    source = _cfg_name(base or _ask(known, BASE, lambda answer: check_base(_cfg_name(answer))))
    size = size or _ask("size of the input", SIZE, lambda answer: check_base(source, *parse_size(answer)))
    width, height = parse_size(size)
    path = Path(out or f"{Path(data).resolve().stem}-{Path(source).name}")
    if path.exists() and not force:
        raise ConfigError("is there already; name another with --out, or replace it with --force", where=str(path))
    dataset = open_dataset(data, "train", class_names, notify=notify)
    wanted = Wanted(str(path), data, dataset, width, height, iterations, seed)
    with shown_progress("reading labels", shown=not quiet) as progress:
        text = fit_cfg(source, wanted, progress)
    for message in (*dataset.notes, *dataset.problems):
        click.echo(str(message), err=True)
    text.write(path)
    _say_what_is_in(text)
    click.echo(f"written: {path}\ntrain:   {train_command(path, data)}")


def is_terminal() -> bool:
    """Whether there is somebody to answer."""
    return sys.stdin.isatty()


def _cfg_name(base: str) -> str:
    return base if base.lower().endswith(".cfg") else f"{base}.cfg"


def _ask(what: str, default: str | None, check: Callable[[str], object]) -> str:
    """The answer of somebody at a terminal, asked until it passes the check; without a terminal, the default."""

    def checked(answer: str) -> str:
        try:
            check(answer)
        except InputError as error:
            raise click.UsageError(str(error)) from error  # click shows it and asks again
        return answer

    if is_terminal():
        return str(click.prompt(what, default=default, err=True, value_proc=checked))
    if default is None:
        raise click.UsageError("no data set is named; use --data")
    return default


def _say_what_is_in(text: CfgText) -> None:
    from darkpy.fitting import build, heads

    found = heads(build(text.config))
    options = found[0].layer.graph.net_options
    filters = [text.config.layers[head.layer.sources[0]].get("filters") for head in found]
    click.echo(f"size       {options.width}x{options.height}")
    click.echo(f"classes    {found[0].options.classes}, filters {', '.join(entry.value for entry in filters if entry)}")
    anchors = text.config.layers[found[0].layer.index].get("anchors")
    click.echo(f"anchors    {anchors.value if anchors else ''}")
    steps = ", ".join(f"{step:,}" for step in options.steps)
    click.echo(f"iterations {options.max_batches:,} of {options.batch} pictures, steps at {steps}")


@click.command("calc_anchors", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="DATA [CFG]")
@click.option("--num-of-clusters", "count", help=f"How many anchors. [the cfg's, or {CLUSTERS}]", **POSITIVE)
@click.option("--width", help="Width of the input. [the cfg's]", **POSITIVE)
@click.option("--height", help="Height of the input. [the cfg's]", **POSITIVE)
@click.option("--split", type=click.Choice(SPLITS), default="train", show_default=True, help="Which pictures.")
@click.option("--seed", default=0, help="Source of everything random.", **COUNT)
@click.option("--restarts", default=10, help="Times to search anew; the best counts.", **POSITIVE)
@click.option("--write", is_flag=True, help="Write the anchors into the cfg.")
@click.option("--out", metavar="FOLDER", default=".", show_default=True, help="Where anchors.txt and the others go.")
@NAMES
@QUIET
@without_effect("--show", because="no window is opened; anchors.png shows the anchors")
@without_effect("--dont-show", because="no window is opened")
def calc_anchors(
    files: tuple[str, ...],
    count: int | None,
    width: int | None,
    height: int | None,
    split: str,
    seed: int,
    restarts: int,
    write: bool,
    out: str,
    names: str | None,
    quiet: bool,
) -> None:
    """Find the anchors that fit the objects of a data set best.

    k-means on the overlap, as Darknet does, begun several times. Writes anchors.txt, counters_per_class.txt and
    anchors.png, and with --write the cfg, in which nothing else changes.
    """
    data, cfg = data_and_cfg(files, None)
    if cfg is None and (width is None or height is None):
        raise click.UsageError("name a .cfg file, or -width and -height")
    if write and (cfg is None or width is not None or height is not None):
        raise click.UsageError("--write needs the cfg to write into, and takes its width and height")
    if write and not Path(cfg or "").is_file():
        raise ConfigError("no such file to write into", where=str(cfg))

    from darkpy.cli.output import print_table, shown_progress
    from darkpy.data.anchors import anchors_text, box_shapes, coverage, draw_anchors, find_anchors
    from darkpy.data.check import Target
    from darkpy.data.opening import open_dataset
    from darkpy.data.split import class_counts
    from darkpy.fitting import read_target

    target = Target() if cfg is None else read_target(cfg)
    width, height = width or target.width, height or target.height
    number = count or (CLUSTERS if target.anchors is None else len(target.anchors))
    click.echo(f"num_of_clusters = {number}, width = {width}, height = {height}")
    dataset = open_dataset(data, split, read_class_names(names), notify=notify)
    with shown_progress("reading labels", shown=not quiet) as progress:
        shapes = box_shapes(dataset, width, height, target.letter_box, progress)
    anchors = find_anchors(shapes, number, seed, restarts)
    found = coverage(shapes, anchors)
    for problem in dataset.problems:
        click.echo(str(problem), err=True)
    print_table(_anchors_table(anchors, found))
    if target.anchors is not None and (width, height) == (target.width, target.height):
        click.echo(f"as the cfg has them now: {coverage(shapes, target.anchors).text()}")
    click.echo(found.text())
    listed = anchors_text(anchors, 0 if width > SMALL_INPUT else 4)
    click.echo(f"anchors = {listed}")
    folder = Path(out)
    counters = "counters_per_class = " + ", ".join(map(str, class_counts(dataset).sum(axis=0)))
    for path, line in ((folder / "anchors.txt", listed), (folder / "counters_per_class.txt", counters)):
        with atomic_write(path, "w") as file:
            file.write(f"{line}\n")
    title = f"{data}: {number} anchors\n{found.text()}"
    draw_anchors(shapes, anchors, width, height, title, folder / "anchors.png")
    click.echo(f"written: {', '.join(str(folder / name) for name in WRITTEN)}")
    if write and cfg is not None:
        _write_into(cfg, anchors)


def _anchors_table(anchors: np.ndarray, found: Coverage) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for header in ("anchor", "width", "height", "objects %"):
        table.add_column(header, justify="right")
    for number, ((width, height), share) in enumerate(zip(anchors, found.shares)):
        table.add_row(str(number), f"{width:.1f}", f"{height:.1f}", f"{100 * share:.1f}")
    return table


def _write_into(cfg: str, anchors: np.ndarray) -> None:
    from darkpy.config.edit import CfgText
    from darkpy.fitting import set_anchors

    text = CfgText.read(cfg)
    set_anchors(text, anchors)
    text.write(cfg)
    click.echo(f"anchors written into {cfg}")
