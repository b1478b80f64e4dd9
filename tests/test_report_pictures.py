"""The worst pictures of a report."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.data.classification import ClassificationDataset
from darkpy.data.dataset import Dataset
from darkpy.drawing import class_color
from darkpy.evaluation import Evaluation, Predictions, Truths, assess
from darkpy.evaluation.classifier import ClassifierEvaluation
from darkpy.report import pictures
from darkpy.report.pictures import typical_detected, worst_classified, worst_detected


def assessed(
    claims: Sequence[tuple[float, ...]],
    objects: Sequence[tuple[float, ...]],
    names: Sequence[str],
    count: int,
    difficult: Sequence[int] = (),
) -> Evaluation:
    """From rows (picture, class, probability, x, y, w, h) and (picture, class, x, y, w, h), sorted by picture."""
    claimed = np.array(claims, np.float32).reshape(-1, 7)
    there = np.array(objects, np.float32).reshape(-1, 6)
    flags = np.isin(np.arange(len(there)), difficult)
    return assess(
        Predictions(claimed[:, 0].astype(np.int32), claimed[:, 1].astype(np.int32), claimed[:, 2], claimed[:, 3:]),
        Truths(there[:, 0].astype(np.int32), there[:, 1].astype(np.int32), there[:, 2:], flags),
        names,
        pictures=count,
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Four grey pictures, 100 x 50."""
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        cv2.imwrite(str(path), np.full((50, 100, 3), 128, np.uint8))
    return Dataset("grey", ["cat", "dog"], paths)


LEFT, RIGHT = (0.25, 0.5, 0.2, 0.4), (0.75, 0.5, 0.2, 0.4)


@pytest.fixture
def evaluation() -> Evaluation:
    """Picture 0 is right, 1 misses a dog that need not be found, 2 has one mistake, 3 has three."""
    claims = [
        (0, 0, 0.9, *LEFT),
        (2, 0, 0.8, *LEFT), (2, 1, 0.95, *RIGHT), (2, 1, 0.1, *LEFT),
        (3, 1, 0.7, *LEFT),
    ]  # fmt: skip
    objects = [(0, 0, *LEFT), (1, 1, *LEFT), (2, 0, *LEFT), (3, 0, *LEFT), (3, 0, *RIGHT)]
    return assessed(claims, objects, ["cat", "dog"], 4, difficult=[1])


def test_worst_come_first_with_what_is_wrong(evaluation: Evaluation, dataset: Dataset) -> None:
    found = worst_detected(evaluation, dataset)
    assert [(picture.name, picture.mistakes) for picture in found] == [
        ("3.png", "missed 2 × cat; wrong dog 70 %"),
        ("2.png", "wrong dog 95 %"),  # what is below the threshold is no mistake
    ]
    assert [picture.name for picture in worst_detected(evaluation, dataset, most=1)] == ["3.png"]


def test_mistakes_of_a_class_are_counted(dataset: Dataset) -> None:
    claims = [(1, 1, probability, *LEFT) for probability in (0.5, 0.9, 0.4)] + [(1, 0, 0.6, *RIGHT)]
    [picture] = worst_detected(assessed(claims, [], ["cat", "dog"], 4), dataset)
    assert picture.mistakes == "wrong 3 × dog up to 90 %, cat 60 %"


def test_of_as_many_mistakes_the_surer_ones_are_worse(dataset: Dataset) -> None:
    claims = [(0, 0, 0.4, *LEFT), (1, 0, 0.9, *LEFT), (2, 0, 0.6, *LEFT)]
    found = worst_detected(assessed(claims, [(3, 0, *LEFT)], ["cat", "dog"], 4), dataset)
    assert [picture.name for picture in found] == ["1.png", "2.png", "0.png", "3.png"]


def test_typical_pictures_are_at_equal_distances(evaluation: Evaluation, dataset: Dataset) -> None:
    found = typical_detected(evaluation, dataset)
    assert [(picture.name, picture.mistakes) for picture in found] == [
        ("0.png", "found 1 of 1"),
        ("1.png", "found 0 of 0"),  # what is difficult to see need not be found
        ("2.png", "found 1 of 1, 1 wrong"),
        ("3.png", "found 0 of 2, 1 wrong"),
    ]
    assert [picture.name for picture in typical_detected(evaluation, dataset, most=2)] == ["1.png", "3.png"]
    [address] = found[2].addresses
    assert has(decoded(address), class_color(0))
    assert has(decoded(address), class_color(1))


def test_truth_and_detections_are_drawn_beside_each_other(evaluation: Evaluation, dataset: Dataset) -> None:
    picture = worst_detected(evaluation, dataset)[0]
    there, found = (decoded(address) for address in picture.addresses)
    assert there.shape == found.shape == (240, 480, 3)
    cat, dog = class_color(0), class_color(1)
    halves = [(image[:, :240], image[:, 240:]) for image in (there, found)]
    shown = [[(has(half, cat), has(half, dog)) for half in pair] for pair in halves]
    assert shown == [[(True, False), (True, False)], [(False, True), (False, False)]]


def decoded(address: str) -> np.ndarray:
    kind, data = address.split(",")
    assert kind == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)


def has(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(image.astype(int) - color).max(axis=2) < 40).sum() > 50)


def test_size_of_all_pictures_is_bounded(
    evaluation: Evaluation, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = worst_detected(evaluation, dataset)
    monkeypatch.setattr(pictures, "BUDGET", sum(map(len, [*first.jpegs, *second.jpegs])) - 1)
    assert [picture.name for picture in worst_detected(evaluation, dataset)] == [first.name]


def test_pictures_that_are_gone_are_left_out(evaluation: Evaluation, dataset: Dataset) -> None:
    dataset.pictures[3].unlink()
    assert [picture.name for picture in worst_detected(evaluation, dataset)] == ["2.png"]


def test_nothing_wrong_nothing_shown(dataset: Dataset) -> None:
    right = assessed([(0, 0, 0.9, *LEFT)], [(0, 0, *LEFT)], ["cat", "dog"], 4)
    assert worst_detected(right, dataset) == []


def test_worst_of_a_classifier(dataset: Dataset) -> None:
    shown = ClassificationDataset("grey", ["cat", "dog"], dataset.pictures, [0, 1, 0, 1])
    evaluation = ClassifierEvaluation(
        names=("cat", "dog"),
        indices=np.array([0, 1, 2, 3]),
        class_ids=np.array([0, 1, 0, 1]),
        guesses=np.array([[0], [0], [1], [-1]]),
        confidence=np.array([0.9, 0.6, 0.8, np.nan], np.float32),
        expectation=np.array([0.9, 0.4, 0.2, np.nan], np.float32),
    )
    found = worst_classified(evaluation, shown)
    assert [(picture.name, picture.mistakes) for picture in found] == [
        ("3.png", "dog, got no numbers"), ("2.png", "cat, taken for dog, 80 %"), ("1.png", "dog, taken for cat, 60 %"),
    ]  # fmt: skip
    assert decoded(found[0].addresses[0]).shape == (120, 240, 3)
