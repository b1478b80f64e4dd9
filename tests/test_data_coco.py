from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from darkpy.data.coco import CocoDataset, open_coco, to_pixels, write_json, write_part
from darkpy.data.opening import open_dataset, open_splits
from darkpy.errors import ConfigError, DataError

CATEGORIES = [{"id": 7, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat", "supercategory": "animal"}]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((20, 40, 3), np.uint8))
    return path


def image(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 40, "height": 20, **more}


def annotation(number: int, image_id: int, box: Any, category: int = 7, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": box, **more}


def write(path: Path, images: list[Any], annotations: list[Any], categories: Any = CATEGORIES, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"info": {"year": 2017}, "images": images, "annotations": annotations, "categories": categories, **more}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with three pictures."""
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    return tmp_path


# Reading ----------------------------------------------------------------------------------------------------------


def test_boxes_classes_and_order(folder):
    path = write(
        folder / "set.json",
        [image(9, "a.png"), image(2, "b.png")],
        [annotation(1, 9, [10, 5, 20, 10]), annotation(2, 9, [0, 0, 4, 2], 3), annotation(3, 2, [30, 10, 10, 10])],
    )
    dataset = open_dataset(path)
    assert isinstance(dataset, CocoDataset)
    assert dataset.names == ["cat", "dog"] and dataset.category_ids == [3, 7]
    assert [found.name for found in dataset.pictures] == ["b.png", "a.png"] and dataset.image_ids == [2, 9]
    np.testing.assert_allclose(dataset.boxes(1), [[1, 0.5, 0.5, 0.5, 0.5], [0, 0.05, 0.05, 0.1, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(dataset.boxes(0), [[1, 0.875, 0.75, 0.25, 0.5]], rtol=1e-6)
    assert dataset.problems == [] and dataset.boxes(0).dtype == np.float32
    assert dataset.notes == ["class names from set.json: cat, dog".replace("set.json", str(path))]


def test_crowds_and_ignored_objects_are_difficult_and_keep_their_area(folder):
    path = write(
        folder / "set.json",
        [image(1, "a.png")],
        [
            annotation(1, 1, [0, 0, 10.5, 10], area=33.25),
            annotation(2, 1, [0, 0, 20, 10], iscrowd=1),
            annotation(3, 1, [0, 0, 8, 8], iscrowd=0, ignore=1),
        ],
    )
    labels = open_dataset(path).labels(0)
    assert labels.difficult.tolist() == [False, True, True]
    assert labels.exact is not None
    assert labels.exact.box.tolist() == [[0, 0, 10.5, 10], [0, 0, 20, 10], [0, 0, 8, 8]]
    assert labels.exact.area.tolist() == [33.25, 200, 64] and labels.exact.crowd.tolist() == [False, True, False]


def test_given_names_choose_and_order_the_categories(folder):
    annotations = [annotation(1, 1, [0, 0, 9, 9], 7), annotation(2, 1, [0, 0, 9, 9], 3)]
    path = write(folder / "set.json", [image(1, "a.png")], annotations)
    assert open_dataset(path, names=["dog", "cat"]).boxes(0)[:, 0].tolist() == [0, 1]
    dataset = open_dataset(path, names=["dog", "emu"])
    assert dataset.boxes(0)[:, 0].tolist() == [0]
    messages = [str(problem) for problem in dataset.problems]
    assert messages[0] == f"{path}  has no category 'emu'"
    assert messages[1] == f"{path}, annotation 2  class 'cat' is not one of the 2 names"


def test_bad_objects_are_reported_with_their_number_and_left_out(folder):
    path = write(
        folder / "set.json",
        [image(1, "a.png"), image(1, "b.png"), image(2, "a.png"), image(3, "gone.png"), {"id": 4}, 5],
        [
            annotation(1, 1, [5, 5, 0, 9]),
            annotation(2, 1, [5, 5, 9]),
            annotation(3, 1, [5, 5, 9, "x"]),
            annotation(4, 1, [50, 5, 9, 9]),
            annotation(5, 1, [30, 5, 19, 9]),
            annotation(6, 1, [1, 1, 9, 9], 99),
            annotation(7, 88, [1, 1, 9, 9]),
            annotation(8, 3, [1, 1, 9, 9]),
            {"id": 9},
            annotation(10, 1, [1, 1, 9, 9]),
        ],
    )
    dataset = open_dataset(path)
    assert len(dataset) == 1 and len(dataset.boxes(0)) == 2
    np.testing.assert_allclose(dataset.boxes(0)[0], [1, 35 / 40, 9.5 / 20, 10 / 40, 9 / 20], rtol=1e-6)
    messages = "\n".join(str(problem).removeprefix(str(path)) for problem in dataset.problems)
    assert messages == "\n".join(
        [
            ", image 1  is listed twice; the second is left out",
            ", image 2  a.png is image 1 already; left out",
            ", image 3  gone.png: no such picture",
            ", image 5 of the list  needs an id and a file_name",
            ", image 6 of the list  needs an id and a file_name",
            ", annotation 2  bbox needs 4 numbers (left, top, width, height), found [5, 5, 9]",
            ', annotation 3  bbox needs 4 numbers (left, top, width, height), found [5, 5, 9, "x"]',
            ", annotation 7  image_id 88 is none of the images",
            ", annotation 9  needs an image_id and a category_id",
            ", annotation 1  the box has no area: bbox = 5, 5, 0, 9",
            ", annotation 4  the box is outside the picture, 40 x 20: bbox = 50, 5, 9, 9",
            ", annotation 5  the box leaves the picture, 40 x 20, and is cut at the border: bbox = 30, 5, 19, 9",
            ", annotation 6  category_id 99 is none of the categories",
        ]
    )
    assert dataset.where(0, 1) == f"{path}, annotation 10"


def test_bad_categories(folder):
    categories = [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}, {"id": 2, "name": "a"}, {"id": 3}]
    dataset = open_coco(write(folder / "set.json", [image(1, "a.png")], [], categories))
    assert dataset.names == ["a"]
    assert [problem.message for problem in dataset.problems] == [
        "'b' is there twice", "'a' is there twice", "needs an id and a name"
    ]  # fmt: skip


def test_a_category_above_all_others_is_no_class(folder):
    above = {"id": 0, "name": "cells", "supercategory": "none"}
    below = [{"id": 1, "name": "red", "supercategory": "cells"}, {"id": 2, "name": "white", "supercategory": "cells"}]
    path = write(folder / "set.json", [image(1, "a.png")], [annotation(1, 1, [0, 0, 9, 9], 2)], [above, *below])
    dataset = open_coco(path)
    assert dataset.names == ["red", "white"] and dataset.boxes(0)[0, 0] == 1
    path = write(folder / "set.json", [image(1, "a.png")], [annotation(1, 1, [0, 0, 9, 9], 0)], [above, *below])
    assert open_coco(path).names == ["cells", "red", "white"]


def test_the_size_comes_from_the_picture_if_the_file_has_none(folder):
    path = write(
        folder / "set.json", [{"id": 1, "file_name": "a.png"}], [annotation(1, 1, [0, 0, 20, 20])]
    )
    dataset = open_coco(path)
    np.testing.assert_allclose(dataset.boxes(0), [[1, 0.25, 0.5, 0.5, 1]])
    assert dataset.declared_size(0) is None
    (folder / "a.png").write_bytes(b"")
    labels = open_coco(path).labels(0)
    assert not labels.usable and labels.problems[0].message == "the file is empty"


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1, 2]", "is a list, such as the results of a detector; a data set is an object"),
        ('{"images": [], "categories": {}}', "it has no list annotations and no list categories"),
        ('{"images": [],\n "annotations": [,]}', "set.json:2  is not valid json: "),
        ("3", "it has no list images and no list annotations and no list categories"),
        ("[" * 100_000, "is not valid json"),
        (b"\xff\xfe\xfd", "is not valid json"),
    ],
)
def test_files_of_another_form(folder, text, message):
    (folder / "set.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match="set.json") as caught:
        open_dataset("set.json")
    assert message in str(caught.value)


def test_a_file_without_pictures_is_an_error(folder):
    write(folder / "set.json", [], [])
    with pytest.raises(DataError, match="no usable picture"):
        open_dataset("set.json")
    with pytest.raises(ConfigError, match="no such file"):
        open_dataset("none.json")


# Where things are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "json_file, pictures",
    [
        ("set/set.json", "set"),
        ("set/annotations/instances_train2017.json", "set/train2017"),
        ("set/annotations/instances_train2017.json", "set/images/train2017"),
        ("set/annotations/instances_train2017.json", "set"),
        ("set/annotations/instances_train2017.json", "set/images"),
        ("set/train/_annotations.coco.json", "set/train"),
        ("set/annotations.json", "set/images"),
    ],
)
def test_where_the_pictures_are(folder, json_file, pictures):
    picture(folder / pictures / "deep" / "x.png")
    write(folder / json_file, [image(1, "deep/x.png")], [])
    assert [found.resolve() for found in open_dataset(json_file).pictures] == [folder / pictures / "deep" / "x.png"]


def test_a_folder_as_coco_lays_it_out(folder):
    for split, name in (("train2017", "a.png"), ("val2017", "b.png")):
        picture(folder / "coco" / "images" / split / name)
        write(folder / "coco" / "annotations" / f"instances_{split}.json", [image(1, name)], [])
        write(folder / "coco" / "annotations" / f"person_keypoints_{split}.json", [image(5, name)], [])
    splits = open_splits("coco")
    assert {name: [path.name for path in found.pictures] for name, found in splits.items()} == {
        "train": ["a.png"],
        "val": ["b.png"],
    }
    assert splits["val"].name == "coco" and splits["val"].names == ["cat", "dog"]


def test_a_folder_as_roboflow_lays_it_out(folder):
    for split in ("train", "valid", "test"):
        picture(folder / "set" / split / "x.png")
        write(folder / "set" / split / "_annotations.coco.json", [image(1, "x.png")], [])
    assert [str(found.pictures[0]) for found in open_splits("set").values()] == [
        f"set/{split}/x.png" for split in ("train", "valid", "test")
    ]


def test_label_files_beside_json_files_count(folder):
    picture(folder / "set" / "images" / "x.png")
    (folder / "set" / "labels").mkdir()
    (folder / "set" / "labels" / "x.txt").write_text("0 .5 .5 1 1\n")
    write(folder / "set" / "annotations.json", [image(1, "x.png")], [])
    assert len(open_dataset("set").boxes(0)) == 1


def test_the_file_to_train_with_says_what_the_classes_are(folder):
    other = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]
    write(folder / "set" / "train.json", [image(1, "a.png")], [])
    write(folder / "set" / "val.json", [image(1, "b.png")], [annotation(1, 1, [0, 0, 9, 9], 8)], other)
    (folder / "set.yaml").write_text("path: set\nformat: coco\ntrain: train.json\nval: val.json\n")
    for source in ("set", "set.yaml"):
        dataset = open_dataset(source, "val")
        assert dataset.names == ["cat", "dog"] and dataset.boxes(0)[0, 0] == 1
        assert dataset.name == "set"


def test_yaml(folder):
    picture(folder / "pictures" / "x.png")
    write(folder / "labels.json", [image(1, "pictures/x.png")], [annotation(1, 1, [0, 0, 9, 9], 7)])
    (folder / "sets").mkdir()
    text = "path: ..\nformat: coco\ntrain: labels.json\nnames: [dog]\n"
    (folder / "sets" / "x.yaml").write_text(text)
    dataset = open_dataset("sets/x.yaml")
    assert dataset.names == ["dog"] and dataset.boxes(0)[0, 0] == 0
    with pytest.raises(DataError, match="x.yaml  has no val: the pictures to validate with"):
        open_dataset("sets/x.yaml", "val")
    (folder / "sets" / "x.yaml").write_text("format: coco\npath: ../pictures\n")
    with pytest.raises(DataError, match="has no json file of COCO's form"):
        open_dataset("sets/x.yaml")


# Writing ----------------------------------------------------------------------------------------------------------


def test_pixels_of_whole_numbers_come_back_whole():
    generator = np.random.default_rng(1)
    for width, height in ((7, 9), (40, 20), (640, 427), (4032, 3024)):
        edges = np.sort(generator.integers(0, [[width], [height]], (50, 2, 2)), axis=2) + [0, 1]
        left, right, top, bottom = edges[:, 0, 0], edges[:, 0, 1], edges[:, 1, 0], edges[:, 1, 1]
        boxes = np.stack([(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width,
                          (bottom - top) / height], axis=1).astype(np.float32)  # fmt: skip
        assert to_pixels(boxes, width, height).tolist() == np.stack([left, top, right - left, bottom - top], 1).tolist()


def test_pixels_are_cut_at_the_border():
    boxes = np.array([[0, 0.5, 0.5, 2], [2, 2, 1, 1]], np.float32)
    assert to_pixels(boxes, 100, 10).tolist() == [[0, 0, 25, 10], [100, 10, 0, 0]]


def test_json_has_a_line_for_each_element(tmp_path):
    content = {"info": {"a": 1}, "images": [{"id": 1}, {"id": 2}], "annotations": [], "note": "ä"}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == content and len(text.splitlines()) == 9 and "ä" in text
    write_json(tmp_path / "y.json", [{"id": 1}, {"id": 2}])
    assert (tmp_path / "y.json").read_text() == '[\n{"id": 1},\n{"id": 2}\n]\n'


def test_a_part_keeps_all_the_file_has(folder):
    path = write(
        folder / "set" / "set.json",
        [image(1, "../a.png", license=3), image(2, "../b.png"), image(3, "../c.png")],
        [annotation(1, 1, [0, 0, 9, 9], segmentation=[[1, 2]], area=7), annotation(2, 2, [0, 0, 9, 9])],
    )
    write_part(open_coco(path), [0, 2], folder / "parts" / "x.json")
    content = json.loads((folder / "parts" / "x.json").read_text())
    assert content["images"] == [image(1, "../a.png", license=3), image(3, "../c.png")]
    assert content["annotations"] == [annotation(1, 1, [0, 0, 9, 9], segmentation=[[1, 2]], area=7)]
    assert content["info"] == {"year": 2017} and content["categories"] == CATEGORIES
    assert len(open_dataset("parts/x.json")) == 2
