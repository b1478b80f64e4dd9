"""Which pictures make which sample: epochs, mixed pictures, views of one picture, sequences of frames.

All of it is a function of the seed, the iteration and the place in the batch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpy.config.net import NetOptions
from darkpy.data.augmentation import MOST_PICTURES, Chances
from darkpy.data.workers import MIX, ORDER, SAMPLE, SEQUENCE, generator

_PICTURES = {0: 1, 1: 2, 2: 1, 3: MOST_PICTURES, 4: MOST_PICTURES}
"""Pictures of a detector's sample by :attr:`NetOptions.mixing`; cutmix is for classifiers."""


@dataclass(frozen=True)
class Recipe:
    """What one sample is made of.

    ``indices``: one picture, two to blend or four to join. ``chances``: how they are changed. ``rng``: for what is left
    to chance beyond that.
    """

    indices: tuple[int, ...]
    chances: Chances
    rng: np.random.Generator


class Schedule:
    """The samples of a run on one data set.

    Without ``options`` every sample is one picture. With them they are grouped as Darknet's loader does (data.c,
    load_data_detection, get_sequential_paths):

    - ``mixup`` and ``mosaic`` add one or three pictures chosen at random to each sample, but in every second batch, on
      average, to none, and to none in the last ``close_mosaic`` iterations;
    - with ``contrastive`` two neighbours in a mini-batch are views of the same pictures;
    - with ``track`` a mini-batch holds sequences of ``time_steps`` frames, the first of each sequence before the second
      of each. A sequence begins anywhere in the list, takes every picture or skips up to ``augment_speed - 1`` at a
      time, begins again at the end of the list, and is changed alike in all its frames. It goes on in the next
      mini-batch where ``sequential_subdivisions`` say so.
    """

    def __init__(
        self, count: int, batch: int, *, seed: int = 0, shuffle: bool = True, options: NetOptions | None = None
    ) -> None:
        """Plan for ``count`` pictures in batches of ``batch`` samples, all time steps included.

        With ``shuffle`` they come in a new order in every epoch, otherwise in that of the data set.
        """
        self.count = count
        self.batch = batch
        self.seed = seed
        self.shuffle = shuffle
        self.options = options
        self.track = options is not None and options.track
        self.contrastive = options is not None and options.contrastive
        self._pictures = _PICTURES[options.mixing] if options is not None else 1
        mini_batch = batch // options.subdivisions if options is not None else batch
        self._mini_batch = mini_batch
        self._columns = mini_batch // options.time_steps if options is not None and self.track else mini_batch
        self._subjects = (self._columns + 1) // 2 if self.contrastive else self._columns
        self._orders: dict[int, NDArray[np.intp]] = {}
        self._lock = threading.Lock()

    def recipe(self, iteration: int, place: int) -> Recipe:
        """What the sample at a place of a batch is made of. Any thread may ask."""
        subdivision, inside = divmod(place, self._mini_batch)
        step, column = divmod(inside, self._columns)
        subject, view = divmod(column, 2) if self.contrastive else (column, 0)
        if self.track:
            return self._frame(iteration, subdivision, step, subject, view)
        first = (iteration * (self.batch // self._mini_batch) + subdivision) * self._subjects
        return self._still(iteration, first + subject, view)

    def pictures(self, iteration: int) -> int:
        """Of how many pictures each sample of an iteration is made."""
        if self._pictures == 1:
            return 1
        assert self.options is not None
        is_near_end = self.options.close_mosaic and iteration >= self.options.max_batches - self.options.close_mosaic
        return 1 if is_near_end or generator(self.seed, MIX, iteration).random() < 0.5 else self._pictures

    def _still(self, iteration: int, number: int, view: int) -> Recipe:
        """The recipe for a view of picture ``number``, counted from the start of the run."""
        epoch, position = divmod(number, self.count)
        index = int(self.order(epoch)[position])
        seed = (self.seed, SAMPLE, epoch, index)
        rng = generator(*seed)
        chances = Chances.draw(rng)
        if view:
            rng = generator(*seed, view)
            chances = self._second(rng, chances)
        more = self.pictures(iteration) - 1
        others = generator(*seed, MIX).integers(self.count, size=more).tolist() if more else ()
        return Recipe((index, *others), chances, rng)

    def _frame(self, iteration: int, subdivision: int, step: int, subject: int, view: int) -> Recipe:
        """The recipe for a view of one frame of a sequence."""
        assert self.options is not None
        chain, link = divmod(subdivision, self.options.sequence(iteration))
        frame = link * self.options.time_steps + step
        seed = (self.seed, SEQUENCE, iteration, chain, subject)
        rng = generator(*seed)
        chances = Chances.draw(rng)
        if view:
            chances = self._second(generator(*seed, view), chances)
        speed = rng.integers(1, self.options.augment_speed + 1)
        starts = rng.integers(self.count, size=self.pictures(iteration))
        indices = (starts + frame * speed) % self.count
        return Recipe(tuple(indices.tolist()), chances, generator(*seed, frame, view))

    def _second(self, rng: np.random.Generator, first: Chances) -> Chances:
        """The chances of the second view of a picture, given those of the first."""
        assert self.options is not None
        return Chances.draw(rng).like(
            first,
            jitter_and_flip=not self.options.contrastive_jit_flip,
            colours=not self.options.contrastive_color,
        )

    def order(self, epoch: int) -> NDArray[np.intp]:
        """The pictures of an epoch."""
        if not self.shuffle:
            epoch = 0
        with self._lock:
            if epoch not in self._orders:
                order = generator(self.seed, ORDER, epoch).permutation(self.count)
                # Batches of two epochs can be in the making at a time, of more only if epochs are very short.
                self._orders = {key: kept for key, kept in self._orders.items() if key >= epoch - 1}
                self._orders[epoch] = order if self.shuffle else np.arange(self.count)
            return self._orders[epoch]
