"""Dividing a data set so that every part has its share of each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from darkpy.data.coco import CocoDataset
from darkpy.data.dataset import Dataset
from darkpy.data.workers import SPLIT, generator
from darkpy.errors import DataError, InputError


def class_counts(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> NDArray[np.int64]:
    """Int (pictures, classes): how many objects of each class are on each picture, difficult ones included."""
    counts = np.zeros((len(dataset), dataset.classes), np.int64)
    for index in range(len(dataset)):
        counts[index] = np.bincount(dataset.boxes(index)[:, 0].astype(np.int64), minlength=dataset.classes)
        if progress is not None:
            progress(index + 1, len(dataset))
    return counts


def split(counts: NDArray[np.int64], shares: Mapping[str, float], seed: int = 0) -> dict[str, list[int]]:
    """Divide pictures into parts, each with its share of the pictures and of the objects of every class.

    The rarest class is dealt out first: each of its pictures goes to the part that lacks most of it, and of equals to
    the one that lacks most pictures (K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-Label
    Data", 2011, with objects counted instead of pictures).

    Args:
        counts: (pictures, classes), see :func:`class_counts`.
        shares: of each part, greater than 0; together 1.
        seed: the same seed gives the same parts.

    Returns:
        The indexes of each part's pictures, ascending.

    Raises:
        InputError: shares that make no sense, or fewer pictures than parts.
    """
    _check(shares, len(counts))
    order = generator(seed, SPLIT).permutation(len(counts))
    share = np.array(list(shares.values()))
    wanted_pictures = share * len(counts)
    wanted = np.outer(share, counts.sum(axis=0))
    part_of = np.full(len(counts), -1)

    def deal(picture: int, lack: NDArray[np.float64]) -> None:
        # Rounding keeps sums of shares from deciding what is equal.
        best = np.lexsort((-np.round(wanted_pictures, 6), -np.round(lack, 6)))[0]
        part_of[picture] = best
        wanted[best] -= counts[picture]
        wanted_pictures[best] -= 1

    while len(rest := order[part_of[order] < 0]):
        present = (counts[rest] > 0).sum(axis=0)
        if not present.any():
            for picture in rest.tolist():
                deal(picture, wanted_pictures)
            break
        rarest = int(np.argmin(np.where(present > 0, present, len(counts) + 1)))
        for picture in rest[counts[rest, rarest] > 0].tolist():
            deal(picture, wanted[:, rarest])
    _fill_empty(part_of, len(shares))
    return {name: np.flatnonzero(part_of == place).tolist() for place, name in enumerate(shares)}


def _check(shares: Mapping[str, float], pictures: int) -> None:
    if any(value <= 0 for value in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        told = ", ".join(f"{name} {value:g}" for name, value in shares.items())
        raise InputError(f"the shares must be above 0, and 1 in all; they are {told}")
    if pictures < len(shares):
        raise DataError(f"{pictures} pictures cannot be divided into {len(shares)} parts")


def _fill_empty(part_of: NDArray[np.intp], parts: int) -> None:
    """Of very few pictures a part may have got none: it gets one of the largest part's."""
    for place in range(parts):
        sizes = np.bincount(part_of, minlength=parts)
        if sizes[place] == 0:
            part_of[np.flatnonzero(part_of == int(np.argmax(sizes)))[-1]] = place


def pooled(datasets: Sequence[Dataset]) -> Dataset:
    """One data set with the pictures of several, each once.

    Raises:
        DataError: they are json files of COCO's form, of which there can be only one.
    """
    if len(datasets) == 1:
        return datasets[0]
    first = datasets[0]
    files = [str(dataset.path) for dataset in datasets if isinstance(dataset, CocoDataset)]
    if files:
        raise DataError(f"has several json files; name the one to divide: {', '.join(files)}", where=first.name)
    pictures = list(dict.fromkeys(picture for dataset in datasets for picture in dataset.pictures))
    difficult = {
        dataset.pictures[index]: labels
        for dataset in datasets
        for index in range(len(dataset))
        if (labels := dataset.difficult_labels(index)) is not None
    }
    problems = [problem for dataset in datasets for problem in dataset.problems]
    return Dataset(
        first.name, first.names, pictures, voc=first.kind == "voc", difficult=difficult, problems=problems,
        notes=first.notes,
    )  # fmt: skip
