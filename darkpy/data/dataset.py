"""Data sets: which pictures there are, and what is on them. Labels are read when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkpy.data.labels import (
    annotation_path,
    label_lines,
    label_path,
    read_labels,
    read_voc,
    read_voc_size,
    voc_lines,
)
from darkpy.errors import DataError, Problem

SPLIT_FOLDERS = {
    "train": ("train",),
    "val": ("val", "valid", "validation", "test"),
    "test": ("test",),
}
"""Where the pictures of a split are, in folders that do not say so: the first name that exists."""



class NoSuchSplit(DataError):
    """A data set that has other splits, but not this one."""


@dataclass(frozen=True, eq=False)
class PixelBoxes:
    """Objects as a COCO file has them: ``box`` float64 (n, 4), left, top, width, height in pixels, ``area`` (n,) what
    they cover within it, ``crowd`` bool (n,) whether they stand for many at once."""

    box: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class Labels:
    """What is on one picture.

    ``boxes`` is float32 (n, 5), rows (class, cx, cy, w, h), relative; ``difficult`` is bool (n,). ``usable`` is false
    if it could not be found out what is on the picture, so that nothing can be learned from it. ``exact`` are the same
    objects in pixels, where the file has them so.
    """

    boxes: NDArray[np.float32]
    difficult: NDArray[np.bool_]
    problems: tuple[Problem, ...] = ()
    usable: bool = True
    exact: PixelBoxes | None = None


class Dataset:
    """Pictures with their boxes.

    Attributes:
        name: what to call the data set in messages.
        names: the classes in order.
        pictures: path of each picture.
        notes: what was assumed where the data set did not say.
    """

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        pictures: Sequence[Path],
        *,
        voc: bool = False,
        difficult: Mapping[Path, Path] | None = None,
        problems: Iterable[Problem] = (),
        notes: Iterable[str] = (),
    ) -> None:
        """Make a data set of pictures that exist.

        Args:
            name: what to call it.
            names: the classes in order.
            pictures: path of each picture.
            voc: read Pascal VOC files even if there are Darknet's label files too.
            difficult: for a picture, a second label file with objects that are too difficult to count.
            problems: what was found wrong on the way here.
            notes: what was assumed on the way here.
        """
        self.name = name
        self.names = list(names)
        self.pictures = list(pictures)
        self.notes = list(notes)
        self._voc = voc
        self._difficult = difficult or {}
        self._problems = list(problems)
        self._labels: list[Labels | None] = [None] * len(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {len(self)} pictures, {self.classes} classes>"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def kind(self) -> str:
        """What the labels are, as a description says it: ``"darknet"`` or ``"voc"``."""
        return "voc" if self._voc else "darknet"

    @property
    def problems(self) -> list[Problem]:
        """Everything found wrong so far: in lists, and in the labels that were read."""
        return self._problems + [problem for labels in self._labels if labels for problem in labels.problems]

    def boxes(self, index: int) -> NDArray[np.float32]:
        """The objects on a picture: float32 (n, 5), rows (class, cx, cy, w, h), relative. Read once; not to change."""
        return self.labels(index).boxes

    def difficult(self, index: int) -> NDArray[np.bool_]:
        """Bool (n,): which objects are too difficult to count for or against a detector."""
        return self.labels(index).difficult

    def labels(self, index: int) -> Labels:
        """The labels of a picture, with the problems found in them. Any thread may ask."""
        labels = self._labels[index]
        if labels is None:
            # Two threads that come here at the same time read the same thing: the second is not worth a lock.
            labels = self._labels[index] = self._read(self.pictures[index])
            labels.boxes.setflags(write=False)
        return labels

    def where(self, index: int, box: int) -> str:
        """``file:line`` of an object, row ``box`` of :meth:`boxes`, to name it in a message."""
        picture = self.pictures[index]
        text, xml = label_path(picture), annotation_path(picture)
        if self._is_voc(text, xml):
            return f"{xml}:{voc_lines(xml, self.names, picture)[box]}"
        files = [text, self._difficult.get(picture)]
        places = [(file, line) for file in files if file for line in label_lines(file, self.classes)]
        return "{}:{}".format(*places[box])

    def difficult_labels(self, index: int) -> Path | None:
        """The second label file of a picture, with objects that are too difficult to count; None if it has none."""
        return self._difficult.get(self.pictures[index])

    def declared_size(self, index: int) -> tuple[int, int] | None:
        """Width and height of a picture as its labels have them; None where they do not say."""
        xml = annotation_path(self.pictures[index])
        return read_voc_size(xml) if self._is_voc(label_path(self.pictures[index]), xml) else None

    def _is_voc(self, text: Path, xml: Path) -> bool:
        return xml.is_file() and (self._voc or not text.is_file())

    def _read(self, picture: Path) -> Labels:
        problems: list[Problem] = []
        try:
            boxes, difficult = self._read_files(picture, problems)
        except DataError as error:
            return Labels(_no_boxes(), np.zeros(0, np.bool_), tuple(problems + error.problems), usable=False)
        return Labels(boxes, difficult, tuple(problems))

    def _read_files(
        self, picture: Path, problems: list[Problem]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        text, xml = label_path(picture), annotation_path(picture)
        if self._is_voc(text, xml):
            return read_voc(xml, self.names, problems, picture)
        if not text.is_file() or self._voc:
            missing = xml if self._voc else text
            problems.append(Problem(str(picture), f"has no label file {missing}: taken as a picture without objects"))
            return _no_boxes(), np.zeros(0, np.bool_)
        boxes = read_labels(text, self.classes, problems)
        more = self._difficult.get(picture)
        hard = read_labels(more, self.classes, problems) if more and more.is_file() else _no_boxes()
        return np.concatenate([boxes, hard]), np.arange(len(boxes) + len(hard)) >= len(boxes)


def _no_boxes() -> NDArray[np.float32]:
    return np.zeros((0, 5), np.float32)
