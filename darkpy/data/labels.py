"""Label files: Darknet's text files and Pascal VOC's xml."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from darkpy.data.paths import is_utf_16
from darkpy.data.pictures import picture_size
from darkpy.errors import DataError, Problem, suggestion

# Folders whose pictures have their labels in a folder of another name (Darknet, replace_image_to_label), the last
# one being the layout most other programs use.
_LABEL_FOLDERS = (
    (("images", "train2017"), ("labels", "train2017")),
    (("images", "val2017"), ("labels", "val2017")),
    (("images", "train2014"), ("labels", "train2014")),
    (("images", "val2014"), ("labels", "val2014")),
    (("JPEGImages",), ("labels",)),
    (("images",), ("labels",)),
)
NO_AREA = "the box has no area"
LARGEST_OVERHANG = 1.5
"""Pixels by which a box may leave its picture without being reported."""


def label_path(image_path: str | Path) -> Path:
    """The label file of a picture: the first that exists of Darknet's place, ``images`` -> ``labels``, and beside it.

    Only whole folder names are replaced, so ``images`` inside another name stays as it is. If none exists, the
    answer is the place Darknet looks in.
    """
    image_path = Path(image_path)
    beside = image_path.with_suffix(".txt")
    places = [place for old, new in _LABEL_FOLDERS if (place := _replace_folders(beside, old, new)) is not None]
    return next((place for place in [*places, beside] if place.is_file()), [*places, beside][0])


def annotation_path(image_path: str | Path) -> Path:
    """The xml file of a picture: in ``Annotations`` if the picture is in ``JPEGImages``, otherwise beside it."""
    beside = Path(image_path).with_suffix(".xml")
    return _replace_folders(beside, ("JPEGImages",), ("Annotations",)) or beside


def _replace_folders(path: Path, old: tuple[str, ...], new: tuple[str, ...]) -> Path | None:
    """``path`` with the last run of folders named ``old`` renamed, or None if there is none."""
    folders = path.parent.parts
    for start in range(len(folders) - len(old), -1, -1):
        if folders[start : start + len(old)] == old:
            return Path(*folders[:start], *new, *folders[start + len(old) :], path.name)
    return None


def read_labels(path: str | Path, classes: int, problems: list[Problem]) -> NDArray[np.float32]:
    """Read a Darknet label file: one object per line, ``class cx cy w h``, relative to the picture.

    Args:
        path: the file; empty lines and Windows line ends are fine.
        classes: number of classes; class numbers from 0 to ``classes - 1`` are valid.
        problems: lines that cannot be used are added here, with file and line, and left out.

    Returns:
        float32 (n, 5), rows (class, cx, cy, w, h).

    Raises:
        DataError: the file cannot be read at all.
    """
    return np.array([row for _, row in _rows(path, classes, problems)], np.float32).reshape(-1, 5)


def label_lines(path: str | Path, classes: int) -> list[int]:
    """The line of each row that :func:`read_labels` returns, counted from 1. Raises DataError as it does."""
    return [number for number, _ in _rows(path, classes, [])]


def _rows(path: str | Path, classes: int, problems: list[Problem]) -> list[tuple[int, tuple[float, ...]]]:
    """Line and numbers of each object in a Darknet label file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if is_utf_16(data):
        raise DataError("is text in UTF-16; save it as UTF-8", where=str(path))
    text = data.decode("utf-8-sig", errors="replace")
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        row = _parse_line(line, classes)
        if isinstance(row, str):
            problems.append(Problem(f"{path}:{number}", row))
        else:
            rows.append((number, row))
    return rows


def _parse_line(line: str, classes: int) -> tuple[float, ...] | str:
    """The five numbers of a label line, or what is wrong with it."""
    words = line.split()
    if len(words) != 5:
        return f"expected 5 numbers (class cx cy w h), found {len(words)}{_advice(words)}"
    try:
        kind, x, y, w, h = (float(word) for word in words)
    except ValueError:
        return f"expected 5 numbers (class cx cy w h), found {line.strip()!r}{_advice(words)}"
    if not all(math.isfinite(value) for value in (kind, x, y, w, h)):
        return f"not finite: {line.strip()!r}"
    if not kind.is_integer():
        return f"class {words[0]} is not a whole number"
    if not 0 <= kind < classes:
        return f"class {int(kind)} is not one of the {classes} classes, 0 to {classes - 1}"
    # Pictures whose numbers are pixels are the usual reason; a hair above 1 is rounding.
    if not (0 < x <= 1 and 0 < y <= 1):
        return f"centre {x:g}, {y:g} is outside the picture; coordinates are relative, 0 to 1"
    if w <= 0 or h <= 0:
        return f"{NO_AREA}: {w:g} x {h:g}"
    if w > 1.001 or h > 1.001:
        return f"the box is larger than the picture: {w:g} x {h:g}; sizes are relative, 0 to 1"
    return kind, x, y, min(w, 1.0), min(h, 1.0)


def _advice(words: list[str]) -> str:
    """What a line that is no label may have been meant to be."""
    if any("," in word for word in words):
        return "; between numbers are spaces, and fractions have a point"
    if len(words) == 5 and not _is_number(words[0]) and all(map(_is_number, words[1:])):
        return f"; the class is a number counted from 0, not the name {words[0]!r}"
    if not all(map(_is_number, words)):
        return ""
    if len(words) == 6:
        return "; a detector's probability is no part of a label"
    return "; outlines cannot be read, only boxes" if len(words) >= 7 and len(words) % 2 == 1 else ""


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


@dataclass
class _Object:
    """One ``<object>`` of a VOC file: the text of its elements by path, and the line it starts on."""

    line: int
    texts: dict[str, str] = field(default_factory=dict)


def read_voc(
    path: str | Path, names: list[str], problems: list[Problem], picture: str | Path | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read a Pascal VOC annotation.

    ``xmin`` to ``xmax`` are the first and last column inside the box, counted from 1 (VOC development kit). Boxes
    are cut at the border of the picture.

    Args:
        path: the xml file.
        names: the classes, in order.
        problems: objects that cannot be used are added here, with file and line, and left out.
        picture: where to take the size from if the file does not have it.

    Returns:
        float32 (n, 5), rows (class, cx, cy, w, h), relative; and bool (n,), whether the object is marked difficult.

    Raises:
        DataError: the file cannot be read, is not xml, or the size of the picture is not known.
    """
    found = _voc_rows(path, names, problems, picture)
    rows = np.array([item.row for item in found], np.float32).reshape(-1, 5)
    return rows, np.array([item.difficult for item in found], np.bool_)


def voc_lines(path: str | Path, names: list[str], picture: str | Path | None = None) -> list[int]:
    """The line of each object that :func:`read_voc` returns, counted from 1. Raises DataError as it does."""
    return [item.line for item in _voc_rows(path, names, [], picture)]


class _VocRow(NamedTuple):
    """An object that can be used."""

    line: int
    row: tuple[float, ...]
    difficult: bool


def _voc_rows(
    path: str | Path, names: list[str], problems: list[Problem], picture: str | Path | None
) -> list[_VocRow]:
    objects, size = _parse_voc(path)
    width, height = size if min(size) > 0 else _picture_size(path, picture)
    numbers = {name: number for number, name in enumerate(names)}
    rows = []
    for item in objects:
        where = f"{path}:{item.line}"
        name = item.texts.get("name", "")
        if name not in numbers:
            advice = suggestion(name, names)
            problems.append(Problem(where, f"class {name!r} is not one of the {len(names)} names{advice}"))
            continue
        row = _voc_box(item, width, height, where, problems)
        if row is not None:
            rows.append(_VocRow(item.line, (numbers[name], *row), item.texts.get("difficult", "0") == "1"))
    return rows


def read_voc_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of the picture as a Pascal VOC annotation has them; None if it has not.

    Raises:
        DataError: the file cannot be read or is not xml.
    """
    size = _parse_voc(path)[1]
    return size if min(size) > 0 else None


def read_voc_names(path: str | Path) -> set[str]:
    """The class names that occur in a Pascal VOC annotation.

    Raises:
        DataError: the file cannot be read or is not xml.
    """
    return {item.texts["name"] for item in _parse_voc(path)[0] if "name" in item.texts}


def _voc_box(
    item: _Object, width: int, height: int, where: str, problems: list[Problem]
) -> tuple[float, float, float, float] | None:
    """Relative cx, cy, w, h of an object, cut at the picture's border; None, and a problem, if there is no box."""
    texts = [item.texts.get(f"bndbox/{key}", "") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(text) for text in texts)
    except ValueError:
        problems.append(Problem(where, f"bndbox needs the numbers xmin, ymin, xmax, ymax; found {', '.join(texts)}"))
        return None
    shown = f"xmin, ymin, xmax, ymax = {', '.join(texts)}"
    if x2 <= x1 or y2 <= y1:  # one column counts as none: tools that count from 0 write a click that slipped like this
        problems.append(Problem(where, f"{NO_AREA}: {shown}"))
        return None
    return relative_box((x1 - 1, y1 - 1, x2, y2), (width, height), shown, where, problems)


def relative_box(
    edges: tuple[float, float, float, float],
    size: tuple[int, int],
    shown: str,
    where: str,
    problems: list[Problem],
) -> tuple[float, float, float, float] | None:
    """A box in pixels as cx, cy, w, h relative to its picture, cut at the border.

    Args:
        edges: left, top, right, bottom.
        size: width and height of the picture.
        shown: the box as the file has it, for messages.
        where: its place, for messages.
        problems: what is wrong with it is added here.

    Returns:
        None, and a problem, if there is no box within the picture.
    """
    width, height = size
    picture = f"the picture, {width} x {height}"
    if not all(math.isfinite(edge) for edge in edges) or edges[2] <= edges[0] or edges[3] <= edges[1]:
        problems.append(Problem(where, f"{NO_AREA}: {shown}"))
        return None
    left, top = max(edges[0], 0), max(edges[1], 0)
    right, bottom = min(edges[2], width), min(edges[3], height)
    if right <= left or bottom <= top:
        problems.append(Problem(where, f"the box is outside {picture}: {shown}"))
        return None
    if max(left - edges[0], top - edges[1], edges[2] - right, edges[3] - bottom) > LARGEST_OVERHANG:
        problems.append(Problem(where, f"the box leaves {picture}, and is cut at the border: {shown}"))
    return (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height


def _picture_size(path: str | Path, picture: str | Path | None) -> tuple[int, int]:
    if picture is None:
        raise DataError("has no <size> with width and height", where=str(path))
    return picture_size(picture)


def _parse_voc(path: str | Path) -> tuple[list[_Object], tuple[int, int]]:
    """The objects of an annotation and the size of its picture, (0, 0) if it does not say."""
    # ElementTree forgets line numbers; expat tells them.
    objects: list[_Object] = []
    sizes: dict[str, str] = {}
    open_elements: list[str] = []
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(element: str, _attributes: dict[str, str]) -> None:
        open_elements.append(element)
        if open_elements[1:] == ["object"]:
            objects.append(_Object(parser.CurrentLineNumber))

    def text(data: str) -> None:
        section, *rest = open_elements[1:] or [""]
        if not data.strip() or not rest:
            return
        target = objects[-1].texts if section == "object" else sizes if section == "size" else {}
        key = "/".join(rest)
        target[key] = target.get(key, "") + data.strip()

    def end(_element: str) -> None:
        open_elements.pop()

    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, text, end
    try:
        parser.Parse(Path(path).read_bytes(), True)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except expat.ExpatError as error:
        raise DataError(f"is not valid xml: {expat.ErrorString(error.code)}", where=f"{path}:{error.lineno}") from error
    return objects, (_whole_number(sizes.get("width")), _whole_number(sizes.get("height")))


def _whole_number(text: str | None) -> int:
    try:
        return int(float(text or 0))
    except (ValueError, OverflowError):
        return 0
