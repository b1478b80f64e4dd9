"""COCO's json files as data sets (https://cocodataset.org/#format-data, object detection)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpy.boxes import centers_to_corners, clip
from darkpy.data.dataset import SPLIT_FOLDERS, Dataset, Labels, NoSuchSplit, PixelBoxes
from darkpy.data.labels import relative_box
from darkpy.data.paths import is_file, no_such_picture, spellings, written_path
from darkpy.data.pictures import picture_size
from darkpy.errors import DataError, Problem, suggestion
from darkpy.files import atomic_write

_OF_A_SPLIT = (
    "annotations/instances_{word}*.json",
    "annotations/{word}*.json",
    "{word}/_annotations.coco.json",
    "instances_{word}*.json",
    "{word}*.json",
)
_OF_ALL = ("_annotations.coco.json", "annotations.json", "instances.json", "annotations/instances.json")
_LISTS = ("images", "annotations", "categories")
_SKIPPED_BY_COCO = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_OF_COCO = [number for number in range(1, 91) if number not in _SKIPPED_BY_COCO]


class CocoDataset(Dataset):
    """A data set read from one of COCO's json files.

    Objects marked ``iscrowd`` stand for many at once: they are difficult, so that nothing is learned from them and
    finding one is no mistake. So are those marked ``ignore``, as some programs write it.

    Attributes:
        path: the file.
        image_ids: the number of each picture in the file.
        outlines: how many objects have an outline or key points, which are no part of a :class:`Dataset`.
        category_ids: the number of each class in the file.
    """

    def __init__(self, path: Path, file: _File, names: Sequence[str], name: str) -> None:
        """Make a data set of what was read; see :func:`open_coco`."""
        super().__init__(
            name, names, [image.picture for image in file.images], problems=file.problems, notes=file.notes
        )
        self.path = path
        self.image_ids = [image.number for image in file.images]
        self.category_ids = file.category_ids
        self.outlines = sum(item.has_outline for image in file.images for item in image.annotations)
        self._images = {image.picture: image for image in file.images}
        self._class_of = {number: place for place, number in enumerate(file.category_ids)}
        self._category_names = file.category_names

    @property
    def kind(self) -> str:
        """What the labels are, as a description says it."""
        return "coco"

    def where(self, index: int, box: int) -> str:
        """The file and the annotation of an object."""
        return self._usable(self._images[self.pictures[index]], [])[box].where

    def places(self, index: int) -> list[int]:
        """Where the objects on a picture, row by row of :meth:`boxes`, are in the file's list of annotations."""
        return [item.annotation.place for item in self._usable(self._images[self.pictures[index]], [])]

    def declared_size(self, index: int) -> tuple[int, int] | None:
        """Width and height of a picture as the file has them."""
        return self._images[self.pictures[index]].size

    def _read(self, picture: Path) -> Labels:
        problems: list[Problem] = []
        image = self._images[picture]
        try:
            found = self._usable(image, problems)
        except DataError as error:
            nothing = np.zeros((0, 5), np.float32)
            return Labels(nothing, np.zeros(0, np.bool_), tuple(problems + error.problems), usable=False)
        given = [item.annotation for item in found]
        exact = PixelBoxes(
            np.array([item.box for item in given], np.float64).reshape(-1, 4),
            np.array([item.area for item in given], np.float64),
            np.array([item.crowd for item in given], np.bool_),
        )
        boxes = np.array([item.row for item in found], np.float32).reshape(-1, 5)
        difficult = np.array([item.crowd or item.ignored for item in given], np.bool_)
        return Labels(boxes, difficult, tuple(problems), exact=exact)

    def _usable(self, image: _Image, problems: list[Problem]) -> list[_Usable]:
        """The objects of a picture that can be used; what is wrong with the others is added to the problems."""
        found = []
        for annotation in image.annotations:
            where = f"{self.path}, annotation {annotation.number}"
            class_id = self._class_of.get(annotation.category)
            if class_id is None:
                problems.append(Problem(where, self._no_class(annotation.category)))
                continue
            left, top, width, height = annotation.box
            edges = left, top, left + width, top + height
            size = image.size or picture_size(image.picture)
            shown = "bbox = " + ", ".join(f"{value:g}" for value in annotation.box)
            row = relative_box(edges, size, shown, where, problems)
            if row is not None:
                found.append(_Usable(annotation, (class_id, *row), where))
        return found

    def _no_class(self, category: Any) -> str:
        name = self._category_names.get(category)
        if name is None:
            return f"category_id {category} is none of the categories"
        return f"class {name!r} is not one of the {self.classes} names{suggestion(name, self.names)}"


class _Annotation(NamedTuple):
    """An object as the file has it; ``place`` counts from 0 in its list."""

    place: int
    number: Any
    category: Any
    box: tuple[float, ...]
    area: float
    crowd: bool
    ignored: bool
    has_outline: bool


class _Usable(NamedTuple):
    """An object, as a row class, cx, cy, w, h too, and its place for messages."""

    annotation: _Annotation
    row: tuple[float, ...]
    where: str


class _Image(NamedTuple):
    """A picture as the file has it; the size is None where it is not given."""

    number: Any
    picture: Path
    size: tuple[int, int] | None
    annotations: list[_Annotation]


class _File(NamedTuple):
    """What is in a file, in the order of the numbers."""

    images: list[_Image]
    category_ids: list[Any]
    category_names: dict[Any, str]
    problems: list[Problem]
    notes: list[str]


def open_coco(
    path: str | Path, names: Sequence[str] | None = None, *, root: Path | None = None, name: str | None = None
) -> CocoDataset:
    """Open one of COCO's json files as a data set.

    Args:
        path: the file. Its pictures are looked for beside it, in ``root``, one folder above, and there in ``images``
            and in a folder of the split's name (``train2017``).
        names: the classes in order, each the name of a category; by default all categories by their numbers.
        root: another folder the names of the pictures may be relative to.
        name: what to call the data set; by default as the file.

    Raises:
        DataError: the file cannot be read or is no data set.
    """
    path = Path(path)
    content = read_json(path)
    file = _read_file(path, content, root, names)
    return CocoDataset(path, file, names or list(file.category_names.values()), name or path.stem)


def category_names(path: Path) -> list[str]:
    """The class names of a file: its categories by their numbers. Raises DataError as :func:`open_coco` does."""
    return list(_categories(path, read_json(path), [], []).values())


def find_coco(folder: Path, split: str) -> Path | None:
    """The json file of a split in a folder, as COCO itself or the programs that export to it name it; or None.

    Raises:
        NoSuchSplit: there are such files, but none of this split.
    """
    for word in SPLIT_FOLDERS[split]:
        for pattern in _OF_A_SPLIT:
            found = sorted(folder.glob(pattern.format(word=word)))
            if found:
                return found[-1]
    single = next((folder / name for name in _OF_ALL if (folder / name).is_file()), None)
    if single is None and any(_is_split(folder, other) for other in SPLIT_FOLDERS):
        raise NoSuchSplit(f"has json files, but none for {split}", where=str(folder))
    return single


def _is_split(folder: Path, split: str) -> bool:
    words = SPLIT_FOLDERS[split]
    return any(True for word in words for pattern in _OF_A_SPLIT for _ in folder.glob(pattern.format(word=word)))


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file that has the form of a COCO data set.

    Raises:
        DataError: the file cannot be read or is something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except json.JSONDecodeError as error:
        raise DataError(f"is not valid json: {error.msg}", where=f"{path}:{error.lineno}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"is not valid json: {error}", where=str(path)) from error
    if isinstance(content, list):
        raise DataError("is a list, such as the results of a detector; a data set is an object", where=str(path))
    absent = [key for key in _LISTS if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if absent:
        absent_lists = " and no list ".join(absent)
        raise DataError(f"is no data set of COCO's form: it has no list {absent_lists}", where=str(path))
    return content


def _read_file(path: Path, content: dict[str, Any], root: Path | None, names: Sequence[str] | None) -> _File:
    problems: list[Problem] = []
    notes: list[str] = []
    categories = _categories(path, content, problems, notes)
    if names:
        by_name = {name: number for number, name in categories.items()}
        absent = [name for name in names if name not in by_name]
        problems += [
            Problem(str(path), f"has no category {name!r}{suggestion(name, by_name)}") for name in absent
        ]
        ids = [by_name.get(name) for name in names]
    else:
        ids = list(categories)
        notes.append(f"class names from {path}: {', '.join(categories.values())}")
    images = _images(path, content, root, problems)
    _add_annotations(path, content, images, problems)
    return _File([images[number] for number in _in_order(images)], ids, categories, problems, notes)


def _categories(path: Path, content: dict[str, Any], problems: list[Problem], notes: list[str]) -> dict[Any, str]:
    """The name of each category, by number."""
    found: dict[Any, str] = {}
    above: dict[Any, Any] = {}
    for place, item in enumerate(content["categories"]):
        if not isinstance(item, dict) or not _is_number(item.get("id")) or not isinstance(item.get("name"), str):
            problems.append(Problem(f"{path}, category {place + 1}", "needs an id and a name"))
        elif item["id"] in found or item["name"] in found.values():
            problems.append(Problem(f"{path}, category {item['id']}", f"{item['name']!r} is there twice"))
        else:
            found[item["id"]] = item["name"]
            above[item["id"]] = item.get("supercategory")
    used = {item.get("category_id") for item in content["annotations"] if isinstance(item, dict)}
    for number in list(found):
        # Some programs list the name of the project, which is above all the others, as a category of its own.
        is_above_all = all(above[other] == found[number] for other in found if other != number)
        if number not in used and is_above_all and len(found) > 1:
            notes.append(f"the category {found.pop(number)!r} of {path} is above all others: no class")
            break
    return {number: found[number] for number in _in_order(found)}


def _images(path: Path, content: dict[str, Any], root: Path | None, problems: list[Problem]) -> dict[Any, _Image]:
    """The pictures that are there, by number, without their objects."""
    images: dict[Any, _Image] = {}
    numbers: dict[Path, Any] = {}
    find = _Finder(path, root)
    for place, item in enumerate(content["images"]):
        if not isinstance(item, dict) or not _is_number(item.get("id")) or not isinstance(item.get("file_name"), str):
            problems.append(Problem(f"{path}, image {place + 1} of the list", "needs an id and a file_name"))
            continue
        where = f"{path}, image {item['id']}"
        picture = find(item["file_name"])
        if picture is None:
            problems.append(Problem(where, no_such_picture(item["file_name"])))
        elif item["id"] in images:
            problems.append(Problem(where, "is listed twice; the second is left out"))
        elif picture in numbers:
            problems.append(Problem(where, f"{item['file_name']} is image {numbers[picture]} already; left out"))
        else:
            numbers[picture] = item["id"]
            images[item["id"]] = _Image(item["id"], picture, _size(item), [])
    return images


class _Finder:
    """Finds the pictures of a json file; most are in the same folder, so that is tried first."""

    def __init__(self, path: Path, root: Path | None) -> None:
        word = path.stem.removeprefix("instances_")
        near = [path.parent, *([root] if root else []), path.absolute().parent.parent]
        below = (Path(), Path("images"), Path(word), Path("images", word))
        self.folders = [folder / part for part in below for folder in near]

    def __call__(self, name: str) -> Path | None:
        """The path of a picture, or None if there is none."""
        for spelling in spellings(name):
            for place, folder in enumerate(self.folders):
                if is_file(folder / spelling):
                    self.folders.insert(0, self.folders.pop(place))
                    return folder / spelling
        return None


def _add_annotations(
    path: Path, content: dict[str, Any], images: dict[Any, _Image], problems: list[Problem]
) -> None:
    """Give every picture its objects."""
    listed = {item["id"] for item in content["images"] if isinstance(item, dict) and _is_number(item.get("id"))}
    for place, item in enumerate(content["annotations"]):
        number = item.get("id") if isinstance(item, dict) else None
        where = f"{path}, annotation {number if _is_number(number) else f'{place + 1} of the list'}"
        found = _annotation(item, place, number)
        if isinstance(found, str):
            problems.append(Problem(where, found))
        elif item["image_id"] in images:
            images[item["image_id"]].annotations.append(found)
        elif item["image_id"] not in listed:
            problems.append(Problem(where, f"image_id {item['image_id']} is none of the images"))


def _annotation(item: Any, place: int, number: Any) -> _Annotation | str:
    """An object, or what is wrong with it."""
    if not isinstance(item, dict) or not _is_number(item.get("image_id")) or not _is_number(item.get("category_id")):
        return "needs an image_id and a category_id"
    box = item.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_real(value) for value in box):
        return f"bbox needs 4 numbers (left, top, width, height), found {json.dumps(box)[:60]}"
    left, top, width, height = map(float, box)
    area = float(item["area"]) if _is_real(item.get("area")) else width * height
    crowd, ignored = bool(item.get("iscrowd")), bool(item.get("ignore"))
    has_outline = bool(item.get("segmentation") or item.get("keypoints"))
    return _Annotation(
        place, number, item["category_id"], (left, top, width, height), area, crowd, ignored, has_outline
    )


def _size(item: dict[str, Any]) -> tuple[int, int] | None:
    size = [item.get(key) for key in ("width", "height")]
    width, height = (int(value) if _is_real(value) else 0 for value in size)  # type: ignore[arg-type]
    return (width, height) if min(width, height) >= 1 else None


def _is_number(value: Any) -> bool:
    """Whether this numbers something; some programs number with text."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _in_order(numbers: Iterable[Any]) -> list[Any]:
    return sorted(numbers, key=lambda number: (isinstance(number, str), number))


# Numbers ----------------------------------------------------------------------------------------------------------


def image_numbers(dataset: Dataset) -> list[Any]:
    """The number by which COCO's files name each picture.

    That is the one in the data set's own file; otherwise the one that ends the name of the picture, as in
    ``000000000139.jpg`` and ``COCO_val2014_000000000042.jpg``, if all pictures are numbered so; otherwise 1, 2, 3 ...
    """
    if isinstance(dataset, CocoDataset):
        return dataset.image_ids
    ends = [picture.stem.rpartition("_")[2] for picture in dataset.pictures]
    numbers = [int(end) for end in ends if end.isascii() and end.isdecimal()]
    is_numbered = len(set(numbers)) == len(dataset)
    return numbers if is_numbered else list(range(1, len(dataset) + 1))


def category_numbers(dataset: Dataset) -> list[Any]:
    """The number of each class in COCO's files: the file's own; of 80 classes COCO's, as in Darknet; or 1, 2, 3 ..."""
    if isinstance(dataset, CocoDataset):
        return dataset.category_ids
    return list(_OF_COCO if dataset.classes == len(_OF_COCO) else range(1, dataset.classes + 1))


# Writing ----------------------------------------------------------------------------------------------------------


def to_pixels(boxes: NDArray[np.floating], width: int, height: int) -> NDArray[np.float64]:
    """Boxes (n, 4), cx cy w h relative to a picture, as COCO has them: left, top, width, height in pixels, float64.

    They are cut at the border, as Darknet does where it writes this form. The last digits, which float32 does not
    hold, are rounded off, so that a box of whole pixels has whole numbers.
    """
    corners = centers_to_corners(clip(boxes.astype(np.float64))) * np.array([width, height, width, height])
    digits = 7 - len(str(max(width, height)))
    return np.round(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), digits) + 0.0


class Originals:
    """All a file says of its pictures, objects and classes, to be written again.

    A data set keeps only what a detector needs, so the file is read once more.

    Attributes:
        head: what it has beside its lists, such as ``info`` and ``licenses``.
    """

    def __init__(self, dataset: CocoDataset) -> None:
        """Read the file of a data set again. Raises DataError as :func:`open_coco` does."""
        content = read_json(dataset.path)
        self.head = {key: value for key, value in content.items() if key not in _LISTS}
        self._dataset = dataset
        self._images, self._categories = (_by_number(content[key]) for key in ("images", "categories"))
        self._annotations = content["annotations"]
        numbers = [item.get("id") for item in self._annotations if isinstance(item, dict)]
        self._are_numbered = None not in numbers and len(set(map(str, numbers))) == len(self._annotations)

    def image(self, index: int) -> dict[str, Any]:
        """What the file says of a picture."""
        return self._images[self._dataset.image_ids[index]]

    def category(self, number: Any) -> dict[str, Any]:
        """What the file says of a class; nothing if it has no such class."""
        return self._categories.get(number, {})

    def annotations(self, index: int) -> list[dict[str, Any]]:
        """What the file says of the objects on a picture, row by row; without numbers if they are not unique."""
        found: list[dict[str, Any]] = [self._annotations[place] for place in self._dataset.places(index)]
        return found if self._are_numbered else [{**item, "id": None} for item in found]


def _by_number(items: list[Any]) -> dict[Any, dict[str, Any]]:
    """The objects of a list by their numbers; of two with the same number the first."""
    return {item["id"]: item for item in reversed(items) if isinstance(item, dict) and _is_number(item.get("id"))}


def write_json(path: Path, content: Any) -> None:
    """Write a json file on one line for each element of its lists: short enough, and lines can be told apart."""
    with atomic_write(path, "w") as file:
        if isinstance(content, list):
            file.write(_lines(content) + "\n")
            return
        parts = [
            f"{json.dumps(key)}: {_lines(value) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)}"
            for key, value in content.items()
        ]
        file.write("{\n" + ",\n".join(parts) + "\n}\n")


def _lines(items: list[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n]" if items else "[]"


def write_part(dataset: CocoDataset, indexes: Sequence[int], path: Path) -> None:
    """Write some pictures of a data set, with all the file has on them, as a json file of their own."""
    content = read_json(dataset.path)
    kept = {dataset.image_ids[index]: written_path(dataset.pictures[index], path.parent) for index in indexes}
    content["images"] = [
        {**item, "file_name": kept[item["id"]]}
        for item in content["images"]
        if isinstance(item, dict) and item.get("id") in kept
    ]
    content["annotations"] = [
        item for item in content["annotations"] if isinstance(item, dict) and item.get("image_id") in kept
    ]
    write_json(path, content)
