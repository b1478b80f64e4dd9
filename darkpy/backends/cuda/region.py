"""The [region] head: kernels/region.cu."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from darkpy.backends.base_heads import RegionSettings, split_placeless
from darkpy.backends.base_yolo import BOX_CHANNELS, CLASS, LossParts
from darkpy.backends.cuda.activations import ROWS
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.random import RandomOperations
from darkpy.backends.cuda.yolo import Objects, YoloOperations
from darkpy.backends.journal import Pending
from darkpy.backends.numpy.region import HALF
from darkpy.backends.numpy.yolo import summed_parts
from darkpy.backends.numpy.yolo_cells import TOTALS


class RegionOperations(YoloOperations, RandomOperations):
    """The same steps as in NumPy; each is a kernel."""

    def region_forward(self, x: DeviceArray, out: DeviceArray, settings: RegionSettings) -> None:
        """See :meth:`Backend.region_forward`."""
        pictures, _, height, width = x.shape
        slots, classes = len(settings.anchors), settings.classes
        starts, groups = None, 1
        if len(settings.tree.parents) or settings.softmax:
            first = settings.tree.starts if len(settings.tree.parents) else [0]
            starts, groups = self.constant([*first, classes], np.int32), len(first)
        warps = pictures * height * width * slots * groups
        self.launch(
            "region", "region_forward", self.blocks_for(warps, ROWS), THREADS,
            x, x.positions()[2], out, out.positions()[2], pictures, height * width, slots, classes, starts, groups,
        )  # fmt: skip

    def pack_region_objects(
        self, truth: Sequence[np.ndarray], settings: RegionSettings, room: Objects | None = None
    ) -> Objects:
        """See :meth:`Backend.pack_region_objects`."""
        return self.bring_objects(*split_placeless(truth, settings), room)

    def region_loss(
        self, output: DeviceArray, truth: Any, grad: DeviceArray, settings: RegionSettings
    ) -> Pending[LossParts]:
        """See :meth:`Backend.region_loss`."""
        if not isinstance(truth, Objects):
            truth = self.pack_region_objects(truth, settings)
        pictures, _, height, width = output.shape
        slots = len(settings.anchors)
        objects, starts, owners, shown = truth.arrays
        read, written = (output, output.positions()[2]), (grad, grad.positions()[2])
        head = self._region(settings, height, width)
        cells = height * width * slots
        blocks, teaching = (-(-cells // THREADS), pictures), -(-truth.capacity // THREADS)
        objectness, totals = self.scratch((math.prod(blocks), 1)), self.scratch((teaching, TOTALS))
        squares = self.scratch((self.blocks_for(pictures * cells, ROWS), 3))
        targets = self.scratch((truth.capacity,), np.int32)
        self.fill(grad, 0.0)
        self.launch(
            "region", "region_background", blocks, THREADS,
            *read, *written, objects, starts, shown, self.device_clock, settings.prior_until, *head, objectness,
        )  # fmt: skip
        if len(settings.tree.parents):
            self.launch("region", "region_teach_picture", pictures, THREADS, *read, *written, shown, *head)
        self.launch(
            "region", "region_targets", teaching, THREADS,
            *read, objects, starts, owners, pictures, *head, targets,
        )  # fmt: skip
        self.launch(
            "region", "region_teach", teaching, THREADS,
            *read, *written, objects, starts, owners, pictures, targets, *head, totals,
        )  # fmt: skip
        self.launch(
            "region", "region_squares", squares.shape[0], THREADS,
            *written, pictures * cells, slots, CLASS + settings.classes, squares,
        )  # fmt: skip

        def finish(sums: np.ndarray) -> LossParts:
            return summed_parts(sums[:3], sums[3 : 3 + TOTALS], float(sums[-1]) / (pictures * cells))

        return self.figures(finish, squares, totals, objectness)

    def region_boxes(
        self,
        output: DeviceArray,
        image: int,
        thresh: float,
        settings: RegionSettings,
        told: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.region_boxes`; waits for the device."""
        picture = output[image : image + 1]
        height, width = picture.shape[2:]
        slots, classes = len(settings.anchors), settings.classes
        cells = height * width * slots
        least = HALF if settings.classfix == -1 else -math.inf
        anchors = self.constant(settings.anchors, np.float64)
        common = (picture, picture.positions()[2], cells, slots, classes, width, height, anchors, thresh, least)
        blocks = -(-cells // THREADS)
        if not len(settings.tree.parents):
            found = self.scratch((cells, BOX_CHANNELS + classes))
            self.launch("region", "region_boxes", blocks, THREADS, *common, found)
            rows = self.to_host(found)
            return rows[:, :BOX_CHANNELS], np.ones(cells, rows.dtype), rows[:, BOX_CHANNELS:]
        columns = 2 if told is None else len(told)
        found, whole = self.scratch((cells, BOX_CHANNELS + columns)), self.scratch((cells, classes))
        parents = self.constant(settings.tree.parents, np.int32)
        wanted = None if told is None else self.constant(told, np.int32)
        self.launch(
            "region", "region_tree_boxes", blocks, THREADS, *common, parents, wanted, columns, whole, found
        )
        rows = self.to_host(found)
        boxes, probabilities = rows[:, :BOX_CHANNELS], rows[:, BOX_CHANNELS:]
        if told is None:
            chosen, probabilities = probabilities, np.zeros((cells, classes), rows.dtype)
            probabilities[np.arange(cells), chosen[:, 0].astype(np.intp)] = chosen[:, 1]
        return boxes, np.ones(cells, rows.dtype), probabilities

    def _region(self, settings: RegionSettings, height: int, width: int) -> tuple[DeviceArray, DeviceArray]:
        """What the kernels know as ``struct Region``: whole numbers, and others."""
        s = settings
        whole = [
            s.classes, len(s.anchors), width, height, s.classfix, s.rescore, s.bias_match, s.focal_loss,
            len(s.tree.parents) > 0,
        ]  # fmt: skip
        others = [s.coord_scale, s.object_scale, s.noobject_scale, s.class_scale, s.prior_scale, s.thresh]
        tree = (s.tree.parents, s.tree.first, s.tree.last)
        return (
            self.constant(np.concatenate([whole, *tree]), np.int32),
            self.constant([*others, *np.ravel(s.anchors)], np.float64),
        )
