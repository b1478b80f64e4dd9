"""The operations of [detection]: every backend's results are NumPy's, whatever the options."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import pytest

from darkpy.backends.base_heads import DetectionSettings
from tests.backends import BACKENDS, assert_close, backend

OTHERS = [name for name in BACKENDS if name != "numpy"]


def settings_for(side: int = 5, num: int = 3, classes: int = 4, **options: Any) -> DetectionSettings:
    defaults = DetectionSettings(
        side=side,
        num=num,
        classes=classes,
        softmax=False,
        sqrt=False,
        rescore=False,
        forced=False,
        coord_scale=5.0,
        object_scale=2.0,
        noobject_scale=0.5,
        class_scale=3.0,
    )
    return defaults._replace(**options)


def random_output(pictures: int, settings: DetectionSettings, seed: int = 0) -> np.ndarray:
    values = settings.side**2 * (settings.classes + 5 * settings.num)
    return np.random.default_rng(seed).uniform(-0.2, 1.2, (pictures, values)).astype(np.float32)


def random_truth(pictures: int, settings: DetectionSettings, seed: int = 0) -> np.ndarray:
    """An object in about half of the cells."""
    generator = np.random.default_rng(seed)
    cells = settings.side**2
    truth = np.zeros((pictures, cells, 1 + settings.classes + 4), np.float32)
    truth[..., 0] = generator.random((pictures, cells)) < 0.5
    classes = np.eye(settings.classes)[generator.integers(0, settings.classes, (pictures, cells))]
    truth[..., 1:-4] = truth[..., :1] * classes
    truth[..., -4:] = truth[..., :1] * generator.uniform(0.05, 0.8, (pictures, cells, 4))
    return truth


def loss_of(name: str, output: np.ndarray, truth: np.ndarray, settings: DetectionSettings, chosen: Any = None) -> Any:
    grad = np.full_like(output, np.nan)
    return backend(name).detection_loss(output, truth, grad, settings, chosen), grad


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("in_place", [False, True])
def test_softmax_over_the_classes_of_each_cell(name: str, in_place: bool) -> None:
    settings = settings_for(classes=40, softmax=True)
    x = 3 * random_output(2, settings)
    expected, out = np.empty_like(x), x.copy() if in_place else np.empty_like(x)
    backend().detection_forward(x, expected, settings)
    backend(name).detection_forward(out if in_place else x, out, settings)
    assert_close(out, expected, 1e-6)
    assert (out[:, 25 * 40 :] == x[:, 25 * 40 :]).all()


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("forced, is_chosen", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("sqrt, rescore", list(product([False, True], repeat=2)))
def test_backends_agree(name: str, sqrt: bool, rescore: bool, forced: bool, is_chosen: bool) -> None:
    """Some cells have their box chosen, others not."""
    settings = settings_for(sqrt=sqrt, rescore=rescore, forced=forced)
    output, truth = random_output(3, settings), random_truth(3, settings)
    chosen = None
    if is_chosen:
        chosen = np.random.default_rng(1).integers(-1, settings.num, (3, settings.side**2)).astype(np.int32)
    expected, grad = loss_of("numpy", output, truth, settings, chosen)
    found, own_grad = loss_of(name, output, truth, settings, chosen)
    assert expected.count > 20
    assert 0 < expected.recall50 < 1
    assert_close(own_grad, grad, 1e-6)
    assert asdict(found) == pytest.approx(asdict(expected), rel=2e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_more_cells_than_there_are_warps(name: str) -> None:
    settings = settings_for(side=9, classes=33)
    output, truth = random_output(40, settings), random_truth(40, settings)
    expected, grad = loss_of("numpy", output, truth, settings)
    found, own_grad = loss_of(name, output, truth, settings)
    assert_close(own_grad, grad, 1e-6)
    assert asdict(found) == pytest.approx(asdict(expected), rel=3e-6)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_box_that_is_no_number_is_told_by_the_loss(name: str) -> None:
    settings = settings_for(side=1, num=3)
    output, truth = random_output(1, settings), np.zeros((1, 1, 9), np.float32)
    truth[0, 0, [0, 1]], truth[0, 0, -4:] = 1, (0.5, 0.5, 0.1, 0.1)
    output[0, -12:] = 9  # all far away
    output[0, -6] = np.nan
    with np.errstate(invalid="ignore"):
        found, _ = loss_of(name, output, truth, settings)
    assert np.isnan(found.box)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("sqrt", [False, True])
def test_boxes(name: str, sqrt: bool) -> None:
    settings = settings_for(side=11, sqrt=sqrt)
    output = random_output(2, settings)
    found, expected = (backend(each).detection_boxes(output, 1, 0.2, settings) for each in (name, "numpy"))
    assert len(expected[0]) == 363
    assert 0 < np.count_nonzero(expected[2]) < expected[2].size
    for ours, theirs in zip(found, expected):
        assert_close(ours, theirs, 1e-6)
