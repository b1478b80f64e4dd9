"""What a training shows: nothing, or a line now and then. See progress_bar for a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from darkpy import text
from darkpy.training.callback import Callback, Record

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer

SECONDS = 10.0
"""Time between two lines without a terminal."""


class Progress(Callback):
    """Shows nothing; the base of those that do."""

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Never: what is shown may be a little late."""
        return False

    def heading(self, line: str) -> None:
        """A line at the margin: what is trained, and what came of it."""

    def message(self, line: str) -> None:
        """Something worth a line of its own."""

    def evaluating(self, done: int, total: int) -> None:
        """An evaluation has done so many of its pictures."""


class ProgressLines(Progress):
    """A plain line every ten seconds, and for the first and the last iteration: for files and pipes."""

    def __init__(self, stream: TextIO | None = None, seconds: float = SECONDS) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.seconds = seconds
        self._due = 0.0

    def heading(self, line: str) -> None:
        """Print the line."""
        print(line, file=self.stream, flush=True)

    def message(self, line: str) -> None:
        """Print the line, indented."""
        self.heading(f"  {line}")

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        if now >= self._due or record.iteration == trainer.last_iteration:
            self._due = now + self.seconds
            self.message(iteration_line(trainer, record))


def iteration_line(trainer: Trainer, record: Record) -> str:
    """One iteration on one line."""
    share = 100 * record.iteration // trainer.last_iteration
    parts = (
        f"it {record.iteration:,}/{trainer.last_iteration:,}",
        f"{share} %",
        f"loss {losses(record)}",
        f"lr {text.rate(record.rate)}",
        f"{text.count(record.images_per_second)} img/s",
        f"eta {text.duration(seconds_left(trainer, record))}",
    )
    return "  ".join(parts)


def losses(record: Record, *, with_parts: bool = True) -> str:
    """``1.84 avg 1.90 (box .61 obj .72 cls .51)``."""
    total = f"{text.short(record.loss)} avg {text.short(record.average)}"
    if record.box is None or record.objectness is None or record.classification is None or not with_parts:
        return total
    parts = f"box {text.short(record.box)} obj {text.short(record.objectness)} cls {text.short(record.classification)}"
    return f"{total} ({parts})"


def seconds_left(trainer: Trainer, record: Record) -> float:
    """Time to the end at the present speed, without evaluations."""
    return (trainer.last_iteration - record.iteration) * record.seconds_per_iteration


def create_progress(stream: TextIO | None = None, *, quiet: bool = False) -> Progress:
    """What suits the stream (standard output by default): a bar on a terminal, otherwise lines, nothing if quiet."""
    stream = sys.stdout if stream is None else stream
    if quiet:
        return Progress()
    if not stream.isatty():
        return ProgressLines(stream)
    from darkpy.training.progress_bar import ProgressBar

    return ProgressBar(stream)


