"""``log.jsonl``: every iteration as a json object on a line of its own, with all that was measured, for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from darkpy.training.callback import Record
from darkpy.training.line_log import LineLog


class JsonLog(LineLog):
    """Writes an object per iteration: the columns of ``results.csv`` and the time of day; with a loss scale that, and
    how many updates were ``skipped`` so far; where it was measured ``scores``, 0..1 by name, and ``evaluation`` with
    everything known about it."""

    def line(self, record: Record) -> str:
        """The object of an iteration. What is not a finite number is null."""
        facts: dict[str, Any] = {
            "iteration": record.iteration,
            "loss": record.loss,
            "average_loss": record.average,
            "box": record.box,
            "objectness": record.objectness,
            "classification": record.classification,
            "learning_rate": record.rate,
            "images_per_second": round(record.images_per_second, 1),
            "width": record.width,
            "height": record.height,
            "waited": round(record.waited, 4),
            "seconds": round(record.seconds, 2),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        if record.loss_scale is not None:
            facts |= {"loss_scale": record.loss_scale, "skipped": record.skipped}
        if record.evaluation is not None:
            facts["scores"] = record.evaluation.scores
            to_dict = getattr(record.evaluation, "to_dict", None)
            if to_dict is not None:
                facts["evaluation"] = to_dict()
        return json.dumps(_finite(facts), ensure_ascii=False) + "\n"

    @staticmethod
    def iteration_of(line: str) -> int:
        """The object's iteration."""
        try:
            return int(json.loads(line)["iteration"])
        except (KeyError, TypeError) as error:
            raise ValueError(line) from error


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a log, one per iteration; a last line that is still being written is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def _finite(value: Any) -> Any:
    """The same with None in place of numbers that json has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
