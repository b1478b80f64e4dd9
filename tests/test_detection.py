from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from darkpy.boxes import Kept
from darkpy.data.pictures import Placement, network_input
from darkpy.detection import (
    Detection,
    detect,
    detection_table,
    detections,
    find_kept,
    json_frame,
    picture_planes,
    raw_detections,
    save_labels,
    to_json,
)
from darkpy.errors import DataError, InputError


class Head:
    """A detection head that finds the same boxes in every picture."""

    def __init__(self, rows: list[list[float]], **options: Any) -> None:
        """Rows x, y, w, h, objectness, then one probability per class."""
        self.rows = np.array(rows, np.float32).reshape(-1, 7)
        self.options = SimpleNamespace(**options)

    def decoding(self) -> None:
        """Only boxes() knows."""

    def boxes(self, image_index: int, thresh: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        over = self.rows[self.rows[:, 4] > thresh]
        return over[:, :4], over[:, 4], np.where(over[:, 5:] > thresh, over[:, 5:], 0)


class Network:
    def __init__(self, *heads: Any, width: int = 8, height: int = 8, letter_box: bool = False) -> None:
        self.heads = list(heads)
        self.width, self.height, self.channels = width, height, 3
        self.training = False
        self.names = ["cat", "dog"]
        self.options = SimpleNamespace(letter_box=letter_box)
        self.seen_input: np.ndarray | None = None

    def look_at(self, images: list[np.ndarray], letter_box: bool) -> None:
        self.run(np.concatenate([network_input(image, self.width, self.height, letter_box) for image in images]))

    def run(self, x: np.ndarray) -> None:
        self.seen_input = x.copy()


def picture(height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def run(network: Any, image: np.ndarray, **options: Any) -> list[Detection]:
    return detect(network, image, **options)


def test_detect_gives_pixels_most_probable_first():
    network = Network(Head([[0.5, 0.5, 0.2, 0.4, 0.9, 0.3, 0.0]]), Head([[0.25, 0.5, 0.1, 0.1, 0.9, 0.0, 0.8]]))
    first, second = run(network, picture(30, 40))
    assert (first.class_id, first.name, second.class_id, second.name) == (1, "dog", 0, "cat")
    assert (first.x, first.y, first.w, first.h) == pytest.approx((10, 15, 4, 3), rel=1e-6)
    assert (second.x, second.y, second.w, second.h) == pytest.approx((20, 15, 8, 12), rel=1e-6)
    assert first.probability == pytest.approx(0.8)
    assert second.corners == pytest.approx((16, 9, 24, 21), rel=1e-6)


def test_detect_feeds_rgb_in_0_to_1():
    network = Network(Head([]), width=4, height=2)
    blue = np.zeros((6, 6, 3), np.uint8)
    blue[..., 0] = 255
    run(network, blue)
    assert network.seen_input is not None
    assert network.seen_input.shape == (1, 3, 2, 4)
    np.testing.assert_array_equal(network.seen_input[0, :, 0, 0], [0, 0, 1])


def test_a_box_may_have_several_classes():
    found = run(Network(Head([[0.5, 0.5, 0.2, 0.4, 0.9, 0.3, 0.6]])), picture())
    assert [(d.name, d.x) for d in found] == [("dog", 20), ("cat", 20)]


def test_suppression_follows_the_last_head():
    pair = [[0.50, 0.5, 0.2, 0.2, 0.9, 0.9, 0], [0.56, 0.5, 0.2, 0.2, 0.9, 0.8, 0]]
    plain, distant = {"nms_kind": "default", "beta_nms": 0.6}, {"nms_kind": "greedynms", "beta_nms": 0.6}
    default = Network(Head(pair[:1], **distant), Head(pair[1:], **plain))
    greedy = Network(Head(pair[:1], **plain), Head(pair[1:], **distant))
    assert len(run(default, picture())) == 1
    assert len(run(greedy, picture())) == 2
    assert len(run(Network(Head(pair)), picture())) == 1  # a head without the key
    assert len(run(default, picture(), nms=0)) == 2


@pytest.mark.parametrize("by_cfg", [False, True])
def test_letter_box_maps_boxes_back(by_cfg):
    network = Network(Head([[0.5, 0.5, 1.0, 0.75, 0.9, 0.9, 0]]), letter_box=by_cfg)
    (found,) = run(network, picture(30, 40), letter_box=not by_cfg)
    assert (found.x, found.y, found.w, found.h) == pytest.approx((20, 15, 40, 30), rel=1e-6)
    assert network.seen_input is not None
    assert (network.seen_input[0, :, 0] == 0.5).all()


def test_nms_works_on_the_boxes_in_the_picture():
    """Stretching moves the penalty for the distance of the centres, so the order of the two steps shows."""
    tall = [[0.5, 0.50, 0.1, 0.04, 0.9, 0.9, 0], [0.5, 0.511, 0.1, 0.04, 0.9, 0.8, 0]]
    network = Network(Head(tall, nms_kind="greedynms", beta_nms=0.6), width=40, height=40)
    places = [Placement.fit(400, 10, 40, 40, letter_box) for letter_box in (True, False)]
    fitted, stretched = find_kept(network, places, 0.1, 0.45)  # type: ignore[arg-type]
    assert (len(fitted.boxes), len(stretched.boxes)) == (2, 1)
    np.testing.assert_allclose(fitted.boxes[0], [0.5, 0.5, 0.1, 1.6], rtol=1e-5)


def test_raw_detections_are_in_the_order_of_the_heads():
    network = Network(Head([[0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0]]), Head([[0.9, 0.9, 0.1, 0.1, 0.9, 0, 0.9]]))
    boxes, objectness, probabilities = raw_detections(network, 0, 0.1)  # type: ignore[arg-type]
    np.testing.assert_allclose(boxes[:, 0], [0.1, 0.9])
    np.testing.assert_allclose(objectness, [0.5, 0.9])
    assert probabilities.shape == (2, 2)


def test_other_heads_do_not_matter():
    cost = SimpleNamespace(options=None)
    assert len(run(Network(Head([[0.5, 0.5, 0.2, 0.4, 0.9, 0.3, 0]]), cost), picture())) == 1


def test_a_network_that_cannot_detect_is_refused():
    with pytest.raises(InputError, match="no detection head"):
        run(Network(), picture())
    training = Network(Head([]))
    training.training = True
    with pytest.raises(InputError, match="training=True"):
        run(training, picture())


def test_a_class_without_a_name_is_shown_by_its_number():
    (found,) = detections(Kept.of(np.zeros((1, 4)), np.array([[0, 0, 0.5]])), ["a", "b"], 10, 10)
    assert found.name == "2"


# Pictures ------------------------------------------------------------------------------------------------------


def test_picture_planes_turns_everything_into_what_the_network_takes():
    color, grey = picture(), picture()[..., 0]
    np.testing.assert_array_equal(picture_planes(color, 3), color[..., ::-1])
    np.testing.assert_array_equal(picture_planes(np.dstack([color, grey]), 3), color[..., ::-1])
    np.testing.assert_array_equal(picture_planes(grey, 3), np.dstack([grey] * 3))
    np.testing.assert_array_equal(picture_planes(grey, 1)[..., 0], grey)
    np.testing.assert_array_equal(picture_planes(grey[..., None], 1)[..., 0], grey)
    np.testing.assert_array_equal(picture_planes(color[::-1, :, ::-1], 3), color[::-1])
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 2] = 100
    assert (picture_planes(red, 1) == 30).all()
    assert (picture_planes(np.dstack([red, red[..., 0]]), 1) == 30).all()


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)]
)
def test_picture_planes_refuses_what_is_no_picture(image):
    with pytest.raises(DataError, match=str(image.dtype)):
        picture_planes(image, 3)


def test_picture_planes_refuses_other_channels():
    with pytest.raises(DataError, match="4 channels"):
        picture_planes(picture(), 4)


# Written down --------------------------------------------------------------------------------------------------

FOUND = [
    Detection(1, "dog", 0.9, 20, 15, 10, 10),
    Detection(0, "cat", 0.4, 20, 15, 10, 10),
    Detection(0, 'c"a\\t', 0.3, 0, 15, 8, 6),
    Detection(2, "dont_show this", 0.2, 30, 10, 4, 4),
]


def test_save_labels_writes_one_line_a_box(tmp_path):
    save_labels(tmp_path / "a.txt", FOUND[1::-1] + FOUND[3:], 40, 30)
    lines = (tmp_path / "a.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["1 0.500000 0.500000 0.250000 0.333333", "2 0.750000 0.333333 0.100000 0.133333"]


def test_save_labels_cuts_boxes_that_no_label_may_have(tmp_path):
    wide, half_out = Detection(0, "a", 0.5, 20, 15, 60, 10), Detection(1, "a", 0.4, -1, 15, 8, 6)
    gone, overhanging = Detection(2, "a", 0.3, -9, 15, 8, 6), Detection(3, "a", 0.2, 2, 15, 8, 6)
    save_labels(tmp_path / "a.txt", [wide, half_out, gone, overhanging], 40, 30)
    rows = np.loadtxt(tmp_path / "a.txt")
    np.testing.assert_allclose(rows[0], [0, 0.5, 0.5, 1, 1 / 3], atol=1e-6)
    np.testing.assert_allclose(rows[1], [1, 1.5 / 40, 0.5, 3 / 40, 0.2], atol=1e-6)
    np.testing.assert_allclose(rows[2], [3, 2 / 40, 0.5, 8 / 40, 0.2], atol=1e-6)


def test_save_labels_of_nothing_is_an_empty_file(tmp_path):
    save_labels(tmp_path / "a.txt", [], 40, 30)
    assert (tmp_path / "a.txt").read_bytes() == b""


def test_json_has_darknets_structure():
    text = to_json([json_frame(FOUND, 40, 30, 1, "a.jpg"), json_frame([], 40, 30, 2, "b.jpg"), json_frame([], 4, 3, 3)])
    first, second, third = json.loads(text)
    assert list(first) == ["frame_id", "filename", "objects"]
    assert first["filename"] == "a.jpg"
    assert [o["name"] for o in first["objects"]] == ["dog", "cat", 'c"a\\t']
    assert first["objects"][0] == {
        "class_id": 1,
        "name": "dog",
        "relative_coordinates": {"center_x": 0.5, "center_y": 0.5, "width": 0.25, "height": 0.333333},
        "confidence": 0.9,
    }
    assert second == {"frame_id": 2, "filename": "b.jpg", "objects": []}
    assert third == {"frame_id": 3, "objects": []}
    assert json.loads(to_json([])) == []


def test_the_table_lists_what_is_shown():
    console = Console(file=io.StringIO(), width=100)
    console.print(detection_table([*FOUND, Detection(0, "[red]", 0.5, 1, 1, 1, 1)], title="a [x].jpg"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a [x].jpg" in text
    assert "[red]" in text
    assert "dont_show" not in text
    (dog,) = (line.split() for line in text.splitlines() if line.startswith("dog"))
    assert dog == ["dog", "90.0", "%", "15", "10", "10", "10"]
