from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.boxes import iou
from darkpy.evaluation import Matches, Predictions, Truths, match


def predictions(*rows: tuple[int, int, float, float, float, float, float]) -> Predictions:
    """Rows picture, class, probability, x, y, w, h."""
    table = np.array(rows, np.float32).reshape(-1, 7)
    return Predictions(table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2], table[:, 3:])


def truths(*rows: tuple[int, int, float, float, float, float, bool]) -> Truths:
    """Rows picture, class, x, y, w, h, difficult."""
    table = np.array(rows, np.float32).reshape(-1, 7)
    return Truths(table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2:6], table[:, 6].astype(bool))


def test_of_picture_makes_a_row_of_each_class():
    boxes = np.array([[0.1] * 4, [0.2] * 4], np.float32)
    rows = Predictions.of_picture(7, boxes, np.array([[0.5, 0, 0.25], [0, 0.75, 0]], np.float32))
    assert rows.picture.tolist() == [7, 7, 7]
    assert rows.class_id.tolist() == [0, 2, 1]
    assert rows.probability.tolist() == [0.5, 0.25, 0.75]
    np.testing.assert_array_equal(rows.box, boxes[[0, 0, 1]])


def test_of_picture_keeps_the_most_probable_in_their_order():
    probabilities = np.array([[0.1, 0.5], [0.9, 0.3]], np.float32)
    rows = Predictions.of_picture(0, np.zeros((2, 4), np.float32), probabilities, most=2)
    assert rows.probability.tolist() == [np.float32(0.5), np.float32(0.9)]


def test_concatenate_of_parts_and_of_nothing():
    part = predictions((0, 1, 0.5, 0.1, 0.2, 0.3, 0.4))
    assert len(Predictions.concatenate([part, part])) == 2
    assert len(Predictions.concatenate([])) == 0
    assert Predictions.concatenate([]).box.shape == (0, 4)
    objects = Truths.concatenate(
        [3, 5], [np.array([[1, 0.1, 0.2, 0.3, 0.4]]), np.zeros((0, 5))], [np.array([True]), np.zeros(0, bool)]
    )
    assert objects.picture.tolist() == [3]
    assert objects.class_id.tolist() == [1]
    assert objects.difficult.tolist() == [True]
    assert objects.count(3).tolist() == [0, 0, 0]
    assert len(Truths.concatenate([], [], [])) == 0


def test_the_object_of_the_greatest_iou_and_the_same_class_and_picture():
    claimed = (1, 0), (2, 1), (3, 0)
    found = predictions(*((picture, class_id, 0.9, 0.5, 0.5, 0.2, 0.2) for picture, class_id in claimed))
    objects = truths(
        (0, 0, 0.5, 0.5, 0.2, 0.2, False),
        (1, 0, 0.4, 0.5, 0.2, 0.2, False),
        (1, 0, 0.45, 0.5, 0.2, 0.2, False),
        (1, 1, 0.5, 0.5, 0.2, 0.2, False),
        (2, 0, 0.5, 0.5, 0.2, 0.2, False),
    )
    matches = match(found, objects)
    assert matches.truth.tolist() == [2, -1, -1]
    np.testing.assert_allclose(matches.iou, [0.6, 0, 0], atol=1e-6)


def test_of_objects_with_equal_iou_the_first():
    objects = truths((0, 0, 0.4, 0.5, 0.2, 0.2, False), (0, 0, 0.4, 0.5, 0.2, 0.2, False))
    assert match(predictions((0, 0, 0.9, 0.5, 0.5, 0.2, 0.2)), objects).truth.tolist() == [0]


def test_iou_must_exceed_the_threshold():
    half = match(predictions((0, 0, 0.9, 0.5, 0.5, 0.5, 0.5)), truths((0, 0, 0.5, 0.5, 0.25, 0.5, False)))
    assert half.iou.tolist() == [0.5]
    assert half.found(0.5).tolist() == [False]
    assert half.found(0.499).tolist() == [True]
    apart = match(predictions((0, 0, 0.9, 0.1, 0.1, 0.1, 0.1)), truths((0, 0, 0.9, 0.9, 0.1, 0.1, False)))
    assert apart.found(0).tolist() == [False]


def test_a_nan_box_finds_nothing():
    matches = match(predictions((0, 0, 0.9, np.nan, 0.5, 0.2, 0.2)), truths((0, 0, 0.5, 0.5, 0.2, 0.2, False)))
    assert matches.truth.tolist() == [-1]


def test_only_the_most_probable_finder_is_right():
    matches = Matches(np.array([4, 4, 9, 4]), np.array([0.6, 0.9, 0.7, 0.4], np.float32), np.zeros(4, np.float32))
    probability = np.array([0.8, 0.3, 0.2, 0.9], np.float32)
    assert matches.true_positive(probability, 0.5).tolist() == [True, False, True, False]
    assert matches.true_positive(probability, 0.3).tolist() == [False, False, True, True]


def test_of_equal_probabilities_the_first_finder_is_right():
    matches = Matches(np.array([0, 0]), np.array([0.6, 0.9], np.float32), np.zeros(2, np.float32))
    assert matches.true_positive(np.array([0.5, 0.5], np.float32), 0.5).tolist() == [True, False]


def test_finding_a_difficult_object_is_neither_right_nor_wrong():
    objects = truths(
        (0, 0, 0.5, 0.5, 0.2, 0.2, True), (0, 0, 0.2, 0.2, 0.1, 0.1, False), (0, 1, 0.8, 0.8, 0.1, 0.1, True)
    )
    found = predictions(
        (0, 0, 0.9, 0.5, 0.5, 0.2, 0.2), (0, 0, 0.8, 0.2, 0.2, 0.1, 0.1), (0, 0, 0.7, 0.8, 0.8, 0.1, 0.1)
    )
    matches = match(found, objects)
    assert matches.ignored(0.5).tolist() == [True, False, False]
    assert matches.true_positive(found.probability, 0.5).tolist() == [False, True, False]
    assert matches.ranked(found.probability, 0.5).tolist() == [1, 2]
    assert objects.count(2).tolist() == [1, 0]


def test_an_object_that_counts_goes_before_a_difficult_one():
    objects = truths((0, 0, 0.5, 0.5, 0.2, 0.2, True), (0, 0, 0.52, 0.5, 0.2, 0.2, False))
    matches = match(predictions((0, 0, 0.9, 0.5, 0.5, 0.2, 0.2)), objects)
    assert matches.ignored(0.5).tolist() == [False]
    assert matches.truth.tolist() == [1]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), found=st.integers(0, 15), objects=st.integers(0, 10))
def test_agrees_with_a_plain_loop(seed, found, objects):
    generator = np.random.default_rng(seed)

    def rows(count: int) -> np.ndarray:
        """Picture, class, x, y, w, h."""
        pictures, classes = np.sort(generator.integers(0, 3, count)), generator.integers(0, 2, count)
        return np.column_stack([pictures, classes, 0.3 + 0.2 * generator.random((count, 4))])

    claims, known = rows(found), rows(objects)
    difficult = generator.random(objects) < 0.3
    matches = match(
        predictions(*((*row[:2], 0.5, *row[2:]) for row in claims)),
        truths(*((*row, flag) for row, flag in zip(known, difficult))),
    )
    for i, claim in enumerate(claims):
        best, at, best_difficult = 0.0, -1, 0.0
        for j, other in enumerate(known):
            if claim[0] != other[0] or claim[1] != other[1]:
                continue
            overlap = float(iou(claim[None, 2:].astype(np.float32), other[None, 2:].astype(np.float32))[0, 0])
            if difficult[j]:
                best_difficult = max(best_difficult, overlap)
            elif overlap > best:
                best, at = overlap, j
        assert (matches.truth[i], matches.iou[i], matches.difficult_iou[i]) == (at, best, best_difficult)
