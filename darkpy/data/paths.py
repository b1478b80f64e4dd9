"""Names of pictures in lists and files, and where they lead."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from darkpy.data.pictures import SUFFIXES
from darkpy.errors import DataError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not empty, with their numbers from 1.

    Raises:
        DataError: the list cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if is_utf_16(data):
        raise DataError("is text in UTF-16; save it as UTF-8", where=str(path))
    if b"\0" in data:
        raise DataError("is no text; a list has the name of a picture in each line", where=str(path))
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [(number, os.fsdecode(line.strip())) for number, line in enumerate(lines, start=1) if line.strip()]


def is_utf_16(data: bytes) -> bool:
    """Whether a text file begins as some programs of Windows write them, which Darknet cannot read either."""
    return data.startswith((b"\xff\xfe", b"\xfe\xff"))


def bases(path: Path, root: Path) -> list[Path]:
    """What the lines of a list may be relative to."""
    return [Path(), root, path.parent, *path.absolute().parent.parents[:2]]


def find_below(folders: Sequence[Path], name: str) -> Path | None:
    """The first file of this name in one of the folders, or None."""
    candidates = (folder / spelling for spelling in spellings(name) for folder in folders)
    return next((path for path in candidates if is_file(path)), None)


def spellings(name: str) -> list[str]:
    """A name as it is, and for one from Windows with slashes in the place of backslashes."""
    return [name] if "\\" not in name else [name, name.replace("\\", "/")]


def no_such_picture(name: str) -> str:
    """What to say of a name that leads nowhere."""
    of_windows = os.name != "nt" and _DRIVE.match(name)
    advice = "; it begins with a drive of Windows: name it relative to the list" if of_windows else ""
    return f"{name}: no such picture{advice}"


def is_file(path: Path) -> bool:
    """Whether there is such a file; a line of a list may be no file name at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a line too long for a file name, or with a zero byte, names no picture
        return False


def pictures_in(folder: Path) -> list[Path]:
    """All pictures in a folder and the folders below it, in order of their names; none if there is no such folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def written_path(picture: Path, folder: Path) -> str:
    """The path of a picture as a list in ``folder`` has it: relative to it where the way there is short."""
    # Without following links: what a link to a picture has beside it are its own labels.
    absolute, base = (Path(os.path.normpath(path.absolute())) for path in (picture, folder))
    for above in (base, *base.parents[:2]):
        if absolute.is_relative_to(above):
            return Path(os.path.relpath(absolute, base)).as_posix()
    return str(absolute)
