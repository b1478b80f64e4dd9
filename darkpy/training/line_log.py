"""What the logs of a run have in common: a line for each iteration, in a file that can be watched and cut back."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.run_folder import writing

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer


class LineLog(Callback):
    """Writes a line per iteration, at once. In a run that goes on, lines of iterations to be done again are cut off."""

    header = ""
    """First line of the file, if any; with its line end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    @abstractmethod
    def line(self, record: Record) -> str:
        """The line of an iteration, with its line end."""

    @staticmethod
    @abstractmethod
    def iteration_of(line: str) -> int:
        """The iteration a line is of; ValueError if it is not whole."""

    def start(self, trainer: Trainer) -> None:
        """Open the file, with the lines up to where the training goes on."""
        with writing(self.path):
            self._cut(trainer.told)
            self._file = self.path.open("a", newline="", encoding="utf-8", buffering=1)
            if not self._file.tell():
                self._file.write(self.header)

    def _cut(self, iteration: int) -> None:
        """Keep the header and the whole lines up to an iteration."""
        if not self.path.exists():
            return
        kept = 0
        with self.path.open("r+b") as file:
            for line in file:
                is_header = bool(self.header) and not kept
                if not line.endswith(b"\n") or not (is_header or self._is_up_to(iteration, line)):
                    break
                kept += len(line)
            file.truncate(kept)

    def _is_up_to(self, iteration: int, line: bytes) -> bool:
        try:
            return self.iteration_of(line.decode()) <= iteration
        except ValueError:
            return False

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Never: a line may be written a little late."""
        return False

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Write the line."""
        assert self._file is not None, "start() opened it"
        with writing(self.path):
            self._file.write(self.line(record))

    def state(self) -> dict[str, Any]:
        """Nothing; but what is saved now counts on the lines so far, so they have to be on the disk."""
        if self._file is not None:
            with writing(self.path):
                self._file.flush()
                os.fsync(self._file.fileno())
        return {}

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Close the file."""
        try:
            self.state()
        finally:
            if self._file is not None:
                file, self._file = self._file, None
                with writing(self.path):
                    file.close()
