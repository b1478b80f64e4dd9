from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from darkpy.boxes import iou
from darkpy.errors import InputError, Problem
from darkpy.evaluation import Evaluation, Predictions, Truths, assess, average_precision

NAMES = ["cat", "dog", "cow"]
BOX = (0.5, 0.5, 0.2, 0.2)
NEAR = (0.51, 0.5, 0.2, 0.2)
FAR = (0.1, 0.1, 0.1, 0.1)


def evaluation(
    claims: list[tuple[int, int, float, tuple[float, ...]]],
    objects: list[tuple[int, int, tuple[float, ...]]],
    difficult: tuple[int, ...] = (),
    **options,
) -> Evaluation:
    """Claims are (picture, class, probability, box), objects (picture, class, box)."""
    predictions = Predictions(
        np.array([row[0] for row in claims], np.int32),
        np.array([row[1] for row in claims], np.int32),
        np.array([row[2] for row in claims], np.float32),
        np.array([row[3] for row in claims], np.float32).reshape(-1, 4),
    )
    truths = Truths(
        np.array([row[0] for row in objects], np.int32),
        np.array([row[1] for row in objects], np.int32),
        np.array([row[2] for row in objects], np.float32).reshape(-1, 4),
        np.isin(np.arange(len(objects)), difficult),
    )
    return assess(predictions, truths, NAMES, pictures=3, **options)


def plain(text: str) -> list[str]:
    """The lines of a report without runs of blanks and without empty lines."""
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def test_counts_by_hand():
    result = evaluation(
        [(0, 0, 0.9, BOX), (0, 0, 0.8, NEAR), (1, 0, 0.7, BOX), (1, 1, 0.2, BOX)],
        [(0, 0, BOX), (0, 0, FAR), (1, 1, BOX)],
    )
    cat, dog, cow = result.classes
    assert (cat.counts.true_positives, cat.counts.false_positives, cat.counts.false_negatives) == (1, 2, 1)
    assert cat.counts.precision == pytest.approx(1 / 3)
    assert cat.counts.recall == pytest.approx(1 / 2)
    assert cat.counts.f1 == pytest.approx(2 / (3 + 2))
    assert cat.counts.average_iou == pytest.approx(1 / 3)
    assert cat.average_precision == pytest.approx(0.5)
    assert (dog.counts.true_positives, dog.counts.false_positives, dog.average_precision) == (0, 0, 1)
    assert (cow.average_precision, cow.counts.precision, cow.counts.recall, cow.counts.f1) == (0, 0, 0, 0)
    assert (result.counts.truths, result.counts.true_positives, result.counts.false_positives) == (3, 1, 2)
    assert result.mean_average_precision == pytest.approx(1.5 / 3)
    assert result.mean_average_precision_present == pytest.approx(1.5 / 2)
    assert result.detections == 4


def test_a_threshold_is_exceeded_not_reached():
    claims, objects = [(0, 0, 0.25, BOX)], [(0, 0, BOX)]
    assert evaluation(claims, objects, thresh=0.25).counts.true_positives == 0
    assert evaluation(claims, objects, thresh=0.24).counts.true_positives == 1


def test_a_less_probable_finder_does_not_spoil_the_right_one():
    """Two finders of one object, the weaker below the threshold and first in the list."""
    result = evaluation([(0, 0, 0.2, NEAR), (0, 0, 0.9, BOX)], [(0, 0, BOX)])
    assert (result.counts.true_positives, result.counts.false_positives) == (1, 0)
    assert result.counts.average_iou == pytest.approx(1)


def test_difficult_objects_count_neither_way():
    result = evaluation([(0, 0, 0.9, BOX), (1, 0, 0.8, FAR)], [(0, 0, BOX), (1, 0, FAR)], difficult=(0,))
    assert (result.counts.true_positives, result.counts.false_positives, result.counts.truths) == (1, 0, 1)
    assert result.classes[0].average_precision == 1
    assert result.detections == 1


def test_nothing_found_and_nothing_to_find():
    missed = evaluation([], [(0, 0, BOX)])
    assert (missed.mean_average_precision, missed.counts.recall, missed.counts.average_iou) == (0, 0, 0)
    assert missed.counts.false_negatives == 1
    empty = evaluation([(0, 0, 0.9, BOX)], [])
    assert (empty.mean_average_precision, empty.counts.precision, empty.mean_average_precision_present) == (0, 0, 0)
    assert "nan" not in (missed.text() + empty.text())


@pytest.mark.parametrize("options", [{"thresh": 1.2}, {"iou_thresh": -1}, {"points": 1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="=".join(map(str, *options.items()))):
        evaluation([], [], **options)


def test_the_ranking_of_a_class_at_any_iou():
    claims = [(0, 0, 0.3, NEAR), (1, 1, 0.5, BOX), (2, 0, 0.9, FAR)]
    result = evaluation(claims, [(0, 0, BOX), (0, 1, BOX), (2, 0, FAR)])
    probability, right, objects = result.ranking(0)
    assert probability.tolist() == [np.float32(0.9), np.float32(0.3)]
    assert right.tolist() == [True, True]
    assert objects == 2
    assert average_precision(right, objects, result.points) == result.classes[0].average_precision
    assert result.ranking(0, iou_thresh=0.95)[1].tolist() == [True, False]


# Darknet's own report ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def darknet() -> dict:
    """What Darknet's ``detector map`` ranked for five pictures with 80 classes, the truth, and what it printed."""
    return json.loads((Path(__file__).parent / "data" / "darknet_map.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("number", range(3))
def test_the_report_reads_as_darknets(darknet, number):
    found = np.array(darknet["predictions"], np.float32)
    known = np.array(darknet["truths"], np.float32)
    expected = darknet["reports"][number]
    result = assess(
        Predictions(found[:, 0].astype(np.int32), found[:, 1].astype(np.int32), found[:, 2], found[:, 3:]),
        Truths(known[:, 0].astype(np.int32), known[:, 1].astype(np.int32), known[:, 2:], np.zeros(len(known), bool)),
        darknet["names"],
        pictures=5,
        thresh=expected["thresh"],
        iou_thresh=expected["iou_thresh"],
        points=expected["points"],
    )
    lines = plain(result.text())
    assert [line for line in expected["lines"] if line not in lines] == []
    assert len(expected["lines"]) > 10


# Other forms ---------------------------------------------------------------------------------------------------


def test_notes_tell_of_absent_classes_and_lost_pictures():
    result = evaluation([], [(0, 0, BOX)], skipped=[Problem("a.jpg", "is damaged")])
    absent, lost = result.notes()
    assert absent.startswith("2 of 3 classes")
    assert lost.startswith("1 picture ")
    assert all(note in result.text() for note in result.notes())


def test_to_dict_is_ready_for_json_and_csv():
    result = evaluation([(0, 0, 0.9, BOX)], [(0, 0, BOX)], skipped=[Problem("a.jpg", "is damaged")])
    numbers = json.loads(json.dumps(result.to_dict()))
    assert numbers["mean_average_precision"] == pytest.approx(1 / 3)
    assert numbers["skipped"] == ["a.jpg  is damaged"]
    assert numbers["classes"][0]["name"] == "cat"
    file = io.StringIO()
    writer = csv.DictWriter(file, numbers["classes"][0].keys())
    writer.writeheader()
    writer.writerows(numbers["classes"])
    assert file.getvalue().splitlines()[1].startswith("0,cat,1.0,1,1,1,0,0,1.0")


def test_the_table_has_a_row_per_class_and_one_for_all():
    file = io.StringIO()
    claims = [(0, 0, 0.9, BOX), (0, 1, 0.9, BOX)]
    Console(file=file, width=120).print(evaluation(claims, [(0, 0, BOX), (1, 0, BOX)]).table())
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert ["0", "cat", "2", "50.00", "1", "0", "1", "1.00", "0.50", "0.67", "100.0"] in lines
    assert ["1", "dog", "0", "-", "0", "1", "0", "0.00", "-", "0.00", "0.0"] in lines
    assert ["all", "2", "16.67", "1", "1", "1", "0.50", "0.50", "0.50", "50.0"] in lines
    assert "cow" not in file.getvalue()


# Properties ----------------------------------------------------------------------------------------------------


def slow_report(result: Evaluation, points: int) -> tuple[list[float], int, int, float]:
    """AP per class, TP, FP and the sum of IoU at the threshold, straight from the definitions."""
    p, t = result.predictions, result.truths
    precisions, hits, wrong, overlap = [], 0, 0, 0.0
    for c in range(len(NAMES)):
        taken: set[int] = set()
        flags = []
        for i in sorted((i for i in range(len(p)) if p.class_id[i] == c), key=lambda i: -p.probability[i]):
            best = {False: (0.0, -1), True: (0.0, -1)}
            for j in range(len(t)):
                if t.picture[j] == p.picture[i] and t.class_id[j] == c:
                    value = float(iou(p.box[i : i + 1], t.box[j : j + 1])[0, 0])
                    key = bool(t.difficult[j])
                    if value > result.iou_thresh and value > best[key][0]:
                        best[key] = (value, j)
            value, j = best[False]
            if j < 0 and best[True][1] >= 0:
                continue
            flags.append(j >= 0 and j not in taken)
            if p.probability[i] > result.thresh:
                hits, wrong = hits + flags[-1], wrong + (not flags[-1])
                overlap += value * flags[-1]
            taken.add(j)
        objects = sum(t.class_id[j] == c and not t.difficult[j] for j in range(len(t)))
        precisions.append(average_precision(np.array(flags, bool), int(objects), points))
    return precisions, hits, wrong, overlap


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), found=st.integers(0, 25), objects=st.integers(0, 10), points=st.sampled_from([0, 9]))
def test_agrees_with_a_plain_implementation(seed, found, objects, points):
    generator = np.random.default_rng(seed)

    def row() -> tuple[int, int, tuple[float, ...]]:
        box = (*generator.choice([0.4, 0.45, 0.6], 2), *generator.uniform(0.2, 0.3, 2))
        return int(generator.integers(0, 2)), int(generator.integers(0, 3)), tuple(map(float, box))

    claims = sorted((row() for _ in range(found)), key=lambda r: r[0])
    known = sorted((row() for _ in range(objects)), key=lambda r: r[0])
    difficult = tuple(np.flatnonzero(generator.random(objects) < 0.25).tolist())
    probabilities = generator.integers(1, 8, found) / 8
    claims = [(picture, c, float(q), box) for (picture, c, box), q in zip(claims, probabilities)]
    result = evaluation(claims, known, difficult, points=points)
    precisions, hits, wrong, overlap = slow_report(result, points)
    assert [c.average_precision for c in result.classes] == pytest.approx(precisions)
    assert (result.counts.true_positives, result.counts.false_positives) == (hits, wrong)
    assert result.counts.average_iou == pytest.approx(overlap / max(hits + wrong, 1))
    assert sum(c.counts.true_positives for c in result.classes) == hits


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), objects=st.integers(1, 10), points=st.sampled_from([0, 11, 101]))
def test_a_perfect_detector_has_1_everywhere(seed, objects, points):
    generator = np.random.default_rng(seed)
    places = np.column_stack([0.2 + 0.2 * (np.arange(objects) % 4), generator.uniform(0.1, 0.2, (objects, 3))])
    known = [(i // 4, i % 3, tuple(place)) for i, place in enumerate(places.tolist())]
    claims = [(picture, c, float(generator.uniform(0.3, 1)), box) for picture, c, box in known]
    result = evaluation(claims, known, points=points)
    assert result.mean_average_precision_present == pytest.approx(1)
    assert (result.counts.precision, result.counts.recall, result.counts.f1) == (1, 1, 1)
    assert result.counts.average_iou == pytest.approx(1)
