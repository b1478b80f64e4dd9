"""The YOLO head in compiled loops: the array steps in one pass each, the cell by cell steps as they stand in NumPy.

Bytes per call: the output is read and the gradient written about twice. Most of the loss is finding the best object of
each box, n * a * h * w * objects comparisons of which nearly all end at the first side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from darkpy.backends.base_yolo import BOX_CHANNELS, CLASS, OBJECTNESS, PackedTruth, YoloLoss
from darkpy.backends.numba.jit import entry
from darkpy.backends.numpy import yolo as plain
from darkpy.backends.numpy import yolo_cells

for _function in yolo_cells.PLAIN_FUNCTIONS:
    register_jitable(_function)

_train_confident_cells = entry(yolo_cells.train_confident_cells)
_assign_truths = entry(yolo_cells.assign_truths)


class YoloOperations(plain.YoloOperations):
    """The YOLO operations with compiled steps; any float type is compiled for when it is first met."""

    @staticmethod
    def _yolo_background(*arguments: Any) -> None:
        _match_background(*arguments)

    @staticmethod
    def _yolo_confident(*arguments: Any) -> None:
        _train_confident_cells(*arguments)

    @staticmethod
    def _yolo_assign(*arguments: Any) -> None:
        _assign_truths(*arguments)

    @staticmethod
    def _yolo_average(grad: np.ndarray) -> None:
        _average_shared_boxes(grad)

    @staticmethod
    def _yolo_squares(grad: np.ndarray) -> np.ndarray:
        return _sums_of_squares(grad)


@entry
def _match_background(
    output: np.ndarray,
    boxes: np.ndarray,
    truth: PackedTruth,
    grad: np.ndarray,
    best_iou: np.ndarray,
    best_truth: np.ndarray,
    settings: YoloLoss,
) -> None:
    """:func:`darkpy.backends.numpy.yolo.match_background`, box by box."""
    n, anchors, channels, height, width = output.shape
    rows = truth.rows
    left, right = rows[:, 1] - rows[:, 3] / 2, rows[:, 1] + rows[:, 3] / 2
    top, bottom = rows[:, 2] - rows[:, 4] / 2, rows[:, 2] + rows[:, 4] / 2
    area = rows[:, 3] * rows[:, 4]
    for picture in range(n):
        first, last = truth.starts[picture], truth.starts[picture + 1]
        for slot in range(anchors):
            for row in range(height):
                for column in range(width):
                    x, y = boxes[picture, slot, 0, row, column], boxes[picture, slot, 1, row, column]
                    w, h = boxes[picture, slot, 2, row, column], boxes[picture, slot, 3, row, column]
                    box_left, box_right, box_top, box_bottom = x - w / 2, x + w / 2, y - h / 2, y + h / 2
                    best, found = 0.0, 0
                    for index in range(first, last):
                        common_w = min(box_right, right[index]) - max(box_left, left[index])
                        common_h = min(box_bottom, bottom[index]) - max(box_top, top[index])
                        if common_w > 0 and common_h > 0:
                            common = common_w * common_h
                            overlap = common / (w * h + area[index] - common)
                            if overlap > best:
                                best, found = overlap, index
                    best_iou[picture, slot, row, column] = best
                    best_truth[picture, slot, row, column] = found
                    objectness = output[picture, slot, OBJECTNESS, row, column]
                    gradient = settings.obj_normalizer * objectness
                    if best > settings.ignore_thresh:
                        confident = False
                        for channel in range(CLASS, channels):
                            if output[picture, slot, channel, row, column] > plain.CLASS_MATCH:
                                confident = True
                        if confident and settings.objectness_smooth:
                            gradient = min(gradient, settings.obj_normalizer * (objectness - best))
                        elif confident:
                            gradient = 0.0
                    grad[picture, slot, OBJECTNESS, row, column] = gradient


@entry
def _average_shared_boxes(grad: np.ndarray) -> None:
    """:func:`darkpy.backends.numpy.yolo.average_shared_boxes`, cell by cell."""
    n, anchors, channels, height, width = grad.shape
    for picture in range(n):
        for slot in range(anchors):
            for row in range(height):
                for column in range(width):
                    if grad[picture, slot, OBJECTNESS, row, column] == 0:
                        continue
                    classes = 0
                    for channel in range(CLASS, channels):
                        classes += grad[picture, slot, channel, row, column] < 0
                    if classes > 1:
                        for channel in range(BOX_CHANNELS):
                            grad[picture, slot, channel, row, column] /= classes


@entry
def _sums_of_squares(grad: np.ndarray) -> np.ndarray:
    """:func:`darkpy.backends.numpy.yolo.sums_of_squares` in one pass."""
    n, anchors, channels, height, width = grad.shape
    sums = np.zeros(3)
    for picture in range(n):
        for slot in range(anchors):
            for channel in range(channels):
                total = 0.0
                for row in range(height):
                    for column in range(width):
                        total += float(grad[picture, slot, channel, row, column]) ** 2
                part = 0 if channel < BOX_CHANNELS else (1 if channel == OBJECTNESS else 2)
                sums[part] += total
    return sums
