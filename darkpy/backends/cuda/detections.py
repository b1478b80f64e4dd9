"""What all heads find, suppression included: kernels/detections.cu."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from darkpy.backends.base_heads import Decoding, DetectionSettings, GaussianDecode, RegionSettings
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.yolo import YoloOperations
from darkpy.boxes import Kept, Suppression, middle

#: Numbers of a row of results: picture, cell, class, probability, box.
ROW = 8


class Kind(IntEnum):
    """Of a head, by the numbers of ``enum Kind`` in kernels/found.cuh."""

    YOLO = 0
    GAUSSIAN_YOLO = 1
    REGION = 2
    REGION_TREE = 3
    DETECTION = 4


class HeadOutput(NamedTuple):
    """What the kernels know as ``struct HeadOutput``."""

    kind: Kind
    output: DeviceArray
    stride: int
    cells: int
    slots: int
    classes: int
    width: int
    height: int
    option: int
    anchors: DeviceArray
    parents: DeviceArray | None


class SuppressionOperations(YoloOperations):
    """All heads and pictures together; the host waits once, for what remains.

    There is room for so many candidates and results; where it does not do, it is made larger, and all is done again.
    """

    #: Pairs of a box and a class that are probable enough, of all pictures of a batch.
    candidates = 1 << 16
    #: Those that remain after suppression.
    results = 1 << 10

    def detections(
        self,
        outputs: Sequence[DeviceArray],
        decodings: Sequence[Decoding],
        shares: np.ndarray,
        thresh: float,
        suppression: Suppression,
    ) -> list[Kept]:
        """See :meth:`Backend.detections`; waits for the device, once unless the room must grow."""
        suppression.check()
        while True:
            table = self.to_host(self._detections(outputs, decodings, shares, thresh, suppression))
            candidates, remaining = int(table[0, :2].view(np.int64)[0]), int(table[0, 2:3].view(np.int32)[0])
            if candidates <= self.candidates and remaining <= self.results:
                return _by_picture(table[1 : 1 + remaining], len(shares))
            self.candidates = _room_for(candidates, self.candidates)
            self.results = _room_for(remaining, self.results)

    def _detections(
        self,
        outputs: Sequence[DeviceArray],
        decodings: Sequence[Decoding],
        shares: np.ndarray,
        thresh: float,
        suppression: Suppression,
    ) -> DeviceArray:
        pictures, classes = len(shares), decodings[0].classes
        parts, heads = self._heads(outputs, decodings, shares)
        ends = np.cumsum([0] + [head.cells for head in heads]).tolist()
        total, lists = ends[-1], pictures * classes
        counts, starts = self._zeros_for_now((lists,), np.int32), self.scratch((lists + 1,), np.int64)
        keys, boxes = self.scratch((self.candidates,), np.uint64), self.scratch((pictures * total, 4))
        rows = self.scratch((1 + self.results, ROW))
        for head, first in zip(heads, ends):
            self.launch(
                "detections", "detections_count", (-(-head.cells // THREADS), pictures), THREADS,
                *head, thresh, parts, first, total, counts, boxes,
            )  # fmt: skip
        self.launch("detections", "detections_begin", 1, THREADS, counts, lists, starts, rows)
        for head, first in zip(heads, ends):
            self.launch(
                "detections", "detections_list", (-(-head.cells // THREADS), pictures), THREADS,
                *head, thresh, first, starts, counts, keys, self.candidates,
            )  # fmt: skip
        exponent = -1.0 if suppression.exponent is None else suppression.exponent
        self.launch(
            "detections", "detections_suppress", (classes, pictures), THREADS,
            starts, keys, self.candidates, boxes, total, suppression.threshold, exponent, rows, self.results,
        )  # fmt: skip
        return rows

    def _heads(
        self, outputs: Sequence[DeviceArray], decodings: Sequence[Decoding], shares: np.ndarray
    ) -> tuple[DeviceArray, list[HeadOutput]]:
        """Where each picture lies in the input (n, 4), and all heads."""
        parts = []
        for across, down in np.asarray(shares).tolist():
            scale, offset = middle(across, down, np.dtype(np.float32))
            parts += [*scale[:2], *(offset / scale[:2])]
        pieces = [np.array(parts, np.float64), *map(_anchors, decodings)]
        ends = np.cumsum([len(piece) for piece in pieces]).tolist()
        device = self._doubles(np.concatenate(pieces))  # one upload
        own, *anchors = (device[end - len(piece) : end] for piece, end in zip(pieces, ends))
        return own, [self._head_output(*head) for head in zip(outputs, decodings, anchors)]

    def _head_output(self, output: DeviceArray, decoding: Decoding, anchors: DeviceArray) -> HeadOutput:
        height, width = output.shape[2:]
        parents = None
        if isinstance(decoding, DetectionSettings):
            kind, slots, option, height, width = Kind.DETECTION, decoding.num, int(decoding.sqrt), *2 * [decoding.side]
            output = self.in_order(output.reshape(len(output), -1))
            stride = output.shape[1]
        else:
            slots, stride = len(decoding.anchors), output.positions()[2]
            if isinstance(decoding, RegionSettings):
                kind, option = Kind.REGION, (decoding.classfix == -1) + 2 * decoding.softmax
                if len(decoding.tree.parents):
                    kind, parents = Kind.REGION_TREE, self.constant(decoding.tree.parents, np.int32)
            elif isinstance(decoding, GaussianDecode):
                kind, option = Kind.GAUSSIAN_YOLO, int(decoding.point)
            else:
                kind, option = Kind.YOLO, int(decoding.new_coords)
        cells = height * width * slots
        return HeadOutput(
            kind, output, stride, cells, slots, decoding.classes, width, height, option, anchors, parents
        )

    def _zeros_for_now(self, shape: Sequence[int], dtype: type) -> DeviceArray:
        """Zeros from the pool."""
        array = self.scratch(shape, dtype)
        self.fill(array, 0)
        return array


def _anchors(decoding: Decoding) -> np.ndarray:
    """Widths and heights: relative to the input, of [region] in cells; of [detection] none."""
    if isinstance(decoding, DetectionSettings):
        return np.empty(0)
    unit = (1, 1) if isinstance(decoding, RegionSettings) else (decoding.width, decoding.height)
    return np.ravel(decoding.anchors / unit)


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
