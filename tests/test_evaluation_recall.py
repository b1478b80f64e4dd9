from __future__ import annotations

import numpy as np
import pytest

from darkpy.data.dataset import Dataset
from darkpy.evaluation import measure_recall
from tests.test_evaluation_detector import NAMES, Network, save


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    labels = np.array([[0, 0.3, 0.3, 0.2, 0.2], [1, 0.7, 0.7, 0.2, 0.2]])
    return Dataset("drawn", NAMES, [save(tmp_path, index, labels) for index in range(2)])


def rows(*boxes: tuple[float, ...]) -> np.ndarray:
    """x, y, w, h, objectness; the classes are always wrong."""
    return np.array([[*box, 0.0, 0.0] for box in boxes]).reshape(-1, 7)


def test_by_hand(dataset):
    first = rows((0.3, 0.3, 0.2, 0.2, 0.9), (0.7, 0.7, 0.2, 0.09, 0.5), (0.1, 0.9, 0.1, 0.1, 0.01))
    found = measure_recall(Network([first, rows()]), dataset)
    assert (found.pictures, found.proposals, found.objects, found.found) == (2, 3, 4, 1)
    assert found.overlap == pytest.approx(1.45, abs=1e-5)
    assert found.recall == 0.25 and found.average_iou == pytest.approx(0.3625, abs=1e-5)
    assert found.text() == (
        "2 pictures   1 of 4 objects   RPs/Img: 1.50   IOU: 36.25%   Recall: 25.00%"
    )
    assert found.to_dict()["proposals_per_picture"] == 1.5
    assert measure_recall(Network([first, rows()]), dataset, iou_thresh=0.4).found == 2
    assert measure_recall(Network([first, rows()]), dataset, thresh=0.6).proposals == 1


def test_a_box_with_less_objectness_gives_way(dataset):
    doubled = rows((0.3, 0.3, 0.2, 0.2, 0.5), (0.3, 0.3, 0.2, 0.19, 0.9))
    assert measure_recall(Network([doubled, rows()]), dataset).proposals == 1
    assert measure_recall(Network([doubled, rows()]), dataset, nms=0).proposals == 2


def test_difficult_objects_and_unreadable_pictures_are_left_out(dataset):
    dataset.labels(0).difficult[0] = True
    dataset.pictures[1].write_bytes(b"")
    found = measure_recall(Network([rows(), rows()]), dataset)
    assert (found.pictures, found.objects, found.recall, found.average_iou) == (1, 1, 0, 0)
    assert [problem.message for problem in found.skipped] == ["the file is empty"]


def test_nothing_at_all(tmp_path):
    found = measure_recall(Network([]), Dataset("none", NAMES, []))
    assert (found.recall, found.average_iou, found.proposals_per_picture) == (0, 0, 0)
