"""The progress of a training on a terminal: one line that is redrawn, and lines above it that stay."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from darkpy import text
from darkpy.training.callback import Outcome, Record
from darkpy.training.progress import Progress, losses, seconds_left

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer

REDRAWN = 2
"""Times a second; more would take time from the training on a machine with few cores."""

WIDE = 118
"""Columns from which there is room for the parts of the loss."""

NARROWEST, WIDEST = 5, 30
"""Columns of the bar itself."""

NUMBERS, PARTS = 82, 30
"""Columns of everything beside the bar, and of the parts of the loss."""


class Lasting:
    """A stream to a terminal that may go away; what is written then goes nowhere.

    Somebody who closes the window, or whose connection breaks, does not want the training to end.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, if there is still something to write to."""
        self._attempt(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Bring it to the terminal."""
        self._attempt(self.stream.flush)

    def _attempt(self, function: Callable[..., object], *arguments: str) -> None:
        try:
            function(*arguments)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


class ProgressBar(Progress):
    """``it 1,240/2,000  ━━━━━━━━╸━━━━  62 %  loss 1.84 ...  eta 1:24``."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=cast(TextIO, Lasting(stream)), highlight=False)
        self.with_parts = self.console.width >= WIDE
        room = self.console.width - NUMBERS - (PARTS if self.with_parts else 0)
        self.bar = Bar(
            TextColumn("  it {task.fields[iterations]}", markup=False),
            BarColumn(bar_width=min(max(room, NARROWEST), WIDEST)),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=self.console,
            refresh_per_second=REDRAWN,
        )
        self._numbers = ""
        self._task = self.bar.add_task("", start=False, iterations="", numbers="")

    def start(self, trainer: Trainer) -> None:
        """Show the bar."""
        self.bar.update(
            self._task,
            total=trainer.last_iteration,
            completed=trainer.first_iteration,
            iterations=f"{trainer.first_iteration:,}/{trainer.last_iteration:,}",
        )
        # Of a task that is not started the bar only says that something is going on, not how far it is.
        self.bar.start_task(self._task)
        self.bar.start()

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Set the numbers; the bar redraws itself."""
        numbers = (
            f"loss {losses(record, with_parts=self.with_parts)}",
            f"lr {text.rate(record.rate)}",
            f"{text.count(record.images_per_second)} img/s",
            f"eta {text.duration(seconds_left(trainer, record))}",
        )
        self._numbers = "  ".join(numbers)
        self.bar.update(
            self._task,
            completed=record.iteration,
            iterations=f"{record.iteration:,}/{trainer.last_iteration:,}",
            numbers=self._numbers,
        )

    def evaluating(self, done: int, total: int) -> None:
        """Show how far an evaluation is in the place of the numbers."""
        measuring = f"measuring on the validation set {done:,}/{total:,}"
        self.bar.update(self._task, numbers=measuring if done < total else self._numbers)

    def heading(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, markup=False, soft_wrap=True)

    def message(self, line: str) -> None:
        """Print a line above the bar, indented."""
        self.heading(f"  {line}")

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Leave the last state of the bar on the screen."""
        self.bar.stop()
