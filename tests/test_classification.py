"""From a picture to the classes it may show."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

import darkpy
from darkpy.classification import (
    ClassProbability,
    best_classes,
    centre_input,
    check_classes,
    check_classifier,
    class_scores,
    class_table,
    json_frame,
    only_leaves,
    picture_table,
    ranking,
    score_pictures,
    to_json,
)
from darkpy.data.pictures import read_picture, resize_reference
from darkpy.errors import ConfigError, DataError, InputError
from darkpy.network import Network
from tests import tiny_job
from tests.tiny_classes import NAMES, write_cfg, write_folders, write_picture


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.chdir(tmp_path)
    made = Network.from_cfg(write_cfg(tmp_path), device="numpy", batch=2, seed=3)
    made.names = NAMES
    return made


def lines(table: object) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=120).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


# What the network sees


@pytest.mark.parametrize("height, width", [(10, 14), (14, 10), (8, 8), (9, 31), (64, 64)])
def test_the_middle_of_a_picture_as_darknet_cuts_it(height: int, width: int) -> None:
    """resize_min, then crop_image, in so many words."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = 8
    if width < height:
        resized = resize_reference(image, side, height * side // width)
    else:
        resized = resize_reference(image, width * side // height, side)
    top, left = (resized.shape[1] - side) // 2, (resized.shape[2] - side) // 2
    expected = resized[:, top : top + side, left : left + side]
    np.testing.assert_array_equal(centre_input(image, side, side)[0], expected)


def test_of_a_strip_the_middle_is_seen() -> None:
    image = np.zeros((2, 3000, 1), np.uint8)
    image[:, 1480:1520] = 200
    found = centre_input(image, 16, 16)
    assert found.shape == (1, 1, 16, 16)
    np.testing.assert_allclose(found, 200 / 255, rtol=1e-6)


# What it answers


def test_ranking_is_numpys_definition() -> None:
    rng = np.random.default_rng(0)
    for top in (1, 3, 9):
        scores = rng.integers(0, 4, (50, 9)).astype(np.float32)
        for row, found in zip(scores, ranking(scores, top)):
            expected = sorted(range(9), key=lambda class_id: (-row[class_id], class_id))[:top]
            assert found.tolist() == expected


def test_ranking_puts_what_is_no_number_last() -> None:
    scores = np.array([[np.nan, 0.1, np.nan, 0.9]], np.float32)
    assert ranking(scores, 4).tolist() == [[3, 1, 0, 2]]


def test_classify(network: Network, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "x.png", 1)
    found = network.classify(cv2.imread(str(path)), top=2)  # type: ignore[arg-type]
    output = network.forward(centre_input(read_picture(path), 8, 8)).reshape(-1)
    order = np.argsort(-output)
    assert [one.class_id for one in found] == order[:2].tolist()
    assert [one.probability for one in found] == pytest.approx(output[order[:2]].tolist())
    assert found[0].name == NAMES[order[0]]
    assert len(network.classify(cv2.imread(str(path)))) == 3, "top is no more than there are"  # type: ignore[arg-type]
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert network.classify(grey)  # type: ignore[arg-type]


def test_scores_that_are_no_numbers_are_an_error(network: Network) -> None:
    with pytest.raises(DataError, match="the network's output is not a number"):
        best_classes(network, np.array([0.5, np.nan, 0.5], np.float32), 1)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_scores_do_not_depend_on_the_batch(network: Network, tmp_path: Path, batch: int) -> None:
    folder = write_folders(tmp_path / "colours", train=1, val=1)
    pictures = sorted(folder.rglob("*.png"))
    pictures[2:2] = [tmp_path / "none.png"]
    found = list(score_pictures(network, pictures, batch))
    assert [one.index for one in found] == list(range(7))
    assert str(found[2].problem).endswith("none.png  no such picture")
    assert found[2].scores is None
    for one, path in zip(found, pictures):
        if one.problem is None:
            alone = network.forward(centre_input(read_picture(path), 8, 8)).reshape(-1)
            np.testing.assert_allclose(one.scores, alone, rtol=2e-5)
            assert (one.width, one.height) == (14, 10)


# Networks that are none


def test_a_detector_is_no_classifier(tmp_path: Path) -> None:
    network = Network.from_cfg(tiny_job.write_cfg(tmp_path), device="numpy")
    with pytest.raises(ConfigError, match=r"tiny.cfg  has \[yolo\]: it is a detector"):
        network.classify(np.zeros((8, 8, 3), np.uint8))


def test_a_network_for_training_does_not_classify(tmp_path: Path) -> None:
    network = Network.from_cfg(write_cfg(tmp_path), device="numpy", training=True)
    with pytest.raises(InputError, match="was built for training"):
        check_classifier(network)


@pytest.mark.parametrize(
    "change, message",
    [
        (("filters=3", "filters=7"), r"\[softmax\] x.data has 3 classes, the network tells 7 apart; change filters="),
        (("[avgpool]\n", ""), r"\[softmax\] x.data has 3 classes, it gives 4x4 values for each; put an \[avgpool\]"),
    ],
)
def test_the_number_of_classes_is_checked(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write_cfg(tmp_path)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ConfigError, match=message) as caught:
        check_classes(Network.from_cfg(path, device="numpy"), 3, "x.data")
    assert f"{path}:" in str(caught.value)


def test_a_cost_at_the_end_is_no_output_of_its_own(tmp_path: Path) -> None:
    path = write_cfg(tmp_path)
    path.write_text(path.read_text() + "\n[cost]\n")
    check_classes(Network.from_cfg(path, device="numpy"), 3, "x.data")


# Hierarchies


@pytest.fixture
def hierarchy(tmp_path: Path) -> Network:
    """animal (cat, dog), vehicle (car); car and animal exclude each other at the top."""
    (tmp_path / "x.tree").write_text("animal -1\nvehicle -1\ncat 0\ndog 0\ncar 1\n")
    path = write_cfg(tmp_path, filters=5)
    path.write_text(path.read_text().replace("[softmax]\n", f"[softmax]\ntree={tmp_path / 'x.tree'}\n"))
    network = Network.from_cfg(path, device="numpy", seed=2)
    network.names = ["animal", "vehicle", "cat", "dog", "car"]
    return network


def test_a_class_is_as_probable_as_its_parent_times_its_share(hierarchy: Network) -> None:
    x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    output = hierarchy.forward(x).reshape(2, 5).copy()
    scores = class_scores(hierarchy)
    np.testing.assert_allclose(scores[:, :2], output[:, :2])
    for class_id, parent in ((2, 0), (3, 0), (4, 1)):
        np.testing.assert_allclose(scores[:, class_id], output[:, class_id] * output[:, parent], rtol=1e-6)
    np.testing.assert_allclose(scores[:, 2:].sum(axis=1), 1, rtol=1e-5)
    found = best_classes(hierarchy, scores[0], 5)
    assert {one.name: one.parent for one in found} == {
        "animal": None, "vehicle": None, "cat": "animal", "dog": "animal", "car": "vehicle",
    }  # fmt: skip


def test_only_leaves_are_final_answers(hierarchy: Network) -> None:
    scores = np.array([[0.7, 0.3, 0.4, 0.3, 0.3]], np.float32)
    at_the_bottom, chosen = scores.copy(), scores.copy()
    only_leaves(hierarchy, at_the_bottom)
    assert at_the_bottom.tolist() == [pytest.approx([-1, -1, 0.4, 0.3, 0.3])]
    only_leaves(hierarchy, chosen, [0, 4])
    assert chosen.tolist() == [pytest.approx([0.7, -1, -1, -1, 0.3])]


# What is shown and written


FOUND = [ClassProbability(1, "tabby [cat]", 0.8234), ClassProbability(0, "fox", 0.1)]


def test_table_of_one_picture() -> None:
    assert lines(class_table(FOUND)) == ["82.34 %  tabby [cat]  ━━━━━━━━━━━━━━━━", "10.00 %  fox          ━━"]
    table = lines(class_table([ClassProbability(1, "cat", 0.5, "animal"), ClassProbability(0, "animal", 0.5)]))
    assert table[0].split() == ["%", "class", "is", "a", "kind", "of"]
    assert table[1].split()[:4] == ["50.00", "%", "cat", "animal"]


def test_table_of_several_pictures() -> None:
    table = lines(picture_table([("a.png", FOUND), ("b [1].png", FOUND[::-1])], 2))
    assert [line.split() for line in table] == [
        ["picture", "class", "%", "%"],
        ["a.png", "tabby", "[cat]", "82.34", "fox", "10.00"],
        ["b", "[1].png", "fox", "10.00", "tabby", "[cat]", "82.34"],
    ]


def test_json() -> None:
    text = to_json([json_frame(Path("ä.png"), 14, 10, FOUND), json_frame(Path("b.png"), 1, 2, [])])
    assert "ä.png" in text
    assert json.loads(text) == [
        {"filename": "ä.png", "width": 14, "height": 10, "classes": [
            {"class_id": 1, "name": "tabby [cat]", "probability": 0.8234},
            {"class_id": 0, "name": "fox", "probability": 0.1},
        ]},
        {"filename": "b.png", "width": 1, "height": 2, "classes": []},
    ]  # fmt: skip
    assert json.loads(to_json([])) == []


def test_from_the_package() -> None:
    assert darkpy.Network.classify is Network.classify
