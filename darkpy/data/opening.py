"""From a file, a folder or a description to a :class:`~darkpy.data.dataset.Dataset`: all the forms one comes in."""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from darkpy.config.data_files import DataDescription, read_data, read_names
from darkpy.data.coco import category_names, find_coco, open_coco
from darkpy.data.dataset import SPLIT_FOLDERS, Dataset, NoSuchSplit
from darkpy.data.labels import (
    annotation_path,
    label_path,
    read_labels,
    read_voc_names,
)
from darkpy.data.paths import bases, find_below, is_file, no_such_picture, pictures_in, read_lines
from darkpy.errors import DataError, Problem
from darkpy.resources import find

_VOC_LISTS = {"train": ("trainval", "train"), "val": ("test", "val"), "test": ("test",)}
_NAMES_FILES = ("classes.txt", "labels.txt", "names.txt", "names.list", "obj.names")
_MANY_CLASSES = 10_000  # no class number is too large where the number of classes is not known yet


def print_notice(text: str) -> None:
    """Tell what takes a while, on standard error."""
    print(text, file=sys.stderr, flush=True)


def open_dataset(
    source: str | Path,
    split: str = "train",
    names: Sequence[str] | None = None,
    *,
    notify: Callable[[str], None] = print_notice,
) -> Dataset:
    """Open a data set.

    Args:
        source: one of

            - a ``.data`` file or a YAML file (see :mod:`darkpy.config.data_files`);
            - a Pascal VOC folder, with ``JPEGImages`` and ``Annotations``: the split ``train`` is the list
              ``ImageSets/Main/trainval.txt``, otherwise ``train.txt``; ``val`` is ``test.txt``, otherwise ``val.txt``;
            - a json file of COCO's form; or a folder with ``annotations/instances_train*.json`` and the same for
              ``val``, or with a file ``_annotations.coco.json`` in a folder for each split;
            - a text file, one picture a line: paths relative to the working folder, or to the list's own folder or
              one of the two above it;
            - a folder with pictures and labels. If it has ``train.txt``, ``train/`` or ``images/train/`` (or the same
              with ``val``, ``valid``, ``test``) these are the splits; otherwise every picture in it belongs to both.
        split: ``"train"``, ``"val"`` or ``"test"``.
        names: the classes, in order. If neither they nor ``source`` say: a file ``classes.txt``, ``labels.txt``,
            ``names.txt`` or ``*.names`` in the folder; otherwise the names in the xml files in alphabetical order, or
            the class numbers in the label files. ``notes`` of the result says what was assumed.
        notify: receives one line if something takes a while, such as drawing the built-in data set.

    Raises:
        DataError: there is no such data set, or no picture in it.
        ConfigError: the description of the data set is wrong.
    """
    if split not in SPLIT_FOLDERS:
        raise DataError(f"{split!r} is no split; expected train, val or test")
    path = Path(source)
    if not path.is_dir():
        path = find("data", path)
    if path.is_dir():
        dataset = _open_any_folder(path, split, names)
    elif path.suffix.lower() == ".json":
        dataset = _open_coco(path, names)
    elif path.suffix.lower() in (".data", ".yaml", ".yml"):
        dataset = _open_description(read_data(path), split, names, notify)
    else:
        dataset = _open_list(path, names)
    if not len(dataset):
        raise DataError(problems=[*dataset.problems, Problem(str(path), f"has no usable picture to {split} with")])
    return dataset


def open_splits(
    source: str | Path, names: Sequence[str] | None = None, *, notify: Callable[[str], None] = print_notice
) -> dict[str, Dataset]:
    """All splits a data set has, by name in the order train, val, test; see :func:`open_dataset`.

    A split with the same pictures as one before it is left out: a data set without splits is all ``train``.

    Raises:
        DataError: there is no such data set, or a split of it has no picture.
        ConfigError: the description of the data set is wrong.
    """
    found: dict[str, Dataset] = {}
    missing: list[Problem] = []
    for split in SPLIT_FOLDERS:
        try:
            # The splits must agree on the classes.
            names = names or next((first.names for first in found.values()), None)
            dataset = open_dataset(source, split, names, notify=notify)
        except NoSuchSplit as error:
            missing += error.problems
            continue
        if all(dataset.pictures != other.pictures for other in found.values()):
            found[split] = dataset
    if not found:
        raise DataError(problems=missing)
    return found


def _open_any_folder(path: Path, split: str, names: Sequence[str] | None) -> Dataset:
    """A folder of one of the known layouts; where there are Darknet's label files too, they count."""
    if _is_voc(path):
        return _open_voc(path, split, names)
    if not (path / "labels").is_dir() and (found := find_coco(path, split)) is not None:
        return _open_coco(found, names, path)
    return _open_folder(path, split, names)


def _open_coco(path: Path, names: Sequence[str] | None, folder: Path | None = None, name: str | None = None) -> Dataset:
    """A json file; in a folder that has one to train with, that one says what the classes are."""
    if not names and folder is not None and (first := find_coco(folder, "train")) not in (None, path):
        names = category_names(first)
    return open_coco(path, names, root=folder, name=name or (folder.resolve().name if folder else None))


def _open_description(
    description: DataDescription, split: str, names: Sequence[str] | None, notify: Callable[[str], None]
) -> Dataset:
    """A ``.data`` or YAML file."""
    path, names = description.path, names or description.names
    if description.kind in ("folders", "digits"):
        raise DataError("is a data set for classifiers; it has no boxes", where=str(path))
    if description.kind == "shapes":
        from darkpy.data.shapes import ensure_shapes

        if split == "test":
            raise NoSuchSplit("has no test pictures, only train and val", where=str(path))
        return _with_pictures(path.stem, names, ensure_shapes(description, notify) / f"{split}.txt", description)
    listed = {"train": description.train, "val": description.val, "test": description.test}[split]
    given = description.train or description.val or description.test
    if listed is None and description.kind == "voc" and (_is_voc(description.root) or not given):
        return _open_voc(description.root, split, names, path.stem)
    if description.kind == "coco":
        return _coco_of_description(description, listed, split, names)
    if listed is None:
        raise no_split(split, description.path)
    if description.kind == "voc" and not listed.is_dir() and _is_voc(description.root):
        return _open_voc(description.root, split, names, path.stem, listed)
    return _with_pictures(path.stem, names, listed, description, description.difficult if split == "val" else None)


def no_split(split: str, path: Path) -> NoSuchSplit:
    """The error about a data set without a split that is wanted."""
    purpose = "validate" if split == "val" else split
    return NoSuchSplit(f"has no {split}: the pictures to {purpose} with", where=str(path))


def _coco_of_description(
    description: DataDescription, listed: Path | None, split: str, names: Sequence[str] | None
) -> Dataset:
    """A COCO file, or a folder with one, that a description names; the one to train with says what the classes are."""
    def file_in(place: Path, of: str) -> Path:
        found = find_coco(place, of) if place.is_dir() else place
        if found is None:
            raise DataError("has no json file of COCO's form", where=str(place))
        return found

    if listed is None and (description.train or description.val or description.test):
        raise no_split(split, description.path)
    path = file_in(listed or description.root, split)
    if not names and split != "train" and (description.train or listed is None):
        names = category_names(file_in(description.train or description.root, "train"))
    return open_coco(path, names, root=description.root, name=description.path.stem)


def _with_pictures(
    name: str,
    names: Sequence[str],
    listed: Path,
    description: DataDescription,
    difficult: Path | None = None,
) -> Dataset:
    """A data set whose pictures are in a list or a folder, and whose classes are known."""
    voc = description.kind == "voc"
    if listed.is_dir():
        return Dataset(name, names, pictures_in(listed), voc=voc)
    problems: list[Problem] = []
    found = _read_list(listed, description.root, problems)
    hard = _pair(found, difficult, description.root) if difficult else {}
    return Dataset(name, names, [picture for picture in found if picture], voc=voc, difficult=hard, problems=problems)


def _pair(pictures: Sequence[Path | None], difficult: Path, root: Path) -> dict[Path, Path]:
    """Darknet's ``difficult`` list: line by line a picture whose labels are the difficult objects of ``pictures``."""
    lines = read_lines(difficult)
    if len(lines) != len(pictures):
        message = f"has {len(lines)} pictures, the list of pictures to evaluate on has {len(pictures)}"
        raise DataError(message, where=str(difficult))
    folders = bases(difficult, root)

    def labels(line: str) -> Path:
        return next((path for base in folders if is_file(path := label_path(base / line))), label_path(line))

    return {picture: labels(line) for picture, (_, line) in zip(pictures, lines) if picture}


def _open_list(path: Path, names: Sequence[str] | None) -> Dataset:
    problems: list[Problem] = []
    pictures = [picture for picture in _read_list(path, path.parent, problems) if picture]
    names, notes = (names, []) if names else _find_names(path.parent, pictures)
    return Dataset(path.stem, names, pictures, problems=problems, notes=notes)


def _open_folder(path: Path, split: str, names: Sequence[str] | None) -> Dataset:
    problems: list[Problem] = []
    pictures: list[Path] = []
    for word in SPLIT_FOLDERS[split]:
        if (path / f"{word}.txt").is_file():
            pictures = [found for found in _read_list(path / f"{word}.txt", path, problems) if found]
        else:
            pictures = pictures_in(path / word) or pictures_in(path / "images" / word)
        if pictures or problems:
            break
    else:
        if any(_has_split(path, word) for words in SPLIT_FOLDERS.values() for word in words):
            raise no_split(split, path)
        pictures = pictures_in(path)
    names, notes = (names, []) if names else _find_names(path, pictures)
    return Dataset(path.resolve().name, names, pictures, problems=problems, notes=notes)


def _has_split(path: Path, word: str) -> bool:
    return (path / f"{word}.txt").is_file() or (path / word).is_dir() or (path / "images" / word).is_dir()


def _is_voc(path: Path) -> bool:
    return (path / "JPEGImages").is_dir() and (path / "Annotations").is_dir()


def _open_voc(
    root: Path, split: str, names: Sequence[str] | None, name: str | None = None, listed: Path | None = None
) -> Dataset:
    """A Pascal VOC folder; ``listed`` is the list to take, by default the one for the split."""
    if not _is_voc(root):
        raise DataError("is no Pascal VOC folder: it needs JPEGImages and Annotations", where=str(root))
    lists = root / "ImageSets" / "Main"
    problems: list[Problem] = []
    if listed is not None:
        candidates = [listed, lists / listed.name, lists / f"{listed.name}.txt"]
    else:
        candidates = [lists / f"{word}.txt" for word in _VOC_LISTS[split]]
    chosen = next((file for file in candidates if file.is_file()), None)
    if chosen is not None:
        pictures = _read_voc_list(chosen, root / "JPEGImages", problems)
    elif listed is not None or lists.is_dir():
        looked = ", ".join(str(file) for file in candidates)
        error = NoSuchSplit if listed is None else DataError
        raise error(f"has no list of pictures for {split}; looked for {looked}", where=str(root))
    else:
        pictures = pictures_in(root / "JPEGImages")
    names, notes = (names, []) if names else _find_names(root, pictures)
    return Dataset(name or root.resolve().name, names, pictures, voc=True, problems=problems, notes=notes)


def _read_voc_list(path: Path, folder: Path, problems: list[Problem]) -> list[Path]:
    """The pictures of a VOC list, whose lines are file names without their ending."""
    by_stem = {picture.stem: picture for picture in pictures_in(folder)}
    pictures = []
    for number, line in read_lines(path):
        picture = by_stem.get(line) or by_stem.get(Path(line).stem) or _of_other_kind(folder, line)
        if picture is None:
            problems.append(Problem(f"{path}:{number}", no_such_picture(f"{folder / line}")))
        else:
            pictures.append(picture)
    return pictures



def _of_other_kind(folder: Path, stem: str) -> Path | None:
    """A listed file that would not be taken for a picture where nobody names it, such as one of NumPy's."""
    return next((path for path in sorted(folder.glob(f"{glob.escape(stem)}.*")) if path.is_file()), None)


def _read_list(path: Path, root: Path, problems: list[Problem]) -> list[Path | None]:
    """The pictures of a list, None for each that does not exist (a problem with its line)."""
    folders = bases(path, root)
    pictures: list[Path | None] = []
    for number, line in read_lines(path):
        picture = find_below(folders, line)
        if picture is None:
            problems.append(Problem(f"{path}:{number}", no_such_picture(line)))
        pictures.append(picture)
    return pictures






def _find_names(folder: Path, pictures: Sequence[Path]) -> tuple[list[str], list[str]]:
    """The classes of a data set that does not name them, and a note on where they are from."""
    listed = [folder / name for name in _NAMES_FILES] + sorted(folder.glob("*.names"))
    file = next((path for path in listed if path.is_file()), None)
    if file is not None:
        return list(read_names(file)), [f"class names from {file}"]
    # All files of the label folders and not only those of these pictures: the splits must agree on the classes.
    xml_folders = {annotation_path(picture).parent for picture in pictures}
    names = {name for path in _files(xml_folders, "*.xml") for name in _names_in(path)}
    if names:
        listing = ", ".join(sorted(names))
        return sorted(names), [f"no class names given: those of the xml files, in alphabetical order: {listing}"]
    text_folders = {label_path(picture).parent for picture in pictures}
    count = max((_classes_in(path) for path in _files(text_folders, "*.txt")), default=0) or 1
    return [str(number) for number in range(count)], [f"no class names given: {count} classes found in the label files"]


def _files(folders: Iterable[Path], pattern: str) -> list[Path]:
    return [path for folder in sorted(folders) for path in sorted(folder.glob(pattern))]


def _names_in(path: Path) -> set[str]:
    try:
        return read_voc_names(path)
    except DataError:  # reported when the labels of its picture are read
        return set()


def _classes_in(path: Path) -> int:
    """Classes there must be, by the largest number in a label file."""
    try:
        rows = read_labels(path, _MANY_CLASSES, [])
    except DataError:  # as above
        return 0
    return int(rows[:, 0].max()) + 1 if len(rows) else 0
