"""What was wrong with pictures and labels, told without flooding the screen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from darkpy.errors import Problem
from darkpy.text import plural
from darkpy.training.run_folder import writing

if TYPE_CHECKING:
    from darkpy.training.progress import Progress

SHOWN = 10


class ProblemLog:
    """Shows the first ten problems and writes all of them, one per line, to a file that exists only if there are any.

    Training goes on without what cannot be used; this is where the user finds out. What is in the file already, from
    an earlier part of the run, is not told again.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path = path
        self.progress = progress
        self._known = set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()
        self.count = len(self._known)

    def add(self, problem: Problem) -> None:
        """One more."""
        if str(problem) in self._known:
            return
        self._known.add(str(problem))
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{problem}\n")
        self.count += 1
        if self.count <= SHOWN:
            self.progress.message(str(problem))
        elif self.count == SHOWN + 1:
            self.progress.message(f"there are more such problems; all of them are in {self.path}")

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Several at once."""
        for problem in problems:
            self.add(problem)

    def conclude(self) -> None:
        """At the end, say how many there were."""
        if self.count:
            self.progress.message(f"{plural(self.count, 'problem')} with pictures and labels, see {self.path}")
