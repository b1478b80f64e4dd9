"""The YOLO head: decoding, loss with its gradient, and boxes (Darknet: yolo_layer.c; equal numbers are meant).

The steps that touch every cell stand here in array language, those of single objects in :mod:`.yolo_cells`.

Inside both modules ``output`` and ``grad`` have five axes: picture, anchor of the head (``slot``), channel (x, y, w, h,
objectness, classes), row and column. Boxes are centre x, y, width, height relative to the picture. Gradients are those
of the loss with respect to the head's *input*, to be handed to the layer before as they are: the published networks
were trained without the derivative of the logistic function, and so it is left out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkpy.backends.base_yolo import (
    BOX_CHANNELS,
    CLASS,
    OBJECTNESS,
    BoxMeasure,
    LossParts,
    PackedTruth,
    YoloDecode,
    YoloLoss,
    packed_truth,
)
from darkpy.backends.numpy.memory import MemoryOperations
from darkpy.backends.numpy.yolo_cells import (
    CLASS_PROBABILITY,
    COUNT,
    GIOU,
    IOU,
    OBJECT,
    RECALL50,
    RECALL75,
    TOTALS,
    assign_truths,
    train_confident_cells,
)

CLASS_MATCH = 0.25
"""A cell whose class probabilities are all below this counts as background even where its box fits."""


class YoloOperations(MemoryOperations):
    """The YOLO operations of a backend; a faster backend replaces the steps of the loss."""

    def yolo_forward(
        self, x: np.ndarray, out: np.ndarray, anchors_in_mask: int, classes: int, scale_x_y: float, new_coords: bool
    ) -> None:
        """See :meth:`Backend.yolo_forward`; with ``new_coords`` the convolution before has squashed the values."""
        if out is not x:
            np.copyto(out, x)
        anchors = split_anchors(out, anchors_in_mask, classes)
        if not new_coords:
            logistic_in_place(anchors[:, :, :2])
            logistic_in_place(anchors[:, :, OBJECTNESS:])
        if scale_x_y != 1:
            centres = anchors[:, :, :2]
            centres *= scale_x_y
            centres -= 0.5 * (scale_x_y - 1)

    def yolo_loss(
        self, output: np.ndarray, truth: PackedTruth | Sequence[np.ndarray], grad: np.ndarray, settings: YoloLoss
    ) -> LossParts:
        """See :meth:`Backend.yolo_loss`; for the rows of ``truth`` that count see :func:`pack_truth`.

        Three steps: every anchor of every cell learns that it sees nothing, unless its box already fits an object;
        boxes that fit better than ``truth_thresh`` learn the object they fit; every object teaches the anchors of its
        cell whose shape fits. ``grad`` is the negative of Darknet's delta.
        """
        packed = packed_truth(truth, settings.classes, settings.max_boxes)
        slots = len(settings.mask)
        output, grad = (split_anchors(array, slots, settings.classes) for array in (output, grad))
        boxes = predicted_boxes(output, settings.decode())
        grad.fill(0)
        best_iou, best_truth = self._best_objects(boxes, packed)
        self._yolo_background(output, best_iou, grad, settings)
        cells = np.argwhere(best_iou > settings.truth_thresh)
        if len(cells):
            self._yolo_confident(output, boxes, packed.rows, grad, cells, best_iou, best_truth, settings)
        totals = np.zeros(TOTALS)
        self._yolo_assign(output, boxes, packed.rows, packed.starts, grad, settings, totals)
        if settings.iou_thresh < 1:
            self._yolo_average(grad)
        return loss_parts(self._yolo_squares(grad), totals, float(output[:, :, OBJECTNESS].mean()), settings)

    def yolo_boxes(
        self, output: np.ndarray, image: int, thresh: float, settings: YoloDecode
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.yolo_boxes`; coordinates are relative to the network's input.

        In Darknet's order: cell by cell, row-major, and within a cell anchor by anchor (get_yolo_detections).
        """
        picture = split_anchors(output[image : image + 1], len(settings.anchors), settings.classes)
        row, column, slot = np.nonzero(np.moveaxis(picture[0, :, OBJECTNESS], 0, -1) > thresh)
        boxes = predicted_boxes(picture, settings)[0, slot, :, row, column]
        objectness = picture[0, slot, OBJECTNESS, row, column]
        probabilities = objectness[:, None] * picture[0, slot, CLASS:, row, column]
        probabilities[probabilities <= thresh] = 0
        return boxes, objectness, probabilities

    @staticmethod
    def _best_objects(boxes: np.ndarray, truth: PackedTruth) -> tuple[np.ndarray, np.ndarray]:
        return best_objects(boxes, truth)

    @staticmethod
    def _yolo_background(*arguments: Any) -> None:
        teach_background(*arguments)

    @staticmethod
    def _yolo_confident(*arguments: Any) -> None:
        train_confident_cells(*arguments)

    @staticmethod
    def _yolo_assign(*arguments: Any) -> None:
        assign_truths(*arguments)

    @staticmethod
    def _yolo_average(grad: np.ndarray) -> None:
        average_shared_boxes(grad)

    @staticmethod
    def _yolo_squares(grad: np.ndarray) -> np.ndarray:
        return sums_of_squares(grad)


def split_anchors(array: np.ndarray, anchors: int, classes: int) -> np.ndarray:
    """A head's array (n, anchors * (5 + classes), h, w) as a view (n, anchors, 5 + classes, h, w)."""
    n, _, height, width = array.shape
    return array.reshape(n, anchors, CLASS + classes, height, width)


def logistic_in_place(x: np.ndarray) -> None:
    """x = 1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):
        # Not np.negative: of views with some strides NumPy 2.4 negates only a part in place.
        np.multiply(x, -1, out=x)
        np.exp(x, out=x)
        x += 1
        np.reciprocal(x, out=x)


def predicted_boxes(output: np.ndarray, settings: YoloDecode) -> np.ndarray:
    """Boxes (n, a, 4, h, w) of an output (n, a, 5 + classes, h, w)."""
    height, width = output.shape[3:]
    dtype = output.dtype
    boxes = output[:, :, :BOX_CHANNELS].copy()
    boxes[:, :, 0] += np.arange(width, dtype=dtype)
    boxes[:, :, 0] /= width
    boxes[:, :, 1] += np.arange(height, dtype=dtype)[:, None]
    boxes[:, :, 1] /= height
    shapes = boxes[:, :, 2:]
    unit = settings.anchors / (settings.width, settings.height)
    with np.errstate(over="ignore"):
        if settings.new_coords:
            np.square(shapes, out=shapes)
            unit = 4 * unit
        else:
            np.exp(shapes, out=shapes)
        shapes *= unit.astype(dtype)[:, :, None, None]
    return boxes


def best_objects(boxes: np.ndarray, truth: PackedTruth) -> tuple[np.ndarray, np.ndarray]:
    """For each box (n, a, 4, h, w) its IoU with the object that fits it best, 0 without overlap, and that one's row."""
    n, anchors, _, height, width = boxes.shape
    best_iou = np.zeros((n, anchors, height, width), boxes.dtype)
    best_truth = np.zeros(best_iou.shape, np.int64)
    for picture in range(n):
        for row in range(truth.starts[picture], truth.starts[picture + 1]):
            overlap = iou_with(boxes[picture], truth.rows[row, 1:])
            better = overlap > best_iou[picture]
            best_iou[picture][better] = overlap[better]
            best_truth[picture][better] = row
    return best_iou, best_truth


def teach_background(output: np.ndarray, best_iou: np.ndarray, grad: np.ndarray, settings: YoloLoss) -> None:
    """Teach every anchor of every cell that it sees nothing, except where its box overlaps an object enough.

    Fills the objectness of ``grad``. Objects of all classes count, but only for boxes that name any class with some
    confidence.
    """
    objectness = output[:, :, OBJECTNESS]
    gradient = grad[:, :, OBJECTNESS]
    np.multiply(objectness, settings.obj_normalizer, out=gradient)
    fits = fitting(output, best_iou, settings)
    if settings.objectness_smooth:
        softer = settings.obj_normalizer * (objectness[fits] - best_iou[fits])
        gradient[fits] = np.minimum(gradient[fits], softer)
    else:
        gradient[fits] = 0


def fitting(output: np.ndarray, best_iou: np.ndarray, settings: YoloLoss) -> np.ndarray:
    """Which boxes (n, a, h, w) overlap an object enough and name any class."""
    confident = (output[:, :, CLASS:] > CLASS_MATCH).any(axis=2)
    return confident & (best_iou > settings.ignore_thresh)


def iou_with(boxes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """IoU (a, h, w) of boxes (a, 4, h, w) with one box (4,); 0 where nothing overlaps."""
    x, y, w, h = boxes.transpose(1, 0, 2, 3)
    target_x, target_y, target_w, target_h = target
    with np.errstate(over="ignore", invalid="ignore"):
        left = np.maximum(x - w / 2, target_x - target_w / 2)
        right = np.minimum(x + w / 2, target_x + target_w / 2)
        top = np.maximum(y - h / 2, target_y - target_h / 2)
        bottom = np.minimum(y + h / 2, target_y + target_h / 2)
        intersection = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
        union = w * h + target_w * target_h - intersection
        return intersection / union


def average_shared_boxes(grad: np.ndarray) -> None:
    """Where several objects taught one anchor of a cell, divide its box gradient by the number of their classes.

    Counted are the classes that are to become more probable (yolo_layer.c, averages_yolo_deltas).
    """
    classes = (grad[:, :, CLASS:] < 0).sum(axis=2, dtype=grad.dtype)
    shared = (classes > 1) & (grad[:, :, OBJECTNESS] != 0)
    if shared.any():
        boxes = grad[:, :, :BOX_CHANNELS]
        np.divide(boxes, classes[:, :, None], out=boxes, where=shared[:, :, None])


def sums_of_squares(grad: np.ndarray) -> np.ndarray:
    """Sum of squared gradients of the boxes, the objectness and the classes (3,)."""
    parts = (grad[:, :, :BOX_CHANNELS], grad[:, :, OBJECTNESS], grad[:, :, CLASS:])
    return np.array([np.square(part, dtype=np.float64).sum() for part in parts])


def loss_parts(squares: np.ndarray, totals: np.ndarray, background: float, settings: YoloLoss) -> LossParts:
    """The cost from the sums of squared gradients and what the objects added up.

    The squares of all gradients, with ``mse`` or without ``show_details``; else the mean of 1 - IoU (1 - GIoU with
    ``giou``) in place of the boxes' share, and the objectness normalizer applied to the rest once more
    (yolo_layer.c, forward_yolo_layer).
    """
    if settings.iou_loss == BoxMeasure.MSE or settings.sum_of_squares:
        return summed_parts(squares, totals, background)
    count = max(float(totals[COUNT]), 1.0)
    fit = totals[GIOU] if settings.iou_loss == BoxMeasure.GIOU else totals[IOU]
    box = settings.iou_normalizer * float(totals[COUNT] - fit) / count
    rest = settings.obj_normalizer * squares[1:]
    return summed_parts(np.array([box, *rest]), totals, background)


def summed_parts(costs: np.ndarray, totals: np.ndarray, background: float) -> LossParts:
    """The loss that is the sum of these costs of boxes, objectness and classes (3,)."""
    box, objectness, classification = (float(part) for part in costs)
    averages = totals / max(float(totals[COUNT]), 1.0)
    return LossParts(
        cost=box + objectness + classification,
        box=box,
        objectness=objectness,
        classification=classification,
        count=int(totals[COUNT]),
        avg_iou=float(averages[IOU]),
        recall50=float(averages[RECALL50]),
        recall75=float(averages[RECALL75]),
        avg_objectness=float(averages[OBJECT]),
        avg_class=float(averages[CLASS_PROBABILITY]),
        avg_background=background,
    )
