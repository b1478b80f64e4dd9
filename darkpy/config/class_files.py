"""Files that heads of many classes name in a cfg: the hierarchy of the classes, and a list that renumbers them."""

from __future__ import annotations

from pathlib import Path

from darkpy import resources
from darkpy.errors import ConfigError, Problem


def find_class_file(name: str, cfg: str | Path) -> Path | None:
    """The file a cfg names: in the working folder, among those that come with darkpy, or beside the cfg; or None."""
    try:
        return resources.find("data", name)
    except ConfigError:
        beside = Path(cfg).parent / name
        return beside if beside.is_file() else None


def read_tree(path: str | Path) -> list[int]:
    """The class above each class, by number, -1 for none (Darknet, read_tree).

    A line is a name and the number of the class above, which stands on an earlier line; numbers count from 0, and
    a line without a number has nothing above. Raises ConfigError with every line that cannot be read.
    """
    parents: list[int] = []
    problems = []
    for number, words in _lines(path):
        above = _integer(words[1]) if len(words) > 1 else -1
        if above is None or not -1 <= above < len(parents):
            expected = f"expected a name and the number of an earlier class, -1 to {len(parents) - 1}"
            problems.append(Problem(f"{path}:{number}", f"{expected}; found {' '.join(words)!r}"))
        parents.append(-1 if above is None else above)
    if problems:
        raise ConfigError(problems=problems)
    return parents


def read_map(path: str | Path, classes: int) -> list[int]:
    """A class, below ``classes``, for each class of the labels, one a line (Darknet, read_map).

    Raises ConfigError with every line that cannot be read.
    """
    numbers = []
    problems = []
    for line, words in _lines(path):
        number = _integer(words[0])
        if number is None or not 0 <= number < classes:
            problems.append(Problem(f"{path}:{line}", f"expected a class, 0 to {classes - 1}; found {words[0]!r}"))
        numbers.append(number or 0)
    if problems:
        raise ConfigError(problems=problems)
    return numbers


def _lines(path: str | Path) -> list[tuple[int, list[str]]]:
    """Number, from 1, and words of every line that has any."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.split()]


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
