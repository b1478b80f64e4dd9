"""COCO's numbers against COCO's own program."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpy.data.coco import to_pixels
from darkpy.data.dataset import PixelBoxes
from darkpy.evaluation.coco import CocoScores, Pixels, coco_scores
from darkpy.evaluation.matching import Predictions, Truths

SIZES = [(640, 480), (100, 333), (1200, 900), (50, 50), (2000, 1500)]


def case(seed: int, *, pictures: int = 12, classes: int = 4, ties: bool = False, crowds: bool = False) -> Any:
    """Objects of all sizes, and detections that find some of them, miss some, and are wrong sometimes."""
    generator = np.random.default_rng(seed)
    sizes = np.array([SIZES[index % len(SIZES)] for index in range(pictures)])
    truths, claims, exact = [], [], []
    for index, (width, height) in enumerate(sizes.tolist()):
        count = int(generator.integers(0, 9))
        boxes = objects(generator, count, width, height, ties)
        kinds = generator.integers(0, classes - 1, count)  # of the last class there is none
        truths.append(np.column_stack([kinds, boxes]).astype(np.float32).reshape(-1, 5))
        pixel = to_pixels(truths[-1][:, 1:], width, height)
        crowd = generator.random(count) < (0.2 if crowds else 0)
        area = pixel[:, 2] * pixel[:, 3] * (generator.uniform(0.4, 1, count) if crowds else 1)
        exact.append(PixelBoxes(pixel, area, crowd))
        found = np.repeat(boxes, 4, axis=0) + generator.normal(0, 0.015, (4 * count, 4)) * (not ties)
        extra = objects(generator, int(generator.integers(0, 150)), width, height, ties)
        rows = np.concatenate([found, extra])
        rows[:, 2:] = np.maximum(rows[:, 2:], 0.01)
        chance = np.zeros((len(rows), classes), np.float32)
        wrong = generator.random(len(found)) < 0.3
        guess = np.where(wrong, generator.integers(0, classes, len(found)), np.repeat(kinds, 4))
        guess = np.concatenate([guess, generator.integers(0, classes, len(extra))])
        chance[np.arange(len(rows)), guess] = generator.integers(1, 9, len(rows)) / 9 if ties else generator.random(len(rows))
        claims.append(Predictions.of_picture(index, rows.astype(np.float32), chance))
    joined = PixelBoxes(*(np.concatenate([getattr(part, name) for part in exact]) for name in ("box", "area", "crowd")))
    flags = [part.crowd for part in exact]
    return (
        Predictions.concatenate(claims),
        Truths.concatenate(range(pictures), truths, flags),
        Pixels(sizes, joined),
        classes,
    )


def objects(generator: np.random.Generator, count: int, width: int, height: int, whole: bool) -> np.ndarray:
    """Boxes (n, 4) relative to the picture; on a coarse grid if ``whole``, so that overlaps are often equal."""
    size = np.array([width, height])
    sides = np.minimum(generator.lognormal(4, 1, (count, 2)), size)
    corner = generator.random((count, 2)) * (size - sides)
    if whole:
        corner, sides = 16 * (corner // 16), 16 * (1 + sides // 16)
        sides = np.minimum(sides, size - corner)
    return np.concatenate([(corner + sides / 2) / size, sides / size], axis=1)


def official(folder: Path, predictions: Predictions, truths: Truths, pixels: Pixels, classes: int) -> np.ndarray:
    """The twelve numbers by pycocotools and those of each class, -1 for what cannot be told."""
    images = [{"id": i + 1, "width": int(w), "height": int(h)} for i, (w, h) in enumerate(pixels.sizes)]
    annotations = [
        {"id": number + 1, "image_id": int(picture) + 1, "category_id": int(kind) + 1, "bbox": box.tolist(),
         "area": float(area), "iscrowd": int(crowd)}
        for number, (picture, kind, box, area, crowd) in enumerate(
            zip(truths.picture, truths.class_id, pixels.objects.box, pixels.objects.area, pixels.objects.crowd)
        )
    ]  # fmt: skip
    categories = [{"id": number + 1, "name": str(number)} for number in range(classes)]
    results = [
        {"image_id": int(picture) + 1, "category_id": int(kind) + 1, "bbox": box.tolist(), "score": float(score)}
        for picture, kind, box, score in zip(
            predictions.picture, predictions.class_id, pixels.boxes(predictions), predictions.probability
        )
    ]
    (folder / "truth.json").write_text(
        json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
    )
    (folder / "results.json").write_text(json.dumps(results))
    judge = judged(folder / "truth.json", folder / "results.json")
    precision = judge.eval["precision"][:, :, :, 0, 2]
    by_class = [values.mean() if (values := precision[:, :, k][precision[:, :, k] > -1]).size else -1 for k in range(classes)]
    return np.array([*judge.stats, *by_class])


def judged(truth_file: Path, results_file: Path) -> Any:
    """COCO's own program after its work."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        judge = COCOeval(truth, truth.loadRes(str(results_file)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def judge_files(truth_file: Path, results_file: Path) -> np.ndarray:
    """The twelve numbers of pycocotools for two files."""
    return np.asarray(judged(truth_file, results_file).stats)


def ours(case: Any) -> np.ndarray:
    scores = coco_scores(*case)
    return np.nan_to_num(np.array([*scores.numbers, *scores.class_ap]), nan=-1)


@pytest.mark.parametrize("options", [{}, {"ties": True}, {"crowds": True}, {"ties": True, "crowds": True}])
@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_pycocotools(tmp_path, seed, options):
    example = case(seed, **options)
    expected = official(tmp_path, *example)
    assert ((expected[:7] > 0.01) & (expected[:7] < 0.999)).all() and expected[-1] == -1
    np.testing.assert_allclose(ours(example), expected, rtol=0, atol=1e-12)


def test_more_than_a_hundred_detections_of_a_class_in_a_picture(tmp_path):
    example = case(5, pictures=6, classes=2)
    predictions = example[0]
    assert np.bincount(predictions.picture).max() > 100
    np.testing.assert_allclose(ours(example), official(tmp_path, *example), rtol=0, atol=1e-12)


def test_sizes_at_the_limits_belong_to_both_sides(tmp_path):
    sizes = np.array([[640, 480]])
    boxes = np.array([[0, 16 / 640, 16 / 480, 32 / 640, 32 / 480], [0, 0.5, 0.5, 96 / 640, 96 / 480]], np.float32)
    truths = Truths.concatenate([0], [boxes], [np.zeros(2, bool)])
    pixel = to_pixels(boxes[:, 1:], 640, 480)
    pixels = Pixels(sizes, PixelBoxes(pixel, pixel[:, 2] * pixel[:, 3], np.zeros(2, bool)))
    predictions = Predictions.of_picture(0, boxes[:, 1:], np.array([[0.9], [0.8]], np.float32))
    scores = coco_scores(predictions, truths, pixels, 1)
    np.testing.assert_allclose(ours((predictions, truths, pixels, 1)), official(tmp_path, predictions, truths, pixels, 1))
    assert (scores.ap_small, scores.ap_medium, scores.ap_large) == pytest.approx((1, 1, 1))


def test_what_cannot_be_told_is_no_number():
    nothing = Truths.concatenate([0], [np.empty((0, 5))], [np.zeros(0, bool)])
    pixels = Pixels(np.array([[10, 10]]), PixelBoxes(np.empty((0, 4)), np.empty(0), np.empty(0, bool)))
    for predictions in (
        Predictions.concatenate([]),
        Predictions.of_picture(0, np.array([[0.5, 0.5, 1, 1]], np.float32), np.array([[0.9]], np.float32)),
    ):
        scores = coco_scores(predictions, nothing, pixels, 1)
        assert all(math.isnan(value) for value in (*scores.numbers, *scores.class_ap))
        assert set(scores.to_dict().values()) == {None}


def test_nothing_found_is_zero():
    _, truths, pixels, classes = case(0)
    scores = coco_scores(Predictions.concatenate([]), truths, pixels, classes)
    assert scores.numbers == (0.0,) * 12


def test_difficult_objects_do_not_count_and_finding_them_is_no_mistake():
    box = np.array([[0, 0.3, 0.3, 0.2, 0.2], [0, 0.7, 0.7, 0.2, 0.2]], np.float32)
    pixel = to_pixels(box[:, 1:], 100, 100)
    pixels = Pixels(np.array([[100, 100]]), PixelBoxes(pixel, pixel[:, 2] * pixel[:, 3], np.zeros(2, bool)))
    truths = Truths.concatenate([0], [box], [np.array([False, True])])
    predictions = Predictions.of_picture(0, box[::-1, 1:], np.array([[0.9], [0.5]], np.float32))
    assert coco_scores(predictions, truths, pixels, 1).ap == pytest.approx(1)


def test_the_table_shows_twelve_numbers():
    from rich.console import Console

    scores = CocoScores((), *(0.1 * number for number in range(11)), math.nan)
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(scores.table())
    rows = [line.split() for line in capture.get().splitlines()]
    assert rows[1] == ["AP", "0.00", "10.00", "20.00", "30.00", "40.00", "50.00"]
    assert rows[2] == ["AR", "90.00", "100.00", "-", "60.00", "70.00", "80.00"]
    assert list(scores.to_dict())[:3] == ["ap", "ap_50", "ap_75"] and scores.to_dict()["ar_large"] is None
