"""Data sets for classifiers: folders, Darknet's lists and labels, YAML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpy.data.classification import ClassificationDataset, matching_labels, open_classification
from darkpy.data.opening import open_dataset
from darkpy.errors import ConfigError, DataError
from tests.tiny_classes import NAMES, write_folders, write_lists, write_picture


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(dataset: ClassificationDataset) -> dict[str, str]:
    """What each picture shows, by its path."""
    return {path.as_posix(): dataset.names[class_id] for path, class_id in zip(dataset.pictures, dataset.class_ids)}


# A folder for each class


def test_folders_of_splits(folder: Path) -> None:
    write_folders(folder / "colours", train=3, val=1)
    train, val = (open_classification("colours", split) for split in ("train", "val"))
    assert train.names == val.names == ["blue", "green", "red"], "alphabetical order"
    assert shown(val) == {f"colours/val/{name}/0.png": name for name in NAMES}
    assert train.counts().tolist() == [3, 3, 3]
    assert len(open_classification("colours", "all")) == 12
    assert (train.top, train.leaves, train.notes, train.problems) == (None, None, [], [])


@pytest.mark.parametrize("word", ["valid", "validation", "test"])
def test_the_validation_folder_has_several_names(folder: Path, word: str) -> None:
    write_folders(folder / "colours", train=3, val=1)
    (folder / "colours/val").rename(folder / "colours" / word)
    assert len(open_classification("colours", "val")) == 3
    assert len(open_classification("colours", "all")) == 12, "each picture once"


def test_classes_have_the_same_numbers_in_every_split(folder: Path) -> None:
    write_folders(folder / "colours", train=1, val=1)
    write_picture(folder / "colours/val/amber/0.png", 0)
    train, val = (open_classification("colours", split) for split in ("train", "val"))
    assert train.names == val.names == ["amber", "blue", "green", "red"]
    assert train.counts().tolist() == [0, 1, 1, 1]


def test_folders_with_numbers_are_in_the_order_of_the_numbers(folder: Path) -> None:
    for name in ("10", "2", "1", "x"):
        write_picture(folder / "signs" / name / "0.png", 0)
    assert open_classification("signs", "all").names == ["1", "2", "10", "x"]


def test_a_folder_that_is_not_split_keeps_every_fifth_picture_of_a_class(folder: Path) -> None:
    write_folders(folder / "colours", train=11, val=0)
    train, val = (open_classification("colours/train", split) for split in ("train", "val"))
    assert shown(val) == {f"colours/train/{name}/{file}.png": name for name in NAMES for file in (3, 8)}, "sorted as text: 0, 1, 10, 2, 3"
    assert not set(train.pictures) & set(val.pictures)
    assert train.counts().tolist() == [9, 9, 9]
    assert train.notes == ["no folders train and val: every fifth picture of a class is kept for validation"]
    assert len(open_classification("colours/train", "all")) == 33


def test_pictures_may_lie_deeper_and_other_files_do_not_matter(folder: Path) -> None:
    write_folders(folder / "colours", train=1, val=1)
    write_picture(folder / "colours/train/red/more/1.png", 0)
    (folder / "colours/train/red/notes.txt").write_text("nothing")
    (folder / "colours/train/.hidden").mkdir()
    write_picture(folder / "colours/train/.hidden/0.png", 0)
    dataset = open_classification("colours", "train")
    assert dataset.counts().tolist() == [1, 1, 2]
    assert dataset.names == ["blue", "green", "red"]


def test_a_folder_that_is_no_class_is_reported(folder: Path) -> None:
    write_folders(folder / "colours", train=1, val=1)
    write_picture(folder / "colours/val/gren/0.png", 1)
    dataset = open_classification("colours", "val", ["red", "green", "blue"])
    assert [str(problem) for problem in dataset.problems] == [
        "colours/val/gren  is no class of this data set, its pictures are left out; did you mean 'green'?"
    ]
    assert len(dataset) == 3


@pytest.mark.parametrize("split, message", [("test", "has no folder test"), ("dev", "'dev' is no split")])
def test_splits_that_are_not_there(folder: Path, split: str, message: str) -> None:
    write_folders(folder / "colours")
    with pytest.raises(DataError, match=message):
        open_classification("colours", split)


def test_a_folder_without_classes(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty  has no folders with pictures in them, one for each class"):
        open_classification("empty")
    (folder / "empty/cat").mkdir()
    with pytest.raises(DataError, match="empty  has no usable picture to train with"):
        open_classification("empty")


def test_to_a_detector_a_picture_of_a_class_is_one_box(folder: Path) -> None:
    write_folders(folder / "colours", train=1, val=1)
    dataset = open_classification("colours")
    assert dataset.boxes(2).tolist() == [[2, 0.5, 0.5, 1, 1]]
    assert dataset.difficult(2).tolist() == [False]


# Darknet's lists and labels


def test_matching_labels() -> None:
    assert matching_labels("train/0017_frog.png", ["cat", "frog", "og.p"]) == [1, 2]


def test_data_file(folder: Path) -> None:
    write_lists(folder, train=2, val=1)
    train, val = (open_classification("colours.data", split) for split in ("train", "val"))
    assert train.names == ["Red", "Green", "Blue"]
    assert train.top == 2
    assert train.class_ids.tolist() == [0, 1, 2, 0, 1, 2]
    assert [path.name for path in val.pictures] == ["valid0_red.png", "valid0_green.png", "valid0_blue.png"]
    assert len(open_classification("colours.data", "all")) == 9


def test_the_label_may_be_anywhere_in_the_path(folder: Path) -> None:
    write_folders(folder, train=1, val=0)
    (folder / "train.list").write_text("".join(f"train/{name}/0.png\n" for name in NAMES))
    (folder / "x.data").write_text("train=train.list\nlabels=labels.list\n")
    (folder / "labels.list").write_text("/red/\n/green/\n/blue/\n")
    dataset = open_classification("x.data")
    assert dataset.class_ids.tolist() == [0, 1, 2]
    assert dataset.names == ["/red/", "/green/", "/blue/"], "without names the labels are the names"
    assert dataset.top is None


def test_names_serve_as_labels_where_there_are_none(folder: Path) -> None:
    write_lists(folder)
    (folder / "labels.list").unlink()
    (folder / "colours.names").write_text("red\ngreen\nblue\n")
    (folder / "colours.data").write_text("train=train.list\nnames=colours.names\n")
    assert open_classification("colours.data").counts().tolist() == [4, 4, 4]


def test_pictures_with_no_label_or_two_are_left_out_and_reported(folder: Path) -> None:
    write_lists(folder, train=1)
    for name in ("nothing.png", "a_red.green_blue.png"):
        write_picture(folder / "pictures" / name, 0)
    with (folder / "train.list").open("a") as file:
        file.write("pictures/nothing.png\npictures/none.png\npictures/a_red.green_blue.png\n")
    dataset = open_classification("colours.data")
    assert len(dataset) == 3
    assert [str(problem) for problem in dataset.problems] == [
        "train.list:5  pictures/none.png: no such picture",
        "pictures/nothing.png  left out: its path contains none of the labels",
        "pictures/a_red.green_blue.png  left out: its path contains 2 labels, '_red.', '_blue.'; it must be one",
    ]


def test_folders_above_the_data_file_do_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that is written down absolutely may lead through folders that happen to contain a label."""
    inside = folder / "home_red.d"
    inside.mkdir()
    write_lists(inside, train=1)
    (inside / "train.list").write_text(f"{inside / 'pictures/train0_blue.png'}\n")
    assert open_classification(inside / "colours.data").class_ids.tolist() == [2]


def test_a_data_set_of_which_nothing_is_left_names_a_few_pictures(folder: Path) -> None:
    write_lists(folder, train=10)
    (folder / "labels.list").write_text("a\nb\nc\n")
    (folder / "labels.list").write_text("xxx\nyyy\nzzz\n")
    with pytest.raises(DataError) as caught:
        open_classification("colours.data")
    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    assert lines[-2:] == ["and 20 more like these", "colours.data  has no usable picture to train with"]


def test_of_longer_lists_of_labels_the_first_count(folder: Path) -> None:
    """Darknet's imagenet1k.data has 1,000 classes and files with over 20,000 names."""
    write_lists(folder)
    for name in ("labels.list", "colours.names"):
        with (folder / name).open("a") as file:
            file.write("more\nand more\n")
    dataset = open_classification("colours.data")
    assert dataset.names == ["Red", "Green", "Blue"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("classes=3\ntrain=train.list\n", "x.data  needs labels=, a file with the words that tell the class"),
        ("train=train.list\nnames=colours.names\nlabels=none.list\n", "x.data:3  labels=none.list: no such file"),
        ("train=train.list\nnames=colours.names\nlabels=two.list\n", "x.data:3  2 labels, but 3 names"),
        ("train=train.list\nlabels=labels.list\nleaves=none\n", "x.data:3  leaves=none: no such file"),
    ],
)
def test_wrong_data_files(folder: Path, text: str, message: str) -> None:
    write_lists(folder)
    (folder / "two.list").write_text("_red\n_blue\n")
    (folder / "x.data").write_text(text)
    with pytest.raises(ConfigError) as caught:
        open_classification("x.data")
    assert message in str(caught.value)


def test_leaves_and_tree(folder: Path) -> None:
    data = write_lists(folder)
    (folder / "leaves.list").write_text("_blue.\n_red.\nunknown\n")
    (folder / "tree").write_text("a\nb\nc\n")
    data.write_text(data.read_text() + "leaves=leaves.list\ntree=tree\n")
    dataset = open_classification(data)
    assert dataset.leaves == [0, 2]
    assert dataset.notes == ["tree= has no effect; the hierarchy is that of tree= in the cfg"]


# YAML


def test_yaml_with_folders(folder: Path) -> None:
    write_folders(folder / "colours")
    Path("colours.yaml").write_text("path: colours\ntrain: train\nval: val\nnames: [red, green, blue]\n")
    train = open_classification("colours.yaml", "train")
    assert (train.names, train.counts().tolist()) == (["red", "green", "blue"], [4, 4, 4])
    Path("colours.yaml").write_text("path: colours\ntrain: train\nval: val\nformat: folders\n")
    val = open_classification("colours.yaml", "val")
    assert (val.names, val.counts().tolist()) == (["blue", "green", "red"], [2, 2, 2])
    Path("colours.yaml").write_text("path: colours\nformat: folders\n")
    assert open_classification("colours.yaml", "val").counts().tolist() == [2, 2, 2]


def test_yaml_with_lists(folder: Path) -> None:
    write_lists(folder)
    Path("colours.yaml").write_text("train: train.list\nval: valid.list\nnames: [red, green, blue]\n")
    assert open_classification("colours.yaml", "val").counts().tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: none\nformat: folders\n", "x.yaml:1  none: no such folder"),
        ("train: none.list\nnames: [a]\n", "none.list  cannot be read"),
        ("train: train.list\nnames: [red, green, blue]\n", "x.yaml  has no val: the pictures to validate with"),
        ("format: shapes\nnames: [a]\n", "x.yaml  is a data set for detectors"),
    ],
)
def test_wrong_yaml(folder: Path, text: str, message: str) -> None:
    write_lists(folder)
    Path("x.yaml").write_text(text)
    with pytest.raises(DataError) as caught:
        open_classification("x.yaml", "val" if "has no val" in message else "train")
    assert message in str(caught.value)


def test_other_files_are_no_data_set(folder: Path) -> None:
    Path("x.list").write_text("")
    with pytest.raises(DataError, match="is no .data or .yaml file, nor a folder with a folder for each class"):
        open_classification("x.list")
    with pytest.raises(ConfigError, match="no such file"):
        open_classification("none.data")


def test_a_detector_cannot_use_it(folder: Path) -> None:
    Path("x.yaml").write_text("format: folders\ntrain: train\n")
    with pytest.raises(DataError, match="is a data set for classifiers; it has no boxes"):
        open_dataset("x.yaml")


def test_class_ids_are_checked_against_the_pictures() -> None:
    with pytest.raises(ValueError):
        ClassificationDataset("x", ["a"], [Path("1.png")], np.zeros(2, np.int64))
