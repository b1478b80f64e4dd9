"""What the YOLO operations of every backend take and return: settings, packed truth, the parts of the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

BOX_CHANNELS = 4
"""x, y, w, h come first among the channels of an anchor ..."""
OBJECTNESS = 4
"""... then the objectness ..."""
CLASS = 5
"""... then one channel per class."""


class BoxMeasure(IntEnum):
    """How well two boxes fit; also names the box loss, where MSE compares coordinates instead."""

    MSE = 0
    IOU = 1
    GIOU = 2
    DIOU = 3
    CIOU = 4


@dataclass(frozen=True)
class YoloDecode:
    """What turns a head's output into boxes.

    ``anchors`` (a, 2): width and height of the head's own anchors in pixels of the network's input, which is
    ``width`` x ``height`` pixels. With ``new_coords`` the values are squared instead of exponentiated.
    """

    anchors: np.ndarray
    classes: int
    width: int
    height: int
    new_coords: bool = False


class YoloLoss(NamedTuple):
    """Everything the loss of a head depends on; build it with :func:`yolo_loss_settings`.

    A named tuple of numbers and arrays, because compiled code reads it as it is. The fields bear the names of the cfg
    keys. ``anchors`` (num, 2) are those of all heads, ``mask`` (a,) says which are this head's. The factors (classes,)
    come from ``counters_per_class``: ``class_multipliers`` weigh the objectness and the box of an object of a class,
    ``class_factors`` its class probability.
    """

    anchors: np.ndarray
    mask: np.ndarray
    classes: int
    width: int
    height: int
    class_multipliers: np.ndarray
    class_factors: np.ndarray
    iou_loss: BoxMeasure
    iou_thresh_kind: BoxMeasure
    ignore_thresh: float
    truth_thresh: float
    iou_thresh: float
    iou_normalizer: float
    obj_normalizer: float
    max_delta: float
    label_smooth_eps: float
    new_coords: bool
    objectness_smooth: bool
    focal_loss: bool
    sum_of_squares: bool
    max_boxes: int

    def decode(self) -> YoloDecode:
        """The part that turns outputs into boxes."""
        return YoloDecode(self.anchors[self.mask], self.classes, self.width, self.height, self.new_coords)


def yolo_loss_settings(
    anchors: Sequence[tuple[float, float]] | np.ndarray,
    mask: Sequence[int],
    classes: int,
    width: int,
    height: int,
    *,
    counters_per_class: Sequence[int] = (),
    iou_loss: str = "mse",
    iou_thresh_kind: str = "iou",
    ignore_thresh: float = 0.5,
    truth_thresh: float = 1.0,
    iou_thresh: float = 1.0,
    iou_normalizer: float = 0.75,
    obj_normalizer: float = 1.0,
    cls_normalizer: float = 1.0,
    max_delta: float = math.inf,
    label_smooth_eps: float = 0.0,
    new_coords: bool = False,
    objectness_smooth: bool = False,
    focal_loss: bool = False,
    show_details: bool = True,
    max_boxes: int = 200,
) -> YoloLoss:
    """The settings of a loss from the values of the cfg keys, with Darknet's defaults (parser.c, parse_yolo).

    ``anchors`` (num, 2) in pixels of the network's input of ``width`` x ``height``; ``mask``: the head's own among
    them; ``counters_per_class``: how many objects of each class the data has, empty to weigh all classes alike.
    """
    multipliers = class_factors = np.ones(classes)
    if len(counters_per_class):
        counters = np.maximum(np.asarray(counters_per_class, float), 1.0)
        multipliers = np.minimum(counters.max() / counters, max_delta)
        class_factors = multipliers * cls_normalizer
    return YoloLoss(
        anchors=np.ascontiguousarray(anchors, float).reshape(-1, 2),
        mask=np.asarray(mask, np.int64),
        classes=int(classes),
        width=int(width),
        height=int(height),
        class_multipliers=multipliers,
        class_factors=class_factors,
        iou_loss=BoxMeasure[iou_loss.upper()],
        iou_thresh_kind=BoxMeasure[iou_thresh_kind.upper()],
        ignore_thresh=float(ignore_thresh),
        truth_thresh=float(truth_thresh),
        iou_thresh=float(iou_thresh),
        iou_normalizer=float(iou_normalizer),
        obj_normalizer=float(obj_normalizer),
        max_delta=float(max_delta),
        label_smooth_eps=float(label_smooth_eps),
        new_coords=bool(new_coords),
        objectness_smooth=bool(objectness_smooth),
        focal_loss=bool(focal_loss),
        sum_of_squares=not show_details,
        max_boxes=int(max_boxes),
    )


@dataclass(frozen=True)
class LossParts:
    """The loss of one head over a mini-batch, and how well it does; nothing is divided by the number of pictures.

    ``cost`` = ``box`` + ``objectness`` + ``classification``. The averages are over the ``count`` anchors that were
    given an object (0 where there is none): IoU, share with IoU above 0.5 and 0.75, objectness and probability of the
    right class; ``avg_background`` is the objectness averaged over all cells and anchors.
    """

    cost: float
    box: float
    objectness: float
    classification: float
    count: int
    avg_iou: float
    recall50: float
    recall75: float
    avg_objectness: float
    avg_class: float
    avg_background: float


class PackedTruth(NamedTuple):
    """The objects of a mini-batch: ``rows`` (k, 5) of class, cx, cy, w, h; picture i has rows starts[i]:starts[i+1]."""

    rows: np.ndarray
    starts: np.ndarray


def pack_truth(truth: Sequence[np.ndarray], classes: int, max_boxes: int, columns: int = 5) -> PackedTruth:
    """Join the pictures' objects, leaving out what no cell can learn.

    ``truth``: one array (n_i, 5) per picture, or one array (n, m, 5); rows (class, cx, cy, w, h), relative to the
    picture. A sixth number of a row is the object's identity; it is kept if ``columns`` is 6, and -1 where there is
    none. Of each picture the first ``max_boxes`` rows count, up to a row with cx = 0, which ends the list as in
    Darknet (forward_yolo_layer). Rows of an unknown class, without area, or centred outside the picture are left out:
    for those Darknet writes outside the cell or infinite gradients.
    """
    chosen = []
    for given in truth:
        rows = object_rows(given, columns)[:max_boxes]
        if not rows[:, 1].all():
            rows = rows[: int(np.argmin(rows[:, 1] != 0))]
        chosen.append(rows)
    starts = np.zeros(len(chosen) + 1, np.int64)
    np.cumsum([len(rows) for rows in chosen], out=starts[1:])
    joined = np.concatenate(chosen) if chosen else np.empty((0, columns), np.float32)
    label, x, y, w, h = joined[:, :5].T
    usable = (label >= 0) & (label < classes) & (x <= 1) & (x > 0) & (y >= 0) & (y <= 1) & (w > 0) & (h > 0)
    if not usable.all():
        kept_before = np.concatenate([[0], np.cumsum(usable)])
        joined, starts = joined[usable], kept_before[starts]
    return PackedTruth(joined, starts)


def packed_truth(truth: PackedTruth | Sequence[np.ndarray], classes: int, max_boxes: int) -> PackedTruth:
    """What :func:`pack_truth` makes of objects; those that are packed stay as they are."""
    return truth if isinstance(truth, PackedTruth) else pack_truth(truth, classes, max_boxes)


def object_rows(rows: np.ndarray, columns: int = 5) -> np.ndarray:
    """The objects of one picture as float32 (m, columns): further columns are cut off, missing ones are -1."""
    rows = np.asarray(rows, np.float32)
    rows = rows.reshape(-1, rows.shape[-1] if rows.size else columns)[:, :columns]
    if rows.shape[1] == columns:
        return rows
    missing = np.full((len(rows), columns - rows.shape[1]), -1, np.float32)
    return np.concatenate([rows, missing], axis=1)
