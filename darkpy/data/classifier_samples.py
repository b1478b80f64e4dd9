"""The samples a classifier is trained with; :class:`~darkpy.data.loader.Loader` makes batches of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from darkpy.data.classifier_augmentation import ClassifierAugmentation, blend, smooth_truth
from darkpy.data.samples import Samples
from darkpy.data.workers import SAMPLE, generator


class ClassifierSamples(Samples):
    """Sample ``number`` of a run: one picture or a blend of several, and how much of each class is in it."""

    are_bytes = False  # blends are made of floats
    augmentation: ClassifierAugmentation  # type: ignore[assignment]  # the loader hands it through

    def make(self, number: int, out: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[int, ...]]:
        """Write sample ``number``, counted from the start of the run, to ``out`` (c, h, w).

        Returns its truth (classes,) and the indices of the pictures it is made of.
        """
        epoch, position = divmod(number, len(self.dataset))
        order = self._order(epoch)
        rng = generator(self.seed, SAMPLE, epoch, int(order[position]))
        kind = self.augmentation.choose_blend(rng)
        others = rng.integers(len(order), size=kind.pictures - 1).tolist()
        height, width = out.shape[1:]
        pictures, truths, indices = [], [], []
        for place in (position, *others):
            index, image, boxes = self._usable(order, place)
            pictures.append(self.augmentation.augment(image, width, height, rng))
            truths.append(
                smooth_truth(int(boxes[0, 0]), self.dataset.classes, self.augmentation.label_smooth_eps)
            )
            indices.append(index)
        truth = blend(kind, pictures, truths, out, rng)
        self.augmentation.maybe_blur(out, rng)
        return truth, tuple(indices)
