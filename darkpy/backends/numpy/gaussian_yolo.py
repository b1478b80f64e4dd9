"""The Gaussian YOLO head: decoding, loss with its gradient, and boxes (Darknet: gaussian_yolo_layer.c; Choi 2019).

Each of x, y, w, h is predicted with its uncertainty, one channel after the other; then come the objectness and the
classes. Without the first four channels of an anchor the rest has the order of [yolo], objectness at 4 and classes from
5, so that everything but the boxes is :mod:`.yolo`'s (see :func:`probabilities_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from darkpy.backends.base_heads import GaussianDecode, GaussianLoss, YoloPoint
from darkpy.backends.base_yolo import BOX_CHANNELS, CLASS, OBJECTNESS, LossParts, PackedTruth, packed_truth
from darkpy.backends.numpy.gaussian_yolo_cells import (
    assign_gaussians,
    train_confident_gaussians,
    train_fitting_gaussians,
)
from darkpy.backends.numpy.yolo import YoloOperations, fitting, logistic_in_place, predicted_boxes, summed_parts
from darkpy.backends.numpy.yolo_cells import TOTALS

UNCERTAINTIES = slice(1, 2 * BOX_CHANNELS, 2)
"""The channels of an anchor that say how uncertain x, y, w and h are."""


class GaussianYoloOperations(YoloOperations):
    """The operations of [Gaussian_yolo]; a faster backend replaces the steps of single objects."""

    def gaussian_yolo_forward(
        self, x: np.ndarray, out: np.ndarray, anchors_in_mask: int, classes: int, scale_x_y: float
    ) -> None:
        """See :meth:`Backend.gaussian_yolo_forward`."""
        if out is not x:
            np.copyto(out, x)
        anchors = split_gaussians(out, anchors_in_mask, classes)
        for squashed in (slice(0, 4), slice(5, 6), slice(7, None)):
            logistic_in_place(anchors[:, :, squashed])
        if scale_x_y != 1:
            centres = anchors[:, :, 0:4:2]
            centres *= scale_x_y
            centres -= 0.5 * (scale_x_y - 1)

    def gaussian_yolo_loss(
        self,
        output: np.ndarray,
        truth: PackedTruth | Sequence[np.ndarray],
        grad: np.ndarray,
        settings: GaussianLoss,
    ) -> LossParts:
        """See :meth:`Backend.gaussian_yolo_loss`; the three steps are those of :meth:`yolo_loss`."""
        head = settings.yolo
        packed = packed_truth(truth, head.classes, head.max_boxes)
        output, grad = (split_gaussians(array, len(head.mask), head.classes) for array in (output, grad))
        boxes = gaussian_boxes(output, settings.decode())
        grad.fill(0)
        best_iou, best_truth = self._best_objects(boxes, packed)
        rest, rest_grad = probabilities_of(output), probabilities_of(grad)
        self._yolo_background(rest, best_iou, rest_grad, head._replace(objectness_smooth=False))
        if head.objectness_smooth:
            cells = np.argwhere(fitting(rest, best_iou, head))
            self._gaussian_fitting(rest, packed.rows, rest_grad, cells, best_iou, best_truth, head)
        cells = np.argwhere(best_iou > head.truth_thresh)
        if len(cells):
            self._gaussian_confident(output, boxes, packed.rows, grad, cells, best_iou, best_truth, settings)
        totals = np.zeros(TOTALS)
        self._gaussian_assign(output, boxes, packed.rows, packed.starts, grad, settings, totals)
        average_shared_gaussians(grad)
        squares = self._yolo_squares(rest_grad)
        squares[0] += np.square(grad[:, :, :4], dtype=np.float64).sum()
        return summed_parts(squares, totals, float(rest[:, :, OBJECTNESS].mean()))

    def gaussian_yolo_boxes(
        self, output: np.ndarray, image: int, thresh: float, settings: GaussianDecode
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.gaussian_yolo_boxes`; cell by cell, row-major, and within a cell anchor by anchor."""
        picture = split_gaussians(output[image : image + 1], len(settings.anchors), settings.classes)
        rest = probabilities_of(picture)
        row, column, slot = np.nonzero(np.moveaxis(rest[0, :, OBJECTNESS], 0, -1) > thresh)
        boxes = gaussian_boxes(picture, settings)[0, slot, :, row, column]
        objectness = rest[0, slot, OBJECTNESS, row, column]
        certainty = 1 - picture[0, slot, UNCERTAINTIES, row, column].mean(axis=1)
        probabilities = (objectness * certainty)[:, None] * rest[0, slot, CLASS:, row, column]
        probabilities[probabilities <= thresh] = 0
        return boxes, objectness, probabilities

    @staticmethod
    def _gaussian_fitting(*arguments: Any) -> None:
        train_fitting_gaussians(*arguments)

    @staticmethod
    def _gaussian_confident(*arguments: Any) -> None:
        train_confident_gaussians(*arguments)

    @staticmethod
    def _gaussian_assign(*arguments: Any) -> None:
        assign_gaussians(*arguments)


def split_gaussians(array: np.ndarray, anchors: int, classes: int) -> np.ndarray:
    """A head's array (n, anchors * (9 + classes), h, w) as a view (n, anchors, 9 + classes, h, w)."""
    n, _, height, width = array.shape
    return array.reshape(n, anchors, BOX_CHANNELS + CLASS + classes, height, width)


def probabilities_of(array: np.ndarray) -> np.ndarray:
    """The view (n, a, 5 + classes, h, w) of a split array in which OBJECTNESS and CLASS count as in [yolo]."""
    return array[:, :, BOX_CHANNELS:]


def gaussian_boxes(output: np.ndarray, settings: GaussianDecode) -> np.ndarray:
    """Boxes (n, a, 4, h, w), relative to the picture, of an output (n, a, 9 + classes, h, w)."""
    boxes = predicted_boxes(output[:, :, 0 : 2 * BOX_CHANNELS : 2], settings)
    if settings.point == YoloPoint.LEFT_TOP:
        boxes[:, :, :2] += boxes[:, :, 2:] / 2
    elif settings.point == YoloPoint.RIGHT_BOTTOM:
        boxes[:, :, :2] -= boxes[:, :, 2:] / 2
    return boxes


def average_shared_gaussians(grad: np.ndarray) -> None:
    """Where several objects taught one anchor of a cell, divide the gradient of its box by the number of their classes.

    Counted are the classes that are to become more probable (averages_gaussian_yolo_deltas).
    """
    classes = (probabilities_of(grad)[:, :, CLASS:] < 0).sum(axis=2, dtype=grad.dtype)
    boxes = grad[:, :, : 2 * BOX_CHANNELS]
    np.divide(boxes, classes[:, :, None], out=boxes, where=(classes > 1)[:, :, None])
