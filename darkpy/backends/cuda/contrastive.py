"""The loss of [contrastive]: kernels/contrastive.cu. Which objects are compared, the host sees in the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkpy.backends.base_contrastive import Samples, find_samples
from darkpy.backends.base_heads import ContrastiveLoss
from darkpy.backends.cuda.activations import ROWS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.journal import JournalOperations
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import MemoryOperations
from darkpy.backends.journal import Pending

#: Samples of a mini-batch that there is room for at least.
FEWEST = 64

#: Numbers that the kernels know of a sample: ``struct Sample``.
COLUMNS = 5


class SamplesOnDevice:
    """The samples of a mini-batch on the device, with room for some more.

    capacity: how many there may be. What lies there changes with every mini-batch, where it lies does not.
    """

    def __init__(self, backend: MemoryOperations, capacity: int) -> None:
        self.capacity = capacity
        self.memory = backend.empty((1 + COLUMNS * capacity,), np.int32)

    def filled(self, samples: Samples, grid: tuple[int, int], pictures: int) -> np.ndarray:
        """The memory's contents for these samples; ``pictures`` follow each other in one step of time."""
        host = np.zeros(1 + COLUMNS * self.capacity, np.int32)
        picture, slot, row, column = samples.places.T
        height, width = grid
        # Identities may be large numbers; which are the same is all that counts.
        _, identities = np.unique(samples.labels, return_inverse=True)
        count = host[0] = len(samples.labels)
        numbers = [(picture * height + row) * width + column, slot, identities, samples.classes, picture // pictures]
        host[1 : 1 + COLUMNS * count] = np.stack(numbers, axis=1).ravel()
        return host


class ContrastiveOperations(JournalOperations):
    """A warp, or a block, for each sample."""

    def pack_samples(
        self,
        truth: Sequence[np.ndarray],
        height: int,
        width: int,
        settings: ContrastiveLoss,
        room: SamplesOnDevice | None = None,
    ) -> SamplesOnDevice:
        """See :meth:`Backend.pack_samples`."""
        samples = find_samples(truth, height, width, settings.head)
        # Not all objects become samples, but how many do should not decide how much memory is needed.
        most = sum(min(len(rows), settings.head.max_boxes) for rows in truth)
        if room is None or room.capacity < most:
            room = SamplesOnDevice(self, max(FEWEST, 1 << max(most - 1, 0).bit_length()))
        self.copy(room.filled(samples, (height, width), len(truth) // settings.time_steps), room.memory)
        return room

    def contrastive_loss(
        self, embeddings: DeviceArray, truth: Any, grad: DeviceArray, settings: ContrastiveLoss
    ) -> Pending[float]:
        """See :meth:`Backend.contrastive_loss`."""
        _, channels, height, width = embeddings.shape
        if not isinstance(truth, SamplesOnDevice):
            truth = self.pack_samples(truth, height, width, settings)
        capacity, size = truth.capacity, channels // len(settings.head.mask)
        arrays = (embeddings, embeddings.positions()[2])
        lengths, totals = self.scratch((capacity,), np.float64), self.scratch((capacity, 2), np.float64)
        blocks = -(-capacity // ROWS)
        squares = self.scratch((blocks, 1))
        self.fill(grad, 0.0)
        self.launch("contrastive", "contrastive_lengths", blocks, THREADS, *arrays, size, truth.memory, lengths)
        self.launch(
            "contrastive", "contrastive_totals", capacity, THREADS,
            *arrays, size, truth.memory, lengths, settings.temperature, totals,
        )  # fmt: skip
        self.launch(
            "contrastive", "contrastive_gradients", blocks, THREADS,
            *arrays, grad, grad.positions()[2], size, truth.memory, lengths, totals, settings.temperature,
            settings.cls_normalizer, settings.max_delta, settings.contrastive_neg_max, squares,
        )  # fmt: skip
        return self.figures(lambda sums: float(sums[0]), squares)
