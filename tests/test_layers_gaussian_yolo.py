"""[Gaussian_yolo]: Darknet's numbers for the head alone, and what makes it different from [yolo]."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.layers.gaussian_yolo import GaussianYolo
from darkpy.layers.yolo import Yolo
from tests import heads
from tests.backends import BACKENDS, random

CFG = """[net]
batch=2
width=48
height=32
channels=3
max_batches=10

[convolutional]
filters=24
size=1
stride=16
activation=linear

[Gaussian_yolo]
classes=3
num=3
mask=0,2
anchors=10,12, 20,30, 12,20
"""


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", heads.names("gaussian"))
def test_darknets_numbers(tmp_path, name, device):
    heads.check_against_darknet(name, tmp_path, device)


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", heads.golden_names("Gaussian_yolo"))
def test_golden_boxes(shared, name, device):
    heads.check_golden_boxes(shared / "golden" / name, device)


def test_everything_but_w_and_h_is_squashed(tmp_path):
    layer = heads.head(CFG + "scale_x_y=1.2\n", tmp_path)
    x = random(layer.output.shape)
    layer.forward(x, training=True)
    before, after = x.reshape(2, 2, 12, 2, 3), layer.output.reshape(2, 2, 12, 2, 3)
    squashed = 1 / (1 + np.exp(-before))
    assert after[:, :, [0, 2]] == pytest.approx(1.2 * squashed[:, :, [0, 2]] - 0.1, rel=1e-5, abs=1e-6)
    assert (after[:, :, [4, 6]] == before[:, :, [4, 6]]).all()
    rest = [1, 3, 5, 7, 8, 9, 10, 11]
    assert after[:, :, rest] == pytest.approx(squashed[:, :, rest], rel=1e-5)


@pytest.mark.parametrize("device", BACKENDS)
def test_uncertain_boxes_are_less_probable(tmp_path, device):
    layer = heads.head(CFG, tmp_path, device)
    x = np.full(layer.output.shape, 3, np.float32)
    for uncertainty in (-2, 0, 2):
        x.reshape(2, 2, 12, 6)[:, :, 1:8:2] = uncertainty
        layer.forward(x, training=False)
        _, objectness, probabilities = layer.boxes(1, 0.01)
        sure = 1 / (1 + np.exp(-3.0))
        assert objectness == pytest.approx(sure, rel=1e-5)
        assert probabilities == pytest.approx(sure * sure * (1 - 1 / (1 + np.exp(-uncertainty))), rel=1e-5)


def test_names_of_the_channels(tmp_path):
    layer = heads.head(CFG, tmp_path)
    names = layer.channel_names([str(number) for number in range(layer.classes)])
    assert len(names) == layer.output_shape[0]
    assert [name.split(" ", 1)[1] for name in names[:9]] == [
        "x", "x uncertain", "y", "y uncertain", "w", "w uncertain", "h", "h uncertain", "object",
    ]  # fmt: skip


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("point, cell", [("center", (1, 1)), ("left_top", (0, 0)), ("right_bottom", (1, 2))])
def test_the_cell_of_a_corner_learns_an_object(tmp_path, device, point, cell):
    """Corners outside the picture belong to the outermost cell."""
    layer = heads.head(CFG.replace("mask=0,2", "mask=0,1") + f"yolo_point={point}\n", tmp_path, device)
    layer.forward(random(layer.output.shape), training=True)
    layer.loss([[], np.array([[1, 0.5, 0.5, 1.2, 1.2]])])
    boxes = layer.grad_output.reshape(2, 2, 12, 2, 3)[:, :, :8]
    assert (boxes[0] == 0).all()
    assert [tuple(place) for place in np.argwhere(boxes[1].any(axis=(0, 1)))] == [cell]


def test_an_uncertainty_of_nothing_is_no_infinite_gradient(tmp_path):
    layer = heads.head(CFG, tmp_path)
    x = np.zeros(layer.output.shape, np.float32)
    x.reshape(2, 2, 12, 6)[:, :, 1:8:2] = -120  # so small that its square is 0
    with np.errstate(under="ignore"):
        layer.forward(x, training=True)
        layer.loss([np.array([[1, 0.5, 0.5, 0.3, 0.4]]), []])
    assert np.isfinite(layer.grad_output).all()
    assert layer.loss_parts.count == 1


def test_the_gradient_of_a_mean_is_the_likelihoods(tmp_path):
    """Half of (2 - w h) times the derivative of the logarithm of a normal density, away from density 0."""
    layer = heads.head(CFG + "iou_normalizer=1\n", tmp_path, dtype=np.float64)
    layer.forward(np.zeros(layer.output.shape), training=True)
    w, h = 12 / 48, 20 / 32
    layer.loss([np.array([[1, 0.5, 0.75, w, h]]), []])  # fits the third anchor, the second of this head
    gradient = layer.grad_output.reshape(2, 2, 12, 2, 3)[0, 1, :, 1, 1]
    # x = y = 0.5 and the centre is in the middle of the cell: nothing to move, and sigma 0.5 is too much.
    weight = (2 - np.float32(w) * np.float32(h)) / 2
    assert gradient[[0, 2, 4, 6]] == pytest.approx(0, abs=1e-6)
    assert gradient[[1, 3, 5, 7]] == pytest.approx(weight / 0.8, rel=1e-6)


def test_learns_and_detects(tmp_path):
    """With a rate at which the gradient of an overlap, which does not fade at the optimum, does little harm."""
    cfg = CFG + "iou_loss=ciou\niou_normalizer=.1\nuc_normalizer=.01\n"
    heads.check_learns_and_detects(cfg, tmp_path, rate=0.0003)


@pytest.mark.parametrize("cfg", heads.published("Gaussian_yolo"))
def test_published_networks_build(shared, cfg):
    heads.check_builds(shared / "zoo" / cfg, "Gaussian_yolo")


def test_options_beside_yolos(tmp_path):
    own = {"uc_normalizer", "yolo_point"}
    gaussian, yolo = (set(cls.Options.__dataclass_fields__) for cls in (GaussianYolo, Yolo))
    assert gaussian - yolo == own
    assert yolo - gaussian == {"new_coords", "focal_loss", "show_details"}
    settings = heads.head(CFG + "uc_normalizer=.25\nyolo_point=left_top\nmax=7\n", tmp_path).loss_settings()
    assert (settings.uc_normalizer, settings.point, settings.yolo.max_boxes) == (0.25, 1, 7)


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("filters=24", "filters=16", "9  [convolutional] filters=16 does not fit the [Gaussian_yolo] on line 14: "
         "2 masks x (8 + 1 + 3 classes) = 24"),
        ("0,2", "0,3", "17  [Gaussian_yolo] mask names anchor 3; there are 3, counted from 0"),
        ("num=3", "yolo_point=top", "16  [Gaussian_yolo] yolo_point=top: expected one of center, left_top, "
         "right_bottom"),
        ("num=3", "new_coords=1", "16  [Gaussian_yolo] has no option 'new_coords'"),
    ],
)  # fmt: skip
def test_impossible_options(tmp_path, old, new, expected):
    assert old in CFG
    (found,) = heads.problems(CFG.replace(old, new), tmp_path)
    assert found.startswith(expected)
