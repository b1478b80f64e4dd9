"""The built-in data set for classifiers: the handwritten digits that come with scikit-learn.

1,797 grey pictures of 8 x 8 pixels, written by 43 people: the test part of E. Alpaydin, C. Kaynak, "Optical
Recognition of Handwritten Digits", UCI Machine Learning Repository (1998). darkpy writes them as pictures into a folder
for each class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.config.data_files import DataDescription
from darkpy.data.workers import DIGITS, generator
from darkpy.errors import ConfigError, DataError, Problem, suggestion
from darkpy.files import atomic_write

NAMES = tuple("0123456789")
"""The classes, in order."""

_VERSION = 1  # of the way pictures are written; another one means writing again
_MARKER = "complete.json"  # written last: without it the folder is not finished
_LEVELS = 16  # the grey values go from 0 to this


@dataclass(frozen=True)
class DigitsOptions:
    """What the ``digits:`` part of a data description may say."""

    folder: str = "data/digits"
    val: int = 360
    seed: int = 1


def ensure_digits(description: DataDescription, notify: Callable[[str], None]) -> Path:
    """The folder of the data set a description asks for, written first if it is not there or not complete.

    Raises:
        ConfigError: the description asks for something that cannot be had.
        DataError: scikit-learn is not installed, or the pictures cannot be written.
    """
    if description.names not in ((), NAMES):
        raise ConfigError("names: the classes are the digits, 0 to 9 in this order", where=description.where("names"))
    options = _read_options(description.extra, description.where("digits"))
    folder = Path(options.folder)
    if not is_complete(folder, options):
        notify(f"writing scikit-learn's handwritten digits into {folder}")
        write_digits(folder, options)
    return folder


def _read_options(given: Mapping[str, Any], where: str) -> DigitsOptions:
    """The options of a description, checked; ConfigError with all problems."""
    known = {key: type(default) for key, default in asdict(DigitsOptions()).items()}
    problems = []
    for key, value in given.items():
        if key not in known:
            problems.append(Problem(where, f"digits: there is no option {key!r}{suggestion(str(key), known)}"))
        elif type(value) is not known[key]:
            expected = "a folder" if known[key] is str else "a whole number"
            problems.append(Problem(where, f"digits: {key}: expected {expected}, not {value!r}"))
        elif key == "seed" and value < 0:
            problems.append(Problem(where, f"digits: seed: expected at least 0, not {value}"))
        elif key == "val" and not len(NAMES) <= value <= 1000:
            problems.append(Problem(where, f"digits: val: expected {len(NAMES)} to 1000 pictures, not {value}"))
    if problems:
        raise ConfigError(problems=problems)
    return DigitsOptions(**given)


def is_complete(folder: Path, options: DigitsOptions) -> bool:
    """Whether the folder holds the pictures as these options split them."""
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(marker == _marker(options))


def _marker(options: DigitsOptions) -> dict[str, Any]:
    return {"version": _VERSION, "val": options.val, "seed": options.seed}


def write_digits(folder: Path, options: DigitsOptions) -> None:
    """Write all pictures as ``train/<class>/<number>.png`` and ``val/<class>/<number>.png``.

    A picture bears its number in scikit-learn's list. Raises DataError if scikit-learn is missing, or the pictures
    cannot be written.
    """
    pictures, class_ids = _load()
    is_val = stratified_split(class_ids, options.val, options.seed)
    try:
        (folder / _MARKER).unlink(missing_ok=True)
        for number, (picture, class_id) in enumerate(zip(pictures, class_ids)):
            split, other = ("val", "train") if is_val[number] else ("train", "val")
            path = folder / split / NAMES[class_id] / f"{number:04d}.png"
            # With other options it may have been in the other part.
            (folder / other / NAMES[class_id] / path.name).unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        with atomic_write(folder / _MARKER, "w") as file:
            file.write(json.dumps(_marker(options)) + "\n")
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(error.filename or folder)) from error


def _load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (n, 8, 8) with values 0..255, and their classes (n,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        message = "the digits come with scikit-learn, which is not installed: pip install scikit-learn"
        raise DataError(message) from error
    found = load_digits()
    return np.rint(found.images * (255 / _LEVELS)).astype(np.uint8), found.target.astype(np.int64)


def stratified_split(class_ids: NDArray[np.int64], count: int, seed: int) -> NDArray[np.bool_]:
    """Bool (n,): ``count`` of the pictures chosen at random, of each class its share (to the nearest picture)."""
    order = generator(seed, DIGITS).permutation(len(class_ids))
    # By class, and within a class in random order: then every n-th is chosen.
    order = order[np.argsort(class_ids[order], kind="stable")]
    chosen = np.zeros(len(class_ids), np.bool_)
    chosen[order[((np.arange(count) + 0.5) * len(class_ids) / count).astype(np.intp)]] = True
    return chosen
