from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from darkpy.data.labels import (
    annotation_path,
    label_lines,
    label_path,
    read_labels,
    read_voc,
    read_voc_names,
    read_voc_size,
    voc_lines,
)
from darkpy.data.paths import is_utf_16
from darkpy.errors import DataError, Problem

# Where labels are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "picture, labels",
    [
        ("coco/images/train2017/0001.jpg", "coco/labels/train2017/0001.txt"),
        ("coco/images/val2014/0001.png", "coco/labels/val2014/0001.txt"),
        ("VOC2007/JPEGImages/0001.JPG", "VOC2007/labels/0001.txt"),
        ("data/img/0001.jpeg", "data/img/0001.txt"),
        ("data/my.first.picture.bmp", "data/my.first.picture.txt"),
        ("data/0001.tif", "data/0001.txt"),
        ("data/images/train/0001.jpg", "data/labels/train/0001.txt"),
        ("data/images/JPEGImages/0001.jpg", "data/images/labels/0001.txt"),
        ("data/some_images/images_1.jpg", "data/some_images/images_1.txt"),
        ("images.jpg", "images.txt"),
    ],
)
def test_place_of_the_labels(picture, labels):
    assert label_path(picture) == Path(labels)


def test_labels_beside_the_picture_are_found(tmp_path):
    folder = tmp_path / "images" / "train2017"
    folder.mkdir(parents=True)
    (folder / "a.txt").touch()
    assert label_path(folder / "a.jpg") == folder / "a.txt"


def test_labels_in_darknets_place_come_first(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name / "train2017").mkdir(parents=True)
        (tmp_path / name / "train2017" / "a.txt").touch()
    assert label_path(tmp_path / "images/train2017/a.jpg") == tmp_path / "labels/train2017/a.txt"


def test_place_of_xml_files():
    assert annotation_path("voc/JPEGImages/a.jpg") == Path("voc/Annotations/a.xml")
    assert annotation_path("pictures/a.jpg") == Path("pictures/a.xml")


# Darknet's label files ----------------------------------------------------------------------------------------


def read(tmp_path: Path, content: str | bytes, classes: int = 3) -> tuple[list[list[float]], list[Problem]]:
    path = tmp_path / "a.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[Problem] = []
    boxes = read_labels(path, classes, problems)
    assert boxes.dtype == np.float32 and boxes.shape == (len(boxes), 5)
    return boxes.tolist(), problems


def test_labels(tmp_path):
    boxes, problems = read(tmp_path, "0 .5 .5 .25 .5\n2 0.25 0.75 1 0.125\n")
    assert boxes == [[0, 0.5, 0.5, 0.25, 0.5], [2, 0.25, 0.75, 1, 0.125]]
    assert problems == []


@pytest.mark.parametrize("content", ["", "\n\n", b"\xef\xbb\xbf1 .5 .5 .5 .5\r\n\r\n", "1 .5 .5 .5 .5", "1.0 .5 .5 .5 .5 "])
def test_harmless_oddities(tmp_path, content):
    boxes, problems = read(tmp_path, content)
    assert problems == []
    assert boxes in ([], [[1, 0.5, 0.5, 0.5, 0.5]])


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 .5 .5 .5", "expected 5 numbers (class cx cy w h), found 4"),
        ("0 .5 .5 .5 .5 .9", "found 6; a detector's probability is no part of a label"),
        ("0 .1 .1 .2 .1 .2 .2", "found 7; outlines cannot be read, only boxes"),
        ("cat .5 .5 .5 .5", "found 'cat .5 .5 .5 .5'; the class is a number counted from 0, not the name 'cat'"),
        ("0,.5,.5,.5,.5", "found 1; between numbers are spaces, and fractions have a point"),
        ("0 0,5 0,5 0,5 0,5", "fractions have a point"),
        ("3 .5 .5 .5 .5", "class 3 is not one of the 3 classes, 0 to 2"),
        ("-1 .5 .5 .5 .5", "class -1 is not one"),
        ("0.5 .5 .5 .5 .5", "class 0.5 is not a whole number"),
        ("0 nan .5 .5 .5", "not finite"),
        ("0 .5 inf .5 .5", "not finite"),
        ("0 120 80 30 40", "centre 120, 80 is outside the picture; coordinates are relative"),
        ("0 0 0 0 0", "outside the picture"),
        ("0 .5 .5 0 .5", "no area: 0 x 0.5"),
        ("0 .5 .5 -.1 .5", "no area"),
        ("0 .5 .5 1.5 .5", "larger than the picture"),
    ],
)
def test_bad_lines_are_reported_and_skipped(tmp_path, line, message):
    boxes, problems = read(tmp_path, f"1 .5 .5 .5 .5\n\n{line}\n2 .5 .5 .5 .5\n")
    assert [box[0] for box in boxes] == [1, 2]
    assert [problem.where for problem in problems] == [f"{tmp_path / 'a.txt'}:3"]
    assert message in problems[0].message


def test_rounding_above_one_is_cut(tmp_path):
    boxes, problems = read(tmp_path, "0 .5 .5 1.0000005 1.0004\n")
    assert boxes == [[0, 0.5, 0.5, 1, 1]] and problems == []


def test_label_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path, 3, [])
    (tmp_path / "a.txt").write_text("0 .5 .5 .5 .5\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"a\.txt  is text in UTF-16; save it as UTF-8"):
        read_labels(tmp_path / "a.txt", 3, [])


@given(st.binary(max_size=200))
def test_any_bytes_give_boxes_or_problems(tmp_path_factory, content):
    assume(not is_utf_16(content))
    boxes, _ = read(tmp_path_factory.getbasetemp(), content)
    for kind, x, y, w, h in boxes:
        assert kind in (0, 1, 2) and 0 < x <= 1 and 0 < y <= 1 and 0 < w <= 1 and 0 < h <= 1


# Pascal VOC ---------------------------------------------------------------------------------------------------

NAMES = ["cat", "dog"]


def voc_object(name: str, xmin: object, ymin: object, xmax: object, ymax: object, more: str = "") -> str:
    box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>\n"


def voc(tmp_path: Path, *objects: str, size: str = "<width>100</width><height>50</height>") -> Path:
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>\n<size>{size}</size>\n{''.join(objects)}</annotation>\n")
    return path


def test_voc_counts_pixels_from_one(tmp_path):
    path = voc(tmp_path, voc_object("dog", 1, 1, 100, 50), voc_object("cat", 11, 6, 20, 15))
    problems: list[Problem] = []
    boxes, difficult = read_voc(path, NAMES, problems)
    assert np.allclose(boxes, [[1, 0.5, 0.5, 1, 1], [0, 0.15, 0.2, 0.1, 0.2]])
    assert difficult.tolist() == [False, False] and problems == []


def test_voc_difficult_objects_and_parts(tmp_path):
    part = "<part><name>dog</name><bndbox><xmin>1</xmin></bndbox></part>"
    path = voc(
        tmp_path,
        voc_object("cat", 10, 10, 20, 20, "<difficult>1</difficult>"),
        voc_object("dog", 10, 10, 20, 20, "<difficult>0</difficult>" + part),
    )
    boxes, difficult = read_voc(path, NAMES, [])
    assert boxes[:, 0].tolist() == [0, 1] and difficult.tolist() == [True, False]


@pytest.mark.parametrize(
    "bad, message",
    [
        (voc_object("cta", 1, 1, 5, 5), "class 'cta' is not one of the 2 names; did you mean 'cat'?"),
        (voc_object("cat", 5, 5, 5, 9), "no area"),
        (voc_object("cat", 9, 5, 5, 9), "no area"),
        (voc_object("cat", "x", 5, 9, 9), "needs the numbers xmin, ymin, xmax, ymax"),
        (voc_object("cat", "nan", 5, 9, 9), "no area"),
        ("<object><name>cat</name></object>\n", "needs the numbers"),
        (voc_object("cat", 200, 5, 300, 9), "outside the picture, 100 x 50"),
    ],
)
def test_bad_objects_are_reported_and_skipped(tmp_path, bad, message):
    path = voc(tmp_path, voc_object("dog", 1, 1, 5, 5), bad, voc_object("dog", 1, 1, 5, 5))
    problems: list[Problem] = []
    boxes, difficult = read_voc(path, NAMES, problems)
    assert boxes[:, 0].tolist() == [1, 1] and len(difficult) == 2
    assert [problem.where for problem in problems] == [f"{path}:4"]
    assert message in problems[0].message


def test_voc_boxes_are_cut_at_the_border(tmp_path):
    path = voc(tmp_path, voc_object("cat", 0, 0, 100, 50), voc_object("cat", -20, 1, 130, 50))
    problems: list[Problem] = []
    boxes, _ = read_voc(path, NAMES, problems)
    assert np.allclose(boxes[:, 1:], [[0.5, 0.5, 1, 1]] * 2)
    # A pixel too far is a convention; more is a mistake.
    assert [problem.where for problem in problems] == [f"{path}:4"]
    assert "cut at the border" in problems[0].message


@pytest.mark.parametrize("size", ["", "<width>0</width><height>0</height>", "<width>?</width><height>9</height>"])
def test_size_from_the_picture_if_the_file_does_not_say(tmp_path, size):
    path = voc(tmp_path, voc_object("cat", 1, 1, 10, 10), size=size)
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((40, 20, 3), np.uint8))
    boxes, _ = read_voc(path, NAMES, [], picture)
    assert np.allclose(boxes, [[0, 0.25, 0.125, 0.5, 0.25]])
    with pytest.raises(DataError, match="no <size>"):
        read_voc(path, NAMES, [])


@pytest.mark.parametrize("content", ["", "<annotation>", "<annotation><object></annotation>", "0 .5 .5 .5 .5"])
def test_files_that_are_not_xml(tmp_path, content):
    path = tmp_path / "a.xml"
    path.write_text(content)
    with pytest.raises(DataError, match="not valid xml"):
        read_voc(path, NAMES, [])


def test_voc_names(tmp_path):
    assert read_voc_names(voc(tmp_path, voc_object("dog", 1, 1, 2, 2), voc_object("x", 1, 1, 2, 2))) == {"dog", "x"}


# Where objects stand in their files -----------------------------------------------------------------------------


def test_lines_of_the_objects_that_can_be_used(tmp_path):
    (tmp_path / "a.txt").write_text("\n0 .5 .5 .5 .5\n9 .5 .5 .5 .5\n\n1 .5 .5 .5 .5\n")
    assert label_lines(tmp_path / "a.txt", 2) == [2, 5]
    path = voc(tmp_path, voc_object("dog", 1, 1, 5, 5), voc_object("cow", 1, 1, 5, 5), voc_object("cat", 1, 1, 5, 5))
    assert voc_lines(path, NAMES) == [3, 5]


def test_the_size_in_a_voc_file(tmp_path):
    assert read_voc_size(voc(tmp_path)) == (100, 50)
    assert read_voc_size(voc(tmp_path, size="<width>0</width><height>9</height>")) is None
