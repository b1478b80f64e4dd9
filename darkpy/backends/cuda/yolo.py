"""The [yolo] head: kernels/yolo.cu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkpy.backends.base_yolo import CLASS, LossParts, YoloDecode, YoloLoss, pack_truth
from darkpy.backends.cuda.activations import ROWS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.memory import THREADS, MemoryOperations
from darkpy.backends.numpy.yolo import loss_parts
from darkpy.backends.numpy.yolo_cells import TOTALS


class YoloOperations(MemoryOperations):
    """The same steps as in NumPy; each is a kernel, and the host waits for the sums alone."""

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

    def yolo_loss(
        self, output: DeviceArray, truth: Sequence[Any], grad: DeviceArray, settings: YoloLoss
    ) -> LossParts:
        """See :meth:`Backend.yolo_loss`; waits for the device."""
        packed = pack_truth(truth, settings.classes, settings.max_boxes)
        pictures, _, height, width = output.shape
        slots, count = len(settings.mask), len(packed.rows)
        objects, starts = self.asarray(packed.rows), self.asarray(packed.starts.astype(np.int32))
        arrays = (output, output.positions()[2], grad, grad.positions()[2])
        head = self._head(settings, height, width)
        cells = pictures * height * width * slots
        blocks = (-(-height * width * slots // THREADS), pictures)
        teaching = -(-count * slots // THREADS)
        adding = self.blocks_for(cells, ROWS)
        # Each block's share of the sums, of all kernels one after the other.
        ends = np.cumsum([blocks[0] * blocks[1], TOTALS * teaching, 3 * adding])
        shares = self.scratch((int(ends[-1]),))
        self.fill(grad, 0.0)
        self.launch("yolo", "yolo_background", blocks, THREADS, *arrays, objects, starts, *head, shares)
        if count:
            targets = self.scratch((count * slots,), np.int32)
            owners = self.asarray(np.repeat(np.arange(pictures, dtype=np.int32), np.diff(packed.starts)))
            self.launch("yolo", "yolo_targets", teaching, THREADS, objects, count, *head, targets)
            self.launch(
                "yolo", "yolo_teach", teaching, THREADS,
                *arrays, objects, starts, owners, count, targets, *head, shares[ends[0] : ends[1]],
            )  # fmt: skip
        self.launch("yolo", "yolo_squares", adding, THREADS, *arrays[2:], cells, *head, shares[ends[1] :])
        objectness, totals, squares = np.split(self.to_host(shares).astype(np.float64), ends[:2])
        return loss_parts(
            squares.reshape(-1, 3).sum(axis=0),
            totals.reshape(-1, TOTALS).sum(axis=0),
            float(objectness.sum()) / cells,
            settings,
        )

    def yolo_boxes(
        self, output: DeviceArray, image: int, thresh: float, settings: YoloDecode
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.yolo_boxes`; waits for the device."""
        picture = output[image : image + 1]
        height, width = picture.shape[2:]
        slots, channels = len(settings.anchors), CLASS + settings.classes
        cells = height * width * slots
        blocks = -(-cells // THREADS)
        counts, found = self.scratch((blocks,), np.int32), self.scratch((cells, channels))
        anchors = self._doubles(settings.anchors / (settings.width, settings.height))
        common = (picture, picture.positions()[2], cells, slots, channels, thresh, counts)
        self.launch("yolo", "yolo_count", blocks, THREADS, *common)
        self.launch("yolo", "yolo_pick", blocks, THREADS, *common, anchors, width, height, settings.new_coords, found)
        rows = self.to_host(found[: int(self.to_host(counts).sum())])
        return rows[:, :4], rows[:, 4], rows[:, CLASS:]

    def _head(self, settings: YoloLoss, height: int, width: int) -> tuple[DeviceArray, DeviceArray]:
        """What the kernels know as ``struct Head``: whole numbers, and others."""
        s = settings
        numbers = [
            s.classes, len(s.mask), len(s.anchors), width, height, s.iou_loss, s.iou_thresh_kind, s.new_coords,
            s.objectness_smooth, s.focal_loss, *s.mask,
        ]  # fmt: skip
        constants = [
            s.ignore_thresh, s.truth_thresh, s.iou_thresh, s.iou_normalizer, s.obj_normalizer, s.max_delta,
            s.label_smooth_eps, *np.ravel(s.anchors / (s.width, s.height)), *s.class_multipliers, *s.class_factors,
        ]  # fmt: skip
        return self.asarray(np.array(numbers, np.int32)), self._doubles(constants)

    def _doubles(self, values: Any) -> DeviceArray:
        """In double precision on the device."""
        host = np.asarray(values, np.float64)
        out = self.scratch(host.shape, np.float64)
        self.copy(host, out)
        return out
