"""The command ``darkpy``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from darkpy.cli.classifier import classifier
from darkpy.cli.command import Group
from darkpy.cli.data import data
from darkpy.cli.data_tools import COMMANDS as DATA_TOOLS
from darkpy.cli.detect import detect
from darkpy.cli.detector import detector
from darkpy.cli.evaluation import COMMANDS as EVALUATION
from darkpy.cli.gpu import gpu
from darkpy.cli.init import calc_anchors, init
from darkpy.cli.net import net
from darkpy.cli.report import report
from darkpy.cli.runs import runs
from darkpy.cli.weights import DARKNET_SPELLINGS, weights
from darkpy.version import __version__

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Group, context_settings=SETTINGS)
@click.version_option(__version__, "--version", message="darkpy %(version)s")
def cli() -> None:
    """Train and use object detectors and classifiers the Darknet way.

    A network is a .cfg file, a data set a .data or .yaml file or a folder. Darknet's flags with one dash
    (-thresh .3, -dont_show) are understood beside the long ones, and files are told apart by their endings.
    """


@cli.command()
def version() -> None:
    """Print the versions of darkpy and of what it stands on."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from darkpy import backends

    backend = backends.create()
    threads = "thread" if backend.threads == 1 else "threads"
    click.echo(f"darkpy {__version__}   {backend.name} backend, {backend.threads} {threads}")
    click.echo(f"Python {platform.python_version()}   {platform.platform()}")
    for package in ("numpy", "opencv-python", "numba", "click", "rich", "matplotlib"):
        with suppress(PackageNotFoundError):
            click.echo(f"{package} {installed(package)}")


for command in (*EVALUATION, calc_anchors):
    detector.add_command(command)
for command in DATA_TOOLS:
    data.add_command(command)
cli.add_command(detector)
cli.add_command(detect)
cli.add_command(classifier)
cli.add_command(net)
cli.add_command(gpu)
cli.add_command(data)
cli.add_command(init)
cli.add_command(weights)
cli.add_command(runs)
cli.add_command(report)
for spelling in DARKNET_SPELLINGS:
    cli.add_command(spelling)


def run() -> None:
    """The entry point. A reader that stops reading, as in ``darkpy net help | head``, is no error worth a word."""
    # What is wrong with a picture is said once, and by darkpy; OpenCV reads this when it is first needed.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    for stream in (sys.stdout, sys.stderr):
        # A class name that the terminal's encoding lacks is no reason to fail.
        with suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        try:
            cli(prog_name="darkpy")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer has nowhere to go; without this Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
