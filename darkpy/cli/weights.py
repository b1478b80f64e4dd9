"""``darkpy weights``: look into weights files, compare them, make new ones of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli.command import Command, Group

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.weight_files import StoredWeights
    from darkpy.weight_tools import Difference, Statistics

BY_TENSOR = click.option("--tensors", "by_tensor", is_flag=True, help="A line for every tensor, not for every layer.")
OUT = click.option("-o", "--out", required=True, metavar="FILE", help="Where to write.")
COUNT = click.IntRange(min=1)


@click.group(cls=Group)
def weights() -> None:
    """Look into weights files, compare them, make new ones of them.

    A weights file does not say which network it belongs to, so the cfg is named too, in any order. Beside Darknet's
    .weights, files may be .npz and .safetensors everywhere.
    """


def _cfg_and_files(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The one cfg among some files, told by its ending, and the others in their order."""
    cfgs = [path for path in paths if path.lower().endswith(".cfg")]
    if len(cfgs) != 1:
        raise click.UsageError(f"name one .cfg file, not {' and '.join(cfgs)}" if cfgs else "no .cfg file is named")
    return cfgs[0], [path for path in paths if path not in cfgs]


def _report(written: StoredWeights) -> None:
    """The last line of a command that wrote weights."""
    from darkpy.text import plural, quantity

    layers = plural(len({tensor.layer.index for tensor in written.tensors}), "layer")
    values = sum(tensor.values.size for tensor in written.tensors)
    size = quantity(written.path.stat().st_size, "B")
    click.echo(f"{written.path}   {layers} with weights, {values:,} values, {size}")


@weights.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="FILE [CFG]")
@BY_TENSOR
def info(paths: tuple[str, ...], by_tensor: bool) -> None:
    """Show what is in a file.

    That is its version, the pictures seen, and statistics of the layers of its cfg. Without a cfg, those beside the
    file and those of darkpy are tried on it.
    """
    cfgs = [path for path in paths if path.lower().endswith(".cfg")]
    files = [path for path in paths if path not in cfgs]
    if len(files) != 1 or len(cfgs) > 1:
        raise click.UsageError("name one weights file, and its cfg if there is one")
    if by_tensor and not cfgs:
        raise click.UsageError("--tensors needs the cfg: a weights file alone has no names in it")

    from darkpy.cli.output import print_table
    from darkpy.text import plural
    from darkpy.weight_tools import describe

    found = describe(files[0], cfgs[0] if cfgs else None, by_tensor=by_tensor)
    version = ".".join(map(str, found.header.version))
    seen = plural(found.header.seen, "picture")
    click.echo(f"{files[0]}   version {version}   {seen} seen   {found.values:,} values")
    if cfgs:
        missing = "" if found.covered == found.layers else f"the first {found.covered} of "
        click.echo(f"{cfgs[0]}   {missing}{plural(found.layers, 'layer')}")
    else:
        fits = f"fits {' and '.join(found.fits)}"
        click.echo(fits if found.fits else "fits no cfg beside it, nor one of darkpy; name its cfg")
    print_table(_statistics_table(found.rows))


def _statistics_table(rows: Sequence[Statistics]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("layer", style="bold")
    for header in ("values", "mean", "deviation", "smallest", "largest"):
        table.add_column(header, justify="right")
    table.add_column("remark", style="red")
    for row in rows:
        numbers = (f"{number:.4g}" for number in (row.mean, row.deviation, row.smallest, row.largest))
        table.add_row(row.name, f"{row.count:,}", *numbers, row.remark)
    return table


@weights.command(cls=Command)
@click.argument("paths", nargs=3, metavar="CFG FILE FILE")
@BY_TENSOR
def diff(paths: tuple[str, ...], by_tensor: bool) -> None:
    """Show how two files of one cfg differ, layer by layer."""
    cfg, (first, second) = _cfg_and_files(paths)

    from darkpy.cli.output import print_table
    from darkpy.weight_tools import compare

    found = compare(cfg, first, second, by_tensor=by_tensor)
    if found.are_equal:
        click.echo(f"{first} and {second} hold the same values")
        return
    print_table(_difference_table(found.rows))
    if found.first_layers != found.second_layers:
        click.echo(f"{first} holds the first {found.first_layers} layers, {second} the first {found.second_layers}")


def _difference_table(rows: Sequence[Difference]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("layer", style="bold")
    for header in ("values", "differ", "largest", "mean", "relative"):
        table.add_column(header, justify="right")
    for row in rows:
        numbers = (f"{number:.3g}" for number in (row.largest, row.mean, row.relative))
        table.add_row(row.name, f"{row.count:,}", *((f"{row.differing:,}", *numbers) if row.differing else ("equal",)))
    return table


@weights.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="CFG FILE FILE...")
@OUT
def average(paths: tuple[str, ...], out: str) -> None:
    """Write the mean of several files.

    Such as the last ones of a training: the mean can be better than each of them.
    """
    cfg, files = _cfg_and_files(paths)

    from darkpy.weight_tools import average as write_average

    _report(write_average(cfg, files, out))


@weights.command("fold-bn", cls=Command)
@click.argument("paths", nargs=2, metavar="CFG FILE")
@OUT
def fold_bn(paths: tuple[str, ...], out: str) -> None:
    """Fold batch normalisation into the weights.

    The outputs stay the same. Beside the new weights a new cfg is written, of the same name with the ending .cfg.
    """
    cfg, (file,) = _cfg_and_files(paths)
    _fold(cfg, file, out)


def _fold(cfg: str, file: str, out: str) -> None:
    from darkpy.weight_tools import fold_batchnorm

    written, new_cfg = fold_batchnorm(cfg, file, out)
    click.echo(f"{new_cfg}   {cfg} without batch normalisation")
    _report(written)


@weights.command(cls=Command)
@click.argument("paths", nargs=2, metavar="CFG FILE")
@click.argument("count", type=COUNT, metavar="N")
@click.option("-o", "--out", metavar="FILE", help="Where to write. [<name of FILE>.conv.N]")
def cut(paths: tuple[str, ...], count: int, out: str | None) -> None:
    """Write the weights of the first N layers.

    To start the training of another network from them, one that begins with the same layers.
    """
    cfg, (file,) = _cfg_and_files(paths)
    _cut(cfg, file, count, out or f"{Path(file).stem}.conv.{count}")


def _cut(cfg: str, file: str, count: int, out: str) -> None:
    from darkpy.weight_tools import cut as write_first_layers

    _report(write_first_layers(cfg, file, count, out))


@weights.command(cls=Command)
@click.argument("paths", nargs=3, metavar="CFG FROM TO")
def convert(paths: tuple[str, ...]) -> None:
    """Write the same weights to another kind of file.

    To .weights, .npz or .safetensors, whichever TO ends in, and back; nothing is lost.
    """
    cfg, (source, target) = _cfg_and_files(paths)

    from darkpy.weight_tools import convert as write_converted

    _report(write_converted(cfg, source, target))


# Darknet's own spellings ---------------------------------------------------------------------------------------


@click.command("average", cls=Command, hidden=True)
@click.argument("cfg")
@click.argument("out")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def darknet_average(cfg: str, out: str, files: tuple[str, ...]) -> None:
    """As ``darkpy weights average CFG FILE... -o OUT``."""
    from darkpy.weight_tools import average as write_average

    _report(write_average(cfg, files, out))


@click.command("denormalize", cls=Command, hidden=True)
@click.argument("cfg")
@click.argument("file")
@click.argument("out")
def darknet_denormalize(cfg: str, file: str, out: str) -> None:
    """As ``darkpy weights fold-bn CFG FILE -o OUT``."""
    _fold(cfg, file, out)


@click.command("partial", cls=Command, hidden=True)
@click.argument("cfg")
@click.argument("file")
@click.argument("out")
@click.argument("count", type=COUNT, metavar="N")
def darknet_partial(cfg: str, file: str, out: str, count: int) -> None:
    """As ``darkpy weights cut CFG FILE N -o OUT``."""
    _cut(cfg, file, count, out)


DARKNET_SPELLINGS = (darknet_average, darknet_denormalize, darknet_partial)
