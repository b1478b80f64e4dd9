"""``darkpy data``: look at data sets and put them in order."""

from __future__ import annotations

from pathlib import Path

import click

from darkpy.cli.arguments import sort_files
from darkpy.cli.command import Command, Group
from darkpy.cli.detect import override
from darkpy.cli.detector import COUNT, POSITIVE


@click.group(cls=Group)
def data() -> None:
    """Look at data sets and put them in order."""


@data.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="[DATA] CFG")
@click.option("--data", "data_set", metavar="DATA", help="The data set. [data/<cfg's name>.yaml]")
@click.option("--count", default=16, help="How many pictures to show.", **POSITIVE)
@click.option("--iteration", default=0, help="The training's iteration to begin with.", **COUNT)
@click.option("--seed", default=0, help="Source of everything random; that of the training.", **COUNT)
@click.option("--out", default="preview.jpg", metavar="FILE", show_default=True, help="The picture to write.")
def preview(files: tuple[str, ...], data_set: str | None, count: int, iteration: int, seed: int, out: str) -> None:
    """Show what a training gives its network: augmented pictures with their boxes.

    They are the very samples that the training with this cfg and seed would use. Each row is from another iteration.
    """
    named = sort_files(files)
    override(named, data=data_set)
    if named.cfg is None:
        raise click.UsageError("no .cfg file is named")

    if named.weights is not None:
        raise click.UsageError(f"{named.weights}: the weights do not change what the network is shown")

    from darkpy.training import TrainingSettings
    from darkpy.training.preview import preview as make_sheet
    from darkpy.training.preview import write

    settings = TrainingSettings(cfg=named.cfg, data=named.data, seed=seed)
    sheet = make_sheet(settings, count, iteration, lambda line: click.echo(line, err=True))
    write(sheet, Path(out))
    click.echo(f"{count} samples from iteration {iteration:,} on are in {out}")
