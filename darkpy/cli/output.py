"""Printing tables and progress, on a terminal or into a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

UNLIMITED = 200
"""Columns where there is no terminal to be as wide as."""


def print_table(table: Table) -> None:
    """Print a table: styled on a terminal, plain text elsewhere."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else UNLIMITED)
    if sys.stdout.isatty():
        console.print(table)
        return
    # Into a file without the blanks that fill up the last column.
    with console.capture() as capture:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


@contextmanager
def progress_on_terminal(what: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None] | None]:
    """A function that shows (done, total) as a bar on standard error; None where that is no terminal, or not wanted."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
