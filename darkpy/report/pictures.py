"""The pictures of a report: some as they come, and those with the worst mistakes."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from darkpy.data.pictures import read_picture
from darkpy.detection import Detection
from darkpy.drawing import draw
from darkpy.errors import DataError

if TYPE_CHECKING:
    from darkpy.data.dataset import Dataset
    from darkpy.evaluation import Evaluation
    from darkpy.evaluation.classifier import ClassifierEvaluation

MOST_DETECTED = 8
"""Pictures of a detector ..."""
MOST_CLASSIFIED = 12
"""... and of a classifier, of which each is shown once and smaller."""

MOST_TYPICAL = 6
"""Pictures that show how it usually goes."""

SIDES = 480, 240, 360
"""The longer side of a picture, in the same order; smaller ones are enlarged, for the labels."""

QUALITY = 82
BUDGET = 1_500_000
"""Bytes of all pictures of one kind together; those that would go beyond it are left out."""

MARK = "✗"
"""Stands with what was missed and with what is wrong."""


@dataclass
class ShownPicture:
    """A picture and what is right or wrong with what was said of it.

    jpegs: the picture; of the worst of a detector that with what there is, and again with what was found.
    """

    name: str
    mistakes: str
    jpegs: list[bytes] = field(default_factory=list)

    @property
    def addresses(self) -> list[str]:
        """The pictures as addresses that hold all of them."""
        return [f"data:image/jpeg;base64,{b64encode(jpeg).decode('ascii')}" for jpeg in self.jpegs]


def worst_detected(evaluation: Evaluation, dataset: Dataset, most: int = MOST_DETECTED) -> list[ShownPicture]:
    """The pictures with the most mistakes at the evaluation's thresholds, the worst first.

    A mistake is an object that was missed, or a detection where no object of its class is. Of pictures with as many
    the one is worse whose wrong detections are more probable.
    """
    predictions, matches, truths = evaluation.predictions, evaluation.matches, evaluation.truths
    right = matches.true_positive(predictions.probability, evaluation.iou_thresh)
    ranked = matches.ranked(predictions.probability, evaluation.iou_thresh)
    shown = ranked[predictions.probability[ranked] > evaluation.thresh]
    wrong = shown[~right[shown]]
    missed = ~truths.difficult
    missed[matches.truth[shown[right[shown]]]] = False
    count = len(dataset)
    mistakes = np.bincount(predictions.picture[wrong], minlength=count)
    mistakes = mistakes + np.bincount(truths.picture[missed], minlength=count)
    surety = np.bincount(predictions.picture[wrong], predictions.probability[wrong], minlength=count)
    order = np.lexsort((-surety, -mistakes))
    names = [result.name for result in evaluation.classes]
    return _within_budget(
        _detected(index, evaluation, dataset, names, shown, right, missed)
        for index in order[: np.count_nonzero(mistakes)][:most].tolist()
    )


def typical_detected(evaluation: Evaluation, dataset: Dataset, most: int = MOST_TYPICAL) -> list[ShownPicture]:
    """Pictures at equal distances in the data set, with what was found: chosen by nobody, so neither good nor bad."""
    predictions, truths = evaluation.predictions, evaluation.truths
    right = evaluation.matches.true_positive(predictions.probability, evaluation.iou_thresh)
    ranked = evaluation.matches.ranked(predictions.probability, evaluation.iou_thresh)
    shown = ranked[predictions.probability[ranked] > evaluation.thresh]
    count = min(most, len(dataset))
    places = [(2 * number + 1) * len(dataset) // (2 * count) for number in range(count)]
    names = [result.name for result in evaluation.classes]

    def typical(index: int) -> ShownPicture | None:
        image = _image(dataset, index, SIDES[2])
        if image is None:
            return None
        rows = shown[predictions.picture[shown] == index]
        objects = int(np.count_nonzero((truths.picture == index) & ~truths.difficult))
        hits = int(np.count_nonzero(right[rows]))
        words = f"found {hits} of {objects}" + (f", {len(rows) - hits} wrong" if hits < len(rows) else "")
        boxes = _found(rows, evaluation, names, right, image)
        return ShownPicture(dataset.pictures[index].name, words, [_jpeg(draw(image, boxes, probabilities=False))])

    return _within_budget(typical(index) for index in places)


def worst_classified(
    evaluation: ClassifierEvaluation, dataset: Dataset, most: int = MOST_CLASSIFIED
) -> list[ShownPicture]:
    """The pictures taken for another class whose own class was thought the least likely, the worst first."""
    guesses = evaluation.guesses[:, 0]
    wrong = np.flatnonzero(guesses != evaluation.class_ids)
    order = wrong[np.argsort(np.nan_to_num(evaluation.expectation[wrong], nan=-1.0), kind="stable")]

    def classified(row: int) -> ShownPicture | None:
        index, guess = int(evaluation.indices[row]), int(guesses[row])
        image = _image(dataset, index, SIDES[1])
        if image is None:
            return None
        taken = "got no numbers"
        if guess >= 0:
            taken = f"taken for {evaluation.names[guess]}, {100 * evaluation.confidence[row]:.0f} %"
        words = f"{evaluation.names[int(evaluation.class_ids[row])]}, {taken}"
        return ShownPicture(dataset.pictures[index].name, words, [_jpeg(image)])

    return _within_budget(classified(row) for row in order[:most].tolist())


def _within_budget(pictures: Iterator[ShownPicture | None]) -> list[ShownPicture]:
    kept: list[ShownPicture] = []
    left = BUDGET
    for picture in pictures:
        if picture is not None:
            left -= sum(map(len, picture.jpegs))
            if left < 0:
                break
            kept.append(picture)
    return kept


def _detected(
    index: int,
    evaluation: Evaluation,
    dataset: Dataset,
    names: Sequence[str],
    shown: NDArray[np.intp],
    right: NDArray[np.bool_],
    missed: NDArray[np.bool_],
) -> ShownPicture | None:
    """One picture, or None if it cannot be read any more."""
    image = _image(dataset, index, SIDES[0])
    if image is None:
        return None
    predictions, truths = evaluation.predictions, evaluation.truths
    height, width = image.shape[:2]
    there = []
    lost: Counter[str] = Counter()
    false: dict[str, list[float]] = {}
    for row in np.flatnonzero(truths.picture == index).tolist():
        class_id = int(truths.class_id[row])
        words = f"{MARK} {names[class_id]}" if missed[row] else names[class_id]
        there.append(_boxed(class_id, words, 1.0, truths.box[row], width, height))
        if missed[row]:
            lost[names[class_id]] += 1
    rows = shown[predictions.picture[shown] == index]
    for row in rows[~right[rows]].tolist():
        false.setdefault(names[int(predictions.class_id[row])], []).append(float(predictions.probability[row]))
    found = _found(rows, evaluation, names, right, image)
    jpegs = [_jpeg(draw(image, boxes, probabilities=False)) for boxes in (there, found)]
    return ShownPicture(dataset.pictures[index].name, _in_words(lost, false), jpegs)


def _found(
    rows: NDArray[np.intp],
    evaluation: Evaluation,
    names: Sequence[str],
    right: NDArray[np.bool_],
    image: NDArray[np.uint8],
) -> list[Detection]:
    """Detections, those that are wrong with a mark."""
    predictions = evaluation.predictions
    height, width = image.shape[:2]
    found = []
    for row in rows.tolist():
        class_id, probability = int(predictions.class_id[row]), float(predictions.probability[row])
        words = f"{'' if right[row] else f'{MARK} '}{names[class_id]} {100 * probability:.0f} %"
        found.append(_boxed(class_id, words, probability, predictions.box[row], width, height))
    return found


def _in_words(lost: Counter[str], false: dict[str, list[float]]) -> str:
    """What was missed and what is wrong, class by class: ``missed 2 × cat; wrong dog 70 %``."""
    parts = []
    if lost:
        listed = (name if times == 1 else f"{times} × {name}" for name, times in lost.items())
        parts.append(f"missed {', '.join(listed)}")
    if false:
        claimed = (
            f"{1 + len(others)} × {name} up to {100 * surest:.0f} %" if others else f"{name} {100 * surest:.0f} %"
            for name, (surest, *others) in false.items()
        )
        parts.append(f"wrong {', '.join(claimed)}")
    return "; ".join(parts)


def _boxed(
    class_id: int, words: str, probability: float, box: NDArray[np.float32], width: int, height: int
) -> Detection:
    x, y, w, h = (float(value) for value in box)
    return Detection(class_id, words, probability, x * width, y * height, w * width, h * height)


def _image(dataset: Dataset, index: int, side: int) -> NDArray[np.uint8] | None:
    """BGR (h, w, 3) with the longer side as given; None for a picture that is none of three or one channels."""
    import cv2

    try:
        image = read_picture(dataset.pictures[index], 3)
    except DataError:
        return None
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return np.ascontiguousarray(resized[..., ::-1], dtype=np.uint8)


def _jpeg(image_bgr: NDArray[np.uint8]) -> bytes:
    import cv2

    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(data)
