"""The steps of the [region] loss that teach single objects, cell by cell (Darknet: region_layer.c).

Written, like :mod:`.yolo_cells`, in the part of Python that Numba compiles as it stands. Array axes are those of
:mod:`.yolo`; the entry points are :func:`teach_fitting_cells` and :func:`assign_objects`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from darkpy.backends.base_heads import RegionSettings
from darkpy.backends.base_yolo import CLASS, OBJECTNESS, BoxMeasure
from darkpy.backends.numpy.yolo_cells import (
    CLASS_PROBABILITY,
    COUNT,
    IOU,
    OBJECT,
    RECALL50,
    RECALL75,
    cell_of,
    double,
    focal_weight,
    similarity,
)


def teach_fitting_cells(
    output: np.ndarray,
    rows: np.ndarray,
    grad: np.ndarray,
    cells: np.ndarray,
    best_truth: np.ndarray,
    settings: RegionSettings,
) -> None:
    """Teach each of ``cells`` (k, 4: picture, slot, row, column) the class of the object its box fits best.

    With ``classfix=2`` the more, the surer the box is of seeing something.
    """
    for index in range(len(cells)):
        picture, slot, row, column = cells[index]
        scale = settings.class_scale
        if settings.classfix == 2:
            scale *= double(output[picture, slot, OBJECTNESS, row, column])
        class_id = int(rows[best_truth[picture, slot, row, column], 0])
        teach_class(output, grad, picture, slot, row, column, class_id, scale, settings)


def assign_objects(
    output: np.ndarray,
    boxes: np.ndarray,
    rows: np.ndarray,
    starts: np.ndarray,
    grad: np.ndarray,
    settings: RegionSettings,
    totals: np.ndarray,
) -> None:
    """Let every object teach the anchor of its cell whose shape fits best; add up ``totals`` (TOTALS,)."""
    height, width = output.shape[3:]
    for picture in range(len(output)):
        for index in range(starts[picture], starts[picture + 1]):
            truth = rows[index]
            column, row = cell_of(truth[1], width), cell_of(truth[2], height)
            slot = best_slot(boxes, picture, row, column, truth, settings)
            teach_object(output, boxes, grad, picture, slot, row, column, truth, settings, totals)


def best_slot(
    boxes: np.ndarray, picture: int, row: int, column: int, truth: np.ndarray, settings: RegionSettings
) -> int:
    """The anchor whose shape has the highest IoU with the object's, the first of equals.

    The shape is that of the predicted box, or with ``bias_match`` that of the anchor itself.
    """
    height, width = boxes.shape[3:]
    best, best_overlap = 0, 0.0
    for slot in range(len(settings.anchors)):
        w, h = double(boxes[picture, slot, 2, row, column]), double(boxes[picture, slot, 3, row, column])
        if settings.bias_match:
            w, h = double(settings.anchors[slot, 0]) / width, double(settings.anchors[slot, 1]) / height
        overlap = similarity((0.0, 0.0, w, h), (0.0, 0.0, double(truth[3]), double(truth[4])), BoxMeasure.IOU)
        if overlap > best_overlap:
            best, best_overlap = slot, overlap
    return best


def teach_object(
    output: np.ndarray,
    boxes: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    truth: np.ndarray,
    settings: RegionSettings,
    totals: np.ndarray,
) -> None:
    """Teach one anchor of one cell one object: box, objectness and class."""
    class_id = int(truth[0])
    teach_box(output, grad, picture, slot, row, column, truth, settings)
    predicted = (
        double(boxes[picture, slot, 0, row, column]),
        double(boxes[picture, slot, 1, row, column]),
        double(boxes[picture, slot, 2, row, column]),
        double(boxes[picture, slot, 3, row, column]),
    )
    target = (double(truth[1]), double(truth[2]), double(truth[3]), double(truth[4]))
    overlap = similarity(predicted, target, BoxMeasure.IOU)
    objectness = double(output[picture, slot, OBJECTNESS, row, column])
    error = objectness - (overlap if settings.rescore else 1.0)
    grad[picture, slot, OBJECTNESS, row, column] = settings.object_scale * error * objectness * (1 - objectness)
    probability = teach_class(output, grad, picture, slot, row, column, class_id, settings.class_scale, settings)
    totals[COUNT] += 1
    totals[IOU] += overlap
    totals[RECALL50] += overlap > 0.5
    totals[RECALL75] += overlap > 0.75
    totals[OBJECT] += objectness
    totals[CLASS_PROBABILITY] += probability


def teach_box(
    output: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    truth: np.ndarray,
    settings: RegionSettings,
) -> None:
    """Gradient of the squared errors of x and y within the cell, and of the logarithms of w and h in anchors."""
    height, width = output.shape[3:]
    x = logistic(double(output[picture, slot, 0, row, column]))
    y = logistic(double(output[picture, slot, 1, row, column]))
    goal_w = math.log(double(truth[3]) * width / settings.anchors[slot, 0])
    goal_h = math.log(double(truth[4]) * height / settings.anchors[slot, 1])
    scale = settings.coord_scale
    grad[picture, slot, 0, row, column] = scale * (x - (double(truth[1]) * width - column)) * x * (1 - x)
    grad[picture, slot, 1, row, column] = scale * (y - (double(truth[2]) * height - row)) * y * (1 - y)
    grad[picture, slot, 2, row, column] = scale * (double(output[picture, slot, 2, row, column]) - goal_w)
    grad[picture, slot, 3, row, column] = scale * (double(output[picture, slot, 3, row, column]) - goal_h)


def teach_class(
    output: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    class_id: int,
    scale: float,
    settings: RegionSettings,
) -> float:
    """Gradient of the class probabilities; returns the probability of the class.

    With a tree, the class and all its parents are taught, each within its group.
    """
    tree = settings.tree
    if len(tree.parents) == 0:
        probability = double(output[picture, slot, CLASS + class_id, row, column])
        if settings.focal_loss:
            scale *= focal_weight(probability)
        teach_group(output, grad, picture, slot, row, column, class_id, 0, settings.classes, scale)
        return probability
    whole = 1.0
    while class_id >= 0:
        whole *= double(output[picture, slot, CLASS + class_id, row, column])
        first, last = tree.first[class_id], tree.last[class_id]
        teach_group(output, grad, picture, slot, row, column, class_id, first, last, scale)
        class_id = tree.parents[class_id]
    return whole


def teach_group(
    output: np.ndarray,
    grad: np.ndarray,
    picture: int,
    slot: int,
    row: int,
    column: int,
    class_id: int,
    first: int,
    last: int,
    scale: float,
) -> None:
    """Gradient of the classes first to last, of which ``class_id`` is the right one."""
    for other in range(first, last):
        error = double(output[picture, slot, CLASS + other, row, column]) - (1.0 if other == class_id else 0.0)
        grad[picture, slot, CLASS + other, row, column] = scale * error


def logistic(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    tail = math.exp(-abs(x))
    return 1 / (1 + tail) if x >= 0 else tail / (1 + tail)


PLAIN_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    best_slot,
    teach_object,
    teach_box,
    teach_class,
    teach_group,
    logistic,
)
"""What the two steps call: a compiling backend compiles these too."""
