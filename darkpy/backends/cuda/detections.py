"""What the [yolo] heads find, suppression included: kernels/detections.cu."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from darkpy.backends.base_yolo import YoloDecode
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.memory import THREADS
from darkpy.backends.cuda.yolo import YoloOperations
from darkpy.boxes import Kept, Suppression, middle

#: Numbers of a row of results: picture, cell, class, probability, box.
ROW = 8


class SuppressionOperations(YoloOperations):
    """All heads and pictures together; the host waits once, for what remains.

    There is room for so many candidates and results; where it does not do, it is made larger, and all is done again.
    """

    #: Pairs of a box and a class that are probable enough, of all pictures of a batch.
    candidates = 1 << 16
    #: Those that remain after suppression.
    results = 1 << 10

    def yolo_detections(
        self,
        outputs: Sequence[DeviceArray],
        settings: Sequence[YoloDecode],
        shares: np.ndarray,
        thresh: float,
        suppression: Suppression,
    ) -> list[Kept]:
        """See :meth:`Backend.yolo_detections`; waits for the device, once unless the room must grow."""
        suppression.check()
        while True:
            table = self.to_host(self._detections(outputs, settings, shares, thresh, suppression))
            candidates, remaining = int(table[0, :2].view(np.int64)[0]), int(table[0, 2:3].view(np.int32)[0])
            if candidates <= self.candidates and remaining <= self.results:
                return _by_picture(table[1 : 1 + remaining], len(shares))
            self.candidates = _room_for(candidates, self.candidates)
            self.results = _room_for(remaining, self.results)

    def _detections(
        self,
        outputs: Sequence[DeviceArray],
        settings: Sequence[YoloDecode],
        shares: np.ndarray,
        thresh: float,
        suppression: Suppression,
    ) -> DeviceArray:
        pictures, classes = len(shares), settings[0].classes
        heads = [
            (output, output.positions()[2], len(head.anchors) * output.shape[2] * output.shape[3], len(head.anchors))
            for output, head in zip(outputs, settings)
        ]
        ends = np.cumsum([0] + [cells for *_, cells, _ in heads]).tolist()
        total, lists = ends[-1], pictures * classes
        counts, starts = self._zeros_for_now((lists,), np.int32), self.scratch((lists + 1,), np.int64)
        keys, boxes = self.scratch((self.candidates,), np.uint64), self.scratch((pictures * total, 4))
        rows = self.scratch((1 + self.results, ROW))
        parts, *anchors = self._constants(settings, shares)
        for head, decode, first, own_anchors in zip(heads, settings, ends, anchors):
            height, width = head[0].shape[2:]
            self.launch(
                "detections", "detections_count", (-(-head[2] // THREADS), pictures), THREADS,
                *head, classes, thresh, width, height, decode.new_coords, own_anchors, parts, first, total, counts,
                boxes,
            )  # fmt: skip
        self.launch("detections", "detections_begin", 1, THREADS, counts, lists, starts, rows)
        for head, first in zip(heads, ends):
            self.launch(
                "detections", "detections_list", (-(-head[2] // THREADS), pictures), THREADS,
                *head, classes, thresh, first, starts, counts, keys, self.candidates,
            )  # fmt: skip
        exponent = -1.0 if suppression.exponent is None else suppression.exponent
        self.launch(
            "detections", "detections_suppress", (classes, pictures), THREADS,
            starts, keys, self.candidates, boxes, total, suppression.threshold, exponent, rows, self.results,
        )  # fmt: skip
        return rows

    def _constants(self, settings: Sequence[YoloDecode], shares: np.ndarray) -> list[DeviceArray]:
        """Where each picture lies in the input (n, 4), and each head's anchors relative to it: one upload."""
        parts = []
        for across, down in np.asarray(shares).tolist():
            scale, offset = middle(across, down, np.dtype(np.float32))
            parts += [*scale[:2], *(offset / scale[:2])]
        pieces = [np.array(parts, np.float64), *(np.ravel(s.anchors / (s.width, s.height)) for s in settings)]
        ends = np.cumsum([len(piece) for piece in pieces]).tolist()
        device = self._doubles(np.concatenate(pieces))
        return [device[end - len(piece) : end] for piece, end in zip(pieces, ends)]

    def _zeros_for_now(self, shape: Sequence[int], dtype: type) -> DeviceArray:
        """Zeros from the pool."""
        array = self.scratch(shape, dtype)
        self.fill(array, 0)
        return array


def _room_for(needed: int, there: int) -> int:
    """The next power of two, where there is not enough room."""
    return there if needed <= there else 1 << (needed - 1).bit_length()


def _by_picture(rows: np.ndarray, pictures: int) -> list[Kept]:
    """The results (m, 8), which come in any order, in that of the contract."""
    whole = rows.view(np.int32)
    order = np.lexsort((whole[:, 2], whole[:, 1], whole[:, 0]))
    rows, whole = rows[order], whole[order]
    ends = np.searchsorted(whole[:, 0], np.arange(pictures + 1))
    return [Kept(rows[a:b, 4:], whole[a:b, 2].astype(np.intp), rows[a:b, 3]) for a, b in pairwise(ends)]
