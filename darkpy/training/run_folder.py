"""The folder in which a training leaves everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from darkpy.errors import InputError
from darkpy.files import atomic_write

RUNS = Path("runs")


class RunFolder:
    """``runs/<name of the cfg>-N``, a new one for each run: cfg, arguments, results, chart and weights."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, name: str, out: str | Path | None = None, runs: Path = RUNS) -> RunFolder:
        """Make the folder: ``out``, which must be new or empty, or the next free number for ``name``."""
        if out is None:
            return cls(_numbered(name, runs))
        path = Path(out)
        try:
            path.mkdir(parents=True, exist_ok=True)
            taken = any(path.iterdir())
        except OSError as error:
            raise InputError(f"cannot be the run folder: {error.strerror}", where=str(path)) from None
        if taken:
            raise InputError("is not empty; name another folder, or leave out --out to get a new one", where=str(path))
        return cls(path)

    @property
    def results(self) -> Path:
        """The log, one line per iteration."""
        return self.path / "results.csv"

    @property
    def chart(self) -> Path:
        """The picture of loss and mAP."""
        return self.path / "chart.png"

    @property
    def problems(self) -> Path:
        """Pictures and labels that were skipped; there only if there were any."""
        return self.path / "problems.txt"

    def weights(self, name: str | int) -> Path:
        """``last``, ``best``, ``final``, or the number of an iteration."""
        return self.path / f"{name}.weights"

    def keep_cfg(self, path: str | Path) -> None:
        """Copy the cfg, byte by byte."""
        with atomic_write(self.path / Path(path).name) as file:
            file.write(Path(path).read_bytes())

    def keep_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Write ``args.yaml``: everything it takes to repeat the run."""
        import yaml

        with atomic_write(self.path / "args.yaml", "w") as file:
            yaml.safe_dump(dict(arguments), file, sort_keys=False, allow_unicode=True)


def _numbered(name: str, runs: Path) -> Path:
    """Make and return the first folder ``name-N`` whose number is higher than all there are."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        matches = (re.fullmatch(re.escape(name) + r"-(\d+)", path.name) for path in runs.iterdir())
        number = max((int(match[1]) for match in matches if match), default=0) + 1
        while True:
            path = runs / f"{name}-{number}"
            try:
                path.mkdir()
                return path
            except FileExistsError:  # another run has just taken it
                number += 1
    except OSError as error:
        raise InputError(f"cannot make a folder for this run: {error.strerror}", where=str(runs)) from None
