"""The operations of [region]: every backend's results are NumPy's, whatever the options."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import pytest

from darkpy.backends.base_heads import RegionSettings, class_tree
from tests.backends import BACKENDS, assert_close, backend
from tests.test_backends_yolo import objects

OTHERS = [name for name in BACKENDS if name != "numpy"]
CLASSES = 7
TREE = class_tree([-1, -1, 0, 0, 1, 1, 1])
ANCHORS = np.array([(1, 1.5), (0.7, 0.7), (3, 2)])
YOUNG = 100


def settings_for(**options: Any) -> RegionSettings:
    """Without softmax or a tree unless the options have them."""
    defaults = RegionSettings(
        anchors=ANCHORS,
        classes=CLASSES,
        tree=class_tree(),
        softmax=False,
        coord_scale=1.5,
        object_scale=5.0,
        noobject_scale=0.7,
        class_scale=1.2,
        prior_scale=0.01,
        prior_until=YOUNG,
        thresh=0.3,
        classfix=0,
        rescore=False,
        bias_match=False,
        focal_loss=False,
        max_boxes=300,
    )
    return defaults._replace(**options)


def random_input(pictures: int, height: int, width: int, seed: int = 0, classes: int = CLASSES) -> np.ndarray:
    generator = np.random.default_rng(seed)
    shape = (pictures, len(ANCHORS) * (5 + classes), height, width)
    return generator.normal(0, 0.8, shape).astype(np.float32)


def random_truth(pictures: int, count: int, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    columns = [
        generator.integers(0, CLASSES, (pictures, count, 1)),
        generator.uniform(0.02, 1, (pictures, count, 2)),
        generator.uniform(0.05, 0.9, (pictures, count, 2)),
    ]
    return list(np.concatenate(columns, axis=2).astype(np.float32))


def output_of(name: str, x: np.ndarray, settings: RegionSettings) -> np.ndarray:
    out = np.full_like(x, np.nan)
    backend(name).region_forward(x, out, settings)
    return out


def loss_of(name: str, output: np.ndarray, truth: Any, settings: RegionSettings, seen: int = YOUNG) -> Any:
    grad = np.full_like(output, np.nan)
    device = backend(name)
    device.set_clock(seen)
    return device.region_loss(output, truth, grad, settings), grad


def check_loss(name: str, output: np.ndarray, truth: Any, settings: RegionSettings, seen: int = YOUNG) -> Any:
    expected, grad = loss_of("numpy", output, truth, settings, seen)
    found, own_grad = loss_of(name, output, truth, settings, seen)
    assert_close(own_grad, grad, 3e-6)
    assert asdict(found) == pytest.approx(asdict(expected), rel=3e-6)
    return expected


KINDS: dict[str, dict[str, Any]] = {"plain": {}, "softmax": {"softmax": True}, "tree": {"tree": TREE}}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("name", OTHERS)
@each_kind
def test_forward(name: str, kind: str) -> None:
    x = random_input(2, 3, 5)
    settings = settings_for(**KINDS[kind])
    assert_close(output_of(name, x, settings), output_of("numpy", x, settings), 1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_forward_of_more_classes_than_a_warp_has_lanes(name: str) -> None:
    settings = settings_for(classes=40, softmax=True)
    x = random_input(1, 2, 3, classes=40)
    x[0, :, 0, 0] *= 100
    assert_close(output_of(name, x, settings), output_of("numpy", x, settings), 2e-6)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("classfix", [-1, 0, 1, 2])
@each_kind
def test_backends_agree(name: str, kind: str, classfix: int) -> None:
    """With several objects in a cell, whose order matters; the last pictures show a class somewhere, or nothing."""
    somewhere = objects([1, 0.5, 0.5, 0.2, 0.2], [5, 999999, 999999, 999999, 999999])
    truth = [*random_truth(2, 25), somewhere, objects()]
    for number, (rescore, bias_match) in enumerate(product([False, True], repeat=2)):
        settings = settings_for(
            **KINDS[kind], classfix=classfix, rescore=rescore, bias_match=bias_match, focal_loss=number in (1, 2)
        )
        output = output_of("numpy", random_input(4, 4, 3, seed=number), settings)
        expected = check_loss(name, output, truth, settings, YOUNG - number % 2)
        assert expected.count == 50 + (kind != "tree")


@pytest.mark.parametrize("name", OTHERS)
@each_kind
def test_many_cells_and_objects(name: str, kind: str) -> None:
    """More of both than a block of threads takes at a time."""
    settings = settings_for(**KINDS[kind], classfix=1)
    output = output_of("numpy", random_input(3, 13, 14, seed=1), settings)
    shows = objects([4, 999999, 999999, 999999, 999999])
    check_loss(name, output, [*random_truth(2, 300), shows], settings)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("size", [90.0, -120.0])
def test_boxes_beyond_single_precision(name: str, size: float) -> None:
    x = random_input(1, 3, 3)
    x.reshape(1, 3, 5 + CLASSES, 3, 3)[:, :, 2:4] = size
    settings = settings_for(softmax=True)
    check_loss(name, output_of("numpy", x, settings), random_truth(1, 5), settings)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_pull_ends_when_enough_was_seen(name: str) -> None:
    settings = settings_for()
    output = output_of("numpy", random_input(1, 3, 3), settings)
    boxes = [loss_of(name, output, [[]], settings, seen)[0].box for seen in (0, YOUNG - 1, YOUNG, 1 << 33)]
    assert boxes[0] == boxes[1] > 0
    assert boxes[2:] == [0, 0]


@pytest.mark.parametrize("name", BACKENDS)
def test_packed_truth_is_taken_as_it_is(name: str) -> None:
    settings = settings_for(tree=TREE)
    output = output_of("numpy", random_input(2, 3, 3), settings)
    truth = [random_truth(1, 4)[0], objects([5, 999999, 999999, 999999, 999999])]
    room = backend(name).pack_region_objects(truth[::-1], settings)
    packed = backend(name).pack_region_objects(truth, settings, room)
    expected, grad = loss_of(name, output, truth, settings)
    found, own_grad = loss_of(name, output, packed, settings)
    assert found == expected
    assert (own_grad == grad).all()


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("classfix", [0, -1])
@pytest.mark.parametrize("kind, told", [("plain", None), ("softmax", None), ("tree", None), ("tree", [5, 1, 3])])
def test_boxes(name: str, kind: str, told: list[int] | None, classfix: int) -> None:
    settings = settings_for(**KINDS[kind], classfix=classfix)
    output = output_of("numpy", 3 * random_input(2, 9, 11, seed=3), settings)
    classes = None if told is None else np.array(told)
    found, expected = (backend(each).region_boxes(output, 1, 0.2, settings, classes) for each in (name, "numpy"))
    assert 0 < np.count_nonzero(expected[2]) < expected[2].size
    for ours, theirs in zip(found, expected):
        assert_close(ours, theirs, 1e-6)
