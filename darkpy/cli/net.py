"""``darkpy net``: look at network files without running them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from darkpy.cli.command import Command, Group
from darkpy.errors import ConfigError, InputError, suggestion

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.layers.base import Shape
    from darkpy.summary import LayerRow, Summary


@click.group(cls=Group)
def net() -> None:
    """Check a cfg file, show what it describes, explain its sections."""


@net.command(cls=Command)
@click.argument("cfgs", nargs=-1, required=True, metavar="CFG...")
def check(cfgs: tuple[str, ...]) -> None:
    """Find every mistake in cfg files; exit status 2 if there is any."""
    from darkpy.backends.numpy import NumpyBackend
    from darkpy.training.text import plural

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
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Pictures at a time. [1; training: the cfg's]")
def summary(cfg: str, batch: int | None) -> None:
    """Show the layers of a network, what they cost, and the memory it takes."""
    from darkpy.cli.output import print_table
    from darkpy.summary import summarize
    from darkpy.version import __version__

    found = summarize(cfg, batch=batch)
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

    from darkpy.training.text import plural, quantity

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
