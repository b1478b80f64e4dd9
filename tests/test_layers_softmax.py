"""[softmax]: groups, positions, and hierarchies of classes."""

from __future__ import annotations

import numpy as np
import pytest

from tests import heads
from tests.backends import BACKENDS, random

CFG = """[net]
batch=2
width=4
height=4
channels=3
max_batches=10

[connected]
output=7
activation=linear

[softmax]
"""
TREE = CFG + "tree=classes.tree\n"
GROUPS = (slice(0, 2), slice(2, 4), slice(4, 7))
IGNORED = -1234


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("temperature", [1, 2.5])
def test_classes_with_one_parent_exclude_each_other(tmp_path, device, temperature):
    layer = heads.head(TREE + f"temperature={temperature}\n", tmp_path, device)
    x = random(layer.output.shape)
    layer.forward(x, training=False)
    for group in GROUPS:
        powers = np.exp(x[:, group] / temperature)
        assert layer.output[:, group] == pytest.approx(powers / powers.sum(axis=1, keepdims=True), rel=1e-5)


def test_large_scores_do_not_overflow(tmp_path):
    layer = heads.head(TREE, tmp_path)
    layer.forward(np.full(layer.output.shape, 1e4, np.float32), training=False)
    assert layer.output[0].reshape(-1) == pytest.approx([1 / 2] * 4 + [1 / 3] * 3)


@pytest.mark.parametrize("device", BACKENDS)
def test_a_picture_of_a_class_is_one_of_its_parents(tmp_path, device):
    """f is a b; c and d, which are a, have nothing to learn from it."""
    layer = heads.head(TREE, tmp_path, device)
    layer.forward(random(layer.output.shape), training=True)
    p = layer.output.reshape(2, 7)
    truth = np.zeros((2, 7), np.float32)
    truth[0, 5] = truth[1, 0] = 1
    expected = -np.log([p[0, 1], p[0, 5], p[1, 0]]).sum()
    assert layer.loss(truth) == pytest.approx(expected, rel=1e-6)
    gradient = layer.grad_output.reshape(2, 7)
    assert gradient[0] == pytest.approx(np.array([*p[0, :2] - [0, 1], 0, 0, *p[0, 4:] - [0, 1, 0]]), rel=1e-5)
    assert gradient[1] == pytest.approx(np.array([*p[1, :2] - [1, 0], 0, 0, 0, 0, 0]), rel=1e-5)
    assert truth.sum() == 2  # the caller's array is as it was


def test_truth_may_be_complete_already(tmp_path):
    """As Darknet's loader fills it in."""
    layer = heads.head(TREE, tmp_path)
    layer.forward(random(layer.output.shape), training=True)
    complete = np.tile(np.array([0, 1, IGNORED, IGNORED, 0, 1, 0], np.float32), (2, 1))
    one_hot = np.tile(np.eye(7, dtype=np.float32)[5], (2, 1))
    cost, gradient = layer.loss(complete), layer.grad_output.copy()
    assert layer.loss(one_hot) == cost
    assert (layer.grad_output == gradient).all()


def test_gradient_is_that_of_the_loss(tmp_path):
    layer = heads.head(TREE, tmp_path, dtype=np.float64)
    truth = np.eye(7)[[2, 6]]

    def loss(x: np.ndarray) -> float:
        layer.forward(x, training=True)
        return layer.loss(truth)

    heads.check_loss_gradient(layer, random(layer.output.shape, dtype=np.float64), truth, loss)


@pytest.mark.parametrize("device", BACKENDS)
def test_ignored_truth_teaches_nothing(tmp_path, device):
    layer = heads.head(CFG, tmp_path, device)
    layer.forward(random(layer.output.shape), training=True)
    assert layer.loss(np.full((2, 7), IGNORED, np.float32)) == 0
    assert (layer.grad_output == 0).all()


@pytest.mark.parametrize("device", BACKENDS)
def test_one_distribution_at_every_position(tmp_path, device):
    cfg = CFG.replace("[connected]\noutput=7\nactivation=linear\n", "[convolutional]\nfilters=5\nactivation=linear\n")
    layer = heads.head(cfg + "spatial=1\n", tmp_path, device)
    layer.forward(random(layer.output.shape), training=False)
    assert layer.output.sum(axis=1) == pytest.approx(1, rel=1e-6)
    assert layer.classes == 5


def test_a_tree_of_another_number_of_classes(tmp_path):
    (found,) = heads.problems(TREE.replace("output=7", "output=6"), tmp_path)
    assert found == f"13  [softmax] {tmp_path}/classes.tree has 7 classes, the layer 6"


def test_a_missing_tree_is_remarked_on(tmp_path):
    layer = heads.head(TREE.replace("classes.tree", "data/imagenet.tree"), tmp_path)
    (warning,) = layer.graph.warnings
    assert "[softmax] tree=data/imagenet.tree: no such file here or beside the cfg" in str(warning)
    layer.forward(random(layer.output.shape), training=False)
    assert layer.output.sum(axis=1) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    "cfg, expected",
    [
        (CFG + "groups=2\n", "13  [softmax] groups=2 does not divide its 7 inputs"),
        (CFG + "temperature=0\n", "13  [softmax] temperature=0: scores cannot be divided by it"),
    ],
)
def test_impossible_options(tmp_path, cfg, expected):
    assert heads.problems(cfg, tmp_path) == [expected]
