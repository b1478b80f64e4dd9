"""The YOLOv1 head: decoding, loss and its gradient, and boxes (Darknet: detection_layer.c; equal numbers are meant)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from darkpy.backends.base_heads import DetectionSettings
from darkpy.backends.base_yolo import BOX_CHANNELS, LossParts
from darkpy.backends.numpy.softmax import SoftmaxOperations
from darkpy.backends.numpy.yolo import summed_parts
from darkpy.backends.numpy.yolo_cells import CLASS_PROBABILITY, COUNT, IOU, OBJECT, RECALL50, RECALL75, TOTALS

SMALL = 0.1
"""With ``forced``, objects that cover less of the picture than this belong to the second box of a cell."""


class Values(NamedTuple):
    """The parts of a head's array (n, values): (n, cells, classes), (n, cells, num) and (n, cells, num, 4)."""

    classes: np.ndarray
    objectness: np.ndarray
    boxes: np.ndarray


class DetectionOperations(SoftmaxOperations):
    """The operations of [detection]."""

    def detection_forward(self, x: np.ndarray, out: np.ndarray, settings: DetectionSettings) -> None:
        """See :meth:`Backend.detection_forward`."""
        if out is not x:
            np.copyto(out, x)
        if settings.softmax:
            classes = split_values(out, settings).classes
            self.softmax_forward(classes, classes, 1.0)

    def detection_loss(
        self,
        output: np.ndarray,
        truth: np.ndarray,
        grad: np.ndarray,
        settings: DetectionSettings,
        chosen: np.ndarray | None = None,
    ) -> LossParts:
        """See :meth:`Backend.detection_loss`; ``grad`` is the negative of Darknet's delta."""
        values, gradient = split_values(output, settings), split_values(grad, settings)
        grad.fill(0)
        np.multiply(values.objectness, settings.noobject_scale, out=gradient.objectness)
        picture, cell = np.nonzero(truth[:, :, 0].astype(np.int64))
        objects = truth[picture, cell].astype(output.dtype)
        labels, targets = objects[:, 1:-BOX_CHANNELS], objects[:, -BOX_CHANNELS:]
        classes = values.classes[picture, cell]
        gradient.classes[picture, cell] = settings.class_scale * (classes - labels)
        overlaps, distances = fit(values.boxes[picture, cell], targets, settings)
        box = best_box(overlaps, distances, targets, settings)
        if chosen is not None:
            wanted = chosen[picture, cell]
            box = np.where(wanted < 0, box, wanted)
        overlap = overlaps[np.arange(len(box)), box]
        objectness = values.objectness[picture, cell, box]
        goal = overlap if settings.rescore else 1
        gradient.objectness[picture, cell, box] = settings.object_scale * (objectness - goal)
        predicted = values.boxes[picture, cell, box]
        gradient.boxes[picture, cell, box] = settings.coord_scale * (predicted - coordinates(targets, settings))
        totals = np.zeros(TOTALS)
        totals[COUNT], totals[IOU], totals[OBJECT] = len(box), overlap.sum(), objectness.sum()
        totals[RECALL50], totals[RECALL75] = (overlap > 0.5).sum(), (overlap > 0.75).sum()
        totals[CLASS_PROBABILITY] = classes[labels != 0].sum()
        costs = [np.square(part, dtype=np.float64).sum() for part in (gradient.boxes, gradient.objectness)]
        costs.append(np.square(gradient.classes, dtype=np.float64).sum())
        return summed_parts(np.array(costs), totals, float(values.objectness.mean()))

    def detection_boxes(
        self, output: np.ndarray, image: int, thresh: float, settings: DetectionSettings
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`Backend.detection_boxes`; cell by cell, row-major, and within a cell box by box."""
        values = split_values(output[image : image + 1], settings)
        row, column = np.divmod(np.arange(settings.side**2), settings.side)
        boxes = values.boxes[0].copy()
        boxes[..., 0] = (boxes[..., 0] + column[:, None].astype(output.dtype)) / settings.side
        boxes[..., 1] = (boxes[..., 1] + row[:, None].astype(output.dtype)) / settings.side
        if settings.sqrt:
            np.square(boxes[..., 2:], out=boxes[..., 2:])
        probabilities = values.objectness[0, :, :, None] * values.classes[0, :, None]
        probabilities[probabilities <= thresh] = 0
        return (
            boxes.reshape(-1, BOX_CHANNELS),
            values.objectness[0].reshape(-1).copy(),
            probabilities.reshape(-1, settings.classes),
        )


def split_values(array: np.ndarray, settings: DetectionSettings) -> Values:
    """A head's array (n, values) as views of its parts."""
    cells = settings.side**2
    first_objectness = cells * settings.classes
    first_box = first_objectness + cells * settings.num
    return Values(
        array[:, :first_objectness].reshape(-1, cells, settings.classes),
        array[:, first_objectness:first_box].reshape(-1, cells, settings.num),
        array[:, first_box:].reshape(-1, cells, settings.num, BOX_CHANNELS),
    )


def coordinates(targets: np.ndarray, settings: DetectionSettings) -> np.ndarray:
    """What a box should predict for objects (k, 4) of x, y within the cell and relative w, h."""
    if not settings.sqrt:
        return targets
    return np.concatenate([targets[:, :2], np.sqrt(targets[:, 2:])], axis=1)


def fit(boxes: np.ndarray, targets: np.ndarray, settings: DetectionSettings) -> tuple[np.ndarray, np.ndarray]:
    """IoU and distance (k, num) of each cell's boxes (k, num, 4) with its object (k, 4).

    The distance is the root of the sum of the four squared differences (box.c, box_rmse).
    """
    x, y, w, h = np.moveaxis(boxes, -1, 0)
    target_x, target_y, target_w, target_h = targets.T[:, :, None]
    x, y, target_x, target_y = (position / settings.side for position in (x, y, target_x, target_y))
    with np.errstate(over="ignore", invalid="ignore"):
        if settings.sqrt:
            w, h = w * w, h * h
        across = np.minimum(x + w / 2, target_x + target_w / 2) - np.maximum(x - w / 2, target_x - target_w / 2)
        down = np.minimum(y + h / 2, target_y + target_h / 2) - np.maximum(y - h / 2, target_y - target_h / 2)
        common = np.maximum(across, 0) * np.maximum(down, 0)
        union = w * h + target_w * target_h - common
        overlap = np.divide(common, union, out=np.zeros_like(common), where=(common > 0) & (union != 0))
        squares = (x - target_x) ** 2 + (y - target_y) ** 2 + (w - target_w) ** 2 + (h - target_h) ** 2
        return overlap, np.sqrt(squares)


def best_box(
    overlaps: np.ndarray, distances: np.ndarray, targets: np.ndarray, settings: DetectionSettings
) -> np.ndarray:
    """Which of each cell's boxes learns its object (k,): the one with the best IoU, without overlap the nearest."""
    if settings.forced:
        return (targets[:, 2] * targets[:, 3] < SMALL).astype(np.int64)
    touching = (overlaps > 0).any(axis=1)
    return np.where(touching, overlaps.argmax(axis=1), distances.argmin(axis=1))
