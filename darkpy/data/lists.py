"""Writing parts of a data set as a data set of their own: lists of its pictures, and a description of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from darkpy.data.coco import CocoDataset, write_part
from darkpy.data.dataset import Dataset
from darkpy.data.paths import written_path
from darkpy.errors import DataError
from darkpy.files import atomic_write


class Part(NamedTuple):
    """Some pictures of a data set, by their indexes."""

    dataset: Dataset
    indexes: Sequence[int]


def write_lists(parts: Mapping[str, Part], folder: Path, name: str, comment: str, ending: str = "") -> list[Path]:
    """Write a list for each part, and a YAML file that names them; pictures and labels stay where they are.

    Args:
        parts: by split, such as ``train``.
        folder: where to write.
        name: of the YAML file.
        comment: what the YAML file says it is.
        ending: of the lists' names, between the name of the split and ``.txt``.

    Returns:
        What was written, the YAML file first.

    Raises:
        DataError: a part has no pictures.
    """
    empty = [split for split, part in parts.items() if not len(part.indexes)]
    if empty:
        raise DataError(f"nothing is left to {' or '.join(empty)} with: nothing is written", where=str(folder / name))
    first = next(iter(parts.values())).dataset
    entries = {} if first.kind == "darknet" else {"format": first.kind}
    written: list[Path] = []
    for split, part in parts.items():
        path = folder / f"{split}{ending}.{'json' if part.dataset.kind == 'coco' else 'txt'}"
        _write_part(part, path)
        written.append(path)
        entries[split] = path.name
        if any(part.dataset.difficult_labels(index) for index in part.indexes):
            written.append(_write_difficult(part, folder / f"difficult{ending}.txt"))
            entries["difficult"] = written[-1].name
    description = folder / f"{name}.yaml"
    write_description(description, entries, first.names, comment)
    return [description, *written]


def _write_part(part: Part, path: Path) -> None:
    if isinstance(part.dataset, CocoDataset):
        write_part(part.dataset, part.indexes, path)
        return
    with atomic_write(path, "w") as file:
        for index in part.indexes:
            file.write(f"{written_path(part.dataset.pictures[index], path.parent)}\n")


def _write_difficult(part: Part, path: Path) -> Path:
    """Darknet's list of the label files with difficult objects, a line for each picture of the other list."""
    with atomic_write(path, "w") as file:
        for index in part.indexes:
            picture = part.dataset.pictures[index]
            # A picture without a second label file gets the name of one that is not there.
            labels = part.dataset.difficult_labels(index) or picture.with_name(f"{picture.stem}-nothing-difficult.txt")
            file.write(f"{written_path(labels, path.parent)}\n")
    return path


def write_description(path: Path, entries: Mapping[str, str], names: Sequence[str], comment: str) -> None:
    """Write the YAML file of a data set: its entries, such as ``train``, and the classes."""
    import yaml

    with atomic_write(path, "w") as file:
        file.write(f"# {comment}\n")
        # Quoted where YAML would take a name for something else.
        file.write(yaml.safe_dump(dict(entries), sort_keys=False, allow_unicode=True))
        listed = yaml.safe_dump(list(names), default_flow_style=True, width=10**6, allow_unicode=True)
        file.write(f"names: {listed}")
