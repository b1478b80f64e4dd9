"""The samples a detector is trained with: a picture or several, changed, and their boxes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.data.augmentation import Augmentation, Picture
from darkpy.data.dataset import Dataset
from darkpy.data.pictures import read_picture
from darkpy.data.schedule import Schedule
from darkpy.errors import DataError, Problem

_IDENTITIES = 4000  # pictures, and objects on one of them, that are told apart in pairs of views (Darknet, data.c)


class Samples:
    """Sample ``number`` of a run, whoever asks for it and whenever.

    are_bytes: whether samples can be made as uint8, to be divided by 255.
    """

    are_bytes: ClassVar[bool] = True

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation,
        channels: int,
        seed: int,
        shuffle: bool,
        cache_bytes: int,
    ) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.channels = channels
        self.seed = seed
        self.shuffle = shuffle
        self.schedule = Schedule(len(dataset), 1, seed=seed, shuffle=shuffle)
        self._lock = threading.Lock()
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._cache_left = cache_bytes
        self._unusable: set[int] = set()
        self._problems: list[Problem] = []
        self._told: set[int] = set()

    def make(self, number: int, out: NDArray[Any]) -> tuple[NDArray[np.float32], tuple[int, ...]]:
        """Write sample ``number``, counted from the start of the run, to ``out`` (c, h, w), float32 or uint8.

        Returns its boxes and the indices of the pictures it is made of. The boxes are (n, 5), in a schedule with two
        views of every picture (n, 6): the last number is the same in both views of an object.
        """
        recipe = self.schedule.recipe(*divmod(number, self.schedule.batch))
        indices, pictures = zip(*(self._numbered(index) for index in recipe.indices))
        height, width = out.shape[1:]
        sample, boxes = self.augmentation.combine(pictures, width, height, recipe.chances, recipe.rng)
        if out.dtype == np.uint8:
            np.copyto(out, sample)
            return boxes, indices
        for plane, target in zip(cv2.split(sample.transpose(1, 2, 0)), out):
            np.divide(plane, np.float32(255), out=target)
        return boxes, indices

    def _numbered(self, index: int) -> tuple[int, Picture]:
        """A picture or the next one that can be used: its index, and itself with its boxes, numbered if need be."""
        index, image, boxes = self._usable(range(len(self.dataset)), index)
        if self.schedule.contrastive:
            # As Darknet (read_boxes): whole numbers that float32 can tell apart.
            identities = index % _IDENTITIES * _IDENTITIES + np.arange(len(boxes)) % _IDENTITIES
            boxes = np.column_stack([boxes, identities.astype(np.float32)])
        return index, (image, boxes)

    def take_problems(self) -> list[Problem]:
        """The problems found since the last call."""
        with self._lock:
            problems, self._problems = self._problems, []
        return problems

    def _order(self, epoch: int) -> NDArray[np.intp]:
        """The pictures of an epoch."""
        return self.schedule.order(epoch)

    def _usable(
        self, order: Sequence[int] | NDArray[np.intp], position: int
    ) -> tuple[int, NDArray[np.uint8], NDArray[np.float32]]:
        """Index, picture and boxes at a position of the order, or at the next one that can be used."""
        for step in range(len(order)):
            index = int(order[(position + step) % len(order)])
            if index in self._unusable:
                continue
            try:
                return index, self._picture(index), self._boxes(index)
            except DataError as error:
                with self._lock:
                    if index not in self._unusable:
                        self._unusable.add(index)
                        self._problems += error.problems
        raise DataError("none of its pictures can be used", where=self.dataset.name)

    def _picture(self, index: int) -> NDArray[np.uint8]:
        image = self._cache.get(index)
        if image is None:
            image = read_picture(self.dataset.pictures[index], self.channels)
            with self._lock:
                if image.nbytes <= self._cache_left and index not in self._cache:
                    self._cache[index] = image
                    self._cache_left -= image.nbytes
        return image

    def _boxes(self, index: int) -> NDArray[np.float32]:
        """The boxes to learn; their problems are told the first time."""
        labels = self.dataset.labels(index)
        if not labels.usable:
            raise DataError(problems=labels.problems)
        if labels.problems:
            with self._lock:
                if index not in self._told:
                    self._told.add(index)
                    self._problems += labels.problems
        return labels.boxes[~labels.difficult] if labels.difficult.any() else labels.boxes
