from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from darkpy.errors import InputError
from darkpy.evaluation import average_precision, precision_recall

POINTS = [0, 2, 11, 101]
rankings = st.lists(st.booleans(), max_size=40)


def ranking(text: str) -> np.ndarray:
    return np.array([letter == "+" for letter in text], bool)


def slow_average_precision(flags: list[bool], truths: int, points: int) -> float:
    """From the definition: at each recall the best precision reached at that recall or a greater one."""
    if truths == 0:
        return 0.0
    curve = [(sum(flags[: k + 1]) / truths, sum(flags[: k + 1]) / (k + 1)) for k in range(len(flags))]

    def best(recall: float) -> float:
        return max((precision for reached, precision in curve if reached >= recall), default=0.0)

    if points:
        return sum(best(k / (points - 1)) for k in range(points)) / points
    recalls = sorted({reached for reached, _ in curve} | {0.0})
    return sum((high - low) * best(high) for low, high in pairwise(recalls))


def test_precision_and_recall_by_hand():
    precision, recall = precision_recall(ranking("+-+"), 4)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 4, 1 / 4, 2 / 4])


@pytest.mark.parametrize(
    "text, truths, points, expected",
    [
        ("+-+", 2, 0, 0.5 * 1 + 0.5 * 2 / 3),
        ("+-+", 2, 11, (6 * 1 + 5 * 2 / 3) / 11),
        ("+-+", 2, 101, (51 * 1 + 50 * 2 / 3) / 101),
        ("-+", 1, 0, 0.5),
        ("-++", 2, 0, 2 / 3),  # the precision rises: the staircase takes the better one
        ("+", 2, 0, 0.5),
        ("+", 2, 11, 6 / 11),
        ("+++", 3, 0, 1),
        ("+" * 10, 10, 11, 1),
        ("---", 3, 101, 0),
        ("", 3, 0, 0),
        ("--", 0, 11, 0),
    ],
)
def test_average_precision_by_hand(text, truths, points, expected):
    assert average_precision(ranking(text), truths, points) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("points", [-1, 1])
def test_points_that_make_no_sense(points):
    with pytest.raises(InputError, match=f"points={points}"):
        average_precision(ranking("+"), 1, points)


@given(flags=rankings, missed=st.integers(0, 5), points=st.sampled_from(POINTS))
def test_agrees_with_the_slow_definition(flags, missed, points):
    truths = sum(flags) + missed
    result = average_precision(np.array(flags, bool), truths, points)
    assert result == pytest.approx(slow_average_precision(flags, truths, points), abs=1e-12)
    assert 0 <= result <= 1


@given(truths=st.integers(1, 50), wrong=st.integers(0, 20), points=st.sampled_from(POINTS))
def test_a_perfect_ranking_has_1(truths, wrong, points):
    flags = np.array([True] * truths + [False] * wrong)
    assert average_precision(flags, truths, points) == pytest.approx(1)


@given(flags=rankings, missed=st.integers(0, 5), points=st.sampled_from(POINTS))
def test_a_false_positive_below_all_others_changes_nothing(flags, missed, points):
    assume(flags)
    truths = sum(flags) + missed
    before = average_precision(np.array(flags, bool), truths, points)
    assert average_precision(np.array([*flags, False]), truths, points) == pytest.approx(before)


@given(flags=rankings, missed=st.integers(1, 5), place=st.integers(0, 40), points=st.sampled_from(POINTS))
def test_a_false_positive_never_helps_and_a_found_object_always(flags, missed, place, points):
    truths = sum(flags) + missed
    before = average_precision(np.array(flags, bool), truths, points)
    worse = average_precision(np.insert(np.array(flags, bool), min(place, len(flags)), False), truths, points)
    better = average_precision(np.array([True, *flags]), truths, points)
    assert worse <= before + 1e-12
    assert better >= before - 1e-12


@given(flags=rankings, missed=st.integers(0, 5))
def test_many_points_approach_the_area(flags, missed):
    truths = sum(flags) + missed
    area = average_precision(np.array(flags, bool), truths, 0)
    assert average_precision(np.array(flags, bool), truths, 20001) == pytest.approx(area, abs=2e-3)
