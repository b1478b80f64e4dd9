"""Darknet's habits on the command line, turned into the ordinary ones before click sees them.

Darknet's flags have one dash and underscores (``-iou_thresh .5``), and its files are told apart by their place; here
flags may be spelt either way, and files are told apart by their endings, so that any order will do.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from darkpy.config.data_files import DESCRIPTION_ENDINGS
from darkpy.errors import InputError, Problem

DATA_ENDINGS = (*DESCRIPTION_ENDINGS, ".json")
WEIGHTS_ENDINGS = (".weights", ".backup")
NAMES_ENDINGS = (".names", ".list")
# Weights of the first layers only are named after the last of them: yolov4.conv.137, darknet19_448.conv.23.
FIRST_LAYERS = re.compile(r".+\.(conv\.)?\d+")


def normalize(
    arguments: Sequence[str],
    *,
    flags: Iterable[str],
    options: Iterable[str],
    choices: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Spell every flag the way it is declared.

    ``flags`` are the declared names without a value (``--dont-show``), ``options`` those followed by one
    (``--thresh``, ``-i``), ``choices`` those that one of a few values may follow (``--amp bf16``), where none does the
    first is meant. One dash or two, and dashes, underscores and capitals within a name, make no difference:
    ``-dont_show``, ``--dont_show`` and ``-dontshow`` all become ``--dont-show``. Values, file names, negative
    numbers, one-letter options (``-i 0``, ``-i0``) and everything after ``--`` stay as they are. An unknown long flag
    gets two dashes, so that click can name the nearest known one.

    >>> normalize(["-iou_thresh", "-.5", "x.cfg"], flags=[], options=["--iou-thresh"])
    ['--iou-thresh', '-.5', 'x.cfg']
    """
    with_value, choices = set(options), choices or {}
    known = {*with_value, *flags, *choices}
    by_letters = {_letters(name): name for name in sorted(known) if name.startswith("--")}
    normalized: list[str] = []
    rest = deque(arguments)
    while rest:
        argument = rest.popleft()
        if argument == "--":
            normalized += [argument, *rest]
            break
        argument = _declared(argument, by_letters, known)
        if argument in choices:
            value = rest.popleft() if rest and rest[0] in choices[argument] else choices[argument][0]
            argument = f"{argument}={value}"
        normalized.append(argument)
        if argument in with_value and rest:
            normalized.append(rest.popleft())
    return normalized


def _letters(name: str) -> str:
    """What counts of a flag's name."""
    return name.replace("-", "").replace("_", "").lower()


def _declared(argument: str, by_letters: dict[str, str], known: set[str]) -> str:
    name, equals, value = argument.partition("=")
    body = name.lstrip("-")
    if not argument.startswith("-") or len(body) < 2 or not body[0].isalpha():
        return argument
    found = by_letters.get(_letters(body))
    if found is not None:
        return found + equals + value
    is_short_with_number = f"-{body[0]}" in known and body[1:].isdigit()
    return argument if is_short_with_number else f"--{body}{equals}{value}"


@dataclass
class Files:
    """Files of a command by what they are; ``pictures`` may also be folders."""

    cfg: str | None = None
    data: str | None = None
    weights: str | None = None
    names: str | None = None
    pictures: list[str] = field(default_factory=list)


def sort_files(paths: Iterable[str], *, pictures: bool = False) -> Files:
    """Tell cfg, data, weights and names files apart by their endings, in any order.

    With ``pictures`` everything else, folders too, is a picture; without, a folder is a data set and a file with
    another ending an error. Two files of one kind are an error as well.
    """
    files = Files()
    problems: list[Problem] = []
    for path in paths:
        kind = _kind(path)
        if pictures and (kind is None or Path(path).is_dir()):
            files.pictures.append(path)
            continue
        if kind is None and Path(path).is_dir():
            kind = "data"
        if kind is None:
            problems.append(Problem(path, "is no .cfg, .data, .yaml, .json or .weights file, nor a folder"))
        elif (given := getattr(files, kind)) is not None:
            problems.append(Problem(path, f"a second {kind} file; {given} is given already"))
        else:
            setattr(files, kind, path)
    if problems:
        raise InputError(problems=problems)
    return files


def _kind(path: str) -> str | None:
    ending = Path(path).suffix.lower()
    if ending == ".cfg":
        return "cfg"
    if ending in DATA_ENDINGS:
        return "data"
    if ending in WEIGHTS_ENDINGS or FIRST_LAYERS.fullmatch(Path(path).name):
        return "weights"
    return "names" if ending in NAMES_ENDINGS else None
