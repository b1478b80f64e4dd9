"""``results.csv``: every iteration as a line, for spreadsheets and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from darkpy.training.callback import Record
from darkpy.training.line_log import LineLog

LOSSES = ("iteration", "loss", "average_loss")
PARTS = ("box", "objectness", "classification")
SPEED = ("learning_rate", "images_per_second", "width", "height")


class CsvLog(LineLog):
    """Writes a line per iteration, at once, so that the file can be watched.

    parts: whether the loss has parts, as a detector's has. scores: columns for the scores of an evaluation, 0..1, in
    their order, filled in lines where it was measured; ``map`` is the mean average precision. ``waited`` are
    the seconds an iteration waited for its pictures, ``seconds`` count from the start.
    """

    def __init__(self, path: Path, *, parts: bool = True, scores: Sequence[str] = ("map",)) -> None:
        super().__init__(path)
        self.parts = PARTS if parts else ()
        self.scores = tuple(scores)
        self.columns = (*LOSSES, *self.parts, *SPEED, *self.scores, "waited", "seconds")
        self.header = _joined(self.columns)

    def line(self, record: Record) -> str:
        """The values of the columns."""
        parts = [getattr(record, name) for name in self.parts]
        measured = record.evaluation.scores.values() if record.evaluation else [None] * len(self.scores)
        return _joined(
            [
                str(record.iteration),
                f"{record.loss:.6g}",
                f"{record.average:.6g}",
                *("" if part is None else f"{part:.6g}" for part in parts),
                f"{record.rate:.6g}",
                f"{record.images_per_second:.1f}",
                str(record.width),
                str(record.height),
                *("" if score is None else f"{score:.6f}" for score in measured),
                f"{record.waited:.4f}",
                f"{record.seconds:.2f}",
            ]
        )

    @staticmethod
    def iteration_of(line: str) -> int:
        """The first column."""
        return int(line.partition(",")[0])


def _joined(cells: Sequence[str]) -> str:
    return ",".join(cells) + "\n"
