"""``darkpy report``: the page about a run."""

from __future__ import annotations

import click

from darkpy.cli.command import Command
from darkpy.cli.device import device_options


@click.command(cls=Command)
@click.argument("run", metavar="RUN")
@click.option("--out", metavar="FILE", help="The page. [report.html in the run folder]")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@device_options
def report(run: str, out: str | None, quiet: bool, device: str) -> None:
    """Write a page about a run: curves, classes, confusions, its worst pictures, the cfg.

    RUN is the run folder. The page is one .html file that needs nothing beside it, for any browser and for paper. What
    the best weights can do is measured for it, if the validation pictures are there.
    """
    from darkpy.cli.output import shown_progress
    from darkpy.report import report_run

    def notify(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    with shown_progress("measuring", shown=not quiet) as progress:
        path = report_run(run, out, device=device, notify=notify, progress=progress)
    if not quiet:
        click.echo(f"report: {path}")
