"""``results.csv``: every iteration as a line, for spreadsheets and plots."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from darkpy.training.callback import Callback, Outcome, Record

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer

COLUMNS = (
    "iteration", "loss", "average_loss", "box", "objectness", "classification",
    "learning_rate", "images_per_second", "width", "height", "map", "seconds",
)  # fmt: skip


class CsvLog(Callback):
    """Writes a line per iteration, at once, so that the file can be watched.

    ``map`` is the mean average precision, 0..1, in lines where it was measured; ``seconds`` count from the start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None
        self._writer: Any = None

    def start(self, trainer: Trainer) -> None:
        """Open the file and write the header."""
        self._file = self.path.open("w", newline="", encoding="utf-8", buffering=1)
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Write the line."""
        parts = (record.box, record.objectness, record.classification)
        evaluation = record.evaluation
        self._writer.writerow(
            [
                record.iteration,
                f"{record.loss:.6g}",
                f"{record.average:.6g}",
                *("" if part is None else f"{part:.6g}" for part in parts),
                f"{record.rate:.6g}",
                f"{record.images_per_second:.1f}",
                record.width,
                record.height,
                "" if evaluation is None else f"{evaluation.mean_average_precision:.6f}",
                f"{record.seconds:.2f}",
            ]
        )

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
