"""``darkpy net``: look at network files, and into networks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.arguments import Files, sort_files
from darkpy.cli.command import Command, Group
from darkpy.cli.detect import device_options, override
from darkpy.cli.device import precision_option
from darkpy.errors import ConfigError, InputError, suggestion

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.layers.base import Shape
    from darkpy.summary import LayerRow, Summary
    from darkpy.timing import Timing

POSITIVE = click.IntRange(min=1)


@click.group(cls=Group)
def net() -> None:
    """Check a cfg file, show what it describes, time and draw it."""


@net.command(cls=Command)
@click.argument("cfgs", nargs=-1, required=True, metavar="CFG...")
def check(cfgs: tuple[str, ...]) -> None:
    """Find every mistake in cfg files; exit status 2 if there is any."""
    from darkpy.backends.numpy import NumpyBackend
    from darkpy.text import plural

    backend = NumpyBackend()
    errors = files = 0
    for cfg in cfgs:
        try:
            click.echo(_check(cfg, backend))
        except ConfigError as error:
            click.echo(str(error), err=True)
            errors += len(error.problems)
            files += 1
    if errors:
        of_files = f" in {files} of {len(cfgs)} files" if len(cfgs) > 1 else ""
        click.echo(f"{plural(errors, 'error')}{of_files}", err=True)
        click.get_current_context().exit(InputError.exit_code)


def _check(cfg: str, backend: object) -> str:
    from darkpy import builder, resources
    from darkpy.config.cfg import read_cfg

    blueprint = builder.build(read_cfg(resources.find("cfg", cfg)), backend)  # type: ignore[arg-type]
    warnings = [str(warning) for warning in blueprint.warnings]
    return "\n".join([*warnings, f"{blueprint.config.path}  is fine: {len(blueprint.layers)} layers"])


@net.command(cls=Command)
@click.argument("cfg", metavar="CFG")
@click.option("--batch", type=POSITIVE, metavar="N", help="Pictures at a time. [1; training: the cfg's]")
@precision_option("--amp", "The memory on a GPU with outputs of 16 bits, or tf32.")
def summary(cfg: str, batch: int | None, precision: str) -> None:
    """Show the layers of a network, what they cost, and the memory it takes."""
    from darkpy.backends import choose
    from darkpy.cli.output import print_table
    from darkpy.summary import summarize
    from darkpy.version import __version__

    device = "cpu" if precision == "fp32" else choose().device
    found = summarize(cfg, batch=batch, device=device, precision=precision)
    click.echo(
        f"darkpy {__version__}   {found.path}   input {_shape(found.input_shape)}   {len(found.rows)} layers, "
        f"{found.parameters / 1e6:.2f} M parameters, {found.operations / 1e9:.2f} BFLOPs"
    )
    print_table(_layer_table(found.rows))
    click.echo()
    print_table(_memory_table(found))


def _shape(shape: Shape) -> str:
    """Width x height x channels, as Darknet prints it."""
    channels, height, width = shape
    return f"{width}x{height}x{channels}"


def _layer_table(rows: tuple[LayerRow, ...]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("layer", justify="right")
    table.add_column("type", style="bold")
    for header in ("filters", "size", "input", "output", "parameters", "BFLOPs", "field"):
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(
            str(row.index),
            row.type,
            str(row.filters or ""),
            row.geometry,
            _inputs(row),
            _shape(row.output),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.operations / 1e9:.3f}" if row.operations else "",
            str(row.receptive_field),
        )
    return table


def _inputs(row: LayerRow) -> str:
    """The shapes of the inputs; of several of one size, ``26x26x128+256``."""
    sizes = {shape[1:] for shape in row.inputs}
    if len(sizes) > 1:
        return " + ".join(_shape(shape) for shape in row.inputs)
    height, width = sizes.pop()
    return f"{width}x{height}x{'+'.join(str(shape[0]) for shape in row.inputs)}"


def _memory_table(found: Summary) -> Table:
    from rich.table import Table

    from darkpy.text import plural, quantity

    plans = [plan for plan in (found.inference, found.training) if plan is not None]
    table = Table(box=None, pad_edge=False)
    table.add_column("memory", style="bold")
    for plan in plans:
        purpose = "training" if plan.training else "inference"
        table.add_column(f"{purpose}, {plural(plan.batch, 'picture')}", justify="right")
    for lines in zip(*(plan.rows() for plan in plans)):
        purpose = lines[0][0]
        table.add_row(purpose, *(quantity(size, "B") if size else "" for _, size in lines))
    return table


@net.command("time", cls=Command)
@click.argument("cfg", metavar="CFG")
@click.option("--batch", type=POSITIVE, metavar="N", help="Pictures at a time. [1; training: the cfg's]")
@click.option("--runs", type=POSITIVE, metavar="N", default=10, show_default=True, help="Passes to measure.")
@precision_option("--amp", "On a GPU: outputs of layers have 16 bits, or tf32.")
@click.option("--training", is_flag=True, help="Measure a step of training: forward, backward and update.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@device_options
def measure(cfg: str, quiet: bool, **options: Any) -> None:
    """Measure how long each layer takes.

    With random weights and pictures. Times are the median of all runs, for a whole batch; GFLOP/s are those of the
    forward pass. The last line is about whole passes as they were measured.
    """
    from darkpy.cli.output import print_table, shown_progress
    from darkpy.text import plural, quantity
    from darkpy.timing import measure as measure_layers

    with nullcontext() if quiet else shown_progress("measuring") as progress:
        found = measure_layers(cfg, progress=progress, **options)
    work = "training" if found.memory.training else "inference"
    threads = plural(found.threads, "thread")
    pictures = plural(found.batch, "picture")
    click.echo(f"{found.path}   {work}, {pictures} at a time   {found.device} backend, {threads}")
    print_table(_time_table(found))
    memory = quantity(found.memory.total, "B")
    if found.process_memory:
        memory += f", {quantity(found.process_memory, 'B')} the process at most"
    click.echo(f"{1000 * found.step:.1f} ms, {found.batch / found.step:,.1f} pictures/s   memory {memory}")
    if found.is_disturbed:
        click.echo("the whole took longer than its parts: something else keeps this machine busy", err=True)


def _time_table(found: Timing) -> Table:
    from rich.table import Table

    training = found.memory.training
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", justify="right")
    table.add_column("type", style="bold")
    headers = ("size", "output", "forward ms", *(("backward ms",) if training else ()), "share", "GFLOP/s")
    for header in headers:
        table.add_column(header, justify="right")

    def add(*names: str, forward: float, backward: float, operations: float) -> None:
        milliseconds = [forward, backward] if training else [forward]
        share = 100 * (forward + backward) / found.total
        rate = f"{operations / forward / 1e9:.1f}" if operations and forward else ""
        table.add_row(*names, *(f"{1000 * t:.3f}" for t in milliseconds), f"{share:.1f} %", rate)

    for row in found.rows:
        names = (str(row.index), row.type, row.geometry, _shape(row.output))
        add(*names, forward=row.forward, backward=row.backward, operations=row.operations)
    forward, backward = found.between
    add("", "between layers", "", "", forward=forward, backward=backward, operations=0)
    if training:
        add("", "update", "", "", forward=0, backward=found.update, operations=0)
    backward = found.backward + found.update
    add("", "all", "", "", forward=found.forward, backward=backward, operations=found.operations)
    return table


@net.command(cls=Command)
@click.argument("cfg", metavar="CFG")
@click.option("-o", "--out", metavar="FILE", help="Where to write. [<name of CFG>.svg]")
@click.option("--columns", type=POSITIVE, metavar="N", help="Columns of layers. [what fills a sheet of paper]")
def draw(cfg: str, out: str | None, columns: int | None) -> None:
    """Draw the layers and what they read as an SVG picture."""
    from darkpy.graph_drawing import draw as draw_graph
    from darkpy.text import plural

    target = out or f"{Path(cfg).stem}.svg"
    count = draw_graph(cfg, target, columns=columns)
    click.echo(f"{target}   {plural(count, 'layer')}")


@net.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="PICTURE [CFG WEIGHTS]")
@click.option("--cfg", metavar="CFG", help="The network. [the small detector that comes with darkpy]")
@click.option("--weights", metavar="FILE", help="Its trained weights.")
@click.option("--layer", type=int, required=True, metavar="N", help="Which layer; -1 is the last one.")
@click.option("-o", "--out", default="features.png", show_default=True, metavar="FILE", help="Where to write.")
@click.option("--letter-box", is_flag=True, help="Pad the picture to the network's shape, do not stretch it.")
@precision_option("--half", "On a GPU: outputs of layers have 16 bits, or tf32.")
@device_options
def features(files: tuple[str, ...], cfg: str | None, weights: str | None, out: str, **options: Any) -> None:
    """Draw what a layer makes of a picture: all its channels as small pictures on a sheet."""
    named = sort_files(files, pictures=True)
    override(named, cfg=cfg, weights=weights)
    if len(named.pictures) != 1:
        raise click.UsageError(f"name one picture, not {' and '.join(named.pictures) or 'none'}")
    if (named.cfg is None) != (named.weights is None):
        raise click.UsageError("name both a .cfg and a .weights file, or none of them")

    from darkpy import resources
    from darkpy.cli.loading import SHIPPED_CFG, SHIPPED_WEIGHTS
    from darkpy.feature_maps import draw as draw_maps
    from darkpy.text import plural

    network = str(named.cfg or resources.find("cfg", SHIPPED_CFG))
    trained = named.weights or resources.find("data", SHIPPED_WEIGHTS)
    drawn = draw_maps(network, trained, named.pictures[0], out=out, names=_class_names(named, network), **options)
    constant = f", {drawn.constant:,} of them constant" if drawn.constant else ""
    click.echo(f"{out}   {drawn.title}   {plural(drawn.maps, 'map')}{constant}")


def _class_names(files: Files, cfg: str) -> Sequence[str] | None:
    """Those of the data set that goes with the cfg, or of the published networks; None without any classes."""
    from darkpy import resources
    from darkpy.cli.loading import class_names
    from darkpy.config.cfg import read_cfg
    from darkpy.network import Network

    classes = Network(read_cfg(resources.find("cfg", cfg)), device="numpy", plan_only=True).classes
    return class_names(files, cfg, classes)[0] if classes else None


@net.command("help", cls=Command)
@click.argument("section", required=False)
def explain(section: str | None) -> None:
    """Explain the options of a section; without one, list all sections."""
    from darkpy.cli.output import print_table
    from darkpy.config.net import NetOptions
    from darkpy.layers.base import registered

    layers = registered()
    if section is None:
        print_table(_section_table())
        return
    name = section.strip("[]").lower()
    if name in ("net", "network"):
        click.echo("[net]: the input, the training schedule and the augmentation of a network.\n")
        print_table(_option_table(NetOptions))
    elif name in layers:
        layer = layers[name]
        aliases = ", ".join(f"[{other}]" for other in layer.names if other != name)
        click.echo(f"[{name}]{f', also {aliases}' if aliases else ''}: {_first_line(layer)}\n")
        print_table(_option_table(layer.Options))
    else:
        raise InputError(f"[{name}] is not a known section{suggestion(name, ['net', *layers])}")


def _first_line(layer: type) -> str:
    return (layer.__doc__ or "").strip().splitlines()[0]


def _section_table() -> Table:
    from rich.markup import escape
    from rich.table import Table

    from darkpy.layers.base import registered

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row(escape("[net]"), "The input, the training schedule and the augmentation of a network.")
    for name, layer in registered().items():
        if name == layer.names[0]:
            table.add_row(escape(f"[{name}]"), escape(_first_line(layer)))
    return table


def _option_table(options: type) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from darkpy.config.options import describe, ineffective_keys, refused_keys

    table = Table(box=None, pad_edge=False)
    table.add_column("option", style="bold", no_wrap=True)
    for header in ("type", "default", "range", "meaning"):
        table.add_column(header, overflow="fold")
    for row in describe(options):
        table.add_row(*(escape(part) for part in row))
    for key, reason in ineffective_keys(options).items():
        table.add_row(escape(key), "", "", "", escape(f"no effect: {reason}"), style="dim")
    for key, reason in refused_keys(options).items():
        table.add_row(escape(key), "", "", "", escape(f"not supported: {reason}"), style="dim")
    return table
