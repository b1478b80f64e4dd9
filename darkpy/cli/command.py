"""Commands and groups that know Darknet's spelling, suggest the nearest word, and print errors without a traceback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from darkpy.cli.arguments import normalize
from darkpy.errors import DarkpyError, InputError, suggestion

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and the number of the signal, as shells have it."""

WRONG_PLACES = FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError
"""What the system says where a file cannot be where the user wants it."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Failure(click.ClickException):
    """A darkpy error on its way to the user: the problems one per line, then what it means."""

    def __init__(self, error: DarkpyError) -> None:
        super().__init__(str(error))
        self.error = error
        self.exit_code = error.exit_code  # type: ignore[misc]  # click declares it for the class

    def show(self, file: Any = None) -> None:
        """Print to standard error."""
        click.echo(self.message, file=file, err=True)
        if isinstance(self.error, InputError):
            count = len(self.error.problems)
            click.echo(f"{count} {'error' if count == 1 else 'errors'}, nothing was started", file=file, err=True)


def _failed_file(error: OSError) -> click.ClickException:
    """What the system said of a file; of one that cannot be where the user wants it, status 2, of a full disk 1."""
    named = error.filename2 or error.filename
    shown = click.ClickException(f"{named}  {error.strerror}" if named and error.strerror else str(error))
    if isinstance(error, WRONG_PLACES):
        shown.exit_code = InputError.exit_code  # type: ignore[misc]  # click declares it for the class
    return shown


class Command(click.Command):
    """A command that takes Darknet's single-dash flags, and files with layers of one's own."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(_plugin_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spell the flags as declared, then parse."""
        return super().parse_args(ctx, _normalize(self, ctx, args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run; darkpy's errors become messages and Ctrl-C an exit status."""
        try:
            return super().invoke(ctx)
        except DarkpyError as error:
            raise Failure(error) from error
        except BrokenPipeError:
            raise  # a reader that has seen enough: see darkpy.cli.main.run
        except OSError as error:
            raise _failed_file(error) from error
        except MemoryError as error:
            raise click.ClickException(f"there is not enough memory: {error}") from error
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            ctx.exit(INTERRUPTED)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spell the group's own flags as declared; those after the command's name are the command's."""
        own = next((place for place, argument in enumerate(args) if not argument.startswith("-")), len(args))
        return super().parse_args(ctx, [*_normalize(self, ctx, args[:own]), *args[own:]])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is an error that names the nearest."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            shown = [name for name in known if not getattr(self.get_command(ctx, name), "hidden", False)]
            hint = suggestion(args[0], known) or f"; there are {', '.join(shown)}"
            raise click.UsageError(f"no such command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


Group.group_class = Group


class OptionalChoice(click.Option):
    """An option that one of a few values may follow, the first being meant where none does; None if not given."""

    def __init__(self, *arguments: Any, values: Sequence[str], **options: Any) -> None:
        given: dict[str, Any] = {"type": click.Choice(values), "metavar": f"[{'|'.join(values)}]", **options}
        super().__init__(*arguments, **given)
        self.values = values


def _normalize(command: click.Command, ctx: click.Context, arguments: Sequence[str]) -> list[str]:
    declared = [parameter for parameter in command.get_params(ctx) if isinstance(parameter, click.Option)]
    flags: list[str] = []
    options: list[str] = []
    choices: dict[str, Sequence[str]] = {}
    for option in declared:
        if isinstance(option, OptionalChoice):
            choices |= dict.fromkeys(_names(option), option.values)
        elif option.is_flag or option.count:
            flags += _names(option)
        else:
            options += _names(option)
    return normalize(arguments, flags=flags, options=options, choices=choices)


def _names(option: click.Option) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def _plugin_option() -> click.Option:
    return click.Option(
        ["--plugin"],
        type=click.Path(),
        multiple=True,
        envvar="DARKPY_PLUGINS",
        metavar="FILE",
        expose_value=False,
        callback=_load_plugins,
        help="A Python file with layers of your own.",
    )


def _load_plugins(ctx: click.Context, parameter: click.Parameter, paths: Sequence[str]) -> None:
    for path in paths:
        from darkpy import plugins

        try:
            plugins.load(path)
        except DarkpyError as error:
            raise Failure(error) from error


def without_effect(*names: str, because: str, value: bool = False) -> Callable[[Function], Function]:
    """Accept one of Darknet's flags that changes nothing here, with a one-line note if it is given."""

    def note(ctx: click.Context, parameter: click.Parameter, given: Any) -> None:
        if parameter.name and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            flag = names[0].lstrip("-").replace("-", "_")
            click.echo(f"-{flag} has no effect: {because}", err=True)

    return click.option(*names, is_flag=not value, expose_value=False, hidden=True, callback=note)
