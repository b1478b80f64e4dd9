"""Finding what is wrong with a data set before a training does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy.boxes import centers_to_corners
from darkpy.data.anchors import Coverage, coverage, find_anchors, input_shapes
from darkpy.data.dataset import SPLIT_FOLDERS, Dataset, NoSuchSplit
from darkpy.data.labels import LARGEST_OVERHANG, annotation_path, label_lines, label_path
from darkpy.data.opening import open_dataset
from darkpy.data.pictures import SUFFIXES, read_picture
from darkpy.data.workers import in_background, thread_count
from darkpy.errors import DataError, Problem

SIZES = (0, 1, 8, 16, 32, 64, 128, 256, 512, float("inf"))
"""Limits of the sizes that the histogram of boxes tells apart: the root of the area, in pixels of the input."""

_LEAST_SIDE = 1.0  # pixels of the input; a training leaves smaller boxes out
_HARD_SIDE = 8.0  # of these few pixels remain after the first layers
_SAME = 1e-6  # relative; boxes that differ less are the same
_WORSE = 0.05  # anchors that overlap so much less than others could are worth a word
_NAMED = 5  # of many things a remark names the first ones


@dataclass(frozen=True)
class Target:
    """The network the data is for: name, input, classes (None: any), and anchors (k, 2) in pixels, if any."""

    name: str = "no cfg named"
    width: int = 416
    height: int = 416
    channels: int = 3
    letter_box: bool = False
    classes: int | None = None
    anchors: NDArray[np.float64] | None = None


@dataclass
class SplitReport:
    """One split: its data set, and what was found.

    bad: the pictures, by index, that a training could not use or would learn nonsense from. unreadable, repeated: how
    many of them are so. boxes: (m, 5) class, cx, cy, w, h of all objects. shapes: (m, 2) their sizes in pixels of the
    input. picture: (m,) where each is.
    """

    dataset: Dataset
    bad: set[int] = field(default_factory=set)
    unreadable: int = 0
    repeated: int = 0
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 5), np.float32))
    shapes: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    picture: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    @property
    def good(self) -> list[int]:
        """The pictures that are all right."""
        return [index for index in range(len(self.dataset)) if index not in self.bad]

    @property
    def empty(self) -> int:
        """Pictures without any object."""
        return len(self.dataset) - len(np.unique(self.picture))

    def objects(self) -> NDArray[np.intp]:
        """(classes,): objects of each class."""
        return np.bincount(self.boxes[:, 0].astype(np.intp), minlength=self.dataset.classes)

    def pictures_with(self) -> NDArray[np.intp]:
        """(classes,): pictures on which each class is."""
        pairs = np.unique(np.stack([self.picture, self.boxes[:, 0].astype(np.intp)]), axis=1)
        return np.bincount(pairs[1], minlength=self.dataset.classes)

    def size_counts(self) -> NDArray[np.intp]:
        """How many boxes are between each two of :data:`SIZES`."""
        return np.histogram(np.sqrt(self.shapes.prod(axis=1)), SIZES)[0]


@dataclass
class Report:
    """What a check found.

    problems: what is wrong, each with its place. remarks: what is worth knowing, but may be meant so.
    """

    target: Target
    splits: dict[str, SplitReport]
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)
    coverage: Coverage | None = None

    @property
    def names(self) -> list[str]:
        """The classes."""
        return next(iter(self.splits.values())).dataset.names

    @property
    def shapes(self) -> NDArray[np.float64]:
        """(m, 2): the sizes of all objects of all splits, in pixels of the input."""
        return np.concatenate([part.shapes for part in self.splits.values()])

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for json."""
        anchors = None
        if self.coverage is not None:
            names = ("mean_iou", "covered", "shares")
            anchors = {name: getattr(self.coverage, name) for name in names}
        return {
            "network": {"name": self.target.name, "width": self.target.width, "height": self.target.height},
            "problems": [vars(problem) for problem in self.problems],
            "remarks": [vars(remark) for remark in self.remarks],
            "classes": self.names,
            "box_size_limits": list(SIZES[:-1]),
            "splits": {name: _split_to_dict(part) for name, part in self.splits.items()},
            "anchors": anchors,
        }


def _split_to_dict(part: SplitReport) -> dict[str, Any]:
    return {
        "pictures": len(part.dataset),
        "unreadable": part.unreadable,
        "repeated": part.repeated,
        "without_objects": part.empty,
        "bad": [str(part.dataset.pictures[index]) for index in sorted(part.bad)],
        "objects": part.objects().tolist(),
        "pictures_with": part.pictures_with().tolist(),
        "box_sizes": part.size_counts().tolist(),
    }


def open_all(
    source: str | Path, names: Sequence[str] | None = None, notify: Callable[[str], None] | None = None
) -> tuple[dict[str, Dataset], list[Problem]]:
    """All splits of a data set that can be opened, as :func:`~darkpy.data.opening.open_splits`, and what is wrong.

    Raises:
        DataError: there is no such data set, or none of its splits can be opened.
        ConfigError: the description of the data set is wrong.
    """
    found: dict[str, Dataset] = {}
    problems: list[Problem] = []
    for split in SPLIT_FOLDERS:
        try:
            names = names or next((first.names for first in found.values()), None)
            dataset = open_dataset(source, split, names, **({"notify": notify} if notify else {}))
        except NoSuchSplit:
            continue
        except DataError as error:
            problems += [problem for problem in error.problems if problem not in problems]
            continue
        if all(dataset.pictures != other.pictures for other in found.values()):
            found[split] = dataset
        elif split == "val" and "train" in found:
            found["train"].notes.append("val has the same pictures: a training measures itself on what it has learned")
    if not found:
        raise DataError("has no pictures to train, val or test with", where=str(source), problems=problems)
    return found, problems


def check(
    splits: Mapping[str, Dataset],
    target: Target,
    progress: Callable[[int, int], None] | None = None,
    problems: Iterable[Problem] = (),
) -> Report:
    """Look at every picture and every label of a data set.

    Args:
        splits: its parts by name, see :func:`open_all`.
        target: the network it is for.
        progress: called with (pictures done, pictures in all).
        problems: what was found wrong on the way here.

    Each picture is decoded, so this takes about as long as going through the data set once in a training.
    """
    checker = _Checker(Report(target, {name: SplitReport(dataset) for name, dataset in splits.items()}))
    checker.add(problems)
    total, done = sum(map(len, splits.values())), 0
    with ThreadPoolExecutor(thread_count(), thread_name_prefix="darkpy-check") as pool:
        for name, dataset in splits.items():
            checker.add(dataset.problems)
            look = partial(_look, dataset, target)
            for found in in_background(pool, look, range(len(dataset)), ahead=4 * thread_count()):
                checker.take(name, found)
                done += 1
                if progress is not None:
                    progress(done, total)
    return checker.finish()


@dataclass(frozen=True, eq=False)
class _Looked:
    """One picture: what its pixels are (empty if it cannot be read), its objects, and what is wrong with it."""

    index: int
    digest: bytes
    boxes: NDArray[np.float32]
    shapes: NDArray[np.float64]
    problems: tuple[Problem, ...]
    remarks: tuple[Problem, ...]


def _look(dataset: Dataset, target: Target, index: int) -> _Looked:
    problems: list[Problem] = []
    digest, size = b"", None
    try:
        image = read_picture(dataset.pictures[index], target.channels)
        size = image.shape[1], image.shape[0]
        digest = _digest(image)
    except DataError as error:
        problems += error.problems
    labels = dataset.labels(index)
    problems += [problem for problem in labels.problems if problem not in problems]
    shapes = _shapes(labels.boxes, target, size)
    small: list[Problem] = []
    if labels.usable:
        problems += _wrong_size(dataset, index, size)
        problems += _same_objects(dataset, index, labels.boxes)
        problems += _overhanging(dataset, index, size)
        small = _too_small(dataset, index, shapes, target)
    return _Looked(index, digest, labels.boxes, shapes, tuple(problems), tuple(small))


def _digest(image: NDArray[np.uint8]) -> bytes:
    """What two pictures have in common only if their pixels are the same, as .png and as .bmp too."""
    shape = np.array(image.shape[:2], np.uint64).tobytes()
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, salt=shape).digest()


def _wrong_size(dataset: Dataset, index: int, size: tuple[int, int] | None) -> list[Problem]:
    """Labels that are for a picture of another size, as after scaling or turning it; boxes in pixels are wrong then."""
    declared = dataset.declared_size(index)
    if size is None or declared is None or declared == size:
        return []
    said, found = ("{} x {}".format(*pair) for pair in (declared, size))
    turned = ": was it turned?" if declared == size[::-1] else ""
    return [Problem(str(dataset.pictures[index]), f"has {found} pixels, but its labels are for {said}{turned}")]


def _shapes(boxes: NDArray[np.float32], target: Target, size: tuple[int, int] | None) -> NDArray[np.float64]:
    """Width and height (n, 2) of the boxes in pixels of the input."""
    return input_shapes(boxes[:, 1:], target.width, target.height, size if target.letter_box else None)


def _too_small(dataset: Dataset, index: int, shapes: NDArray[np.float64], target: Target) -> list[Problem]:
    where = f"pixels at {target.width}x{target.height}, too small to be learned"
    return [
        Problem(dataset.where(index, row), f"the box is {shapes[row, 0]:.2g} x {shapes[row, 1]:.2g} {where}")
        for row in np.flatnonzero((shapes < _LEAST_SIDE).any(axis=1)).tolist()
    ]


def _same_objects(dataset: Dataset, index: int, boxes: NDArray[np.float32]) -> list[Problem]:
    if len(boxes) < 2:
        return []
    _, first, place = np.unique(np.round(boxes / _SAME), axis=0, return_index=True, return_inverse=True)
    firsts = first[place.reshape(-1)]
    return [
        Problem(dataset.where(index, row), f"is the same object as {dataset.where(index, int(firsts[row]))}")
        for row in np.flatnonzero(firsts != np.arange(len(boxes))).tolist()
    ]


def _overhanging(dataset: Dataset, index: int, size: tuple[int, int] | None) -> list[Problem]:
    """Boxes of text files that leave the picture; those of VOC and COCO are cut, and reported, where they are read."""
    boxes = dataset.boxes(index)
    if size is None or not len(boxes):
        return []
    corners = centers_to_corners(boxes[:, 1:])
    beyond = np.maximum(-corners[:, :2], corners[:, 2:] - 1) * np.array(size)
    return [
        Problem(
            dataset.where(index, row),
            f"the box leaves the picture by {beyond[row].max():.0f} pixels, and is cut at the border",
        )
        for row in np.flatnonzero((beyond > LARGEST_OVERHANG).any(axis=1)).tolist()
    ]


class _Checker:
    """Gathers what is found, picture by picture."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._known: set[Problem] = set()
        self._first: dict[bytes, tuple[str, int]] = {}
        self._looked: dict[str, list[_Looked]] = {name: [] for name in report.splits}

    def add(self, problems: Iterable[Problem]) -> None:
        """Add what is not known yet; a data set repeats what it told before."""
        for problem in problems:
            if problem not in self._known:
                self._known.add(problem)
                self.report.problems.append(problem)

    def take(self, name: str, found: _Looked) -> None:
        """Add a picture of a split."""
        part = self.report.splits[name]
        problems = [*found.problems, *self._repetition(name, found)]
        if problems:
            part.bad.add(found.index)
        if not found.digest:
            part.unreadable += 1
        self.add(problems)
        self.report.remarks += found.remarks
        self._looked[name].append(found)

    def _repetition(self, name: str, found: _Looked) -> list[Problem]:
        """A problem if the same picture was there before."""
        if not found.digest:
            return []
        split, index = self._first.setdefault(found.digest, (name, found.index))
        if (split, index) == (name, found.index):
            return []
        self.report.splits[name].repeated += 1
        other, this = self.report.splits[split].dataset.pictures[index], self._picture(name, found.index)
        what = "is listed again" if other.absolute() == this.absolute() else f"is the same picture as {other}"
        of = f", of {split}: what is learned must not be measured" if split != name else ""
        return [Problem(str(this), f"{what}{of}")]

    def _picture(self, name: str, index: int) -> Path:
        return self.report.splits[name].dataset.pictures[index]

    def finish(self) -> Report:
        """The whole report."""
        report = self.report
        for name, part in report.splits.items():
            looked = self._looked[name]
            part.boxes = np.concatenate([part.boxes, *(found.boxes for found in looked)])
            part.shapes = np.concatenate([part.shapes, *(found.shapes for found in looked)])
            part.picture = np.repeat([found.index for found in looked], [len(found.boxes) for found in looked])
        target = report.target
        if target.classes is not None and target.classes != len(report.names):
            message = f"has {target.classes} classes, the data set {len(report.names)}"
            self.add([Problem(target.name, message)])
        if not len(report.shapes):
            names = " and ".join(report.splits)
            self.add([Problem(names, "none of the pictures has an object: are the labels where they are looked for?")])
        if target.anchors is not None and len(report.shapes):
            report.coverage = coverage(report.shapes, target.anchors)
        report.remarks += _remarks(report)
        return report


def _remarks(report: Report) -> list[Problem]:
    remarks = []
    for name, part in report.splits.items():
        remarks += [Problem(name, note) for note in part.dataset.notes]
        absent = [report.names[place] for place in np.flatnonzero(part.objects() == 0)]
        if absent:
            remarks.append(Problem(name, f"has no object of {_some(absent)}"))
        hard = int((np.sqrt(part.shapes.prod(axis=1)) < _HARD_SIDE).sum())
        if hard:
            share, side = f"{100 * hard / len(part.shapes):.1f} %", f"{_HARD_SIDE:g} x {_HARD_SIDE:g} pixels"
            size = f"{report.target.width}x{report.target.height}"
            remarks.append(Problem(name, f"{share} of the boxes are below {side} at {size}: hard to find"))
        remarks += _shared_labels(part.dataset)
    lost = _without_picture([part.dataset for part in report.splits.values()])
    if lost:
        remarks.append(Problem("labels without a picture", _some([str(path) for path in lost])))
    return remarks + _better_anchors(report)


def _some(names: Sequence[str]) -> str:
    """The first ones by name, and how many there are beside them."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _shared_labels(dataset: Dataset) -> list[Problem]:
    """Different pictures with the same label file: a.jpg and a.png."""
    if dataset.kind == "coco":
        return []
    owner: dict[Path, Path] = {}
    remarks = []
    for picture in dataset.pictures:
        labels = annotation_path(picture) if dataset.kind == "voc" else label_path(picture)
        first = owner.setdefault(labels.absolute(), picture)
        if first.absolute() != picture.absolute() and labels.is_file():
            remarks.append(Problem(str(picture), f"has its labels in common with {first}: {labels}"))
    return remarks


def _without_picture(datasets: Sequence[Dataset]) -> list[Path]:
    """Label files, in the folders of the others, whose pictures are not there."""
    if datasets[0].kind not in ("darknet", "voc"):
        return []
    is_voc = datasets[0].kind == "voc"
    beside: dict[Path, set[Path]] = {}
    known: dict[Path, set[str]] = {}
    spelled: dict[Path, Path] = {}
    for dataset in datasets:
        for picture in dataset.pictures:
            labels = annotation_path(picture) if is_voc else label_path(picture)
            folder = labels.parent.absolute()
            beside.setdefault(folder, set()).add(picture.parent)
            known.setdefault(folder, set()).add(labels.stem)
            spelled.setdefault(folder, labels.parent)
    lost = []
    for folder, pictures in sorted(beside.items()):
        found = {path.stem for place in pictures for path in place.iterdir() if path.suffix.lower() in SUFFIXES}
        labels_there = sorted(spelled[folder].glob("*.xml" if is_voc else "*.txt"))
        alone = [path for path in labels_there if path.stem not in found | known[folder]]
        # A text file may be anything else: a list, the names of the classes.
        lost += [path for path in alone if is_voc or _has_labels(path, datasets[0].classes)]
    return lost


def _has_labels(path: Path, classes: int) -> bool:
    try:
        return bool(label_lines(path, classes))
    except DataError:
        return False


def _better_anchors(report: Report) -> list[Problem]:
    anchors, found = report.target.anchors, report.coverage
    if anchors is None or found is None or len(np.unique(report.shapes, axis=0)) < len(anchors):
        return []
    best = coverage(report.shapes, find_anchors(report.shapes, len(anchors))).mean_iou
    if best < found.mean_iou + _WORSE:
        return []
    message = (
        f"its anchors overlap the objects by {100 * found.mean_iou:.0f} % on the average; {len(anchors)} made for them "
        f"would by {100 * best:.0f} % (darkpy detector calc_anchors)"
    )
    return [Problem(report.target.name, message)]
