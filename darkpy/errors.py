"""Errors with a place and an advice.

Everything darkpy raises on purpose is a :class:`DarkpyError`. An :class:`InputError` is the user's to mend (exit
status 2 on the command line); any other is a failure at run time (exit status 1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (``file:line`` or a layer), and what to do about it."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}  {self.message}" if self.where else self.message


class DarkpyError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is the command line's exit status."""

    exit_code = 1


class InputError(DarkpyError):
    """A file, an option or a picture that cannot be used; carries every problem found, not only the first.

    Build it from one message, or from problems collected on the way: ``InputError(problems=[...])``.
    """

    exit_code = 2

    def __init__(self, message: str = "", *, where: str = "", problems: Iterable[Problem] = ()) -> None:
        self.problems: list[Problem] = list(problems) or [Problem(where, message)]
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ConfigError(InputError):
    """A cfg, data or names file that cannot be used."""


class WeightsError(InputError):
    """A weights file that does not fit."""


class DataError(InputError):
    """Pictures or labels that cannot be used."""


class TrainingError(DarkpyError):
    """Training cannot go on."""


class NotFinite(TrainingError):
    """A loss, a gradient or weights that are NaN or infinite.

    what: ``loss``, ``gradient`` or ``weights``. pictures: the part of the batch in which it showed, first and last + 1.
    """

    def __init__(self, what: str, pictures: tuple[int, int] = (0, 0)) -> None:
        self.what = what
        self.pictures = pictures
        super().__init__(f"the {what} is NaN or infinite")


class OutOfMemory(InputError):
    """The plan needs more memory than there is."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'anchors'?"`` with the nearest known word, or an empty string.

    >>> suggestion("ancors", ["anchors", "mask"])
    "; did you mean 'anchors'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
