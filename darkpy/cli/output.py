"""Printing tables and progress, on a terminal or into a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

UNLIMITED = 200
"""Columns where there is no terminal to be as wide as."""

SECONDS = 10.0
"""Time between two lines of progress without a terminal; work that is done sooner prints none."""


def print_table(table: Table) -> None:
    """Print a table: styled on a terminal, plain text elsewhere."""
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, highlight=False, width=None if is_terminal else UNLIMITED)
    with console.capture() as capture:
        console.print(table)
    text = capture.get()
    # Into a file without the blanks that fill up the last column. On a terminal there may be a bar to stay above, which
    # takes care of what is written to standard output, not of what a console of its own prints.
    sys.stdout.write(text if is_terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines()))
    sys.stdout.flush()


@contextmanager
def shown_progress(what: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None] | None]:
    """A function that shows (done, total) on standard error; None where that is not wanted.

    On a terminal it is a bar that goes away at the end, elsewhere a plain line every ten seconds. A total of 0 stands
    for one that nobody knows.
    """
    if not shown:
        yield None
    elif sys.stderr.isatty():
        with _bar(what) as bar:
            yield bar
    else:
        yield _Lines(what)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("  {task.description}", markup=False), BarColumn(), TextColumn("{task.fields[numbers]}")
    began = time.monotonic()
    # Lines on the same terminal go above the bar; what goes into a file is left alone.
    options = {"transient": True, "redirect_stdout": sys.stdout.isatty()}
    with Progress(*columns, console=Console(stderr=True, highlight=False), **options) as bar:  # type: ignore[arg-type]
        task = bar.add_task(what, total=None, numbers="")
        yield lambda done, total: bar.update(
            task, completed=done, total=total or None, numbers=_numbers(done, total, time.monotonic() - began)
        )


class _Lines:
    """A plain line now and then, for files and pipes."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.began = time.monotonic()
        self._due = self.began + SECONDS

    def __call__(self, done: int, total: int) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + SECONDS
            print(f"  {self.what}  {_numbers(done, total, now - self.began)}", file=sys.stderr, flush=True)


def _numbers(done: int, total: int, seconds: float) -> str:
    """``24 %  1,200/5,000  84/s  eta 0:45``; of an unknown total ``1,200  84/s``."""
    from darkpy.text import duration

    rate = done / seconds if seconds else 0.0
    speed = f"{rate:,.0f}/s" if rate >= 9.95 else f"{rate:.1f}/s"
    if not total:
        return f"{done:,}  {speed}"
    left = duration((total - done) / rate) if rate else "-:--"
    return f"{100 * done // total:3} %  {done:,}/{total:,}  {speed}  eta {left}"
