from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.evaluation import Predictions, Truths, assess
from darkpy.evaluation.plots import MOST_NAMED, write_plots
from tests.test_evaluation_report import evaluation


def many(classes: int, pictures: int = 20) -> tuple[Predictions, Truths, list[str]]:
    """Good detections of many classes, and bad ones."""
    generator = np.random.default_rng(1)
    boxes = generator.uniform(0.2, 0.8, (pictures, 3, 4)) * [1, 1, 0.3, 0.3]
    kinds = generator.integers(0, classes, (pictures, 3, 1))
    truths = Truths.concatenate(range(pictures), list(np.concatenate([kinds, boxes], 2)), [np.zeros(3, bool)] * pictures)
    parts = []
    for index in range(pictures):
        chance = np.zeros((3, classes), np.float32)
        chance[np.arange(3), np.where(generator.random(3) < 0.8, kinds[index, :, 0], 0)] = generator.random(3)
        parts.append(Predictions.of_picture(index, boxes[index].astype(np.float32), chance))
    return Predictions.concatenate(parts), truths, [f"class $number {n}_" for n in range(classes)]


@pytest.mark.parametrize("classes", [3, MOST_NAMED + 1])
def test_three_pictures_are_written(tmp_path, classes):
    predictions, truths, names = many(classes)
    result = assess(predictions, truths, names, pictures=20)
    paths = write_plots(result, tmp_path / "new", "best.weights $1_2$")
    assert [path.name for path in paths] == ["precision-recall.png", "f1.png", "confusion.png"]
    for path in paths:
        image = cv2.imread(str(path))
        assert min(image.shape[:2]) > 400 and len(np.unique(image.reshape(-1, 3), axis=0)) > 20


def test_nothing_found_and_nothing_there(tmp_path: Path):
    for claims, objects in (([], []), ([], [(0, 0, (0.5, 0.5, 0.1, 0.1))]), ([(0, 0, 0.9, (0.5, 0.5, 0.1, 0.1))], [])):
        assert all(path.stat().st_size > 1000 for path in write_plots(evaluation(claims, objects), tmp_path, "nothing"))
