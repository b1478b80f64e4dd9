"""Accuracy, precision and recall of a classifier."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from darkpy.data.classification import ClassificationDataset, open_classification
from darkpy.errors import ConfigError, InputError, Problem
from darkpy.evaluation.classifier import (
    NO_ANSWER,
    ClassifierEvaluation,
    evaluate_classifier,
    top_count,
)
from darkpy.network import Network
from tests.tiny_classes import write_cfg, write_folders, write_picture

NAMES = ("cat", "dog", "cow")


def evaluation(class_ids: list[int], guesses: list[list[int]], skipped: tuple[Problem, ...] = ()) -> ClassifierEvaluation:
    count = len(class_ids)
    return ClassifierEvaluation(
        names=NAMES,
        indices=np.arange(count),
        class_ids=np.array(class_ids, np.int64),
        guesses=np.array(guesses, np.int64).reshape(count, len(guesses[0]) if guesses else 1),
        confidence=np.full(count, 0.9, np.float32),
        expectation=np.full(count, 0.5, np.float32),
        skipped=skipped,
    )


def lines(found: ClassifierEvaluation) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=100).print(found.table())
    return [" ".join(line.split()) for line in stream.getvalue().splitlines() if line.strip()]


# Numbers


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(2, 12), st.data())
def test_top_accuracy_is_the_plain_definition(count: int, classes: int, data) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    scores = rng.random((count, classes)).astype(np.float32)
    class_ids = rng.integers(classes, size=count)
    top = data.draw(st.integers(1, classes - 1))
    guesses = np.argsort(-scores, axis=1)[:, :top]
    found = ClassifierEvaluation(
        tuple(map(str, range(classes))), np.arange(count), class_ids, guesses, scores.max(axis=1), scores.max(axis=1)
    )
    for k in range(1, top + 1):
        # The right class is among the best k if fewer than k classes score higher.
        right = scores[np.arange(count), class_ids][:, np.newaxis]
        assert found.top_accuracy(k) == pytest.approx(np.mean((scores > right).sum(axis=1) < k))
    expected = np.zeros((classes, classes), int)
    np.add.at(expected, (class_ids, scores.argmax(axis=1)), 1)
    np.testing.assert_array_equal(found.confusion(), expected)
    for counts in found.classes:
        right, shown, said = (
            expected[counts.class_id, counts.class_id],
            expected[counts.class_id].sum(),
            expected[:, counts.class_id].sum(),
        )
        assert counts.recall == pytest.approx(right / shown if shown else 0)
        assert counts.precision == pytest.approx(right / said if said else 0)
        harmonic = 2 * counts.precision * counts.recall / (counts.precision + counts.recall) if right else 0
        assert counts.f1 == pytest.approx(harmonic)


def test_numbers_by_hand() -> None:
    found = evaluation([0, 0, 0, 1, 1], [[0, 1], [0, 1], [1, 0], [1, 0], [0, 2]])
    assert (found.accuracy, found.top_accuracy()) == (0.6, 0.8)
    assert found.scores == {"top-1": 0.6, "top-2": 0.8}
    assert found.loss == pytest.approx(math.log(2))
    assert found.confusion().tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    cat, dog, cow = found.classes
    assert (cat.pictures, cat.guessed, cat.right) == (3, 3, 2)
    assert (dog.precision, dog.recall, dog.f1) == (0.5, 0.5, 0.5)
    assert (cow.precision, cow.recall, cow.f1) == (0, 0, 0)
    numbers = found.to_dict()
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers["top_2"] == 0.8
    assert numbers["right"] == 3
    assert numbers["mean_recall"] == pytest.approx((2 / 3 + 1 / 2) / 2), "without the class that is not there"


def test_with_one_guess_there_is_one_figure() -> None:
    found = evaluation([0, 1], [[0], [0]])
    assert found.scores == {"top-1": 0.5}
    assert "top_5" not in found.to_dict()
    assert found.summary() == "top-1 50.00 %   1 of 2 right   loss 0.693"


def test_a_picture_without_an_answer_counts_as_wrong() -> None:
    found = evaluation([0, 0], [[0, 1], [NO_ANSWER, NO_ANSWER]])
    assert (found.accuracy, found.unanswered) == (0.5, 1)
    assert found.confusion().sum() == 1
    assert found.notes()[-1] == "1 picture got no numbers from the network and count as wrong"


def test_nothing_at_all() -> None:
    found = evaluation([], [])
    assert found.accuracy == 0
    assert math.isnan(found.loss)
    assert found.to_dict()["loss"] is None


def test_table() -> None:
    found = evaluation([0, 0, 0, 1, 1], [[0], [0], [1], [1], [0]], skipped=(Problem("x.png", "is empty"),))
    assert lines(found) == [
        "id class pictures right P R F1",
        "0 cat 3 2 0.667 0.667 0.667",
        "1 dog 2 1 0.500 0.500 0.500",
        "all 5 3 0.583 0.583 0.583",
    ]
    assert found.notes() == [
        "1 of 3 classes have no pictures here; the means leave them out",
        "1 picture could not be read and left out of the numbers",
    ]


@pytest.mark.parametrize("wanted, classes, expected", [(None, 10, 5), (None, 5, 1), (None, 6, 5), (2, 3, 2), (3, 3, 1), (1, 9, 1)])
def test_how_many_guesses_are_kept(wanted: int | None, classes: int, expected: int) -> None:
    assert top_count(wanted, classes) == expected


def test_no_guess_is_an_error() -> None:
    with pytest.raises(InputError, match="top=0: needs at least one guess"):
        top_count(0, 10)


# A whole network


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network.from_cfg(write_cfg(tmp_path), device="numpy", batch=2, seed=3)


@pytest.fixture
def colours(tmp_path: Path) -> ClassificationDataset:
    return open_classification(write_folders(tmp_path / "colours", train=3, val=1), "train")


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_evaluation_does_not_depend_on_the_batch(network: Network, colours: ClassificationDataset, batch: int) -> None:
    told: list[tuple[int, int]] = []
    found = evaluate_classifier(network, colours, top=2, batch=batch, progress=lambda *numbers: told.append(numbers))
    assert told == [(done, 9) for done in range(1, 10)]
    expected = [[one.class_id for one in network.classify(_bgr(path), 2)] for path in colours.pictures]
    assert found.guesses.tolist() == expected
    assert found.class_ids.tolist() == colours.class_ids.tolist()
    assert found.top == 2


def _bgr(path: Path) -> np.ndarray:
    import cv2

    image = cv2.imread(str(path))
    assert image is not None
    return image


def test_a_picture_that_cannot_be_read_is_left_out(network: Network, colours: ClassificationDataset) -> None:
    colours.pictures[4].write_bytes(b"")
    found = evaluate_classifier(network, colours)
    assert found.pictures == 8
    assert 4 not in found.indices
    assert found.class_ids.tolist() == np.delete(colours.class_ids, 4).tolist()
    assert [str(problem) for problem in found.skipped] == [f"{colours.pictures[4]}  the file is empty"]


def test_weights_that_are_no_numbers(network: Network, colours: ClassificationDataset) -> None:
    network.parameters.values[:] = np.nan
    found = evaluate_classifier(network, colours)
    assert (found.unanswered, found.accuracy) == (9, 0)
    assert found.to_dict()["loss"] is None


def test_the_data_sets_top_counts_unless_another_is_given(network: Network, colours: ClassificationDataset) -> None:
    colours.top = 2
    assert evaluate_classifier(network, colours).top == 2
    assert evaluate_classifier(network, colours, top=1).top == 1


@pytest.mark.parametrize("leaves, expected", [(None, {2, 3, 4}), ([0, 4], {0, 4}), ([1], {1})])
def test_in_a_hierarchy_the_leaves_are_the_answers(tmp_path: Path, leaves: list[int] | None, expected: set[int]) -> None:
    """A class is never less probable than those below it, so that without this rule it would be the answer."""
    (tmp_path / "x.tree").write_text("warm -1\ncold -1\nred 0\ngreen 1\nblue 1\n")
    path = write_cfg(tmp_path, filters=5)
    path.write_text(path.read_text().replace("[softmax]\n", f"[softmax]\ntree={tmp_path / 'x.tree'}\n"))
    names = ["warm", "cold", "red", "green", "blue"]
    dataset = open_classification(write_folders(tmp_path / "colours"), "train", names)
    dataset.leaves = leaves
    guesses: set[int] = set()
    for seed in range(8):
        found = evaluate_classifier(Network.from_cfg(path, device="numpy", seed=seed), dataset)
        guesses |= set(found.guesses[:, 0].tolist())
    assert guesses == expected


def test_what_does_not_fit(network: Network, tmp_path: Path) -> None:
    write_picture(tmp_path / "two/a/0.png", 0)
    write_picture(tmp_path / "two/b/0.png", 0)
    two = open_classification(tmp_path / "two", "all")
    with pytest.raises(ConfigError, match="two has 2 classes, the network tells 3 apart"):
        evaluate_classifier(network, two)
    with pytest.raises(InputError, match="batch=0"):
        evaluate_classifier(network, ClassificationDataset("x", NAMES, [], []), batch=0)
