from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy import resources
from darkpy.config.cfg import read_cfg
from darkpy.config.data_files import read_yaml
from darkpy.data import shapes
from darkpy.data.opening import open_dataset
from darkpy.data.shapes import NAMES, ShapesOptions, draw_dataset, draw_picture, is_complete
from darkpy.data.workers import generator
from darkpy.errors import ConfigError, DataError

SMALL = ShapesOptions(train=6, val=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {f"{split}/{path.name}": path.read_bytes() for split in ("train", "val") for path in (folder / split).iterdir()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    draw_dataset(folder, SMALL, threads=2)
    return folder


def describe(folder: Path, more: str = "", names: tuple[str, ...] = NAMES) -> Path:
    path = folder / "mine.yaml"
    listing = ", ".join(f'"{name}"' for name in names)
    path.write_text(f"format: shapes\nshapes: {{folder: drawn, train: 3, val: 2{more}}}\nnames: [{listing}]\n")
    return path


def test_same_seed_same_pictures(drawn, tmp_path):
    draw_dataset(tmp_path, SMALL, threads=1)
    assert len(contents(drawn)) == 2 * 9 and contents(drawn) == contents(tmp_path)
    draw_dataset(tmp_path, ShapesOptions(train=6, val=3, seed=2))
    assert not set(contents(drawn).values()) & set(contents(tmp_path).values())


def test_training_and_test_pictures_differ(drawn):
    train, val = ({path.read_bytes() for path in (drawn / split).glob("*.jpg")} for split in ("train", "val"))
    assert len(train) == 6 and len(val) == 3 and not train & val


@pytest.fixture(scope="module")
def pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_picture(generator(5, number)) for number in range(120)]


def test_pictures_are_varied(pictures):
    boxes = np.concatenate([boxes for _, boxes in pictures])
    assert set(boxes[:, 0]) == set(range(len(NAMES)))
    assert {image.shape for image, _ in pictures} == {(h, w, 3) for h in (160, 176, 192) for w in (160, 176, 192)}
    pixels = np.concatenate([boxes[:, 3:5] * [image.shape[1], image.shape[0]] for image, boxes in pictures])
    assert np.percentile(pixels, 5) < 28 and np.percentile(pixels, 95) > 65
    counts = [len(boxes) for _, boxes in pictures]
    assert min(counts) == 1 and max(counts) >= 6
    brightness = [image.mean() for image, _ in pictures]
    assert min(brightness) < 70 and max(brightness) > 180


def test_boxes_are_inside_their_picture(pictures):
    for _, boxes in pictures:
        assert (boxes[:, 1:3] - boxes[:, 3:5] / 2 >= -1e-6).all()
        assert (boxes[:, 1:3] + boxes[:, 3:5] / 2 <= 1 + 1e-6).all()
        assert (boxes[:, 3:5] > 0.03).all()


def test_some_objects_overlap(pictures):
    def overlaps(a: np.ndarray, b: np.ndarray) -> bool:
        return bool((np.abs(a[1:3] - b[1:3]) < (a[3:5] + b[3:5]) / 2).all())

    pairs = [(a, b) for _, boxes in pictures for i, a in enumerate(boxes) for b in boxes[:i]]
    share = np.mean([overlaps(a, b) for a, b in pairs])
    assert 0.05 < share < 0.5


def test_boxes_fit_their_objects(monkeypatch):
    """Drawn white on black with nothing else, an object is exactly where its box says."""
    monkeypatch.setattr(shapes, "_background", lambda rng, width, height: np.zeros((3, height, width), np.float32))
    monkeypatch.setattr(shapes, "_develop", lambda rng, canvas: None)
    monkeypatch.setattr(shapes, "_MOST_OBJECTS", 1)

    def paint(rng, canvas, mask):
        canvas += 255 * mask

    monkeypatch.setattr(shapes, "_paint", paint)
    for number in range(40):
        image, boxes = draw_picture(generator(9, number))
        assert len(boxes) == 1
        height, width = image.shape[:2]
        x, y, w, h = cv2.boundingRect((image[:, :, 0] > 127).astype(np.uint8))
        expected = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
        assert np.allclose(boxes[0, 1:], expected, atol=1e-6)


def test_objects_stand_out_from_what_is_under_them(monkeypatch):
    differences = []
    paint = shapes._paint

    def painted(rng, canvas, mask):
        before = canvas.copy()
        paint(rng, canvas, mask)
        differences.append(np.abs(canvas - before)[:, mask > 0.9].sum(axis=0).mean())

    monkeypatch.setattr(shapes, "_paint", painted)
    for number in range(40):
        draw_picture(generator(11, number))
    assert len(differences) > 100 and np.percentile(differences, 5) > 100


def test_labels_and_lists_are_darknets(drawn):
    lists = (drawn / "train.txt").read_text().splitlines()
    assert lists == [f"{drawn.as_posix()}/train/{number:05d}.jpg" for number in range(6)]
    assert (drawn / "shapes.names").read_text().split() == list(NAMES)
    for line in (drawn / "train" / "00003.txt").read_text().splitlines():
        kind, *numbers = line.split()
        assert kind.isdecimal() and len(numbers) == 4 and all(0 < float(number) < 1 for number in numbers)


def test_an_interrupted_drawing_is_not_complete(tmp_path, monkeypatch):
    calls = []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return draw(*arguments)

    draw = shapes.draw_picture
    draw_dataset(tmp_path, SMALL)
    assert is_complete(tmp_path, SMALL)
    monkeypatch.setattr(shapes, "draw_picture", stop)
    with pytest.raises(KeyboardInterrupt):
        draw_dataset(tmp_path, SMALL, threads=1)
    assert not is_complete(tmp_path, SMALL)


@pytest.mark.parametrize("other", [ShapesOptions(train=7, val=3), ShapesOptions(train=6, val=3, seed=4)])
def test_other_options_are_other_pictures(drawn, other):
    assert is_complete(drawn, SMALL) and not is_complete(drawn, other)
    assert is_complete(drawn, ShapesOptions(folder="elsewhere", train=6, val=3))


def test_another_version_draws_again(drawn, tmp_path, monkeypatch):
    shutil.copytree(drawn, tmp_path / "copy")
    monkeypatch.setattr(shapes, "_VERSION", 99)
    assert not is_complete(tmp_path / "copy", SMALL)
    (tmp_path / "copy" / "complete.json").write_text("nonsense")
    assert not is_complete(tmp_path / "copy", SMALL)


def test_opened_by_yaml_drawn_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notices: list[str] = []
    train = open_dataset(describe(tmp_path), "train", notify=notices.append)
    val = open_dataset(describe(tmp_path), "val", notify=notices.append)
    assert notices == ["drawing the built-in data set: 5 pictures into drawn, a few seconds"]
    assert (len(train), len(val)) == (3, 2) and train.names == list(NAMES)
    assert sum(len(train.boxes(index)) for index in range(3)) > 0 and train.problems == []
    with pytest.raises(DataError, match="only train and val"):
        open_dataset(describe(tmp_path), "test", notify=notices.append)


def test_opened_from_its_own_folder_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_dataset(describe(tmp_path), notify=lambda text: None)
    monkeypatch.chdir(tmp_path.parent)
    dataset = open_dataset(tmp_path / "drawn", "val")
    assert len(dataset) == 2 and dataset.names == list(NAMES)


def test_the_notice_goes_to_standard_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    open_dataset(describe(tmp_path))
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "drawing" in printed.err


@pytest.mark.parametrize(
    "more, message",
    [
        (", sede: 3", "there is no option 'sede'; did you mean 'seed'?"),
        (", seed: x", "seed: expected a whole number, not 'x'"),
        (", seed: -1", "seed: expected at least 0, not -1"),
        (", seed: true", "seed: expected a whole number, not True"),
    ],
)
def test_wrong_options_are_named(tmp_path, more, message):
    with pytest.raises(ConfigError) as caught:
        open_dataset(describe(tmp_path, more))
    assert message in str(caught.value) and "mine.yaml:2" in str(caught.value)


def test_other_names_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"mine\.yaml:3  names: the classes of the shapes are circle, square"):
        open_dataset(describe(tmp_path, names=("circle", "square")))


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        open_dataset(describe(tmp_path), notify=lambda text: None)


def test_the_shipped_files_fit_together():
    description = read_yaml(resources.find("data", "shapes.yaml"))
    assert description.names == NAMES and description.kind == "shapes"
    assert ShapesOptions(**description.extra) == ShapesOptions()
    heads = [section for section in read_cfg(resources.find("cfg", "shapes.cfg")).layers if section.name == "yolo"]
    assert len(heads) == 2
    for head in heads:
        assert int(head.get("classes").value) == len(NAMES)
