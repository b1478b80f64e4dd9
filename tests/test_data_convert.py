from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.data.convert import FORMS, convert
from darkpy.data.dataset import Dataset
from darkpy.data.opening import open_dataset, open_splits
from darkpy.errors import DataError, InputError
from tests.test_data_coco import annotation, image, write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a data set ``set`` of three classes in two splits; sizes differ."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(7):
        split = "train" if number < 5 else "val"
        width, height = (int(value) for value in generator.integers(30, 200, 2))
        path = tmp_path / "set" / split / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), generator.integers(0, 255, (height, width, 3), dtype=np.uint8))
        rows = []
        for _ in range(number % 4):
            left, top = generator.integers(0, [width - 10, height - 10])
            right, bottom = generator.integers([left + 2, top + 2], [width + 1, height + 1])
            box = (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height
            rows.append(f"{generator.integers(0, 3)} " + " ".join(f"{value:.6f}" for value in box))
        path.with_suffix(".txt").write_text("".join(f"{row}\n" for row in rows))
    (tmp_path / "set" / "classes.txt").write_text("zebra\nA & B <c>\nüber: 1\n")
    return tmp_path


def assert_same(one: dict[str, Dataset], other: dict[str, Dataset], *, exact: bool = True) -> None:
    assert list(one) == list(other)
    for split, dataset in one.items():
        new = other[split]
        assert new.names == dataset.names
        assert [path.stem for path in new.pictures] == [path.stem for path in dataset.pictures]
        for index in range(len(dataset)):
            assert new.pictures[index].read_bytes() == dataset.pictures[index].read_bytes()
            np.testing.assert_allclose(new.boxes(index), dataset.boxes(index), atol=1.01e-6 if not exact else 1e-7)
            np.testing.assert_array_equal(new.difficult(index), dataset.difficult(index))
        assert new.problems == []


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_round_trip(folder, first, second):
    old = open_splits("set")
    result = convert(old, first, "one")
    assert (result.pictures, result.objects, result.problems) == (7, 9, [])
    middle = open_splits("one")
    assert_same(old, middle, exact=False)
    assert_same(old, open_splits("one/data.yaml"), exact=False)
    convert(middle, second, "two")
    assert_same(old, open_splits("two/data.yaml"), exact=False)
    convert(open_splits("two"), "yolo", "three")
    for path in (folder / "set").rglob("[0-9].txt"):
        # The last of the six decimals may be rounded the other way.
        before, after = (np.loadtxt(file, ndmin=2) if file.stat().st_size else np.empty((0, 5))
                         for file in (path, folder / "three" / path.relative_to(folder / "set")))  # fmt: skip
        np.testing.assert_allclose(after, before, atol=1.01e-6)


def test_whole_pixels_stay_whole_in_voc(folder):
    convert(open_splits("set"), "voc", "voc")
    text = Path("voc/Annotations/3.xml").read_text()
    assert text.count("<object>") == 3 and "." not in text.replace(".png", "")
    assert Path("voc/ImageSets/Main/trainval.txt").read_text() == "0\n1\n2\n3\n4\n"
    assert Path("voc/ImageSets/Main/test.txt").read_text() == "5\n6\n"
    assert "A &amp; B &lt;c&gt;" in "".join(path.read_text() for path in Path("voc/Annotations").iterdir())


def test_three_splits(folder):
    (folder / "set" / "test").mkdir()
    (folder / "set" / "val" / "6.png").rename(folder / "set" / "test" / "6.png")
    (folder / "set" / "val" / "6.txt").rename(folder / "set" / "test" / "6.txt")
    old = open_splits("set")
    assert list(old) == ["train", "val", "test"]
    for form in FORMS:
        convert(old, form, form)
        assert_same(old, open_splits(f"{form}/data.yaml"), exact=False)


def test_difficult_objects_and_crowds(folder):
    for name in "ab":
        cv2.imwrite(f"{name}.png", np.zeros((20, 40, 3), np.uint8))
    for split, name in (("train", "a"), ("val", "b")):
        write(
            folder / "coco" / f"{split}.json",
            [image(40, f"../{name}.png")],
            [
                annotation(7, 40, [0.5, 1.25, 10.125, 12], area=77.5),
                annotation(8, 40, [3, 4, 5, 6], iscrowd=1, area=12),
                annotation(9, 40, [3, 4, 7, 6], ignore=1),
            ],
        )
    old = open_splits("coco")
    convert(old, "coco", "again")
    assert_same(old, open_splits("again"))
    content = json.loads(Path("again/annotations/instances_val.json").read_text())
    assert content["images"] == [{"id": 40, "file_name": "b.png", "width": 40, "height": 20}]
    assert content["annotations"][0] == {
        "id": 7, "image_id": 40, "category_id": 7, "bbox": [0.5, 1.25, 10.125, 12.0], "area": 77.5, "iscrowd": 0
    }  # fmt: skip
    assert [(row["iscrowd"], row.get("ignore", 0)) for row in content["annotations"]] == [(0, 0), (1, 0), (0, 1)]
    convert(old, "voc", "voc")
    assert_same(old, open_splits("voc"))
    convert(old, "yolo", "yolo")
    # Darknet knows of difficult objects in what it measures on; in what it learns from it has none.
    assert_same({"val": old["val"]}, {"val": open_dataset("yolo/data.yaml", "val")}, exact=False)
    assert open_dataset("yolo/data.yaml", "train").boxes(0).shape == (1, 5)
    assert_same({"val": old["val"]}, {"val": open_dataset("yolo/data.data", "val")}, exact=False)


def test_from_coco_to_coco_nothing_is_lost(folder):
    cv2.imwrite("a.png", np.zeros((20, 40, 3), np.uint8))
    outline = annotation(7, 40, [1, 2, 10, 12], segmentation=[[1, 2, 11, 2, 11, 14]], attributes={"far": True})
    crowd = annotation(8, 40, [3, 4, 5, 6], iscrowd=1, segmentation={"size": [20, 40], "counts": [600, 200]})
    posed = annotation(12, 40, [3, 4, 5, 6], 3, keypoints=[4, 5, 2], num_keypoints=1)
    licences = [{"id": 1, "name": "free"}]
    path = write(
        folder / "coco" / "train.json",
        [image(40, "../a.png", license=1, coco_url="http://x")],
        [outline, annotation(9, 40, [90, 2, 10, 12]), crowd, posed],
        licenses=licences,
    )
    before = json.loads(path.read_text())
    convert(open_splits("coco"), "coco", "again")
    after = json.loads(Path("again/annotations/instances_train.json").read_text())
    assert after["info"] == before["info"] and after["licenses"] == licences
    assert after["images"] == [{**before["images"][0], "file_name": "a.png"}]
    assert after["annotations"] == [
        {**outline, "area": 120, "iscrowd": 0}, {**crowd, "area": 30}, {**posed, "area": 30, "iscrowd": 0}
    ]  # fmt: skip
    assert after["categories"] == sorted(before["categories"], key=lambda category: category["id"])
    told = "train: outlines or key points of 3 objects are left out; this form has boxes only"
    assert convert(open_splits("again"), "voc", "voc").notes == [told]
    assert convert(open_splits("again"), "yolo", "yolo").notes == [told]
    assert convert(open_splits("voc"), "coco", "boxes").notes == []


def test_coco_objects_of_one_number_get_new_ones(folder):
    cv2.imwrite("a.png", np.zeros((20, 40, 3), np.uint8))
    write(folder / "coco" / "train.json", [image(40, "../a.png")], [annotation(1, 40, [3, 4, 5, n]) for n in (6, 7, 8)])
    convert(open_splits("coco"), "coco", "again")
    annotations = json.loads(Path("again/annotations/instances_train.json").read_text())["annotations"]
    assert [(item["id"], item["bbox"][3]) for item in annotations] == [(1, 6), (2, 7), (3, 8)]


def test_pictures_of_one_name_get_numbers(folder):
    for place in ("x", "y"):
        (folder / place).mkdir()
        (folder / place / "0.png").write_bytes((folder / "set" / "train" / "0.png").read_bytes())
        (folder / place / "0.txt").write_text(f"0 .5 .5 .5 .{5 if place == 'x' else 7}\n")
    (folder / "list.txt").write_text("x/0.png\ny/0.png\n")
    convert(open_splits("list.txt"), "yolo", "new")
    new = open_dataset("new")
    assert [path.name for path in new.pictures] == ["0.png", "0-2.png"]
    assert [new.boxes(n)[0, 4] for n in (0, 1)] == pytest.approx([0.5, 0.7])


def test_links(folder):
    convert(open_splits("set"), "coco", "linked", link=True)
    path = Path("linked/train/0.png")
    assert path.is_symlink() and path.resolve() == folder / "set" / "train" / "0.png"
    assert_same(open_splits("set"), open_splits("linked"), exact=False)


def test_pictures_with_many_channels(folder):
    np.save("set/train/0.npy", np.zeros((20, 40, 6), np.uint16))
    Path("list.txt").write_text("set/train/0.npy\nset/train/1.png\n")
    for form in FORMS:
        convert(open_splits("list.txt"), form, form)
        assert [path.name for path in open_dataset(f"{form}/data.yaml").pictures] == ["0.npy", "1.png"]
    depths = [Path(f"voc/Annotations/{name}.xml").read_text() for name in "01"]
    assert "<depth>6</depth>" in depths[0] and "<depth>3</depth>" in depths[1]


def test_what_cannot_be_taken_over_is_named(folder):
    (folder / "set/train/1.png").write_bytes(b"")
    (folder / "set/train/3.txt").write_text("0 .5 .5 .5 .5\n9 .5 .5 .5 .5\n0 .5 .5 .001 .5\n")
    result = convert(open_splits("set"), "voc", "voc")
    assert [str(problem) for problem in result.problems if "pixels" not in problem.message] == [
        "set/train/1.png  the file is empty",
        "set/train/3.txt:2  class 9 is not one of the 3 classes, 0 to 2",
    ]
    small = next(str(problem) for problem in result.problems if "pixels" in problem.message)
    assert small.startswith("set/train/3.txt:3  the box is 0.") and small.endswith("too small for Pascal VOC's form, left out")
    assert result.pictures == 6 and len(open_dataset("voc")) == 4


def test_nothing_is_left_behind_by_what_fails(folder, monkeypatch):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(open_splits("set"), "coco", "new", progress=stop)
    for path in (folder / "set").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no picture can be converted"):
        convert(open_splits("set"), "coco", "new")
    assert sorted(path.name for path in folder.iterdir()) == ["set"]


def test_folders_with_something_in_them_are_not_touched(folder):
    (folder / "empty").mkdir()
    convert(open_splits("set"), "coco", "empty")
    for target in ("empty", "set/classes.txt"):
        with pytest.raises(DataError, match="is there already and not empty; name a new folder"):
            convert(open_splits("set"), "coco", target)
    with pytest.raises(InputError, match="unknown form 'coc'; there are yolo, voc, coco; did you mean 'coco'"):
        convert(open_splits("set"), "coc", "new")
