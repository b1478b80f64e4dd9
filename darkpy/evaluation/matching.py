"""Which detection found which object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpy.boxes import Kept, iou


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a detector claims about a set of pictures: one row per box and class.

    picture: (n,) int32, index of the picture, ascending. class_id: (n,) int32. probability: (n,) float32.
    box: (n, 4) float32, x y w h relative to the picture.
    """

    picture: NDArray[np.int32]
    class_id: NDArray[np.int32]
    probability: NDArray[np.float32]
    box: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.picture)

    @classmethod
    def of_picture(
        cls, picture: int, boxes: NDArray[np.float32], probabilities: NDArray[np.float32], most: int | None = None
    ) -> Predictions:
        """The rows of one picture from its boxes (k, 4) and their probabilities (k, classes), 0 = not claimed.

        With ``most``, only that many of the most probable are kept.
        """
        return cls.of_kept(picture, Kept.of(boxes, probabilities), most)

    @classmethod
    def of_kept(cls, picture: int, kept: Kept, most: int | None = None) -> Predictions:
        """The rows of one picture from what remains of its boxes; with ``most``, only the most probable."""
        if most is not None and len(kept.probabilities) > most:
            surest = np.sort(np.argpartition(-kept.probabilities, most)[:most])
            kept = Kept(kept.boxes[surest], kept.class_ids[surest], kept.probabilities[surest])
        return cls(
            np.full(len(kept.probabilities), picture, np.int32),
            kept.class_ids.astype(np.int32),
            kept.probabilities.astype(np.float32, copy=False),
            kept.boxes.astype(np.float32, copy=False),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """All rows of the parts, in their order."""
        empty = cls.of_picture(0, np.empty((0, 4), np.float32), np.empty((0, 1), np.float32))
        columns = ([getattr(part, name) for part in [empty, *parts]] for name in cls.__dataclass_fields__)
        return cls(*map(np.concatenate, columns))


@dataclass(frozen=True, eq=False)
class Truths:
    """The objects in a set of pictures, one row each.

    picture: (m,) int32, ascending. class_id: (m,) int32. box: (m, 4) float32, x y w h relative to the picture.
    difficult: (m,) bool: need not be found, and finding it is no mistake.
    """

    picture: NDArray[np.int32]
    class_id: NDArray[np.int32]
    box: NDArray[np.float32]
    difficult: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.picture)

    def count(self, classes: int) -> NDArray[np.intp]:
        """(classes,): the objects of each class that count; the difficult ones do not."""
        return np.bincount(self.class_id[~self.difficult], minlength=classes)

    @classmethod
    def concatenate(
        cls, pictures: Sequence[int], boxes: Sequence[NDArray[np.float32]], difficult: Sequence[NDArray[np.bool_]]
    ) -> Truths:
        """From one array (n, 5) class x y w h and one (n,) bool per picture."""
        rows = np.concatenate([np.empty((0, 5), np.float32), *boxes]).astype(np.float32, copy=False)
        picture = np.repeat(np.asarray(pictures, np.int32), [len(part) for part in boxes])
        flags = np.concatenate([np.empty(0, bool), *difficult]).astype(bool, copy=False)
        return cls(picture, rows[:, 0].astype(np.int32), rows[:, 1:], flags)


@dataclass(frozen=True, eq=False)
class Matches:
    """For each prediction the object of its class in its picture that it overlaps most, at whatever IoU.

    truth: (n,) row in the truths, -1 where there is none that it touches; iou: (n,) float32, 0 there.
    difficult_iou: (n,) float32, the greatest IoU with a difficult object of its class.
    """

    truth: NDArray[np.intp]
    iou: NDArray[np.float32]
    difficult_iou: NDArray[np.float32]

    def found(self, iou_thresh: float) -> NDArray[np.bool_]:
        """(n,): whether the prediction overlaps an object of its class by more than the threshold."""
        return self.iou > iou_thresh

    def ignored(self, iou_thresh: float) -> NDArray[np.bool_]:
        """(n,): whether all it found is a difficult object, so that it counts neither as right nor as wrong."""
        return ~self.found(iou_thresh) & (self.difficult_iou > iou_thresh)

    def ranked(self, probability: NDArray[np.float32], iou_thresh: float) -> NDArray[np.intp]:
        """The rows of the predictions that count, from the most to the least probable, equal ones in their order."""
        order = np.argsort(-probability, kind="stable")
        return order[~self.ignored(iou_thresh)[order]]

    def true_positive(self, probability: NDArray[np.float32], iou_thresh: float) -> NDArray[np.bool_]:
        """(n,): whether the prediction is the most probable of those that found its object.

        The others that found the same object are false positives, even if they overlap another one as well (Pascal
        VOC, Darknet; COCO lets them have the other one).
        """
        order = self.ranked(probability, iou_thresh)
        order = order[self.found(iou_thresh)[order]]
        _, first = np.unique(self.truth[order], return_index=True)
        result = np.zeros(len(probability), bool)
        result[order[first]] = True
        return result


def match(predictions: Predictions, truths: Truths) -> Matches:
    """Find for every prediction its object: of those of the same class and picture the one with the greatest IoU.

    Of objects with equal IoU the first one is taken (Darknet, validate_detector_map).
    """
    matches = Matches(
        np.full(len(predictions), -1, np.intp),
        np.zeros(len(predictions), np.float32),
        np.zeros(len(predictions), np.float32),
    )
    pictures, begin = np.unique(truths.picture, return_index=True)
    end = np.append(begin[1:], len(truths.picture))
    claims_begin = np.searchsorted(predictions.picture, pictures, side="left")
    claims_end = np.searchsorted(predictions.picture, pictures, side="right")
    for here, there in zip(map(slice, begin, end), map(slice, claims_begin, claims_end)):
        _match_picture(predictions, truths, here, there, matches)
    return matches


def _match_picture(predictions: Predictions, truths: Truths, here: slice, there: slice, matches: Matches) -> None:
    """Fill in the matches ``there`` (rows of the predictions) with the truths ``here``, both of one picture."""
    overlap = np.nan_to_num(iou(predictions.box[there], truths.box[here]))
    overlap[predictions.class_id[there, None] != truths.class_id[None, here]] = 0
    difficult = truths.difficult[here]
    matches.difficult_iou[there] = overlap[:, difficult].max(axis=1, initial=0)
    overlap[:, difficult] = 0
    best = overlap.argmax(axis=1)
    matches.iou[there] = overlap[np.arange(len(best)), best]
    matches.truth[there] = np.where(matches.iou[there] > 0, best + here.start, -1)
