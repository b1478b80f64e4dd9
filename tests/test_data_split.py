from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.data.lists import Part, write_lists
from darkpy.data.opening import open_dataset, open_splits
from darkpy.data.split import class_counts, pooled, split
from darkpy.errors import DataError, InputError
from tests.test_data_coco import annotation, image, write
from tests.test_data_dataset import annotate, picture


def shares_of(counts: np.ndarray, parts: dict[str, list[int]]) -> np.ndarray:
    """(parts, classes): the share of each class's objects."""
    return np.array([counts[rows].sum(axis=0) for rows in parts.values()]) / counts.sum(axis=0)


# Dividing ---------------------------------------------------------------------------------------------------------


def test_every_class_is_divided_by_the_shares():
    generator = np.random.default_rng(0)
    # From a class on every second picture to one that is on 1 of 50.
    counts = generator.poisson(1.5, (500, 6)) * (generator.random((500, 6)) < [0.5, 0.4, 0.2, 0.1, 0.05, 0.02])
    parts = split(counts, {"train": 0.7, "val": 0.2, "test": 0.1})
    assert sorted(index for rows in parts.values() for index in rows) == list(range(500))
    assert [len(rows) for rows in parts.values()] == pytest.approx([350, 100, 50], abs=5)
    np.testing.assert_allclose(shares_of(counts, parts)[:, :4], np.outer([0.7, 0.2, 0.1], np.ones(4)), atol=0.03)
    np.testing.assert_allclose(shares_of(counts, parts)[:, 4:], np.outer([0.7, 0.2, 0.1], np.ones(2)), atol=0.15)
    # Better than chance.
    order = generator.permutation(500)
    chance = {"train": order[:350].tolist(), "val": order[350:450].tolist(), "test": order[450:].tolist()}
    goal = np.array([[0.7], [0.2], [0.1]])
    assert np.abs(shares_of(counts, parts) - goal).max() < 0.5 * np.abs(shares_of(counts, chance) - goal).max()


def test_the_seed_decides():
    counts = np.random.default_rng(1).integers(0, 3, (60, 3))
    shares = {"train": 0.8, "val": 0.2}
    assert split(counts, shares, 5) == split(counts, shares, 5)
    assert split(counts, shares, 5) != split(counts, shares, 6)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 100), st.sampled_from([0.05, 0.2, 0.5]))
def test_nothing_is_lost_and_no_part_is_empty(pictures, classes, seed, share):
    counts = np.random.default_rng(seed).integers(0, 3, (pictures, classes))
    parts = split(counts, {"train": 1 - share, "val": share}, seed)
    assert sorted(parts["train"] + parts["val"]) == list(range(pictures))
    assert parts["train"] == sorted(parts["train"]) and parts["val"] and parts["train"]


def test_pictures_without_objects_are_shared_too():
    parts = split(np.zeros((100, 3), int), {"train": 0.75, "val": 0.25})
    assert [len(rows) for rows in parts.values()] == [75, 25]


@pytest.mark.parametrize("shares", [{"train": 0.9, "val": 0.2}, {"train": 1.0, "val": 0.0}, {"train": 1.5, "val": -0.5}])
def test_shares_that_make_no_sense(shares):
    with pytest.raises(InputError, match="the shares must be above 0, and 1 in all; they are train"):
        split(np.zeros((10, 1), int), shares)


def test_too_few_pictures():
    with pytest.raises(DataError, match="1 pictures cannot be divided into 2 parts"):
        split(np.zeros((1, 1), int), {"train": 0.5, "val": 0.5})


# Reading and writing ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lists_of_label_files_open_to_the_same(folder):
    for number in range(6):
        picture(folder / "set" / "images" / f"{number}.png", None)
        (folder / "set" / "labels").mkdir(exist_ok=True)
        (folder / "set" / "labels" / f"{number}.txt").write_text(f"{number % 2} .5 .5 .{number + 1} .1\n")
    dataset = open_dataset("set", names=["yes", "it: is"])
    assert class_counts(dataset).tolist() == [[1, 0], [0, 1]] * 3
    written = write_lists({"train": Part(dataset, [0, 3, 4]), "val": Part(dataset, [5])}, Path("out"), "mine", "A part.")
    assert [str(path) for path in written] == ["out/mine.yaml", "out/train.txt", "out/val.txt"]
    assert Path("out/mine.yaml").read_text().splitlines()[0] == "# A part."
    assert Path("out/val.txt").read_text() == "../set/images/5.png\n"
    splits = open_splits("out/mine.yaml")
    assert splits["train"].names == ["yes", "it: is"]
    assert [path.name for path in splits["train"].pictures] == ["0.png", "3.png", "4.png"]
    np.testing.assert_allclose(splits["train"].boxes(2), dataset.boxes(4))


def test_lists_far_from_the_pictures_have_whole_paths(folder):
    picture(folder / "a.png", "0 .5 .5 .5 .5\n")
    dataset = open_dataset(".")
    write_lists({"train": Part(dataset, [0])}, folder / "1" / "2" / "3", "x", "")
    assert Path("1/2/3/train.txt").read_text() == f"{folder / 'a.png'}\n"


def test_voc_keeps_its_difficult_objects_and_its_xml(folder):
    for name in "ab":
        picture(folder / "voc" / "JPEGImages" / f"{name}.png", "0 .1 .1 .1 .1\n")
        annotate(folder / "voc" / "Annotations" / f"{name}.xml", "dog", "cat", difficult=int(name == "b"))
    dataset = open_dataset("voc")
    write_lists({"train": Part(dataset, [1])}, Path("out"), "part", "")
    part = open_dataset("out/part.yaml")
    assert part.names == ["cat", "dog"] and part.difficult(0).tolist() == [True, True]
    np.testing.assert_allclose(part.boxes(0), dataset.boxes(1))


def test_coco_becomes_json_files(folder):
    for name in "abc":
        picture(folder / "set" / f"{name}.png")
    path = write(folder / "set" / "x.json", [image(5 + n, f"{name}.png") for n, name in enumerate("abc")],
                 [annotation(1, 5, [0, 0, 9, 9]), annotation(2, 7, [0, 0, 9, 9], 3, iscrowd=1)])  # fmt: skip
    dataset = open_dataset(path)
    written = write_lists({"train": Part(dataset, [0]), "val": Part(dataset, [2])}, Path("out"), "part", "")
    assert [item.name for item in written] == ["part.yaml", "train.json", "val.json"]
    splits = open_splits("out/part.yaml")
    assert splits["val"].difficult(0).tolist() == [True] and splits["val"].names == ["cat", "dog"]
    assert json.loads(Path("out/train.json").read_text())["images"][0]["id"] == 5


def test_darknets_difficult_list_stays_beside_its_pictures(folder):
    (folder / "hard").mkdir()
    for name in "abc":
        picture(folder / f"{name}.png", "0 .5 .5 .5 .5\n")
        picture(folder / "hard" / f"{name}.png", "0 .1 .1 .1 .1\n" if name != "c" else "")
    for file, prefix in (("val.txt", ""), ("hard.txt", "hard/")):
        (folder / file).write_text("".join(f"{prefix}{name}.png\n" for name in "abc"))
    (folder / "x.yaml").write_text("train: val.txt\nval: val.txt\ndifficult: hard.txt\nnames: [a]\n")
    dataset = open_dataset("x.yaml", "val")
    assert dataset.difficult(1).tolist() == [False, True]
    written = write_lists({"val": Part(dataset, [1, 2])}, Path("out"), "part", "")
    assert [item.name for item in written] == ["part.yaml", "val.txt", "difficult.txt"]
    part = open_dataset("out/part.yaml", "val")
    assert part.difficult(0).tolist() == [False, True] and part.difficult(1).tolist() == [False]
    np.testing.assert_allclose(part.boxes(0), dataset.boxes(1))


def test_an_empty_part_is_refused_before_anything_is_written(folder):
    picture(folder / "a.png", "0 .5 .5 .5 .5\n")
    dataset = open_dataset(".")
    with pytest.raises(DataError, match="nothing is left to val with"):
        write_lists({"train": Part(dataset, [0]), "val": Part(dataset, [])}, Path("out"), "x", "")
    assert not Path("out").exists()


def test_splits_are_pooled_without_repeating_pictures(folder):
    for name in "abc":
        picture(folder / f"{name}.png", "0 .5 .5 .5 .5\n")
    (folder / "train.txt").write_text("a.png\nb.png\n")
    (folder / "val.txt").write_text("b.png\nc.png\n")
    whole = pooled(list(open_splits(".").values()))
    assert [path.name for path in whole.pictures] == ["a.png", "b.png", "c.png"] and len(whole.boxes(2)) == 1
    write(folder / "c" / "train.json", [image(1, "../a.png")], [])
    write(folder / "c" / "val.json", [image(1, "../b.png")], [])
    with pytest.raises(DataError, match="c  has several json files; name the one to divide: c/train.json, c/val.json"):
        pooled(list(open_splits("c").values()))
