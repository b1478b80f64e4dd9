"""``status.json``: how far a run is, for ``darkpy runs``."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from darkpy.files import atomic_write
from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.evaluator import Evaluator
from darkpy.training.run_folder import writing

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer

RUNNING = "running"
SECONDS = 10.0
"""Time between two writings."""


@dataclass(frozen=True)
class Status:
    """How far a run is.

    state: ``running``, or the name of its outcome. reason: why it ended before its last iteration. loss: the running
    average. best: the best value of the first score, 0..1, and ``metric``, its name. seconds: time of all its parts.
    started, updated: ISO times of this part's start and of the last change.
    """

    state: str
    iteration: int = 0
    max_batches: int = 0
    loss: float | None = None
    metric: str = ""
    best: float | None = None
    best_iteration: int = 0
    seconds: float = 0.0
    started: str = ""
    updated: str = ""
    reason: str = ""


class StatusFile(Callback):
    """Writes the file at the start, every few seconds, and at the end; it comes after all others that may fail."""

    def __init__(self, path: Path, evaluator: Evaluator | None) -> None:
        self.path = path
        self.evaluator = evaluator
        self._started = _now()
        self._due = 0.0

    def start(self, trainer: Trainer) -> None:
        """Say that it is running."""
        self._write(trainer, RUNNING)

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Never: it is told often enough."""
        return False

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Write if the last time is long enough ago."""
        if time.monotonic() >= self._due:
            self._write(trainer, RUNNING)

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Say how it ended."""
        at_once = isinstance(trainer.error, KeyboardInterrupt)
        self._write(trainer, Outcome.STOPPED.value if at_once else outcome.value)

    def _write(self, trainer: Trainer, state: str) -> None:
        self._due = time.monotonic() + SECONDS
        best = self.evaluator
        status = Status(
            state,
            iteration=trainer.network.iteration,
            max_batches=trainer.last_iteration,
            loss=trainer.average if math.isfinite(trainer.average) else None,
            metric=best.metric if best else "",
            best=best.best if best else None,
            best_iteration=best.best_iteration if best else 0,
            seconds=trainer.seconds,
            started=self._started,
            updated=_now(),
            reason=trainer.reason if trainer.error is None else _words(trainer.error),
        )
        with writing(self.path), atomic_write(self.path, "w") as file:
            json.dump(asdict(status), file, indent=1, ensure_ascii=False)


def read_status(path: Path) -> Status | None:
    """What the file says; None if there is none, or one that cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in fields(Status)}
        return Status(**{name: value for name, value in found.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _words(error: BaseException) -> str:
    return "ended at once" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
