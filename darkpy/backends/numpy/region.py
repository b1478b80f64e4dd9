"""The YOLOv2 head: decoding, loss with its gradient, and boxes (Darknet: region_layer.c; equal numbers are meant).

The output is kept cell by cell, ``(n, h, w, anchor, 5 + classes)``, as Darknet keeps it; the gradient is that of the
head's input and has the input's order. :func:`cells_as_planes` shows the output with the axes of :mod:`.yolo`, and so
the steps are written; those of single objects are in :mod:`.region_cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkpy.backends.base_heads import ClassTree, RegionSettings, RegionTruth, split_placeless
from darkpy.backends.base_yolo import BOX_CHANNELS, CLASS, OBJECTNESS, LossParts
from darkpy.backends.numpy.region_cells import assign_objects, teach_class, teach_fitting_cells
from darkpy.backends.numpy.softmax import SoftmaxOperations
from darkpy.backends.numpy.yolo import (
    YoloOperations,
    logistic_in_place,
    split_anchors,
    summed_parts,
)
from darkpy.backends.numpy.yolo_cells import TOTALS

HALF = 0.5
"""What a class and all its parents together must be more probable than (get_region_boxes)."""


class RegionOperations(YoloOperations, SoftmaxOperations):
    """The operations of [region]; a faster backend replaces the steps of single objects."""

    def region_forward(self, x: np.ndarray, out: np.ndarray, settings: RegionSettings) -> None:
        """See :meth:`Backend.region_forward`."""
        cells = cells_as_planes(out, settings)
        np.copyto(cells, split_anchors(x, len(settings.anchors), settings.classes))
        logistic_in_place(cells[:, :, OBJECTNESS])
        classes = split_cells(out, settings)[..., CLASS:]
        if len(settings.tree.parents):
            self.grouped_softmax_forward(classes, classes, settings.tree.starts, 1.0)
        elif settings.softmax:
            self.softmax_forward(classes, classes, 1.0)

    def region_loss(
        self,
        output: np.ndarray,
        truth: RegionTruth | Sequence[np.ndarray],
        grad: np.ndarray,
        settings: RegionSettings,
    ) -> LossParts:
        """See :meth:`Backend.region_loss`.

        Every box learns that it sees nothing unless it fits an object, and to stay near its anchor while the network
        is young; then every object teaches the anchor of its cell whose shape fits best, whatever that learned before.
        ``grad`` is the negative of Darknet's delta.
        """
        packed, shown = truth if isinstance(truth, RegionTruth) else split_placeless(truth, settings)
        output = cells_as_planes(output, settings)
        grad = split_anchors(grad, len(settings.anchors), settings.classes)
        grad.fill(0)
        boxes = region_boxes(output, settings)
        best_iou, best_truth = self._best_objects(boxes, packed)
        for picture in np.flatnonzero(shown >= 0):
            teach_picture(output[picture : picture + 1], grad[picture : picture + 1], shown[picture], settings)
        prior_scale = settings.prior_scale if self.clock < settings.prior_until else 0.0
        for picture in np.flatnonzero(shown < 0):
            teach_background(output[picture], best_iou[picture], grad[picture], prior_scale, settings)
        if settings.classfix > 0:
            cells = np.argwhere(best_iou > settings.thresh)
            self._region_fitting(output, packed.rows, grad, cells, best_truth, settings)
        totals = np.zeros(TOTALS)
        self._region_assign(output, boxes, packed.rows, packed.starts, grad, settings, totals)
        return summed_parts(self._yolo_squares(grad), totals, float(output[:, :, OBJECTNESS].mean()))

    def region_boxes(
        self,
        output: np.ndarray,
        image: int,
        thresh: float,
        settings: RegionSettings,
        told: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.region_boxes`; cell by cell, row-major, and within a cell anchor by anchor."""
        picture = output[image : image + 1]
        boxes = np.moveaxis(region_boxes(cells_as_planes(picture, settings), settings)[0], 1, -1)
        boxes = np.ascontiguousarray(np.moveaxis(boxes, 0, 2)).reshape(-1, BOX_CHANNELS)
        values = split_cells(picture, settings).reshape(len(boxes), -1)
        objectness, classes = values[:, OBJECTNESS], values[:, CLASS:]
        if settings.classfix == -1:
            objectness = np.where(objectness < HALF, 0, objectness)
        if len(settings.tree.parents):
            sure = objectness > thresh
            whole = whole_probabilities(classes[sure], settings.tree)
            found = only_lowest(whole) if told is None else over(objectness[sure, None] * whole[:, told], thresh)
            probabilities = np.zeros((len(boxes), found.shape[1]), classes.dtype)
            probabilities[sure] = found
        else:
            probabilities = over(objectness[:, None] * classes, thresh)
        return boxes, np.ones(len(boxes), output.dtype), probabilities

    @staticmethod
    def _region_fitting(*arguments: Any) -> None:
        teach_fitting_cells(*arguments)

    @staticmethod
    def _region_assign(*arguments: Any) -> None:
        assign_objects(*arguments)


def split_cells(output: np.ndarray, settings: RegionSettings) -> np.ndarray:
    """A head's output, an array of (n, c, h, w) values in the order of cells, as a view (n, h, w, a, 5 + classes)."""
    n, _, height, width = output.shape
    return output.reshape(n, height, width, len(settings.anchors), CLASS + settings.classes)


def cells_as_planes(output: np.ndarray, settings: RegionSettings) -> np.ndarray:
    """The same as a view with the axes of :mod:`.yolo`: (n, a, 5 + classes, h, w)."""
    return split_cells(output, settings).transpose(0, 3, 4, 1, 2)


def region_boxes(output: np.ndarray, settings: RegionSettings) -> np.ndarray:
    """Boxes (n, a, 4, h, w), relative to the picture, of an output (n, a, 5 + classes, h, w)."""
    height, width = output.shape[3:]
    boxes = np.array(output[:, :, :BOX_CHANNELS], order="C")
    logistic_in_place(boxes[:, :, :2])
    boxes[:, :, 0] += np.arange(width, dtype=boxes.dtype)
    boxes[:, :, 1] += np.arange(height, dtype=boxes.dtype)[:, None]
    with np.errstate(over="ignore"):
        np.exp(boxes[:, :, 2:], out=boxes[:, :, 2:])
        boxes[:, :, 2:] *= settings.anchors.astype(boxes.dtype)[:, :, None, None]
    boxes[:, :, 0::2] /= width
    boxes[:, :, 1::2] /= height
    return boxes


def teach_background(
    output: np.ndarray, best_iou: np.ndarray, grad: np.ndarray, prior_scale: float, settings: RegionSettings
) -> None:
    """What every box of one picture learns, output and grad (a, 5 + classes, h, w), before the objects teach theirs.

    With ``classfix=-1`` the objectness learns how well the box fits any object.
    """
    objectness, gradient = output[:, OBJECTNESS], grad[:, OBJECTNESS]
    goal = best_iou if settings.classfix == -1 else np.zeros_like(best_iou)
    gradient[...] = settings.noobject_scale * (objectness - goal) * objectness * (1 - objectness)
    if settings.classfix != -1:
        gradient[best_iou > settings.thresh] = 0
    if prior_scale:
        centres = output[:, :2].copy()
        logistic_in_place(centres)
        grad[:, :2] = prior_scale * (centres - HALF) * centres * (1 - centres)
        grad[:, 2:BOX_CHANNELS] = prior_scale * output[:, 2:BOX_CHANNELS]


def teach_picture(output: np.ndarray, grad: np.ndarray, class_id: int, settings: RegionSettings) -> None:
    """Teach the box that is surest of a class, in a picture that shows one somewhere: (1, a, 5 + classes, h, w)."""
    sureness = output[0, :, OBJECTNESS].copy()
    above = int(class_id)
    while above >= 0:
        sureness *= output[0, :, CLASS + above]
        above = int(settings.tree.parents[above])
    # The first of equals in the order of cells.
    row, column, slot = np.unravel_index(np.argmax(np.moveaxis(sureness, 0, -1)), np.moveaxis(sureness, 0, -1).shape)
    teach_class(output, grad, 0, int(slot), int(row), int(column), int(class_id), settings.class_scale, settings)


def whole_probabilities(classes: np.ndarray, tree: ClassTree) -> np.ndarray:
    """Probabilities (k, classes) within each group times those of all parents (hierarchy_predictions)."""
    whole = classes.copy()
    for start, end in zip(tree.starts, np.append(tree.starts[1:], len(tree.parents))):
        parent = tree.parents[start]
        if parent >= 0:
            whole[:, start:end] *= whole[:, parent : parent + 1]
    return whole


def over(probabilities: np.ndarray, thresh: float) -> np.ndarray:
    """The same array, 0 where not above the threshold."""
    probabilities[probabilities <= thresh] = 0
    return probabilities


def only_lowest(probabilities: np.ndarray) -> np.ndarray:
    """Of each row (k, classes) the last value above one half; the rest is 0."""
    likely = probabilities > HALF
    last = likely.shape[1] - 1 - np.argmax(likely[:, ::-1], axis=1)
    chosen = np.zeros_like(probabilities)
    rows = np.flatnonzero(likely.any(axis=1))
    chosen[rows, last[rows]] = probabilities[rows, last[rows]]
    return chosen
