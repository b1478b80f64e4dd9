from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.data.check import Report, Target, check, open_all
from darkpy.data.check_figure import draw_report, size_names
from darkpy.data.lists import Part, write_lists
from darkpy.errors import DataError
from tests.test_data_coco import annotation, image, write
from tests.test_data_dataset import annotate

SMALL = Target(width=64, height=32)


def picture(path: Path, label: str | None = "0 .5 .5 .5 .5\n", size: tuple[int, int] = (20, 40)) -> Path:
    """A picture unlike all others, with a label file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(ord(letter) * (place + 1) for place, letter in enumerate(str(path)))
    assert cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))
    if label is not None:
        path.with_suffix(".txt").write_text(label)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a data set of two classes that is all right."""
    monkeypatch.chdir(tmp_path)
    for name, label in {"a": "0 .5 .5 .5 .5\n", "b": "1 .5 .5 .25 .25\n0 .2 .2 .1 .1\n", "c": ""}.items():
        picture(tmp_path / "set" / f"{name}.jpg", label)
    for name in "de":
        picture(tmp_path / "set" / f"{name}.png", "1 .5 .5 .5 .5\n")
    (tmp_path / "train.txt").write_text("set/a.jpg\nset/b.jpg\nset/c.jpg\n")
    (tmp_path / "val.txt").write_text("set/d.png\nset/e.png\n")
    (tmp_path / "x.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    return tmp_path


def look(source: str = "x.yaml", target: Target = SMALL) -> Report:
    splits, problems = open_all(source)
    return check(splits, target, problems=problems)


def texts(report: Report) -> list[str]:
    return [str(problem) for problem in report.problems]


# Nothing wrong ----------------------------------------------------------------------------------------------------


def test_a_good_data_set(folder):
    seen: list[tuple[int, int]] = []
    splits, problems = open_all("x.yaml")
    report = check(splits, SMALL, lambda done, total: seen.append((done, total)), problems)
    assert report.problems == [] and seen == [(n, 5) for n in range(1, 6)]
    train, val = report.splits["train"], report.splits["val"]
    assert train.objects().tolist() == [2, 1] and train.pictures_with().tolist() == [2, 1] and train.empty == 1
    assert val.objects().tolist() == [0, 2] and val.pictures_with().tolist() == [0, 2]
    assert train.good == [0, 1, 2] and train.picture.tolist() == [0, 1, 1]
    np.testing.assert_allclose(train.shapes, [[32, 16], [16, 8], [6.4, 3.2]], rtol=1e-5)
    assert dict(zip(size_names(), train.size_counts().tolist())) == {
        "0-1": 0, "1-8": 1, "8-16": 1, "16-32": 1, "32-64": 0, "64-128": 0, "128-256": 0, "256-512": 0, "512+": 0
    }  # fmt: skip
    assert [str(remark) for remark in report.remarks] == [
        "train  33.3 % of the boxes are below 8 x 8 pixels at 64x32: hard to find",
        "val  has no object of cat",
    ]
    numbers = json.loads(json.dumps(report.to_dict()))
    assert numbers["problems"] == [] and numbers["splits"]["train"]["objects"] == [2, 1]
    assert numbers["splits"]["val"]["box_sizes"][3] == 2 and numbers["anchors"] is None


def test_padded_pictures_have_smaller_boxes(folder):
    report = look(target=Target(width=64, height=64, letter_box=True))
    np.testing.assert_allclose(report.splits["train"].shapes[0], [32, 16], rtol=1e-5)


# Pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_that_cannot_be_used(folder):
    data = (folder / "set/a.jpg").read_bytes()
    (folder / "set/a.jpg").write_bytes(data[: len(data) // 2])
    (folder / "set/b.jpg").write_bytes(b"")
    (folder / "set/c.jpg").write_bytes(b"no picture at all")
    (folder / "train.txt").write_text("set/a.jpg\nset/gone.jpg\nset/b.jpg\nset/c.jpg\n")
    report = look()
    assert texts(report) == [
        "train.txt:2  set/gone.jpg: no such picture",
        f"set/a.jpg  the picture is cut short after {len(data) // 2:,} bytes",
        "set/b.jpg  the file is empty",
        "set/c.jpg  is damaged, or not a picture of a known format",
    ]
    assert report.splits["train"].unreadable == 3 and report.splits["train"].bad == {0, 1, 2}


def test_the_same_picture_again(folder):
    (folder / "set/c.jpg").write_bytes((folder / "set/a.jpg").read_bytes())
    (folder / "set/e.png").write_bytes((folder / "set/b.jpg").read_bytes())
    (folder / "train.txt").write_text("set/a.jpg\nset/b.jpg\nset/c.jpg\nset/b.jpg\n")
    report = look()
    assert texts(report) == [
        "set/c.jpg  is the same picture as set/a.jpg",
        "set/b.jpg  is listed again",
        "set/e.png  is the same picture as set/b.jpg, of train: what is learned must not be measured",
    ]
    assert report.splits["train"].repeated == 2 and report.splits["val"].repeated == 1
    assert report.splits["train"].bad == {2, 3} and report.splits["val"].bad == {1}


def test_the_same_pixels_in_another_file(folder):
    image = cv2.imread(str(folder / "set/d.png"))
    cv2.imwrite(str(folder / "set/e.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    cv2.imwrite(str(folder / "set/f.bmp"), image)
    cv2.imwrite(str(folder / "set/g.bmp"), image.reshape(40, 20, 3))
    for name in "fg":
        (folder / f"set/{name}.txt").write_text("0 .5 .5 .5 .5\n")
    (folder / "train.txt").write_text("set/a.jpg\nset/f.bmp\nset/g.bmp\n")
    assert (folder / "set/e.png").read_bytes() != (folder / "set/d.png").read_bytes()
    assert texts(look()) == [
        f"set/{name}  is the same picture as set/f.bmp, of train: what is learned must not be measured"
        for name in ("d.png", "e.png")
    ]


def test_a_split_without_any_picture(folder):
    (folder / "val.txt").write_text("gone.png\n")
    report = look()
    assert list(report.splits) == ["train"]
    assert texts(report) == ["val.txt:1  gone.png: no such picture", "x.yaml  has no usable picture to val with"]


def test_nothing_to_open(folder):
    for name in ("train", "val"):
        (folder / f"{name}.txt").write_text("gone.png\n")
    with pytest.raises(DataError, match=r"train.txt:1  gone.png: no such picture"):
        open_all("x.yaml")


# Labels -----------------------------------------------------------------------------------------------------------


def test_labels_that_cannot_be_used(folder):
    lines = ["0 .5 .5 .5 .5", "2 .5 .5 .5 .5", "0 1.5 .5 .5 .5", "0 .5 .5 0 .5", "0 .5 .5", "a b c d e", "0 .5 .5 .5 .5"]
    (folder / "set/a.txt").write_text("\n".join(lines))
    (folder / "set/c.txt").unlink()
    report = look()
    assert texts(report) == [
        "set/a.txt:2  class 2 is not one of the 2 classes, 0 to 1",
        "set/a.txt:3  centre 1.5, 0.5 is outside the picture; coordinates are relative, 0 to 1",
        "set/a.txt:4  the box has no area: 0 x 0.5",
        "set/a.txt:5  expected 5 numbers (class cx cy w h), found 3",
        "set/a.txt:6  expected 5 numbers (class cx cy w h), found 'a b c d e'",
        "set/a.txt:7  is the same object as set/a.txt:1",
        "set/c.jpg  has no label file set/c.txt: taken as a picture without objects",
    ]
    assert report.splits["train"].bad == {0, 2} and report.splits["train"].unreadable == 0


def test_boxes_that_leave_the_picture(folder):
    (folder / "set/a.txt").write_text("0 .9 .5 .2375 .5\n0 .9 .5 .3 .5\n1 .5 .1 .2 .5\n")
    report = look()
    assert texts(report) == [  # the picture is 40 x 20; half a pixel is rounding
        "set/a.txt:2  the box leaves the picture by 2 pixels, and is cut at the border",
        "set/a.txt:3  the box leaves the picture by 3 pixels, and is cut at the border",
    ]


def test_labels_that_are_nowhere(folder):
    for path in (folder / "set").glob("*.txt"):
        path.unlink()
    report = look()
    assert len(report.problems) == 6 and report.splits["train"].empty == 3
    assert texts(report)[-1] == "train and val  none of the pictures has an object: are the labels where they are looked for?"


def test_boxes_too_small_for_the_network_are_remarked(folder):
    (folder / "set/a.txt").write_text("0 .5 .5 .5 .5\n\n1 .5 .5 .5 .03\n")
    report = look()
    assert report.problems == []
    assert str(report.remarks[0]) == "set/a.txt:3  the box is 32 x 0.96 pixels at 64x32, too small to be learned"
    assert not any("too small" in str(remark) for remark in look(target=Target(width=64, height=64)).remarks)


def test_labels_without_pictures_are_remarked(folder):
    (folder / "set/lost.txt").write_text("0 .5 .5 .5 .5\n")
    (folder / "set/classes.txt").write_text("cat\ndog\n")
    (folder / "set/notes.txt").write_text("0 .5 .5 .5 .5", encoding="utf-16")
    assert [str(remark) for remark in look().remarks][-1] == "labels without a picture  set/lost.txt"


def test_pictures_with_the_same_labels_are_remarked(folder):
    picture(folder / "set/a.png", None)
    (folder / "train.txt").write_text(f"set/a.jpg\nset/a.png\nset/b.jpg\n{folder / 'set/b.jpg'}\n")
    shared = [str(remark) for remark in look().remarks if "in common" in str(remark)]
    assert shared == ["set/a.png  has its labels in common with set/a.jpg: set/a.txt"]


def test_validation_pictures_that_are_the_training_pictures_are_remarked(folder):
    (folder / "x.yaml").write_text("train: train.txt\nval: train.txt\nnames: [cat, dog]\n")
    report = look()
    assert list(report.splits) == ["train"] and report.problems == []
    told = "train  val has the same pictures: a training measures itself on what it has learned"
    assert told in map(str, report.remarks)


def test_labels_of_pictures_in_a_list_are_not_without_picture(folder):
    np.save(folder / "set/array.npy", np.zeros((20, 40, 3), np.uint8))
    (folder / "set/array.txt").write_text("1 .5 .5 .5 .5\n")
    (folder / "train.txt").write_text(f"{folder / 'set/a.jpg'}\nset/b.jpg\nset/c.jpg\nset/array.npy\nset/a.jpg\n")
    report = look()
    assert texts(report) == ["set/a.jpg  is listed again"]
    assert not any("labels without" in str(remark) for remark in report.remarks)


def test_voc(folder):
    for name in "ab":
        picture(folder / "voc" / "JPEGImages" / f"{name}.png", None)
        annotate(folder / "voc" / "Annotations" / f"{name}.xml", "dog")
    picture(folder / "voc" / "JPEGImages" / "b.png", None, size=(40, 20))
    picture(folder / "voc" / "JPEGImages" / "c.png", None, size=(21, 40))
    annotate(folder / "voc" / "Annotations" / "c.xml", "dog", "dog")
    annotate(folder / "voc" / "Annotations" / "lost.xml", "dog")
    report = look("voc")
    assert texts(report) == [
        "voc/JPEGImages/b.png  has 20 x 40 pixels, but its labels are for 40 x 20: was it turned?",
        "voc/JPEGImages/c.png  has 40 x 21 pixels, but its labels are for 40 x 20",
        "voc/Annotations/c.xml:1  is the same object as voc/Annotations/c.xml:1",
    ]
    assert "labels without a picture  voc/Annotations/lost.xml" in map(str, report.remarks)


def test_coco(folder):
    write(
        folder / "c.json",
        [image(1, "set/a.jpg"), image(2, "set/b.jpg", width=41), image(3, "gone.jpg")],
        [annotation(1, 1, [0, 0, 9, 9]), annotation(2, 1, [0, 0, 9, 9]), annotation(3, 2, [5, 5, 0, 5])],
    )
    assert texts(look("c.json")) == [
        "c.json, image 3  gone.jpg: no such picture",
        "c.json, annotation 2  is the same object as c.json, annotation 1",
        "c.json, annotation 3  the box has no area: bbox = 5, 5, 0, 5",
        "set/b.jpg  has 40 x 20 pixels, but its labels are for 41 x 20",
    ]


def test_another_number_of_classes_than_the_network(folder):
    assert texts(look(target=Target("net.cfg", 64, 32, classes=80))) == ["net.cfg  has 80 classes, the data set 2"]
    assert texts(look(target=Target("net.cfg", 64, 32, classes=2))) == []


def test_anchors(folder):
    good = look(target=Target("net.cfg", 64, 32, anchors=np.array([[16.0, 8.0], [32.0, 16.0]])))
    assert good.coverage is not None and good.coverage.mean_iou > 0.75
    assert not any("anchors" in str(remark) for remark in good.remarks)
    bad = look(target=Target("net.cfg", 64, 32, anchors=np.array([[1.0, 30.0], [60.0, 1.0]])))
    assert bad.coverage is not None and bad.coverage.mean_iou < 0.2
    assert str(bad.remarks[-1]).startswith("net.cfg  its anchors overlap the objects by ")
    assert json.loads(json.dumps(bad.to_dict()))["anchors"]["shares"]


# A cleaned list, a picture ----------------------------------------------------------------------------------------


def test_a_list_of_what_is_good_is_all_right(folder):
    (folder / "set/a.jpg").write_bytes(b"")
    (folder / "set/e.txt").write_text("7 .5 .5 .5 .5\n")
    before = {path: path.read_bytes() for path in (folder / "set").iterdir()}
    report = look()
    assert len(report.problems) == 2
    write_lists({name: Part(part.dataset, part.good) for name, part in report.splits.items()}, Path("out"), "clean", "")
    assert texts(look("out/clean.yaml")) == []
    assert Path("out/train.txt").read_text() == "../set/b.jpg\n../set/c.jpg\n"
    assert {path: path.read_bytes() for path in (folder / "set").iterdir()} == before


@pytest.mark.parametrize("classes", [2, 60])
def test_the_picture(folder, classes):
    names = ", ".join(f"'class ${n}$'" for n in range(classes))
    (folder / "x.yaml").write_text(f"train: train.txt\nval: val.txt\nnames: [{names}]\n")
    report = look(target=Target("net.cfg", 64, 32, anchors=np.array([[16.0, 8.0]])))
    draw_report(report, "x.yaml $", "check.png")
    drawn = cv2.imread("check.png")
    assert drawn is not None and drawn.shape == (1000, 1200, 3) and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50


def test_the_picture_of_nothing(folder):
    for path in (folder / "set").glob("*.txt"):
        path.write_text("")
    draw_report(look(), "nothing", "check.png")
    assert cv2.imread("check.png") is not None
