"""The [yolo] head: kernels/yolo.cu."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from darkpy.backends.base_yolo import CLASS, LossParts, PackedTruth, YoloDecode, YoloLoss, pack_truth
from darkpy.backends.cuda.activations import ROWS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.journal import JournalOperations
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import MemoryOperations
from darkpy.backends.journal import Pending
from darkpy.backends.numpy.yolo import loss_parts
from darkpy.backends.numpy.yolo_cells import TOTALS

#: Objects of a mini-batch that there is room for at least.
FEWEST = 64


class Objects:
    """The objects of a mini-batch on the device, with room for some more.

    capacity: how many there may be. What lies there changes with every mini-batch, where it lies does not.
    """

    def __init__(self, backend: MemoryOperations, pictures: int, capacity: int) -> None:
        self.pictures = pictures
        self.capacity = capacity
        # The rows, where those of each picture begin, whose each is, and what pictures show somewhere, one after the
        # other: one copy brings all.
        self.lengths = [5 * capacity, pictures + 1, capacity, pictures]
        self.memory = backend.empty((sum(self.lengths),), np.int32)

    @property
    def arrays(self) -> list[DeviceArray]:
        """Rows (class, centre x, centre y, width, height), starts, pictures, the class that each picture shows."""
        ends = np.cumsum(self.lengths).tolist()
        rows, *others = (self.memory[end - length : end] for end, length in zip(ends, self.lengths))
        return [rows.view(np.float32), *others]

    def filled(self, truth: PackedTruth, shown: np.ndarray | int) -> np.ndarray:
        """The memory's contents for these objects, and classes that pictures show; beyond them it has zeros."""
        host = np.zeros(sum(self.lengths), np.int32)
        rows, starts, owners, classes = np.split(host, np.cumsum(self.lengths)[:3])
        classes[:] = shown
        count = len(truth.rows)
        rows[: 5 * count] = truth.rows.ravel().view(np.int32)
        starts[:] = truth.starts
        owners[:count] = np.repeat(np.arange(self.pictures, dtype=np.int32), np.diff(truth.starts))
        return host


class YoloOperations(JournalOperations):
    """The same steps as in NumPy; each is a kernel."""

    def yolo_forward(
        self,
        x: DeviceArray,
        out: DeviceArray,
        anchors_in_mask: int,
        classes: int,
        scale_x_y: float,
        new_coords: bool,
    ) -> None:
        """See :meth:`Backend.yolo_forward`."""
        grid, block, rows, columns, *strides, by_four = self.over_channels(x, out)
        self.launch(
            "yolo", "yolo_forward", grid, block,
            x, strides[0], out, strides[1], rows, columns, by_four, CLASS + classes, scale_x_y, new_coords,
        )  # fmt: skip

    def pack_objects(
        self, truth: Sequence[np.ndarray], classes: int, max_boxes: int, room: Objects | None = None
    ) -> Objects:
        """See :meth:`Backend.pack_objects`."""
        return self.bring_objects(pack_truth(truth, classes, max_boxes), -1, room)

    def bring_objects(self, packed: PackedTruth, shown: np.ndarray | int, room: Objects | None) -> Objects:
        """Objects on the device; shown: the class that a picture shows somewhere, -1 for none (see split_placeless)."""
        pictures, count = len(packed.starts) - 1, len(packed.rows)
        if room is None or room.pictures != pictures or room.capacity < count:
            room = Objects(self, pictures, max(FEWEST, 1 << (count - 1).bit_length() if count else 0))
        self.copy(room.filled(packed, shown), room.memory)
        return room

    def yolo_loss(
        self, output: DeviceArray, truth: Any, grad: DeviceArray, settings: YoloLoss
    ) -> Pending[LossParts]:
        """See :meth:`Backend.yolo_loss`."""
        finish = partial(loss_parts, settings=settings)
        return self.anchor_loss("yolo", output, truth, grad, settings, finish)

    def anchor_loss(
        self,
        kind: str,
        output: DeviceArray,
        truth: Any,
        grad: DeviceArray,
        settings: YoloLoss,
        finish: Callable[[np.ndarray, np.ndarray, float], LossParts],
        numbers: Sequence[int] = (),
        constants: Sequence[float] = (),
    ) -> Pending[LossParts]:
        """The loss of a ``kind`` of head by the four kernels that every kind has under its own name.

        numbers, constants: what the kind depends on beside. finish: what makes a loss of the sums of squares, of
        TOTALS, and of the mean objectness.
        """
        if not isinstance(truth, Objects):
            truth = self.pack_objects(truth, settings.classes, settings.max_boxes)
        pictures, _, height, width = output.shape
        slots = len(settings.mask)
        objects, starts, owners, _ = truth.arrays
        arrays = (output, output.positions()[2], grad, grad.positions()[2])
        head = self._head(settings, height, width, numbers, constants)
        cells = pictures * height * width * slots
        blocks = (-(-height * width * slots // THREADS), pictures)
        teaching = -(-truth.capacity * slots // THREADS)
        objectness = self.scratch((blocks[0] * blocks[1], 1))
        totals = self.scratch((teaching, TOTALS))
        squares = self.scratch((self.blocks_for(cells, ROWS), 3))
        targets = self.scratch((truth.capacity * slots,), np.int32)
        self.fill(grad, 0.0)
        self.launch(kind, f"{kind}_background", blocks, THREADS, *arrays, objects, starts, *head, objectness)
        self.launch(kind, f"{kind}_targets", teaching, THREADS, objects, starts, pictures, *head, targets)
        self.launch(
            kind, f"{kind}_teach", teaching, THREADS,
            *arrays, objects, starts, owners, pictures, targets, *head, totals,
        )  # fmt: skip
        self.launch(kind, f"{kind}_squares", squares.shape[0], THREADS, *arrays[2:], cells, *head, squares)
        return self.figures(
            lambda sums: finish(sums[:3], sums[3 : 3 + TOTALS], float(sums[-1]) / cells), squares, totals, objectness
        )

    def yolo_boxes(
        self, output: DeviceArray, image: int, thresh: float, settings: YoloDecode
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.yolo_boxes`; waits for the device."""
        return self.anchor_boxes("yolo", output[image : image + 1], thresh, settings, settings.new_coords)

    def anchor_boxes(
        self, kind: str, picture: DeviceArray, thresh: float, settings: YoloDecode, number: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The boxes of one picture by the two kernels that every kind of head has; number: what they depend on beside.

        Waits for the device.
        """
        height, width = picture.shape[2:]
        slots = len(settings.anchors)
        cells, channels = height * width * slots, picture.shape[1] // slots
        blocks = -(-cells // THREADS)
        counts, found = self.scratch((blocks,), np.int32), self.scratch((cells, CLASS + settings.classes))
        anchors = self._doubles(settings.anchors / (settings.width, settings.height))
        common = (picture, picture.positions()[2], cells, slots, channels, thresh, counts)
        self.launch(kind, f"{kind}_count", blocks, THREADS, *common)
        self.launch(kind, f"{kind}_pick", blocks, THREADS, *common, anchors, width, height, number, found)
        rows = self.to_host(found[: int(self.to_host(counts).sum())])
        return rows[:, :4], rows[:, 4], rows[:, CLASS:]

    def _head(
        self, settings: YoloLoss, height: int, width: int, numbers: Sequence[int], constants: Sequence[float]
    ) -> tuple[DeviceArray, DeviceArray]:
        """What the kernels know as ``struct Head``: whole numbers, and others."""
        s = settings
        whole = [
            s.classes, len(s.mask), len(s.anchors), width, height, s.iou_loss, s.iou_thresh_kind, s.new_coords,
            s.objectness_smooth, s.focal_loss, *s.mask, *numbers,
        ]  # fmt: skip
        others = [
            s.ignore_thresh, s.truth_thresh, s.iou_thresh, s.iou_normalizer, s.obj_normalizer, s.max_delta,
            s.label_smooth_eps, *np.ravel(s.anchors / (s.width, s.height)), *s.class_multipliers, *s.class_factors,
            *constants,
        ]  # fmt: skip
        return self.constant(whole, np.int32), self.constant(others, np.float64)

    def _doubles(self, values: Any) -> DeviceArray:
        """In double precision on the device."""
        host = np.asarray(values, np.float64)
        out = self.scratch(host.shape, np.float64)
        self.copy(host, out)
        return out
