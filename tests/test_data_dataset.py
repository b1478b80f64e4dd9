from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.data.dataset import NoSuchSplit
from darkpy.data.opening import open_dataset, open_splits
from darkpy.data.paths import written_path
from darkpy.errors import ConfigError, DataError


def picture(path: Path, label: str | None = None) -> Path:
    """A small picture, with a Darknet label file beside it if there is something to write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((20, 40, 3), np.uint8))
    if label is not None:
        path.with_suffix(".txt").write_text(label)
    return path


def annotate(path: Path, *names: str, difficult: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox>"
    objects = (f"<object><name>{name}</name><difficult>{difficult}</difficult>{box}</object>" for name in names)
    size = "<size><width>40</width><height>20</height></size>"
    path.write_text(f"<annotation>{size}{''.join(objects)}</annotation>")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def voc(folder) -> Path:
    root = folder / "voc"
    for name, objects in {"a": ["dog"], "b": ["cat", "dog"], "c": ["emu"], "d": []}.items():
        picture(root / "JPEGImages" / f"{name}.png")
        annotate(root / "Annotations" / f"{name}.xml", *objects, difficult=int(name == "b"))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name, lines in {"train": "a\n", "trainval": "a\r\n\r\nb\r\n", "val": "b\n", "test": "c\nd"}.items():
        (lists / f"{name}.txt").write_text(lines)
    return root


BOX = "1 .5 .5 .5 .5\n"

# Lists --------------------------------------------------------------------------------------------------------


def test_list_with_paths_from_the_working_folder(folder):
    picture(folder / "img" / "a.png", BOX)
    (folder / "lists").mkdir()
    (folder / "lists" / "train.txt").write_bytes(b"\xef\xbb\xbfimg/a.png\r\n\r\n  \n" + str(folder / "img/a.png").encode())
    dataset = open_dataset("lists/train.txt", names=["cat", "dog"])
    assert [path.resolve() for path in dataset.pictures] == [folder / "img" / "a.png"] * 2
    assert dataset.names == ["cat", "dog"] and dataset.classes == 2 and len(dataset) == 2
    assert dataset.boxes(0).tolist() == [[1, 0.5, 0.5, 0.5, 0.5]]
    assert dataset.difficult(0).tolist() == [False]
    assert dataset.problems == [] and dataset.name == "train"


def test_list_with_paths_from_its_own_folder_or_above(folder, tmp_path_factory, monkeypatch):
    for name in ("near.png", "sets/mid.png", "sets/birds/far.png"):
        picture(folder / "sets" / "birds" / name, BOX)
    path = folder / "sets" / "birds" / "list.txt"
    path.write_text("near.png\nbirds/near.png\nsets/birds/near.png\n")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    dataset = open_dataset(path)
    assert [found.resolve() for found in dataset.pictures] == [folder / "sets" / "birds" / "near.png"] * 3


def test_missing_pictures_of_a_list_are_reported_with_their_line(folder):
    picture(folder / "a.png", BOX)
    (folder / "list.txt").write_text(f"gone.png\na.png\n\n{'x' * 5000}\n")
    dataset = open_dataset("list.txt", names=["x", "y"])
    assert len(dataset) == 1
    assert [problem.where for problem in dataset.problems] == ["list.txt:1", "list.txt:4"]
    assert dataset.problems[0].message == "gone.png: no such picture"


def test_paths_from_windows(folder):
    picture(folder / "set" / "a.png", BOX)
    picture(folder / "set" / "b.png", BOX)
    (folder / "list.txt").write_bytes(b"set\\a.png\r\nC:\\set\\b.png\r\n")
    dataset = open_dataset("list.txt", names=["x", "y"])
    assert [path.name for path in dataset.pictures] == ["a.png"] and len(dataset.boxes(0)) == 1
    assert "C:\\set\\b.png: no such picture; it begins with a drive of Windows" in str(dataset.problems[0])
    (folder / "list.txt").write_text("set/a.png\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"list\.txt  is text in UTF-16"):
        open_dataset("list.txt", names=["x", "y"])


def test_a_picture_is_no_list(folder):
    with pytest.raises(DataError, match=r"a\.png  is no text; a list has the name of a picture in each line"):
        open_dataset(picture(folder / "a.png"))


def test_labels_that_cannot_be_read_name_no_classes(folder):
    picture(folder / "set" / "a.png", "2 .5 .5 .5 .5\n")
    (folder / "set" / "b.txt").write_text("7 .5 .5 .5 .5\n", encoding="utf-16")
    assert open_dataset("set").names == ["0", "1", "2"]


def test_a_list_without_pictures_is_an_error_with_all_reasons(folder):
    (folder / "list.txt").write_text("gone.png\nlost.png\n")
    with pytest.raises(DataError) as caught:
        open_dataset("list.txt", "val")
    assert [problem.where for problem in caught.value.problems] == ["list.txt:1", "list.txt:2", "list.txt"]
    assert "no usable picture to val with" in str(caught.value)


# Labels -------------------------------------------------------------------------------------------------------


def test_a_picture_without_label_file_is_reported_and_empty(folder):
    picture(folder / "a.png")
    (folder / "list.txt").write_text("a.png\n")
    dataset = open_dataset("list.txt", names=["x"])
    assert dataset.boxes(0).shape == (0, 5) and dataset.boxes(0).dtype == np.float32
    assert "has no label file a.txt" in dataset.problems[0].message
    assert dataset.labels(0).usable


def test_an_empty_label_file_is_a_picture_without_objects(folder):
    picture(folder / "a.png", "")
    (folder / "list.txt").write_text("a.png\n")
    dataset = open_dataset("list.txt", names=["x"])
    assert dataset.boxes(0).shape == (0, 5) and dataset.problems == []


def test_bad_label_lines_become_problems_once(folder):
    picture(folder / "a.png", BOX + "7 .5 .5 .5 .5\n")
    (folder / "list.txt").write_text("a.png\n")
    dataset = open_dataset("list.txt", names=["x", "y"])
    assert len(dataset.boxes(0)) == 1 and dataset.boxes(0) is dataset.boxes(0)
    assert [problem.where for problem in dataset.problems] == ["a.txt:2"]


def test_boxes_cannot_be_changed_by_accident(folder):
    picture(folder / "a.png", BOX)
    (folder / "list.txt").write_text("a.png\n")
    with pytest.raises(ValueError, match="read-only"):
        open_dataset("list.txt", names=["x", "y"]).boxes(0)[0, 0] = 0


def test_damaged_xml_makes_a_picture_unusable(voc):
    (voc / "Annotations" / "a.xml").write_text("<annotation>")
    dataset = open_dataset(voc)
    assert not dataset.labels(0).usable and len(dataset.boxes(0)) == 0
    assert dataset.problems[0].where == f"{voc / 'Annotations' / 'a.xml'}:1"


def test_xml_beside_the_pictures_of_a_list(folder):
    picture(folder / "a.png")
    annotate(folder / "a.xml", "zebra", "ant")
    (folder / "list.txt").write_text("a.png\n")
    dataset = open_dataset("list.txt")
    assert dataset.names == ["ant", "zebra"]
    assert dataset.boxes(0)[:, 0].tolist() == [1, 0]


# Pascal VOC ---------------------------------------------------------------------------------------------------


def test_voc_splits_and_names(voc):
    train, val = open_dataset(voc, "train"), open_dataset(voc, "val")
    assert [path.stem for path in train.pictures] == ["a", "b"] and [path.stem for path in val.pictures] == ["c", "d"]
    # Both splits agree on the classes, although no emu is in the training list and no cat in the other.
    assert train.names == val.names == ["cat", "dog", "emu"]
    assert "alphabetical order: cat, dog, emu" in train.notes[0]
    assert train.boxes(1)[:, 0].tolist() == [0, 1] and train.difficult(1).tolist() == [True, True]
    assert train.name == "voc" and train.problems == val.problems == []


def test_voc_falls_back_to_train_and_val(voc):
    lists = voc / "ImageSets" / "Main"
    (lists / "trainval.txt").unlink()
    (lists / "test.txt").unlink()
    assert [path.stem for path in open_dataset(voc, "train").pictures] == ["a"]
    assert [path.stem for path in open_dataset(voc, "val").pictures] == ["b"]
    with pytest.raises(DataError, match="no list of pictures for test; looked for .*test.txt"):
        open_dataset(voc, "test")


def test_voc_names_given_or_in_a_file(voc):
    assert open_dataset(voc, names=["dog", "cat", "emu"]).boxes(0)[0, 0] == 0
    (voc / "labels.txt").write_text("emu\ndog\ncat\n")
    dataset = open_dataset(voc)
    assert dataset.names == ["emu", "dog", "cat"] and dataset.boxes(0)[0, 0] == 1
    assert "labels.txt" in dataset.notes[0]


def test_voc_missing_annotation_and_picture(voc):
    (voc / "Annotations" / "a.xml").unlink()
    (voc / "JPEGImages" / "a.txt").write_text("0 .5 .5 .5 .5\n")  # not the labels of a VOC folder
    (voc / "ImageSets" / "Main" / "trainval.txt").write_text("a\nq\n")
    dataset = open_dataset(voc)
    assert len(dataset) == 1 and len(dataset.boxes(0)) == 0
    messages = [str(problem) for problem in dataset.problems]
    assert "trainval.txt:2" in messages[0] and "no such picture" in messages[0]
    assert "has no label file" in messages[1] and "a.xml" in messages[1]


def test_voc_by_yaml(voc, folder):
    names = "names: [dog, cat, emu]\nformat: voc\n"
    (folder / "bare.yaml").write_text(f"path: voc\n{names}")
    (folder / "lists.yaml").write_text(f"path: voc\n{names}train: ImageSets/Main/test.txt\nval: trainval\n")
    assert [path.stem for path in open_dataset("bare.yaml").pictures] == ["a", "b"]
    lists = open_dataset("lists.yaml")
    assert [path.stem for path in lists.pictures] == ["c", "d"] and lists.name == "lists"
    assert [path.stem for path in open_dataset("lists.yaml", "val").pictures] == ["a", "b"]
    (folder / "wrong.yaml").write_text(names)
    with pytest.raises(DataError, match="is no Pascal VOC folder"):
        open_dataset("wrong.yaml")


def test_blood_cells(shared):
    root = shared / "datasets" / "bccd"
    train, val = open_dataset(root, "train"), open_dataset(root, "val")
    assert (len(train), len(val)) == (292, 72)
    assert train.names == ["Platelets", "RBC", "WBC"]
    boxes = np.concatenate([data.boxes(index) for data in (train, val) for index in range(len(data))])
    assert len(boxes) == 4886
    assert (boxes[:, 1:3] - boxes[:, 3:5] / 2 >= -1e-6).all() and (boxes[:, 1:3] + boxes[:, 3:5] / 2 <= 1 + 1e-6).all()
    # Two of the 4,888 annotations are points.
    found = train.problems + val.problems
    assert sorted(Path(problem.where).name for problem in found) == ["BloodImage_00338.xml:158", "BloodImage_00343.xml:50"]


# Folders ------------------------------------------------------------------------------------------------------


def test_folder_without_splits(folder):
    picture(folder / "set" / "b.png", BOX)
    picture(folder / "set" / "deep" / "a.jpg", "4 .5 .5 .5 .5\n")
    (folder / "set" / "notes.md").touch()
    train, val = open_dataset("set", "train"), open_dataset("set", "val")
    assert [path.name for path in train.pictures] == ["b.png", "a.jpg"] == [path.name for path in val.pictures]
    assert train.names == ["0", "1", "2", "3", "4"] and train.boxes(1)[0, 0] == 4
    assert "5 classes found" in train.notes[0]


@pytest.mark.parametrize("layout", ["{split}/x.png", "images/{split}/x.png"])
@pytest.mark.parametrize("word", ["val", "valid", "test"])
def test_folder_with_splits(folder, layout, word):
    train = picture(folder / "set" / layout.format(split="train"), BOX)
    val = picture(folder / "set" / layout.format(split=word), BOX)
    (folder / "set" / "my.names").write_text("cat\ndog\n")
    assert [path.resolve() for path in open_dataset("set", "train").pictures] == [train]
    assert [path.resolve() for path in open_dataset("set", "val").pictures] == [val]
    assert open_dataset("set").names == ["cat", "dog"]


def test_folder_with_lists(folder):
    picture(folder / "set" / "a.png", BOX)
    picture(folder / "set" / "b.png", BOX)
    (folder / "set" / "train.txt").write_text("a.png\n")
    assert [path.name for path in open_dataset("set").pictures] == ["a.png"]


# Descriptions -------------------------------------------------------------------------------------------------


@pytest.fixture
def described(folder) -> Path:
    for name in "abc":
        picture(folder / "img" / f"{name}.png", BOX)
    (folder / "train.txt").write_text("img/a.png\nimg/b.png\n")
    (folder / "val.txt").write_text("gone.png\nimg/c.png\n")
    (folder / "x.names").write_text("cat\ndog\n")
    return folder


def test_data_file(described):
    (described / "x.data").write_text("classes=2\ntrain=train.txt\nvalid=val.txt\nnames=x.names\n")
    train, val = open_dataset("x.data"), open_dataset("x.data", "val")
    assert (len(train), len(val)) == (2, 1) and train.names == ["cat", "dog"] and train.name == "x"
    assert [problem.where for problem in val.problems] == ["val.txt:1"]


def test_difficult_list_of_a_data_file(described):
    picture(described / "hard" / "c.png", "0 .25 .25 .5 .5\n")
    (described / "hard.txt").write_text("hard/gone.png\nhard/c.png\n")
    data = "classes=2\ntrain=train.txt\nvalid=val.txt\nnames=x.names\ndifficult=hard.txt\n"
    (described / "x.data").write_text(data)
    val = open_dataset("x.data", "val")
    assert val.boxes(0)[:, 0].tolist() == [1, 0] and val.difficult(0).tolist() == [False, True]
    assert open_dataset("x.data", "train").difficult(0).tolist() == [False]
    (described / "hard.txt").write_text("hard/c.png\n")
    with pytest.raises(DataError, match="has 1 pictures, the list of pictures to evaluate on has 2"):
        open_dataset("x.data", "val")


def test_yaml_with_folders_and_lists(described):
    (described / "x.yaml").write_text("train: img\nval: val.txt\nnames: {0: cat, 1: dog}\n")
    assert [path.name for path in open_dataset("x.yaml").pictures] == ["a.png", "b.png", "c.png"]
    assert len(open_dataset("x.yaml", "val")) == 1
    with pytest.raises(DataError, match=r"x\.yaml  has no test"):
        open_dataset("x.yaml", "test")


def test_names_given_win(described):
    (described / "x.yaml").write_text("train: img\nnames: [cat, dog]\n")
    assert open_dataset("x.yaml", names=["a", "b"]).names == ["a", "b"]


def test_what_is_no_data_set(folder):
    with pytest.raises(ConfigError, match="no such file"):
        open_dataset("nothing.yaml")
    with pytest.raises(DataError, match="'training' is no split"):
        open_dataset(folder, "training")
    with pytest.raises(DataError, match="no usable picture"):
        open_dataset(folder)


# Splits, places -------------------------------------------------------------------------------------------------


def test_all_splits_of_a_data_set(folder, voc):
    assert {name: [path.stem for path in part.pictures] for name, part in open_splits("voc").items()} == {
        "train": ["a", "b"],
        "val": ["c", "d"],
    }
    for name in "abc":
        picture(folder / "set" / {"a": "train", "b": "valid", "c": "test"}[name] / f"{name}.png", BOX)
    splits = open_splits("set", ["x", "y"])
    assert [(name, len(part), part.names) for name, part in splits.items()] == [
        (name, 1, ["x", "y"]) for name in ("train", "val", "test")
    ]


def test_without_splits_all_is_for_training(folder):
    picture(folder / "set" / "a.png", BOX)
    assert list(open_splits("set")) == ["train"]


def test_a_split_that_is_not_there(folder):
    picture(folder / "set" / "train" / "a.png", BOX)
    with pytest.raises(NoSuchSplit, match="set  has no val: the pictures to validate with"):
        open_dataset("set", "val")
    assert list(open_splits("set")) == ["train"]
    (folder / "x.yaml").write_text("names: [a]\n")
    with pytest.raises(DataError, match="has no train.*\n.*has no val.*\n.*has no test"):
        open_splits("x.yaml")


def test_a_list_of_voc_pictures_outside_of_a_voc_folder(folder, voc):
    (folder / "list.txt").write_text("voc/JPEGImages/a.png\nvoc/JPEGImages/b.png\n")
    (folder / "x.yaml").write_text("format: voc\ntrain: list.txt\nnames: [cat, dog]\n")
    picture(folder / "voc" / "JPEGImages" / "a.png", "0 .5 .5 .1 .1\n")
    dataset = open_dataset("x.yaml")
    assert dataset.kind == "voc" and [len(dataset.boxes(index)) for index in range(2)] == [1, 2]
    assert dataset.boxes(0)[0, 3] == pytest.approx(0.5)


def test_where_objects_are_and_what_their_labels_say_of_the_picture(folder, voc):
    picture(folder / "a.png", "\n" + BOX + "9 1 1 1 1\n" + BOX)
    dataset = open_dataset(".", names=["x", "y"])
    index = [path.name for path in dataset.pictures].index("a.png")
    assert [dataset.where(index, row) for row in (0, 1)] == ["a.txt:2", "a.txt:4"]
    assert dataset.declared_size(index) is None and dataset.kind == "darknet"
    dataset = open_dataset("voc")
    assert dataset.where(1, 1) == "voc/Annotations/b.xml:1" and dataset.declared_size(0) == (40, 20)


def test_where_a_difficult_object_is(folder):
    picture(folder / "a.png", BOX)
    picture(folder / "hard" / "a.png", "\n" + BOX)
    (folder / "val.txt").write_text("a.png\n")
    (folder / "hard.txt").write_text("hard/a.png\n")
    (folder / "x.yaml").write_text("val: val.txt\ndifficult: hard.txt\nnames: [a, b]\n")
    dataset = open_dataset("x.yaml", "val")
    assert [dataset.where(0, row) for row in (0, 1)] == ["a.txt:1", "hard/a.txt:2"]
    assert dataset.difficult_labels(0) == Path("hard/a.txt")


def test_paths_in_lists(folder, monkeypatch):
    assert written_path(Path("a/b/c.png"), Path("a")) == "b/c.png"
    assert written_path(Path("a/c.png"), Path("lists/x")) == "../../a/c.png"
    assert written_path(Path("a/c.png"), Path("1/2/3")) == str(folder / "a" / "c.png")
    assert written_path(Path("../c.png"), Path()) == "../c.png"
    (folder / "link.png").symlink_to(folder / "elsewhere.png")
    assert written_path(Path("link.png"), Path()) == "link.png"
