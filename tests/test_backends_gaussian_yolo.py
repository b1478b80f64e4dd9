"""The operations of [Gaussian_yolo]: every backend's results are NumPy's, whatever the options."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from darkpy.backends.base_heads import GaussianLoss, YoloPoint
from darkpy.backends.base_yolo import yolo_loss_settings
from tests.backends import BACKENDS, assert_close, backend
from tests.test_backends_yolo import ANCHORS, CLASSES, SIDE, objects, random_truth

OTHERS = [name for name in BACKENDS if name != "numpy"]
CHANNELS = 9 + CLASSES


def settings_for(mask=(1, 3), uc_normalizer=0.7, point=YoloPoint.CENTER, **options: Any) -> GaussianLoss:
    return GaussianLoss(yolo_loss_settings(ANCHORS, mask, CLASSES, SIDE, SIDE, **options), uc_normalizer, point)


def random_output(pictures: int, anchors: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Probabilities, uncertainties in 0..1, and small logarithms for w and h."""
    generator = np.random.default_rng(seed)
    output = generator.uniform(0.05, 0.95, (pictures, anchors, CHANNELS, height, width))
    output[:, :, [4, 6]] = generator.uniform(-0.7, 0.7, output[:, :, [4, 6]].shape)
    return output.reshape(pictures, -1, height, width).astype(np.float32)


def loss_of(name: str, output: np.ndarray, truth: Any, settings: GaussianLoss) -> tuple[Any, np.ndarray]:
    grad = np.full_like(output, np.nan)
    return backend(name).gaussian_yolo_loss(output, truth, grad, settings), grad


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("in_place", [False, True])
def test_forward(name: str, in_place: bool) -> None:
    x = np.random.default_rng(0).normal(0, 3, (2, 2 * CHANNELS, 3, 5)).astype(np.float32)
    x[0, :, 0, 0], x[0, :, 0, 1] = 1e30, -1e30
    expected, out = np.empty_like(x), x.copy() if in_place else np.empty_like(x)
    backend().gaussian_yolo_forward(x, expected, 2, CLASSES, 1.2)
    backend(name).gaussian_yolo_forward(out if in_place else x, out, 2, CLASSES, 1.2)
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=1e-7)


LOSSES = [
    {"iou_loss": "mse"},
    {"iou_loss": "iou", "iou_thresh": 0.3, "focal_loss": True},
    {"iou_loss": "giou", "iou_thresh": 0.2, "iou_thresh_kind": "giou", "label_smooth_eps": 0.1},
    {"iou_loss": "diou", "iou_thresh": 0.1, "iou_thresh_kind": "diou", "max_delta": 0.5, "obj_normalizer": 0.4},
    {"iou_loss": "ciou", "counters_per_class": (5, 10, 50), "cls_normalizer": 0.5, "iou_thresh": 0.3},
]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("truth_thresh", [1.0, 0.3])
@pytest.mark.parametrize("options", LOSSES, ids=lambda options: options["iou_loss"])
def test_backends_agree(name: str, options: dict[str, Any], truth_thresh: float, smooth: bool) -> None:
    """With several objects in a cell, whose order matters; the points of boxes in turn."""
    point = YoloPoint((LOSSES.index(options) + smooth) % 3)
    settings = settings_for(
        point=point, objectness_smooth=smooth, truth_thresh=truth_thresh, ignore_thresh=0.2, **options
    )
    output, truth = random_output(3, 2, 5, 7, seed=1), random_truth(pictures=3, count=20, seed=2)
    expected, grad = loss_of("numpy", output, truth, settings)
    found, own_grad = loss_of(name, output, truth, settings)
    assert expected.count > 20
    assert_close(own_grad, grad, 3e-6)
    assert asdict(found) == pytest.approx(asdict(expected), rel=3e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_many_cells_and_objects(name: str) -> None:
    """More of both than a block of threads takes at a time; the last picture has none."""
    output = random_output(3, 3, 17, 13, seed=1)
    truth = [*random_truth(pictures=2, count=300, seed=2), objects()]
    settings = settings_for((0, 1, 2), point=YoloPoint.LEFT_TOP, iou_thresh=0.3, max_boxes=300)
    expected, grad = loss_of("numpy", output, truth, settings)
    found, own_grad = loss_of(name, output, truth, settings)
    assert_close(own_grad, grad, 3e-6)
    assert asdict(found) == pytest.approx(asdict(expected), rel=3e-6)


@pytest.mark.parametrize("name", BACKENDS)
def test_packed_truth_is_taken_as_it_is(name: str) -> None:
    output, truth, settings = random_output(2, 2, 4, 4), random_truth(), settings_for()
    room = backend(name).pack_objects(random_truth(seed=1), CLASSES, settings.yolo.max_boxes)
    packed = backend(name).pack_objects(truth, CLASSES, settings.yolo.max_boxes, room)
    expected, grad = loss_of(name, output, truth, settings)
    found, own_grad = loss_of(name, output, packed, settings)
    assert found == expected
    assert (own_grad == grad).all()


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("iou_loss", ["mse", "giou", "ciou"])
@pytest.mark.parametrize("size, uncertainty", [(90.0, 0.5), (-120.0, 0.0), (0.0, 1e-30)])
def test_boxes_beyond_single_precision_and_certain_ones(
    name: str, iou_loss: str, size: float, uncertainty: float
) -> None:
    output = random_output(1, 2, 4, 4)
    values = output.reshape(1, 2, CHANNELS, 4, 4)
    values[:, :, [4, 6]] = size
    values[:, :, 1:8:2] = uncertainty
    settings = settings_for(iou_loss=iou_loss, iou_thresh=0.1, truth_thresh=0.5, point=YoloPoint.RIGHT_BOTTOM)
    truth = random_truth(pictures=1)
    _, expected = loss_of("numpy", output, truth, settings)
    _, grad = loss_of(name, output, truth, settings)
    assert np.isfinite(grad).all()
    assert_close(grad, expected, 3e-6)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("point", YoloPoint)
def test_boxes(name: str, point: YoloPoint) -> None:
    output = random_output(2, 2, 13, 14, seed=3)
    decode = settings_for(point=point).decode()
    for thresh in (0.3, 1.0):
        found, expected = (backend(each).gaussian_yolo_boxes(output, 1, thresh, decode) for each in (name, "numpy"))
        assert (len(expected[0]) > 256) == (thresh < 1)
        for ours, theirs in zip(found, expected):
            assert_close(ours, theirs, 1e-6)
