"""The truth of [contrastive] as every backend takes it: objects with an identity, and where their embeddings lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from darkpy.backends.base_yolo import YoloLoss, pack_truth


class Samples(NamedTuple):
    """Embeddings of objects: where they lie (k, 4: picture, slot, row, column), whose they are, and their class."""

    places: np.ndarray
    labels: np.ndarray
    classes: np.ndarray


def find_samples(truth: Sequence[np.ndarray], height: int, width: int, head: YoloLoss) -> Samples:
    """The objects whose best anchor is this head's, in the order of places; of two in one place the later one.

    ``truth``: per picture (m, 6) of class, cx, cy, w, h, identity; height and width: of the grid.
    """
    packed = pack_truth(truth, head.classes, head.max_boxes, columns=6)
    pictures = np.repeat(np.arange(len(packed.starts) - 1), np.diff(packed.starts))
    class_id, x, y, _, _, label = packed.rows.T
    anchors = best_anchors(packed.rows[:, 3:5], head)
    slots = np.argmax(anchors[:, None] == head.mask, axis=1)
    rows = np.minimum((y * height).astype(np.int64), height - 1)
    columns = np.minimum((x * width).astype(np.int64), width - 1)
    learned = (anchors[:, None] == head.mask).any(axis=1)
    places = np.stack([pictures, slots, rows, columns], axis=1)[learned]
    _, last = np.unique(places[::-1], axis=0, return_index=True)
    chosen = len(places) - 1 - last
    samples = places[chosen], label[learned][chosen].astype(np.int64), class_id[learned][chosen].astype(np.int64)
    known = samples[1] >= 0
    return Samples(*(part[known] for part in samples))


def best_anchors(sizes: np.ndarray, head: YoloLoss) -> np.ndarray:
    """For objects of relative w, h (k, 2) the anchor of all heads with the highest shape IoU, the first of equals."""
    anchors = head.anchors / (head.width, head.height)
    common = np.minimum(sizes[:, None], anchors).prod(axis=2)
    union = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1) - common
    return (common / union).argmax(axis=1)
