"""The steps of the YOLO loss that teach single objects, cell by cell (Darknet: yolo_layer.c, box.c).

Written in the part of Python that Numba compiles as it stands, so that this arithmetic exists once; it is done on
Python floats, in double precision. The two entry points are :func:`train_confident_cells` and :func:`assign_truths`.
All functions stand in this one file because Numba's cache notices changes of the file of the entry point only.

For the axes of ``output``, ``boxes`` and ``grad`` see :mod:`.yolo`; a cell's anchor is given by ``picture``, ``slot``,
``row``, ``column``. ``truth`` is a row class, cx, cy, w, h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from darkpy.backends.base_yolo import CLASS, OBJECTNESS, BoxMeasure, YoloLoss

COUNT, IOU, GIOU, RECALL50, RECALL75, OBJECT, CLASS_PROBABILITY, TOTALS = range(8)
"""What :func:`assign_truths` adds up, by position; TOTALS is the length."""

Box = tuple[float, float, float, float]
"""Centre x, centre y, width, height, relative to the picture."""


class Axis(NamedTuple):
    """What a box and its target have in common on one axis, and how that changes with the box.

    ``common``: length both cover, negative where they are apart; ``enclosing``: length from the first to the last
    side. ``..._moved`` are the derivatives as the box moves, ``..._grown`` as each of its sides moves outwards.
    """

    common: float
    enclosing: float
    common_moved: int
    common_grown: int
    enclosing_moved: int
    enclosing_grown: int


def train_confident_cells(
    output: np.ndarray,
    boxes: np.ndarray,
    rows: np.ndarray,
    grad: np.ndarray,
    cells: np.ndarray,
    best_iou: np.ndarray,
    best_truth: np.ndarray,
    settings: YoloLoss,
) -> None:
    """Teach each of ``cells`` (k, 4: picture, slot, row, column) the object its box fits best."""
    for index in range(len(cells)):
        picture, slot, row, column = cells[index]
        truth = rows[best_truth[picture, slot, row, column]]
        class_id = int(truth[0])
        target = 1.0
        if settings.objectness_smooth:
            target = double(best_iou[picture, slot, row, column]) ** 2
        objectness = double(output[picture, slot, OBJECTNESS, row, column])
        grad[picture, slot, OBJECTNESS, row, column] = settings.obj_normalizer * (objectness - target)
        train_class(output, grad, picture, slot, row, column, class_id, settings)
        if settings.objectness_smooth:
            probability = double(output[picture, slot, CLASS + class_id, row, column])
            gradient = settings.class_multipliers[class_id] * (probability - target)
            grad[picture, slot, CLASS + class_id, row, column] = gradient
        train_box(output, boxes, grad, picture, slot, row, column, truth, settings)


def assign_truths(
    output: np.ndarray,
    boxes: np.ndarray,
    rows: np.ndarray,
    starts: np.ndarray,
    grad: np.ndarray,
    settings: YoloLoss,
    totals: np.ndarray,
) -> None:
    """Let every object teach the anchors of its cell that have its shape; add up ``totals`` (TOTALS,).

    That is the anchor, among those of all heads, whose shape fits best, and each other anchor of this head whose
    shape fits better than ``iou_thresh``.
    """
    height, width = output.shape[3:]
    for picture in range(len(output)):
        for index in range(starts[picture], starts[picture + 1]):
            truth = rows[index]
            column, row = cell_of(truth[1], width), cell_of(truth[2], height)
            best = best_anchor(truth, settings)
            for slot in range(len(settings.mask)):
                if learns(settings.mask[slot], best, truth, settings):
                    train_object(output, boxes, grad, picture, slot, row, column, truth, settings, totals)


def cell_of(position: float, cells: int) -> int:
    """The cell, of a row or column of them, that a relative position lies in; the last cell has its outer edge.

    The product is rounded to single precision before it is cut, as in Darknet.
    """
    return min(int(np.float32(position * cells)), cells - 1)


def learns(anchor: int, best: int, truth: np.ndarray, settings: YoloLoss) -> bool:
    """Whether an anchor has the shape of an object whose best anchor is ``best``."""
    return anchor == best or (
        settings.iou_thresh < 1
        and shape_similarity(anchor, truth, settings.iou_thresh_kind, settings) > settings.iou_thresh
    )


def best_anchor(truth: np.ndarray, settings: YoloLoss) -> int:
    """The anchor of all heads with the highest shape IoU with an object; the first of equals."""
    best, best_overlap = 0, 0.0
    for anchor in range(len(settings.anchors)):
        overlap = shape_similarity(anchor, truth, BoxMeasure.IOU, settings)
        if overlap > best_overlap:
            best, best_overlap = anchor, overlap
    return best


def shape_similarity(anchor: int, truth: np.ndarray, measure: BoxMeasure, settings: YoloLoss) -> float:
    """How well an anchor and an object fit when both are centred on the same point."""
    anchor_w, anchor_h = anchor_size(anchor, settings)
    return similarity((0.0, 0.0, anchor_w, anchor_h), (0.0, 0.0, double(truth[3]), double(truth[4])), measure)


def anchor_size(anchor: int, settings: YoloLoss) -> tuple[float, float]:
    """Width and height of an anchor relative to the network's input."""
    return double(settings.anchors[anchor, 0]) / settings.width, double(settings.anchors[anchor, 1]) / settings.height


def train_object(
    output: np.ndarray,
    boxes: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    truth: np.ndarray,
    settings: YoloLoss,
    totals: np.ndarray,
) -> None:
    """Teach one anchor of one cell one object: box, objectness and class."""
    class_id = int(truth[0])
    overlap, generalized = train_box(output, boxes, grad, picture, slot, row, column, truth, settings)
    objectness = double(output[picture, slot, OBJECTNESS, row, column])
    # With objectness_smooth the value is usually left as teach_background put it (Darknet does the same).
    if not settings.objectness_smooth or grad[picture, slot, OBJECTNESS, row, column] == 0:
        weight = settings.class_multipliers[class_id] * settings.obj_normalizer
        grad[picture, slot, OBJECTNESS, row, column] = weight * (objectness - 1)
    train_class(output, grad, picture, slot, row, column, class_id, settings)
    totals[COUNT] += 1
    totals[IOU] += overlap
    totals[GIOU] += generalized
    totals[RECALL50] += overlap > 0.5
    totals[RECALL75] += overlap > 0.75
    totals[OBJECT] += objectness
    totals[CLASS_PROBABILITY] += output[picture, slot, CLASS + class_id, row, column]


def train_class(
    output: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    class_id: int,
    settings: YoloLoss,
) -> None:
    """Gradient of the class probabilities; a second object in the same place changes that of its own class only."""
    taught = grad[picture, slot, CLASS + class_id, row, column] != 0
    teach_class(output, grad, picture, slot, row, column, class_id, taught, settings)


def teach_class(
    output: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    class_id: int,
    taught: bool,
    settings: YoloLoss,
) -> None:
    """Gradient of all class probabilities, or of the object's own where another object has been ``taught`` before."""
    probability = double(output[picture, slot, CLASS + class_id, row, column])
    smoothing = 0.5 * settings.label_smooth_eps
    if taught:
        gradient = settings.class_multipliers[class_id] * (probability - (1 - smoothing))
        grad[picture, slot, CLASS + class_id, row, column] = gradient
        return
    weight, class_weight = 1.0, settings.class_factors[class_id]
    if settings.focal_loss:
        weight = class_weight = focal_weight(probability)
        smoothing = 0.0
    for other in range(settings.classes):
        value = double(output[picture, slot, CLASS + other, row, column])
        grad[picture, slot, CLASS + other, row, column] = weight * (value - smoothing)
    grad[picture, slot, CLASS + class_id, row, column] = class_weight * (probability - (1 - smoothing))


def focal_weight(probability: float) -> float:
    """Focal loss with alpha 0.5 and gamma 2 (https://arxiv.org/abs/1708.02002): factor on the class gradients."""
    p = max(probability, 0.0) + 1e-15
    return -0.5 * (1 - p) * (2 * p * math.log(p) + p - 1)


def train_box(
    output: np.ndarray,
    boxes: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    truth: np.ndarray,
    settings: YoloLoss,
) -> tuple[float, float]:
    """Add the gradient of the box loss for one object; returns IoU and GIoU of the predicted box with it."""
    predicted = (
        double(boxes[picture, slot, 0, row, column]),
        double(boxes[picture, slot, 1, row, column]),
        double(boxes[picture, slot, 2, row, column]),
        double(boxes[picture, slot, 3, row, column]),
    )
    target = (double(truth[1]), double(truth[2]), double(truth[3]), double(truth[4]))
    anchor_w, anchor_h = anchor_size(settings.mask[slot], settings)
    weight = settings.iou_normalizer * double(settings.class_multipliers[int(truth[0])])
    if settings.iou_loss == BoxMeasure.MSE:
        height, width = output.shape[3:]
        if settings.new_coords:
            goal_w, goal_h = math.sqrt(target[2] / (4 * anchor_w)), math.sqrt(target[3] / (4 * anchor_h))
        else:
            goal_w, goal_h = math.log(target[2] / anchor_w), math.log(target[3] / anchor_h)
        goal = (target[0] * width - column, target[1] * height - row, goal_w, goal_h)
        weight *= 2 - target[2] * target[3]
        for channel in range(4):
            error = double(output[picture, slot, channel, row, column]) - goal[channel]
            grad[picture, slot, channel, row, column] += weight * error
    else:
        ascent = box_gradient(predicted, target, settings.iou_loss)
        stretch_w, stretch_h = 1.0, 1.0
        if not settings.new_coords:
            stretch_w, stretch_h = predicted[2] / anchor_w, predicted[3] / anchor_h
        factors = (1.0, 1.0, stretch_w, stretch_h)
        for channel in range(4):
            step = limited(weight * factors[channel] * ascent[channel], settings.max_delta)
            grad[picture, slot, channel, row, column] -= step
    return similarity(predicted, target, BoxMeasure.IOU), similarity(predicted, target, BoxMeasure.GIOU)


def limited(value: float, limit: float) -> float:
    """The value within ±limit; 0 for one that is no number or beyond single precision."""
    if not abs(value) <= 3.4e38:
        return 0.0
    return max(-limit, min(limit, value))


def similarity(box: Box, target: Box, measure: BoxMeasure) -> float:
    """IoU of two boxes, less the penalty of GIoU, DIoU or CIoU (box.c: box_iou, box_giou, box_diou, box_ciou).

    The penalty of DIoU is the relative distance of the centres to the power 0.6, as in Darknet.
    """
    across, down = along(box[0], box[2], target[0], target[2]), along(box[1], box[3], target[1], target[3])
    intersection = max(across.common, 0.0) * max(down.common, 0.0)
    union = box[2] * box[3] + target[2] * target[3] - intersection
    overlap = intersection / union if union > 0 else 0.0
    enclosing = across.enclosing * down.enclosing
    if measure == BoxMeasure.IOU or not enclosing > 0:
        return overlap
    if measure == BoxMeasure.GIOU:
        return overlap - (enclosing - union) / enclosing
    distance = relative_distance(box, target, across, down)
    if measure == BoxMeasure.DIOU:
        return overlap - distance**0.6
    angle = aspect_error(box, target)
    aspect = angle * angle * 4 / math.pi**2
    return overlap - distance - aspect * aspect / (1 - overlap + aspect + 1e-6)


def box_gradient(box: Box, target: Box, measure: BoxMeasure) -> Box:
    """Direction in which x, y, w, h of ``box`` improve its measure with ``target`` (box.c, dx_box_iou).

    For IoU and GIoU of overlapping boxes: the derivative by x and y, and twice the derivative by w and h. DIoU and
    CIoU add a term for the distance of the centres, whose part through the enclosing box has the opposite sign of the
    derivative in x and y, and CIoU one for the aspect ratio. Boxes that do not overlap get the penalty terms only. All
    as in Darknet, whose learning rates and normalizers are tuned to it. ``target`` has an area.
    """
    x, y, w, h = box
    w, h = w if w != 0 else 1.0, h if h != 0 else 1.0
    box = (x, y, w, h)
    across, down = along(x, w, target[0], target[2]), along(y, h, target[1], target[3])
    # Not cut at 0: apart in one direction the intersection is negative, apart in both it is positive.
    intersection = across.common * down.common
    union = w * h + target[2] * target[3] - intersection
    move_x, grow_w = axis_gradient(across, down, h, intersection, union, measure)
    move_y, grow_h = axis_gradient(down, across, w, intersection, union, measure)
    if measure == BoxMeasure.DIOU or measure == BoxMeasure.CIOU:
        distance = relative_distance(box, target, across, down)
        diagonal = across.enclosing**2 + down.enclosing**2
        move_x += 2 * (target[0] - x - across.enclosing * across.enclosing_moved * distance) / diagonal
        move_y += 2 * (target[1] - y - down.enclosing * down.enclosing_moved * distance) / diagonal
        grow_w += across.enclosing * across.enclosing_grown * distance / diagonal
        grow_h += down.enclosing * down.enclosing_grown * distance / diagonal
    if measure == BoxMeasure.CIOU:
        angle = aspect_error(box, target)
        aspect = angle * angle * 4 / math.pi**2
        overlap = intersection / union if union != 0 else 0.0
        inverse = 1 - overlap + aspect + 1e-6
        pull = 8 / math.pi**2 * angle * aspect / inverse if inverse != 0 else 0.0
        grow_w += pull * h
        grow_h -= pull * w
    return move_x, move_y, grow_w, grow_h


def axis_gradient(
    own: Axis,
    other: Axis,
    other_size: float,
    intersection: float,
    union: float,
    measure: BoxMeasure,
) -> tuple[float, float]:
    """Change of the IoU, or GIoU, as the box moves along an axis, and as its two sides there move outwards."""
    common_moved, common_grown = other.common * own.common_moved, other.common * own.common_grown
    union_moved, union_grown = -common_moved, 2 * other_size - common_grown
    move, grow = 0.0, 0.0
    overlapping = own.common > 0 and other.common > 0
    if union > 0 and (overlapping or measure == BoxMeasure.IOU):
        move = quotient_change(intersection, common_moved, union, union_moved)
        grow = quotient_change(intersection, common_grown, union, union_grown)
    if measure == BoxMeasure.GIOU:
        enclosing = own.enclosing * other.enclosing
        move += quotient_change(union, union_moved, enclosing, other.enclosing * own.enclosing_moved)
        grow += quotient_change(union, union_grown, enclosing, other.enclosing * own.enclosing_grown)
    return move, grow


def quotient_change(numerator: float, numerator_change: float, denominator: float, denominator_change: float) -> float:
    """Derivative of a quotient from the derivatives of its parts."""
    return (denominator * numerator_change - numerator * denominator_change) / (denominator * denominator)


def along(center: float, size: float, target_center: float, target_size: float) -> Axis:
    """What a box and its target have in common on one axis."""
    low, high = center - size / 2, center + size / 2
    target_low, target_high = target_center - target_size / 2, target_center + target_size / 2
    inner_low, inner_high = int(low > target_low), int(high < target_high)
    outer_low, outer_high = int(low < target_low), int(high > target_high)
    return Axis(
        min(high, target_high) - max(low, target_low),
        max(high, target_high) - min(low, target_low),
        inner_high - inner_low,
        inner_high + inner_low,
        outer_high - outer_low,
        outer_high + outer_low,
    )


def relative_distance(box: Box, target: Box, across: Axis, down: Axis) -> float:
    """Squared distance of the centres as a share of the squared diagonal of the enclosing box."""
    squared = (box[0] - target[0]) ** 2 + (box[1] - target[1]) ** 2
    return squared / (across.enclosing**2 + down.enclosing**2)


def aspect_error(box: Box, target: Box) -> float:
    """Difference of the angles whose tangent is width / height: the target's less the box's."""
    return math.atan2(target[2], target[3]) - math.atan2(box[2], box[3])


def double(value: float) -> float:
    """A Python float; compiled, a double (there ``float`` leaves a single one as it is)."""
    return 1.0 * float(value)


PLAIN_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    cell_of,
    learns,
    best_anchor,
    shape_similarity,
    anchor_size,
    train_object,
    train_class,
    teach_class,
    focal_weight,
    train_box,
    limited,
    similarity,
    box_gradient,
    axis_gradient,
    quotient_change,
    along,
    relative_distance,
    aspect_error,
    double,
)
"""What the two steps call: a compiling backend compiles these too."""
