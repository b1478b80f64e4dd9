"""Files with all detections of a data set, in the forms that the judges of the great contests take.

They are those of Darknet's ``detector valid``: Pascal VOC's text files, COCO's json, and those of BDD100K, KITTI and
ImageNet. Where Darknet writes names and numbers of one data set whatever the network was trained on, these are the
data set's own.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpy.boxes import Kept, centers_to_corners
from darkpy.config.class_files import read_map
from darkpy.config.data_files import DESCRIPTION_ENDINGS, EVALUATIONS, read_data
from darkpy.data.coco import CocoDataset, category_numbers, image_numbers, to_pixels
from darkpy.data.dataset import Dataset
from darkpy.detection import detection_heads
from darkpy.errors import ConfigError, InputError, Problem, suggestion
from darkpy.evaluation.report import check_options
from darkpy.evaluation.sweep import check, sweep
from darkpy.files import atomic_write
from darkpy.resources import find

if TYPE_CHECKING:
    from darkpy.network import Network

FORMATS = EVALUATIONS
"""Names of the forms, as a ``.data`` file has them at ``eval=``."""

STEMS = {
    "voc": "comp4_det_test_",
    "coco": "coco_results",
    "bdd": "bdd_results",
    "kitti": "kitti_results",
    "imagenet": "imagenet-detection",
}
"""What the files are called, or begin with, as in Darknet."""


class _Row(NamedTuple):
    """A detection."""

    box: int
    class_id: int
    probability: np.float32


@dataclass(frozen=True)
class Written:
    """What :func:`write_results` has written: files or folders, and how many pictures and detections are in them."""

    paths: tuple[Path, ...]
    pictures: int
    detections: int
    skipped: tuple[Problem, ...] = ()


def write_results(
    network: Network,
    dataset: Dataset,
    folder: str | Path,
    form: str = "voc",
    *,
    name: str | None = None,
    told: Sequence[int] | None = None,
    thresh: float = 0.001,
    nms: float = 0.6,
    letter_box: bool = False,
    tta: bool = False,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Detect on every picture of a data set and write all that was found (Darknet's ``detector valid``).

    folder: where to write. form: one of :data:`FORMATS`.
    name: of the file or folder, without ending; of VOC's files what they begin with. By default as Darknet's.
    told: of a hierarchy of classes those to write, by their numbers in it; written, they count from 0 (the ``map=`` of
    a ``.data`` file).
    thresh: least probability. For the others see :func:`~darkpy.evaluation.detector.evaluate`.

    Labels are not read. A picture that cannot be read is left out, and ``skipped`` says why.
    """
    if form not in FORMATS:
        raise InputError(f"unknown form {form!r}; there are {', '.join(FORMATS)}{suggestion(form, FORMATS)}")
    check_options(thresh, 0, 0)
    check(network, dataset, batch)
    base = Path(folder, name or STEMS[form])
    shown = dataset if told is None else Dataset(dataset.name, [dataset.names[n] for n in told], dataset.pictures)
    skipped: list[Problem] = []
    pictures = detections = 0
    looking = sweep(
        network, dataset, thresh=thresh, nms=nms, batch=batch, letter_box=letter_box, tta=tta, labelled=False,
        progress=progress,
    )  # fmt: skip
    with ExitStack() as stack:
        if told is not None:
            stack.enter_context(_telling(network, told))
        writer = _WRITERS[form](shown, base, stack)
        for looked in looking:
            if looked.problem is not None:
                skipped.append(looked.problem)
            if looked.kept is None:
                continue
            rows = list(_rows(looked.kept))
            writer.write(looked.index, looked.kept.boxes, rows, looked.width, looked.height)
            pictures += 1
            detections += len(rows)
    return Written(tuple(writer.paths), pictures, detections, tuple(skipped))


def described(dataset: Dataset, source: str) -> tuple[str, str]:
    """Folder and form of the files where nobody says: what the description of the data set says, or its own form."""
    if Path(source).suffix.lower() not in DESCRIPTION_ENDINGS:
        return "results", "coco" if isinstance(dataset, CocoDataset) else "voc"
    description = read_data(find("data", source))
    says = "eval" in description.lines or not isinstance(dataset, CocoDataset)
    return description.extra.get("results", "results"), description.eval if says else "coco"


def described_classes(dataset: Dataset, source: str) -> list[int] | None:
    """The classes to be told, from the file that ``map=`` of a ``.data`` file names; None where there is no such key.

    Raises:
        ConfigError: there is no such file, or a line of it is no class of the data set.
    """
    if Path(source).suffix.lower() != ".data":
        return None
    description = read_data(find("data", source))
    path = description.extra.get("map")
    if path is None:
        return None
    if not path.is_file():
        raise ConfigError(f"map={path}: no such file", where=description.where("map"))
    return read_map(path, dataset.classes)


@contextmanager
def _telling(network: Network, told: Sequence[int]) -> Iterator[None]:
    """The heads tell these classes; they must have a hierarchy."""
    heads = detection_heads(network)
    if not all(hasattr(head, "told") and len(head.tree.parents) for head in heads):
        message = "has no [region] with tree=, a hierarchy of classes for the map= of the data set to choose from"
        raise ConfigError(message, where=network.config.path)
    for head in heads:
        head.told = np.array(told, np.intp)
    try:
        yield
    finally:
        for head in heads:
            head.told = None


def _rows(kept: Kept) -> Iterator[_Row]:
    """Box by box and class by class, as Darknet writes them."""
    return map(_Row, range(len(kept.boxes)), kept.class_ids.tolist(), kept.probabilities)


class _Writer(ABC):
    """Writes one form. Files are opened on the stack, so that all of them are complete or none is there."""

    def __init__(self, dataset: Dataset, base: Path, stack: ExitStack) -> None:
        self.dataset = dataset
        self.base = base
        self.stack = stack
        self.paths: list[Path] = []
        self.start()

    def open(self, path: Path) -> IO[str]:
        """A file to write."""
        self.paths.append(path)
        return self.stack.enter_context(atomic_write(path, "w"))

    @abstractmethod
    def start(self) -> None:
        """Open what is open all the time."""

    @abstractmethod
    def write(
        self, index: int, boxes: NDArray[np.float32], rows: list[_Row], width: int, height: int
    ) -> None:
        """Write the detections of one picture; the boxes (k, 4) are relative to it."""

    def corners(
        self, boxes: NDArray[np.float32], width: int, height: int, first: int = 0
    ) -> list[list[float]]:
        """Left, top, right, bottom in pixels counted from ``first``, cut at the border."""
        size = np.array([width, height])
        corners = centers_to_corners(boxes.astype(np.float64)) * [*size, *size] + first
        return np.concatenate([np.maximum(corners[:, :2], first), np.minimum(corners[:, 2:], size)], axis=1).tolist()


class _VocWriter(_Writer):
    """A file for each class, a line ``picture probability left top right bottom`` for each detection."""

    def start(self) -> None:
        names = [re.sub(r"[/\\\0]", "_", name) for name in self.dataset.names]
        self.files = [self.open(self.base.with_name(f"{self.base.name}{name}.txt")) for name in names]

    def write(self, index: int, boxes: NDArray[np.float32], rows: list[_Row], width: int, height: int) -> None:
        corners = self.corners(boxes, width, height, first=1)
        name = self.dataset.pictures[index].stem
        for row in rows:
            place = " ".join(f"{value:f}" for value in corners[row.box])
            self.files[row.class_id].write(f"{name} {row.probability:f} {place}\n")


class _ImagenetWriter(_Writer):
    """One file, a line ``picture class probability left top right bottom``, both numbered from 1."""

    def start(self) -> None:
        self.file = self.open(self.base.with_name(f"{self.base.name}.txt"))

    def write(self, index: int, boxes: NDArray[np.float32], rows: list[_Row], width: int, height: int) -> None:
        corners = self.corners(boxes, width, height)
        for row in rows:
            place = " ".join(f"{value:f}" for value in corners[row.box])
            self.file.write(f"{index + 1} {row.class_id + 1} {row.probability:f} {place}\n")


class _KittiWriter(_Writer):
    """A folder ``data`` with a file for each picture, as the benchmark for boxes in pictures wants them."""

    def start(self) -> None:
        self.paths.append(self.base)

    def write(self, index: int, boxes: NDArray[np.float32], rows: list[_Row], width: int, height: int) -> None:
        corners = self.corners(boxes, width, height)
        with atomic_write(self.base / "data" / f"{self.dataset.pictures[index].stem}.txt", "w") as file:
            for row in rows:
                place = " ".join(f"{value:f}" for value in corners[row.box])
                # Truncation, occlusion, angle; then size, place and rotation in space: none of them is known.
                name = self.dataset.names[row.class_id]
                file.write(f"{name} -1 -1 -10 {place} -1 -1 -1 -1000 -1000 -1000 -10 {row.probability:f}\n")


class _JsonWriter(_Writer):
    """One json file with a list, an element a line."""

    def start(self) -> None:
        self.file = self.open(self.base.with_name(f"{self.base.name}.json"))
        self.file.write("[")
        self.stack.callback(self.file.write, "\n]\n")
        self.is_first = True

    def write(self, index: int, boxes: NDArray[np.float32], rows: list[_Row], width: int, height: int) -> None:
        places = self.places(boxes, width, height)
        for row in rows:
            # The shortest text that means this number.
            entry = {**self.entry(index, row.class_id), "bbox": places[row.box], "score": float(str(row.probability))}
            self.file.write(("\n" if self.is_first else ",\n") + json.dumps(entry, ensure_ascii=False))
            self.is_first = False

    @abstractmethod
    def places(self, boxes: NDArray[np.float32], width: int, height: int) -> list[list[float]]:
        """The boxes as they are written."""

    @abstractmethod
    def entry(self, index: int, class_id: int) -> dict[str, Any]:
        """What an element says beside its box and probability."""


class _CocoWriter(_JsonWriter):
    """Left, top, width, height; with COCO's numbers of pictures and classes."""

    def start(self) -> None:
        super().start()
        self.images = image_numbers(self.dataset)
        self.categories = category_numbers(self.dataset)

    def places(self, boxes: NDArray[np.float32], width: int, height: int) -> list[list[float]]:
        return to_pixels(boxes, width, height).tolist()

    def entry(self, index: int, class_id: int) -> dict[str, Any]:
        return {"image_id": self.images[index], "category_id": self.categories[class_id]}


class _BddWriter(_JsonWriter):
    """Left, top, right, bottom; with names of pictures and classes."""

    def places(self, boxes: NDArray[np.float32], width: int, height: int) -> list[list[float]]:
        return [[round(value, 6) for value in box] for box in self.corners(boxes, width, height)]

    def entry(self, index: int, class_id: int) -> dict[str, Any]:
        return {"name": self.dataset.pictures[index].stem, "category": self.dataset.names[class_id]}


_WRITERS: dict[str, type[_Writer]] = {
    "voc": _VocWriter,
    "coco": _CocoWriter,
    "bdd": _BddWriter,
    "kitti": _KittiWriter,
    "imagenet": _ImagenetWriter,
}
