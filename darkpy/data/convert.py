"""From one form of labels to another: Darknet's text files, Pascal VOC's xml, COCO's json."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from darkpy.data.coco import CocoDataset, Originals, category_numbers, image_numbers, to_pixels, write_json
from darkpy.data.dataset import Dataset, Labels
from darkpy.data.lists import write_description
from darkpy.data.pictures import picture_shape
from darkpy.data.workers import in_background, thread_count
from darkpy.errors import DataError, InputError, Problem, suggestion
from darkpy.files import atomic_write

FORMS = ("yolo", "voc", "coco")
"""What can be written: Darknet's text files, which all YOLO programs read; Pascal VOC; COCO."""

DESCRIPTION = "data.yaml"
"""The file in the new folder that describes it."""

_COMMENT = "Written by darkpy data convert."
_NEAR = 0.01  # pixels; an edge so near to a whole pixel is on it


@dataclass
class Converted:
    """What was written: ``pictures`` and ``objects`` are counts, ``problems`` what could not be taken over, ``notes``
    what the new form has no place for."""

    folder: Path
    pictures: int = 0
    objects: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def convert(
    splits: Mapping[str, Dataset],
    form: str,
    folder: str | Path,
    *,
    link: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write a data set in another form into a new folder, with a description :data:`DESCRIPTION`; the old one stays.

    Args:
        splits: its parts by name, see :func:`~darkpy.data.opening.open_splits`.
        form: one of :data:`FORMS`.
        folder: where to write; it must be new or empty.
        link: make symbolic links to the pictures instead of copies.
        progress: called with (pictures done, pictures in all).

    Boxes stay as exact as the old labels have them; a VOC file gets fractions of pixels where there are any. Difficult
    objects stay so: in COCO's form they are marked ``ignore``, in Darknet's they are in label files of their own, in
    the folder ``difficult``. From COCO's form to COCO's everything stays that a file says of what is usable, outlines
    and key points too; no other form has a place for them. Pictures and labels that cannot be read are left out and
    named.

    Raises:
        InputError: another form.
        DataError: the folder is not empty, or there is nothing to write.
    """
    if form not in FORMS:
        raise InputError(f"unknown form {form!r}; there are {', '.join(FORMS)}{suggestion(form, FORMS)}")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError("is there already and not empty; name a new folder", where=str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    # What is not complete never has the folder's name.
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        result = _write(splits, _WRITERS[form](unfinished, next(iter(splits.values())), link), progress)
        unfinished.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    result.folder = folder
    return result


def _write(
    splits: Mapping[str, Dataset], writer: _Writer, progress: Callable[[int, int], None] | None
) -> Converted:
    total, done = sum(map(len, splits.values())), 0
    with ThreadPoolExecutor(thread_count(), thread_name_prefix="darkpy-convert") as pool:
        for split, dataset in splits.items():
            writer.begin(split, dataset)
            loaded = in_background(pool, partial(_load, dataset), range(len(dataset)), ahead=4 * thread_count())
            for found in loaded:
                if isinstance(found, Problem):
                    writer.result.problems.append(found)
                elif found.labels.usable:
                    writer.add(found)
                done += 1
                if progress is not None:
                    progress(done, total)
            writer.end()
            writer.result.problems += dataset.problems
    if not writer.result.pictures:
        raise DataError(problems=[*writer.result.problems, Problem("", "no picture can be converted")])
    writer.finish(list(splits))
    return writer.result


@dataclass(frozen=True, eq=False)
class _Item:
    """A picture that can be used: its place in the data set, its size and channels, and its labels."""

    index: int
    width: int
    height: int
    channels: int
    labels: Labels

    def pixels(self) -> NDArray[np.float64]:
        """Left, top, width, height (n, 4) in pixels, as the old labels have them if they do."""
        if self.labels.exact is not None:
            return self.labels.exact.box
        return to_pixels(self.labels.boxes[:, 1:], self.width, self.height)


def _load(dataset: Dataset, index: int) -> _Item | Problem:
    try:
        height, width, channels = picture_shape(dataset.pictures[index])
    except DataError as error:
        return error.problems[0]
    return _Item(index, width, height, channels, dataset.labels(index))


class _Writer(ABC):
    """Writes one form: for every split begin, add for each picture, end; at last finish."""

    def __init__(self, folder: Path, first: Dataset, link: bool) -> None:
        self.folder = folder
        self.first = first
        self.names = first.names
        self.link = link
        self.result = Converted(folder)
        self._taken: set[str] = set()

    def begin(self, split: str, dataset: Dataset) -> None:
        """Begin a split."""
        self.split, self.dataset = split, dataset

    def add(self, item: _Item) -> None:
        """Write one picture and its labels."""
        picture = self.dataset.pictures[item.index]
        self.result.pictures += 1
        self.write(item, picture, self._new_name(picture))

    @abstractmethod
    def write(self, item: _Item, picture: Path, name: str) -> None:
        """Write a picture, which gets a new name."""

    @abstractmethod
    def end(self) -> None:
        """End the split."""

    @abstractmethod
    def finish(self, splits: list[str]) -> None:
        """Write what describes the whole."""

    def note_outlines(self) -> None:
        """Say what the boxes of another form cannot show."""
        count = self.dataset.outlines if isinstance(self.dataset, CocoDataset) else 0
        if count:
            objects = f"{count:,} object{'' if count == 1 else 's'}"
            message = f"outlines or key points of {objects} are left out; this form has boxes only"
            self.result.notes.append(f"{self.split}: {message}")

    def put(self, picture: Path, target: Path) -> None:
        """Copy a picture, or link to it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.link:
            target.symlink_to(picture.absolute())
        else:
            shutil.copyfile(picture, target)

    def describe(self, entries: Mapping[str, str]) -> None:
        """Write the YAML file."""
        write_description(self.folder / DESCRIPTION, entries, self.names, _COMMENT)

    def _new_name(self, picture: Path) -> str:
        """The name of a picture, numbered where it is taken; labels are found by it without its ending."""
        number, stem = 1, picture.stem
        while stem.lower() in self._taken:
            number += 1
            stem = f"{picture.stem}-{number}"
        self._taken.add(stem.lower())
        return stem + picture.suffix


class _YoloWriter(_Writer):
    """A folder for each split with pictures and label files beside them, where every YOLO program finds them."""

    def begin(self, split: str, dataset: Dataset) -> None:
        super().begin(split, dataset)
        self.listed: list[str] = []
        self.difficult: dict[str, NDArray[np.float32]] = {}

    def write(self, item: _Item, picture: Path, name: str) -> None:
        self.put(picture, self.folder / self.split / name)
        self.listed.append(f"{self.split}/{name}")
        difficult = item.labels.difficult
        self._write_rows(Path(self.split, name), item.labels.boxes[~difficult])
        self.difficult[name] = item.labels.boxes[difficult]
        self.result.objects += len(item.labels.boxes)

    def end(self) -> None:
        self.note_outlines()
        _write_lines(self.folder / f"{self.split}.txt", self.listed)
        if any(map(len, self.difficult.values())):
            for name, boxes in self.difficult.items():
                self._write_rows(Path("difficult", self.split, name), boxes)
            _write_lines(self.folder / f"difficult-{self.split}.txt", (f"difficult/{path}" for path in self.listed))

    def finish(self, splits: list[str]) -> None:
        entries = {split: f"{split}.txt" for split in splits}
        if (self.folder / "difficult-val.txt").is_file():
            entries["difficult"] = "difficult-val.txt"
        self.describe(entries)
        # For Darknet itself, which is to be started in the folder.
        _write_lines(self.folder / "data.names", self.names)
        keys = {"valid" if key == "val" else key: name for key, name in entries.items()}
        lines = {"classes": len(self.names), **keys, "names": "data.names", "backup": "backup"}
        _write_lines(self.folder / "data.data", (f"{key}={value}" for key, value in lines.items()))

    def _write_rows(self, picture: Path, boxes: NDArray[np.float32]) -> None:
        rows = (f"{int(row[0])} " + " ".join(f"{value:.6f}" for value in row[1:]) for row in boxes.tolist())
        _write_lines(self.folder / picture.with_suffix(".txt"), rows)


class _VocWriter(_Writer):
    """``JPEGImages``, ``Annotations`` and ``ImageSets/Main``."""

    def __init__(self, folder: Path, first: Dataset, link: bool) -> None:
        super().__init__(folder, first, link)
        self.lists: dict[str, list[str]] = {}

    def begin(self, split: str, dataset: Dataset) -> None:
        super().begin(split, dataset)
        self.lists[split] = []

    def write(self, item: _Item, picture: Path, name: str) -> None:
        self.put(picture, self.folder / "JPEGImages" / name)
        self.lists[self.split].append(Path(name).stem)
        _write_lines(self.folder / "Annotations" / Path(name).with_suffix(".xml"), self._annotation(item, name))

    def _annotation(self, item: _Item, name: str) -> Iterator[str]:
        yield "<annotation>"
        yield f"  <folder>JPEGImages</folder>\n  <filename>{escape(name)}</filename>"
        depth = f"    <depth>{item.channels}</depth>"
        yield f"  <size>\n    <width>{item.width}</width>\n    <height>{item.height}</height>\n{depth}\n  </size>"
        for row, (left, top, width, height) in enumerate(item.pixels().tolist()):
            # The first and the last column inside, counted from 1 (VOC development kit).
            edges = left + 1, top + 1, left + width, top + height
            if edges[2] <= edges[0] or edges[3] <= edges[1]:
                message = f"the box is {width:g} x {height:g} pixels: too small for Pascal VOC's form, left out"
                self.result.problems.append(Problem(self.dataset.where(item.index, row), message))
                continue
            self.result.objects += 1
            box = "".join(
                f"\n      <{key}>{_plain(value)}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), edges)
            )
            name = escape(self.names[int(item.labels.boxes[row, 0])])
            yield f"  <object>\n    <name>{name}</name>"
            yield f"    <difficult>{int(item.labels.difficult[row])}</difficult>"
            yield f"    <bndbox>{box}\n    </bndbox>\n  </object>"
        yield "</annotation>"

    def end(self) -> None:
        self.note_outlines()

    def finish(self, splits: list[str]) -> None:
        # Two parts are what the contest calls trainval and test; val would be a part of trainval.
        called = {split: split for split in splits} if "test" in splits else {"train": "trainval", "val": "test"}
        entries = {}
        for split in splits:
            _write_lines(self.folder / "ImageSets" / "Main" / f"{called[split]}.txt", self.lists[split])
            entries[split] = f"ImageSets/Main/{called[split]}.txt"
        _write_lines(self.folder / "classes.txt", self.names)
        self.describe({"format": "voc", **entries})


class _CocoWriter(_Writer):
    """A folder for each split, and ``annotations/instances_<split>.json``."""

    def begin(self, split: str, dataset: Dataset) -> None:
        super().begin(split, dataset)
        self.originals = Originals(dataset) if isinstance(dataset, CocoDataset) else None
        self.numbers = image_numbers(dataset)
        self.categories = category_numbers(self.first)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def write(self, item: _Item, picture: Path, name: str) -> None:
        self.put(picture, self.folder / self.split / name)
        number = self.numbers[item.index]
        image = {"id": number, "file_name": name, "width": item.width, "height": item.height}
        self.images.append(_with(image, self.originals.image(item.index) if self.originals else {}))
        self.annotations += self._objects(item, number)
        self.result.objects += len(item.labels.boxes)

    def _objects(self, item: _Item, number: Any) -> Iterator[dict[str, Any]]:
        """The objects on a picture, with all the old file says of them, if it has this form."""
        boxes = item.pixels().tolist()
        old = self.originals.annotations(item.index) if self.originals else [{}] * len(boxes)
        exact = item.labels.exact
        first = len(self.annotations) + 1
        for row, (box, known) in enumerate(zip(boxes, old)):
            crowd = bool(exact is not None and exact.crowd[row])
            new = {
                "id": first + row if known.get("id") is None else known["id"],
                "image_id": number,
                "category_id": self.categories[int(item.labels.boxes[row, 0])],
                "bbox": box,
                "area": round(box[2] * box[3], 6) if exact is None else float(exact.area[row]),
                "iscrowd": int(crowd),
                **({"ignore": 1} if item.labels.difficult[row] and not crowd else {}),
            }
            yield _with(new, known)

    def end(self) -> None:
        old = self.originals
        classes = zip(self.categories, self.names)
        content = {
            **(old.head if old else {"info": {"description": _COMMENT}}),
            "images": self.images,
            "annotations": self.annotations,
            "categories": [
                _with({"id": number, "name": name}, old.category(number) if old else {}) for number, name in classes
            ],
        }
        write_json(self.folder / "annotations" / f"instances_{self.split}.json", content)

    def finish(self, splits: list[str]) -> None:
        self.describe({"format": "coco", **{split: f"annotations/instances_{split}.json" for split in splits}})


_WRITERS: dict[str, type[_Writer]] = {"yolo": _YoloWriter, "voc": _VocWriter, "coco": _CocoWriter}


def _with(new: dict[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """What is written, and what else was known."""
    return {**new, **{key: value for key, value in old.items() if key not in new}}


def _plain(value: float) -> str:
    """A coordinate, whole if it is within a hundredth of a pixel of that."""
    return str(round(value)) if abs(value - round(value)) < _NEAR else f"{value:.3f}"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as file:
        file.writelines(f"{line}\n" for line in lines)
