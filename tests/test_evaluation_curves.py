from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.evaluation import Evaluation
from darkpy.evaluation.curves import THRESHOLDS, class_line, confusion, curves
from tests.test_evaluation_report import BOX, FAR, NEAR, evaluation

CORNERS = [(x, y, 0.3, 0.3) for x in (0.2, 0.5, 0.55, 0.8) for y in (0.2, 0.25, 0.8)]
claims = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 20).map(lambda n: n / 20), st.sampled_from(CORNERS)),
    max_size=30,
)
objects = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(CORNERS)), max_size=12)


def judged(found: list, there: list, difficult: tuple[int, ...] = (), **options: float) -> Evaluation:
    """An evaluation of claims and objects in any order."""
    return evaluation(sorted(found, key=lambda c: c[0]), sorted(there, key=lambda o: o[0]), difficult, **options)


# Curves -----------------------------------------------------------------------------------------------------------


def test_a_curve_by_hand():
    together, (cat,) = curves(evaluation([(0, 0, 0.9, BOX), (0, 0, 0.6, FAR), (0, 1, 0.3, BOX)], [(0, 0, BOX), (0, 0, NEAR)]))
    assert (cat.name, cat.objects) == ("cat", 2)
    assert cat.probability.tolist() == pytest.approx([0.9, 0.6])
    assert cat.precision.tolist() == [1, 0.5] and cat.recall.tolist() == [0.5, 0.5] and cat.envelope.tolist() == [1, 0.5]
    assert cat.precision_at(np.array([0, 0.5, 0.51, 1])).tolist() == [1, 1, 0, 0]
    scores = cat.f1()
    assert scores[THRESHOLDS < 0.6].tolist() == pytest.approx([2 / 4] * np.count_nonzero(THRESHOLDS < 0.6))
    assert scores[(THRESHOLDS > 0.6) & (THRESHOLDS < 0.9)] == pytest.approx(2 / 3)
    assert scores[THRESHOLDS > 0.9] == pytest.approx(0)
    assert cat.best_threshold() == pytest.approx((0.75, 2 / 3), abs=0.01)
    assert together.precision.tolist() == pytest.approx([1, 1 / 2, 1 / 3]) and together.objects == 2


def test_without_detections():
    together, by_class = curves(evaluation([], [(0, 0, BOX)]))
    assert [curve.name for curve in by_class] == ["cat"]
    assert together.f1().tolist() == [0.0] * len(THRESHOLDS) and len(together.envelope) == 0


@settings(max_examples=40, deadline=None)
@given(claims, objects, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8]))
def test_the_curves_agree_with_the_report(found, there, thresh):
    result = judged(found, there, thresh=thresh)
    together, by_class = curves(result)
    place = int(np.argmin(np.abs(THRESHOLDS - thresh)))
    assert together.f1()[place] == pytest.approx(result.counts.f1)
    present = [row for row in result.classes if row.counts.truths]
    assert [curve.name for curve in by_class] == [row.name for row in present]
    for curve, row in zip(by_class, present):
        assert curve.f1()[place] == pytest.approx(row.counts.f1)
        area = np.sum(np.diff(curve.recall, prepend=0) * curve.envelope)
        assert area == pytest.approx(row.average_precision)


# Confusion --------------------------------------------------------------------------------------------------------


def test_confusion_by_hand():
    result = evaluation(
        [
            (0, 0, 0.9, BOX),  # right
            (0, 0, 0.8, NEAR),  # the same object again: nothing is left there
            (0, 1, 0.7, FAR),  # a cat taken for a dog
            (1, 2, 0.6, BOX),  # nothing there
            (1, 0, 0.2, FAR),  # not sure enough
        ],
        [(0, 0, BOX), (0, 0, FAR), (1, 1, FAR)],
    )
    assert confusion(result).tolist() == [
        [1, 1, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [1, 0, 1, 0],
    ]


def test_the_right_class_goes_before_a_greater_overlap():
    result = evaluation([(0, 0, 0.9, BOX), (0, 1, 0.8, BOX)], [(0, 1, BOX), (0, 0, NEAR)])
    assert confusion(result)[:2, :2].tolist() == [[1, 0], [0, 1]]


def test_difficult_objects_are_in_no_cell():
    result = evaluation([(0, 0, 0.9, BOX), (0, 1, 0.8, FAR)], [(0, 0, BOX), (0, 0, FAR)], (0, 1))
    # That of the right class is ignored; a dog where there is a difficult cat finds nothing it may have.
    assert confusion(result).sum() == 1 and confusion(result)[3, 1] == 1


@settings(max_examples=40, deadline=None)
@given(claims, objects, st.sampled_from([0.0, 0.25, 0.6]))
def test_the_confusion_agrees_with_the_report(found, there, thresh):
    result = judged(found, there, thresh=thresh)
    cells = confusion(result)
    for row in result.classes:
        counts = row.counts
        assert cells[row.class_id, row.class_id] == counts.true_positives
        assert cells[row.class_id].sum() == counts.truths
        assert cells[:, row.class_id].sum() == counts.true_positives + counts.false_positives
    assert cells[-1, -1] == 0


# Lines ------------------------------------------------------------------------------------------------------------

SEEN_BY = {
    "everybody": np.eye(3),
    # Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency, 2009.
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}
LONG_MEDIUM_SHORT = [
    [0.412221, 0.536333, 0.051446], [0.211903, 0.6807, 0.107397], [0.088302, 0.281719, 0.629979]
]  # fmt: skip
OKLAB = [[0.210454, 0.793618, -0.004072], [1.977998, -2.428592, 0.450594], [0.025904, 0.782772, -0.808676]]


def seen(color: str, by: str) -> np.ndarray:
    """An HTML colour as a point in the Oklab space, where it is for somebody's eyes."""
    channels = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    light = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return np.array(OKLAB) @ np.cbrt(np.array(LONG_MEDIUM_SHORT) @ np.clip(np.array(SEEN_BY[by]) @ light, 0, 1))


@pytest.mark.parametrize("paper", ["on_white", "on_black"])
@pytest.mark.parametrize("by", SEEN_BY)
def test_lines_of_eight_classes_can_be_told_apart(by, paper):
    """By their dashes, or by colours that are far from each other; 0.02 is a step that is just seen."""
    lines = [class_line(class_id) for class_id in range(8)]
    for number, line in enumerate(lines):
        for other in lines[:number]:
            distance = np.linalg.norm(seen(getattr(line, paper), by) - seen(getattr(other, paper), by))
            assert line.dashes != other.dashes or distance > 0.06
