"""The steps of the [Gaussian_yolo] loss that teach single objects (Darknet: gaussian_yolo_layer.c).

Written, like :mod:`.yolo_cells`, in the part of Python that Numba compiles as it stands. ``rest`` and ``rest_grad`` are
arrays without the first four channels of an anchor, where objectness and classes have the places they have in [yolo].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from darkpy.backends.base_heads import GaussianLoss, YoloPoint
from darkpy.backends.base_yolo import BOX_CHANNELS, CLASS, OBJECTNESS, BoxMeasure, YoloLoss
from darkpy.backends.numpy.yolo_cells import (
    CLASS_PROBABILITY,
    COUNT,
    GIOU,
    IOU,
    OBJECT,
    RECALL50,
    RECALL75,
    anchor_size,
    best_anchor,
    box_gradient,
    cell_of,
    double,
    learns,
    limited,
    similarity,
    teach_class,
)

SIGMA = 0.3
"""Added to the uncertainty where the height of the normal distribution is taken, so that it stays finite."""

TINY = 1e-9
"""Added to a probability density before it is divided by."""


def train_fitting_gaussians(
    rest: np.ndarray,
    rows: np.ndarray,
    rest_grad: np.ndarray,
    cells: np.ndarray,
    best_iou: np.ndarray,
    best_truth: np.ndarray,
    head: YoloLoss,
) -> None:
    """With ``objectness_smooth``, teach ``cells`` whose box fits an object its class, and to be as sure as it fits.

    ``cells``: (k, 4) of picture, slot, row, column.
    """
    for index in range(len(cells)):
        picture, slot, row, column = cells[index]
        class_id = int(rows[best_truth[picture, slot, row, column], 0])
        error = double(rest[picture, slot, OBJECTNESS, row, column]) - double(best_iou[picture, slot, row, column]) ** 2
        rest_grad[picture, slot, OBJECTNESS, row, column] = head.obj_normalizer * error
        teach_gaussian_class(rest, rest_grad, picture, slot, row, column, class_id, head)


def train_confident_gaussians(
    output: np.ndarray,
    boxes: np.ndarray,
    rows: np.ndarray,
    grad: np.ndarray,
    cells: np.ndarray,
    best_iou: np.ndarray,
    best_truth: np.ndarray,
    settings: GaussianLoss,
) -> None:
    """Teach each of ``cells`` (k, 4: picture, slot, row, column) the object its box fits best."""
    head = settings.yolo
    rest, rest_grad = output[:, :, BOX_CHANNELS:], grad[:, :, BOX_CHANNELS:]
    for index in range(len(cells)):
        picture, slot, row, column = cells[index]
        truth = rows[best_truth[picture, slot, row, column]]
        class_id = int(truth[0])
        target = 1.0
        if head.objectness_smooth:
            target = double(best_iou[picture, slot, row, column]) ** 2
        objectness = double(rest[picture, slot, OBJECTNESS, row, column])
        rest_grad[picture, slot, OBJECTNESS, row, column] = head.obj_normalizer * (objectness - target)
        teach_gaussian_class(rest, rest_grad, picture, slot, row, column, class_id, head)
        if head.objectness_smooth:
            probability = double(rest[picture, slot, CLASS + class_id, row, column])
            gradient = head.class_multipliers[class_id] * (probability - target)
            rest_grad[picture, slot, CLASS + class_id, row, column] = gradient
        train_gaussian_box(output, boxes, grad, picture, slot, row, column, truth, settings)


def assign_gaussians(
    output: np.ndarray,
    boxes: np.ndarray,
    rows: np.ndarray,
    starts: np.ndarray,
    grad: np.ndarray,
    settings: GaussianLoss,
    totals: np.ndarray,
) -> None:
    """Let every object teach the anchors of its cell that have its shape; add up ``totals`` (TOTALS,)."""
    head = settings.yolo
    height, width = output.shape[3:]
    shift = corner_side(settings.point)
    for picture in range(len(output)):
        for index in range(starts[picture], starts[picture + 1]):
            truth = rows[index]
            # The corner of an object may lie outside the picture: then the outermost cell learns it.
            column = max(cell_of(truth[1] + np.float32(shift) * truth[3] / 2, width), 0)
            row = max(cell_of(truth[2] + np.float32(shift) * truth[4] / 2, height), 0)
            best = best_anchor(truth, head)
            for slot in range(len(head.mask)):
                if learns(head.mask[slot], best, truth, head):
                    train_gaussian(output, boxes, grad, picture, slot, row, column, truth, settings, totals)


def corner_side(point: YoloPoint) -> float:
    """Where x and y point: -1 at the left and top side of a box, 1 at its right and bottom side, 0 at the centre."""
    if point == YoloPoint.LEFT_TOP:
        return -1.0
    return 1.0 if point == YoloPoint.RIGHT_BOTTOM else 0.0


def train_gaussian(
    output: np.ndarray,
    boxes: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    truth: np.ndarray,
    settings: GaussianLoss,
    totals: np.ndarray,
) -> None:
    """Teach one anchor of one cell one object: box, objectness and class."""
    head = settings.yolo
    rest, rest_grad = output[:, :, BOX_CHANNELS:], grad[:, :, BOX_CHANNELS:]
    class_id = int(truth[0])
    overlap, generalized = train_gaussian_box(output, boxes, grad, picture, slot, row, column, truth, settings)
    objectness = double(rest[picture, slot, OBJECTNESS, row, column])
    weight = head.class_multipliers[class_id] * head.obj_normalizer
    rest_grad[picture, slot, OBJECTNESS, row, column] = weight * (objectness - 1)
    teach_gaussian_class(rest, rest_grad, picture, slot, row, column, class_id, head)
    totals[COUNT] += 1
    totals[IOU] += overlap
    totals[GIOU] += generalized
    totals[RECALL50] += overlap > 0.5
    totals[RECALL75] += overlap > 0.75
    totals[OBJECT] += objectness
    totals[CLASS_PROBABILITY] += rest[picture, slot, CLASS + class_id, row, column]


def teach_gaussian_class(
    rest: np.ndarray,
    rest_grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    class_id: int,
    head: YoloLoss,
) -> None:
    """Gradient of the class probabilities; a place counts as taught before if its class 0 has a gradient."""
    taught = rest_grad[picture, slot, CLASS, row, column] != 0
    teach_class(rest, rest_grad, picture, slot, row, column, class_id, taught, head)


def train_gaussian_box(
    output: np.ndarray,
    boxes: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    truth: np.ndarray,
    settings: GaussianLoss,
) -> tuple[float, float]:
    """Add the gradients of a box and its uncertainties for one object; returns IoU and GIoU with it.

    Those of the uncertainties are always the likelihood's; those of x, y, w, h are the likelihood's with ``mse``, else
    those of the overlap, as in [yolo].
    """
    head = settings.yolo
    predicted = (
        double(boxes[picture, slot, 0, row, column]),
        double(boxes[picture, slot, 1, row, column]),
        double(boxes[picture, slot, 2, row, column]),
        double(boxes[picture, slot, 3, row, column]),
    )
    target = (double(truth[1]), double(truth[2]), double(truth[3]), double(truth[4]))
    anchor_w, anchor_h = anchor_size(head.mask[slot], head)
    height, width = output.shape[3:]
    side = corner_side(settings.point)
    goal = (
        (target[0] + side * target[2] / 2) * width - column,
        (target[1] + side * target[3] / 2) * height - row,
        math.log(target[2] / anchor_w),
        math.log(target[3] / anchor_h),
    )
    ascent = (0.0, 0.0, 0.0, 0.0)
    if head.iou_loss != BoxMeasure.MSE:
        move_x, move_y, grow_w, grow_h = box_gradient(predicted, target, head.iou_loss)
        stretch_w, stretch_h = predicted[2] / anchor_w, predicted[3] / anchor_h
        ascent = (
            move_x + side * grow_w / 2,
            move_y + side * grow_h / 2,
            grow_w * stretch_w,
            grow_h * stretch_h,
        )
    weight = head.iou_normalizer * double(head.class_multipliers[int(truth[0])])
    scale = 2 - target[2] * target[3]
    for coordinate in range(4):
        error = goal[coordinate] - double(output[picture, slot, 2 * coordinate, row, column])
        sigma = double(output[picture, slot, 2 * coordinate + 1, row, column])
        move, spread = likelihood_gradient(error, sigma, scale)
        if head.iou_loss != BoxMeasure.MSE:
            move = ascent[coordinate]
        grad[picture, slot, 2 * coordinate, row, column] -= limited(weight * move, head.max_delta)
        grad[picture, slot, 2 * coordinate + 1, row, column] -= limited(settings.uc_normalizer * spread, head.max_delta)
    return similarity(predicted, target, BoxMeasure.IOU), similarity(predicted, target, BoxMeasure.GIOU)


def likelihood_gradient(error: float, sigma: float, scale: float) -> tuple[float, float]:
    """How the logarithm of a normal density changes with its mean and with its standard deviation.

    ``error``: target less mean. Far from the target, where the density is near 0, so are both.
    """
    if not sigma > 0:
        return 0.0, 0.0
    distance = error / sigma
    density = math.exp(-0.5 * distance * distance) / (math.sqrt(2 * math.pi) * (sigma + SIGMA))
    factor = 0.5 * scale * density / (density + TINY)
    return factor * distance / sigma, factor * (distance * distance / sigma - 1 / (sigma + SIGMA))


PLAIN_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    corner_side,
    train_gaussian,
    teach_gaussian_class,
    train_gaussian_box,
    likelihood_gradient,
)
"""What the three steps call: a compiling backend compiles these too."""
