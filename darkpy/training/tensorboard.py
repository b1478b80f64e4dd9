"""``--tensorboard``: event files for TensorBoard, written by the package tensorboardX."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkpy.errors import InputError
from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.run_folder import writing

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer

PACKAGE = "tensorboardX"


def require_tensorboard() -> None:
    """Raise :class:`~darkpy.errors.InputError` if the package is not installed."""
    if find_spec(PACKAGE) is None:
        raise InputError(
            f"--tensorboard needs the package {PACKAGE}; install it with: pip install 'darkpy-detector[tensorboard]'"
        )


class TensorBoard(Callback):
    """Writes losses, learning rate and speed of every iteration, and the scores where it was measured.

    In a run that goes on, TensorBoard is told to forget what was written for iterations that are done again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None

    def start(self, trainer: Trainer) -> None:
        """Begin a file."""
        from tensorboardX import SummaryWriter

        with writing(self.folder):
            files = len(list(self.folder.iterdir())) if self.folder.exists() else 0
            # Without a suffix, files begun in the same second would have the same name.
            self._writer = SummaryWriter(
                str(self.folder), purge_step=trainer.told + 1 if files else None, filename_suffix=f".{files}"
            )

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Never: numbers may come a little late."""
        return False

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Write the numbers; they reach the disk in the background."""
        numbers = {
            "loss/loss": record.loss,
            "loss/average": record.average,
            "loss/box": record.box,
            "loss/objectness": record.objectness,
            "loss/classification": record.classification,
            "training/learning_rate": record.rate,
            "training/images_per_second": record.images_per_second,
            "training/width": record.width,
        }
        if record.evaluation is not None:
            numbers |= {f"scores/{_tag(name)}": score for name, score in record.evaluation.scores.items()}
        for name, value in numbers.items():
            if value is not None:
                self._writer.add_scalar(name, value, record.iteration)

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Write what is left."""
        with writing(self.folder):
            self._writer.close()


def _tag(name: str) -> str:
    """The name with what TensorBoard does not allow replaced: ``mAP_50``."""
    return re.sub(r"[^-./\w]", "_", name)
