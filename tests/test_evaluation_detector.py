from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from darkpy.data.dataset import Dataset
from darkpy.errors import ConfigError, InputError
from darkpy.evaluation import detector, evaluate

NAMES = ["cat", "dog"]
PICTURES = 11


class Network:
    """Knows every picture by the brightness of its middle, and what to find there."""

    width = height = 16
    channels = 3
    batch = 4
    classes = len(NAMES)
    training = fits_pictures = False

    def __init__(self, answers: list[np.ndarray], letter_box: bool = False) -> None:
        """One array (k, 7) per picture: x, y, w, h, objectness, probabilities of the two classes."""
        self.answers = answers
        self.options = SimpleNamespace(letter_box=letter_box)
        self.heads = [self]
        self.batches: list[int] = []
        self.present: list[int] = []
        self.threads: set[int] = set()

    def memories(self) -> dict[str, Any]:
        return {}

    def reset_state(self) -> None:
        pass

    def run(self, x: np.ndarray) -> None:
        assert x.dtype == np.float32
        assert x.shape[1:] == (3, self.height, self.width)
        self.batches.append(len(x))
        self.threads.add(threading.get_ident())
        self.present = np.rint(x[:, 0, 8, 8] * 255 / 20).astype(int).tolist()

    def decoding(self) -> None:
        """Only boxes() knows."""

    def boxes(self, image_index: int, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = self.answers[self.present[image_index]].astype(np.float32).reshape(-1, 7)
        rows = rows[rows[:, 4] > thresh]
        return rows[:, :4], rows[:, 4], np.where(rows[:, 5:] > thresh, rows[:, 5:], 0)


def run(network: Any, dataset: Dataset, **options: Any) -> Any:
    return evaluate(network, dataset, **options)


def save(folder: Path, index: int, labels: np.ndarray, size: tuple[int, int] = (24, 24)) -> Path:
    path = folder / f"{index:02}.png"
    cv2.imwrite(str(path), np.full((*size, 3), 20 * index, np.uint8))
    np.savetxt(path.with_suffix(".txt"), labels.reshape(-1, 5), fmt=["%d", "%.6f", "%.6f", "%.6f", "%.6f"])
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    generator = np.random.default_rng(3)
    pictures = []
    for index in range(PICTURES):
        boxes = np.column_stack([generator.integers(0, 2, 3), generator.uniform(0.3, 0.4, (3, 4))])
        pictures.append(save(tmp_path, index, boxes[: index % 4]))
    return Dataset("drawn", NAMES, pictures)


def answers(dataset: Dataset, noise: float = 0.0) -> list[np.ndarray]:
    """The truth as a detector would report it, with shifted boxes and some that are not there."""
    generator = np.random.default_rng(5)
    found = []
    for index in range(len(dataset)):
        boxes = dataset.boxes(index)
        rows = np.zeros((len(boxes), 7))
        rows[:, :4] = boxes[:, 1:] + generator.normal(0, 1, (len(boxes), 4)) * noise
        rows[:, 4] = 1
        rows[np.arange(len(boxes)), 5 + boxes[:, 0].astype(int)] = generator.uniform(0.3, 1, len(boxes))
        extra = generator.uniform(0.1, 0.9, (3, 7)) if noise else np.empty((0, 7))
        found.append(np.concatenate([rows, extra]))
    return found


def test_a_detector_that_knows_the_truth_is_perfect(dataset):
    result = run(Network(answers(dataset)), dataset, nms=0)
    assert result.mean_average_precision == pytest.approx(1)
    assert result.pictures == PICTURES
    assert result.counts.truths == sum(len(dataset.boxes(i)) for i in range(PICTURES))
    assert [row.name for row in result.classes] == NAMES


def test_the_result_does_not_depend_on_the_batch(dataset):
    found = answers(dataset, noise=0.03)
    results = [run(Network(found), dataset, batch=batch) for batch in (None, 1, 3, 50)]
    assert 0 < results[0].mean_average_precision < 1
    for result in results[1:]:
        assert result.to_dict() == results[0].to_dict()
        np.testing.assert_array_equal(result.predictions.box, results[0].predictions.box)


def test_batches_are_full_but_the_last_and_run_in_the_callers_thread(dataset):
    network = Network(answers(dataset))
    run(network, dataset)
    assert network.batches == [4, 4, 3]
    assert network.threads == {threading.get_ident()}


def test_progress_is_told_after_each_batch(dataset):
    seen: list[tuple[int, int]] = []
    run(Network(answers(dataset)), dataset, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 11), (8, 11), (11, 11)]


def test_a_progress_function_may_stop_it(dataset):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(Network(answers(dataset)), dataset, progress=stop)
    assert threading.active_count() == before


def test_thresholds_reach_the_report(dataset):
    result = run(Network(answers(dataset)), dataset, thresh=0.9, iou_thresh=0.7, points=11)
    assert (result.thresh, result.iou_thresh, result.points) == (0.9, 0.7, 11)
    assert result.counts.recall < 0.5


def test_nms_drops_double_finds(dataset):
    found = answers(dataset)
    doubled = [np.repeat(rows, 2, axis=0) * [1, 1, 1, 1, 1, 0.99, 0.99] for rows in found]
    once, twice = run(Network(found), dataset), run(Network(doubled), dataset)
    assert twice.detections == once.detections
    assert run(Network(doubled), dataset, nms=0).detections > once.detections


def test_low_probabilities_are_ranked(dataset):
    found = [rows * [1, 1, 1, 1, 1, 0.02, 0.02] for rows in answers(dataset)]
    result = run(Network(found), dataset, nms=0)
    assert result.mean_average_precision == pytest.approx(1)
    assert result.counts.true_positives == 0


@pytest.mark.parametrize("by_cfg", [False, True])
def test_letter_box_maps_boxes_back(tmp_path, by_cfg):
    wide = Dataset("wide", NAMES, [save(tmp_path, 1, np.array([[0, 0.5, 0.5, 0.4, 0.8]]), size=(16, 32))])
    inside = [np.zeros((0, 7)), np.array([[0.5, 0.5, 0.4, 0.4, 1, 0.9, 0]])]
    result = run(Network(inside, letter_box=by_cfg), wide, letter_box=not by_cfg)
    assert result.counts.average_iou == pytest.approx(1, abs=1e-5)
    assert run(Network(inside), wide).counts.true_positives == 0


def test_what_cannot_be_read_is_left_out_and_named(dataset):
    found = answers(dataset)
    dataset.pictures[2].write_bytes(b"no picture")
    dataset.pictures[5].unlink()
    result = run(Network(found), dataset, nms=0)
    assert result.pictures == PICTURES - 2
    assert [problem.where for problem in result.skipped] == [str(dataset.pictures[2]), str(dataset.pictures[5])]
    assert result.counts.truths == sum(len(dataset.boxes(i)) for i in range(PICTURES) if i not in (2, 5))
    assert result.mean_average_precision == pytest.approx(1)


def test_unreadable_labels_leave_a_picture_out(dataset):
    dataset.pictures[3].with_suffix(".txt").unlink()
    dataset.pictures[3].with_suffix(".xml").write_text("<annotation>", encoding="utf-8")
    result = run(Network([np.zeros((0, 7))] * PICTURES), dataset)
    assert result.pictures == PICTURES - 1
    assert result.skipped[0].where.startswith(str(dataset.pictures[3].with_suffix(".xml")))


def test_nothing_readable_gives_zeros(tmp_path):
    missing = Dataset("gone", NAMES, [tmp_path / "a.png", tmp_path / "b.png"])
    result = run(Network([]), missing)
    assert (result.pictures, len(result.skipped), result.mean_average_precision) == (0, 2, 0)


def test_an_untrained_network_does_not_fill_the_memory(dataset, monkeypatch):
    monkeypatch.setattr(detector, "MOST_PER_PICTURE", 2)
    result = run(Network(answers(dataset, noise=0.03)), dataset, nms=0)
    assert result.detections <= 2 * PICTURES


def test_what_does_not_fit_is_refused_at_once(dataset):
    network = Network(answers(dataset))
    three = Dataset("three", [*NAMES, "cow"], dataset.pictures)
    with pytest.raises(ConfigError, match="3 classes and the network 2"):
        run(network, three)
    with pytest.raises(InputError, match="batch=0"):
        run(network, dataset, batch=0)
    with pytest.raises(InputError, match="points=1"):
        run(network, dataset, points=1)
    network.training = True
    with pytest.raises(InputError, match="training"):
        run(network, dataset)
    assert network.batches == []
