"""What the commands that train have in common: options of the run, resuming, and the exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from darkpy.cli.arguments import Files
from darkpy.cli.command import Function
from darkpy.cli.device import precision_option

if TYPE_CHECKING:
    from darkpy.training import TrainingResult

SIGNALLED = 128
"""Added to the number of the signal that ended a command, as shells have it."""


class Duration(click.ParamType):
    """A length of time with its units; becomes seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """``1h30m`` to 5400."""
        from darkpy.text import seconds

        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def run_options(command: Function) -> Function:
    """The options that every command that trains has; ``--resume`` arrives as ``run``."""
    positive: dict[str, Any] = {"type": click.IntRange(min=1), "metavar": "N"}
    count: dict[str, Any] = {"type": click.IntRange(min=0), "metavar": "N"}
    options = (
        click.option("--resume", "run", metavar="RUN", help="Go on with the run in this folder; needs nothing else."),
        click.option("--patience", help="End after N measurements without a better one.", **positive),
        click.option("--time-limit", type=Duration(), metavar="TIME", help="Save and stop after 30m, 2h or the like."),
        click.option("--freeze", default=0, help="Leave the first N layers as they are.", **count),
        click.option(
            "--on-nan",
            type=click.Choice(("stop", "rollback")),
            default="stop",
            show_default=True,
            help="If the loss is not finite: stop, or go back and halve the rate.",
        ),
        precision_option("--amp", "Mixed precision, on a GPU: outputs of layers have 16 bits, or tf32."),
        click.option("--auto-subdivisions", is_flag=True, help="The fewest subdivisions that fit into memory."),
        click.option("--tensorboard", is_flag=True, help="Write event files for TensorBoard into the run folder."),
        click.option("--report/--no-report", default=True, help="Write report.html at the end.", show_default=True),
    )
    for option in reversed(options):
        command = option(command)
    return command


def changes(named: Files, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings given beside ``--resume``; a usage error for files, and for settings that have to stay."""
    from darkpy.training.settings import CHANGEABLE

    context = click.get_current_context()
    files = [path for path in (named.cfg, named.data, named.weights) if path is not None]
    if files:
        raise click.UsageError(f"--resume takes everything from the run folder; leave out {', '.join(files)}")
    given = {name for name in settings if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    fixed = [options[name] for name in settings if name in given and name not in CHANGEABLE]
    if fixed:
        raise click.UsageError(f"{', '.join(fixed)} cannot be changed when a run is resumed; start a new one")
    return {name: settings[name] for name in given}


def exit_after(result: TrainingResult) -> None:
    """End with the exit status that a shell gives a command ended by a signal, if it was."""
    from darkpy.training import Outcome

    if result.outcome is Outcome.STOPPED and result.signal is not None:
        click.get_current_context().exit(SIGNALLED + result.signal)
