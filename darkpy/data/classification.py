"""Data sets for classifiers: pictures that show one class each.

:func:`open_classification` reads all the forms such a data set comes in and answers with a
:class:`ClassificationDataset`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkpy.config.data_files import DataDescription, read_data, read_names
from darkpy.data.dataset import SPLIT_FOLDERS, Dataset, Labels
from darkpy.data.opening import no_split, open_dataset, print_notice
from darkpy.data.pictures import SUFFIXES
from darkpy.errors import ConfigError, DataError, Problem, suggestion
from darkpy.resources import find

KEPT = 5
"""Of a folder that is not split, every so many-th picture of a class is kept for validation."""

SHOWN = 10
"""Problems named where nothing is left of a data set; of a large one there can be as many as pictures."""


class ClassificationDataset(Dataset):
    """Pictures that show one class each; to those who ask for boxes, one box around the whole picture.

    Attributes:
        class_ids: int64 (n,), the class of each picture.
        top: how many best guesses count where the data set says so, otherwise None.
        leaves: of a hierarchy, the classes that may be an answer where the data set says so, otherwise None.
    """

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        pictures: Sequence[Path],
        class_ids: Sequence[int] | NDArray[np.int64],
        *,
        top: int | None = None,
        leaves: Sequence[int] | None = None,
        problems: Iterable[Problem] = (),
        notes: Iterable[str] = (),
    ) -> None:
        """Make a data set of pictures that exist; see the attributes, and :class:`Dataset` for the others."""
        super().__init__(name, names, pictures, problems=problems, notes=notes)
        self.class_ids = np.array(class_ids, np.int64).reshape(len(self.pictures))
        self.top = top
        self.leaves = leaves

    def labels(self, index: int) -> Labels:
        """The class of a picture, as a box around all of it."""
        box = np.array([[self.class_ids[index], 0.5, 0.5, 1, 1]], np.float32)
        return Labels(box, np.zeros(1, np.bool_))

    def counts(self) -> NDArray[np.int64]:
        """Int64 (classes,): how many pictures there are of each class."""
        return np.bincount(self.class_ids, minlength=self.classes)


def open_classification(
    source: str | Path,
    split: str = "train",
    names: Sequence[str] | None = None,
    *,
    notify: Callable[[str], None] = print_notice,
) -> ClassificationDataset:
    """Open a data set for a classifier.

    Args:
        source: one of

            - a folder with a folder for each class. If it has ``train/`` and ``val/`` (or ``valid``, ``validation``,
              ``test``), the folders of the classes are in these; otherwise every fifth picture of a class is for
              ``val`` and the others are for ``train``;
            - a ``.data`` file as Darknet has it: ``train`` and ``valid`` are lists of pictures, and a picture shows
              the class whose line in the file ``labels`` occurs in its path. ``names`` are what the classes are
              called, by default the labels;
            - a YAML file (see :mod:`darkpy.config.data_files`) whose ``train`` and ``val`` are such folders or lists.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` for the pictures of all of them.
        names: the classes, in order. If neither they nor ``source`` say, the names of the folders in alphabetical
            order, numbers by their value.
        notify: receives one line if something takes a while, such as writing the built-in digits.

    Raises:
        DataError: there is no such data set, or no picture in it.
        ConfigError: the description of the data set is wrong.
    """
    if split not in (*SPLIT_FOLDERS, "all"):
        raise DataError(f"{split!r} is no split; expected train, val, test or all")
    path = Path(source) if Path(source).is_dir() else find("data", source)
    if path.is_dir():
        dataset = _open_folder(path, split, names)
    elif path.suffix.lower() in (".data", ".yaml", ".yml"):
        dataset = _open_description(read_data(path), split, names, notify)
    else:
        raise DataError("is no .data or .yaml file, nor a folder with a folder for each class", where=str(path))
    if not len(dataset):
        nothing = Problem(str(path), "has no usable picture" + ("" if split == "all" else f" to {split} with"))
        raise DataError(problems=[*_few(dataset.problems), nothing])
    return dataset


def _few(problems: Sequence[Problem]) -> list[Problem]:
    left = len(problems) - SHOWN
    return [*problems[:SHOWN], *([Problem("", f"and {left:,} more like these")] if left > 0 else [])]


# A folder for each class -----------------------------------------------------------------------------------------


def _open_folder(path: Path, split: str, names: Sequence[str] | None) -> ClassificationDataset:
    """A folder of classes, or of splits with classes in them."""
    splits = {word: folder for word in SPLIT_FOLDERS if (folder := _split_folder(path, word)) is not None}
    name = path.resolve().name
    if not splits:
        return _of_one_folder(name, path, split, names)
    if split != "all" and split not in splits:
        raise DataError(f"has no folder {split}: the pictures to {split} with", where=str(path))
    # Those of all splits, so that every split numbers the classes alike.
    names = names or _in_order({folder.name for root in splits.values() for folder in _class_folders(root)})
    # A folder test/ that stands in for val is there only once.
    roots = dict.fromkeys(splits.values()) if split == "all" else [splits[split]]
    return _of_folders(name, [folder for root in roots for folder in _class_folders(root)], names, str(path))


def _split_folder(path: Path, split: str) -> Path | None:
    return next((path / word for word in SPLIT_FOLDERS[split] if (path / word).is_dir()), None)


def _class_folders(path: Path) -> list[Path]:
    """The folders in a folder but the hidden ones, in the order of the classes."""
    found = {folder.name: folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")}
    return [found[name] for name in _in_order(found)]


def _in_order(names: Iterable[str]) -> list[str]:
    """Alphabetical, with numbers first and by their value, so that 10 does not come before 2."""
    return sorted(names, key=lambda name: (int(name) if name.isdecimal() else math.inf, name))


def _of_one_folder(name: str, path: Path, split: str, names: Sequence[str] | None) -> ClassificationDataset:
    """A folder of classes that nobody has split."""
    folders = _class_folders(path)
    whole = _of_folders(name, folders, names or [folder.name for folder in folders], str(path))
    if split == "all":
        return whole
    if split == "test":
        raise DataError("has no folder test: the pictures to test with", where=str(path))
    place = np.zeros(len(whole), np.int64)
    for class_id in range(whole.classes):
        same = whole.class_ids == class_id
        place[same] = np.arange(np.count_nonzero(same))
    chosen = np.flatnonzero((place % KEPT == KEPT - 1) == (split == "val"))
    note = "no folders train and val: every fifth picture of a class is kept for validation"
    return ClassificationDataset(
        name, whole.names, [whole.pictures[index] for index in chosen], whole.class_ids[chosen],
        problems=whole.problems, notes=[note],
    )  # fmt: skip


def _of_folders(name: str, folders: Sequence[Path], names: Sequence[str], where: str) -> ClassificationDataset:
    """The pictures of folders whose names are those of the classes."""
    if not folders:
        raise DataError("has no folders with pictures in them, one for each class", where=where)
    numbers = {name: number for number, name in enumerate(names)}
    pictures: list[Path] = []
    class_ids: list[int] = []
    problems: list[Problem] = []
    for folder in folders:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if folder.name in numbers:
            pictures += found
            class_ids += [numbers[folder.name]] * len(found)
        elif found:
            hint = suggestion(folder.name, numbers)
            problems.append(Problem(str(folder), f"is no class of this data set, its pictures are left out{hint}"))
    return ClassificationDataset(name, names, pictures, class_ids, problems=problems)


# Descriptions ----------------------------------------------------------------------------------------------------


def _open_description(
    description: DataDescription, split: str, names: Sequence[str] | None, notify: Callable[[str], None]
) -> ClassificationDataset:
    """A ``.data`` or YAML file."""
    path, names = description.path, names or description.names or None
    if description.kind in ("shapes", "voc"):
        raise DataError("is a data set for detectors; a classifier needs one class for each picture", where=str(path))
    if description.kind == "digits":
        from darkpy.data.digits import ensure_digits

        return _open_folder(ensure_digits(description, notify), split, names)
    listed = {"train": description.train, "val": description.val, "test": description.test}
    if description.kind == "folders":
        _check_folders(description, listed)
        if not any(listed.values()):
            return _open_folder(description.root, split, names)
    if split == "all":
        return _all_of(description, [word for word, place in listed.items() if place], names, notify)
    place = listed[split]
    if place is None:
        raise no_split(split, path)
    if not place.is_dir():
        return _of_list(description, split, names, notify)
    if names is None:
        folders = [folder for folder in listed.values() if folder and folder.is_dir()]
        names = _in_order({folder.name for root in folders for folder in _class_folders(root)})
    dataset = _of_folders(path.stem, _class_folders(place), names, str(place))
    dataset.top = _top(description)
    return dataset


def _check_folders(description: DataDescription, listed: Mapping[str, Path | None]) -> None:
    missing = [(word, place) for word, place in listed.items() if place is not None and not place.is_dir()]
    problems = [Problem(description.where(word), f"{place}: no such folder") for word, place in missing]
    if problems:
        raise DataError(problems=problems)


def _all_of(
    description: DataDescription, splits: Sequence[str], names: Sequence[str] | None, notify: Callable[[str], None]
) -> ClassificationDataset:
    """All splits of a description as one, each picture once."""
    parts = [_open_description(description, split, names, notify) for split in splits]
    if not parts:
        raise DataError("names no pictures: it needs train or val", where=str(description.path))
    shown: Mapping[Path, int] = {
        picture: int(class_id) for part in parts for picture, class_id in zip(part.pictures, part.class_ids)
    }
    problems = dict.fromkeys(problem for part in parts for problem in part.problems)
    first = parts[0]
    return ClassificationDataset(
        first.name, first.names, list(shown), list(shown.values()), top=first.top, leaves=first.leaves,
        problems=problems,
    )  # fmt: skip


def _of_list(
    description: DataDescription, split: str, names: Sequence[str] | None, notify: Callable[[str], None]
) -> ClassificationDataset:
    """A list of pictures, whose classes are in their paths (Darknet, load_labels_paths)."""
    words = _labels(description)
    names = names or words
    if len(words) != len(names):
        message = f"{len(words)} labels, but {len(names)} names: the classes are the same, line by line"
        raise ConfigError(message, where=description.where("labels"))
    listed = open_dataset(description.path, split, names, notify=notify)
    pictures: list[Path] = []
    class_ids: list[int] = []
    problems = listed.problems
    for picture in listed.pictures:
        found = matching_labels(_text(picture, description.root), words)
        if len(found) == 1:
            pictures.append(picture)
            class_ids.append(found[0])
        else:
            problems.append(Problem(str(picture), _no_class(found, words)))
    notes = ["tree= has no effect; the hierarchy is that of tree= in the cfg"] if "tree" in description.extra else []
    return ClassificationDataset(
        description.path.stem, names, pictures, class_ids, top=_top(description),
        leaves=_leaves(description, words), problems=problems, notes=notes,
    )  # fmt: skip


def matching_labels(path: str, words: Sequence[str]) -> list[int]:
    """The classes whose labels occur in a path, anywhere in it (Darknet, fill_truth).

    >>> matching_labels("train/0017_frog.png", ["cat", "frog"])
    [1]
    """
    return [number for number, word in enumerate(words) if word in path]


def _text(picture: Path, root: Path) -> str:
    """What of a path tells the class: not the folders above the description, which are the same for all."""
    return (picture.relative_to(root) if picture.is_relative_to(root) else picture).as_posix()


def _no_class(found: Sequence[int], words: Sequence[str]) -> str:
    if not found:
        return "left out: its path contains none of the labels"
    few = ", ".join(repr(words[number]) for number in found[:3]) + (", ..." if len(found) > 3 else "")
    return f"left out: its path contains {len(found)} labels, {few}; it must be one"


def _labels(description: DataDescription) -> Sequence[str]:
    """The words that tell the classes; of a ``.data`` file with ``classes=`` so many of them."""
    file = description.extra.get("labels")
    if file is None:
        if "names" not in description.lines:
            raise ConfigError("needs labels=, a file with the words that tell the class of a picture by its path",
                              where=str(description.path))  # fmt: skip
        return description.names
    if not file.is_file():
        raise ConfigError(f"labels={file}: no such file", where=description.where("labels"))
    return read_names(file)[: description.classes if "classes" in description.lines else None]


def _top(description: DataDescription) -> int | None:
    return description.extra["top"] if "top" in description.lines else None


def _leaves(description: DataDescription, words: Sequence[str]) -> list[int] | None:
    """The classes of a hierarchy that may be an answer, if a file says which (Darknet, change_leaves)."""
    file = description.extra.get("leaves")
    if file is None:
        return None
    if not file.is_file():
        raise ConfigError(f"leaves={file}: no such file", where=description.where("leaves"))
    chosen = set(read_names(file))
    return [number for number, word in enumerate(words) if word in chosen]
