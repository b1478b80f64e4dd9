"""[contrastive]: Darknet's numbers for the loss, and what it does to embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from tests import heads
from tests.backends import BACKENDS, random

CFG = """[net]
batch=4
width=48
height=32
channels=3
max_batches=10

[convolutional]
filters=12
size=1
stride=16
activation=linear

[convolutional]
filters=14
size=1
activation=linear

[yolo]
classes=2
num=3
mask=0,2
anchors=10,12, 40,30, 12,20

[route]
layers=0

[contrastive]
yolo_layer=-2
"""

VIEWS = [
    [0, 0.1, 0.2, 10 / 48, 12 / 32, 7],
    [0, 0.5, 0.6, 12 / 48, 20 / 32, 7],
    [0, 0.9, 0.6, 12 / 48, 20 / 32, 8],
    [0, 0.9, 0.2, 10 / 48, 12 / 32, 9],
]
"""An object of identity 7 in the first two pictures, one of another identity in each of the others."""


def truth(rows: list[list[float]] = VIEWS) -> list[np.ndarray]:
    """One object a picture."""
    return [np.array([row], np.float32) for row in rows]


def gradient(layer, x: np.ndarray, objects: list[np.ndarray]) -> tuple[float, np.ndarray]:
    """The cost, and the gradient as (picture, anchor, size, row, column)."""
    layer.output = x
    layer.grad_output[:] = np.nan
    cost = layer.loss(objects)
    return cost, layer.grad_output.reshape(4, 2, 6, 2, 3)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", heads.names("contrastive"))
def test_darknets_numbers(tmp_path, name, device):
    heads.check_against_darknet(name, tmp_path, device)


FIRST, SECOND, OTHER = (0, 0, slice(None), 0, 0), (1, 1, slice(None), 1, 1), (2, 1, slice(None), 1, 2)
"""Where the embeddings of the first three objects lie."""


def test_views_of_an_object_come_together(tmp_path):
    layer = heads.head(CFG, tmp_path)
    x = random(layer.output.shape)
    _, found = gradient(layer, x, truth())
    assert np.argwhere(found.any(axis=2)).tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]  # the others have no second view
    before = x.reshape(found.shape)
    after = before - 0.1 * found
    assert cosine(after[FIRST], after[SECOND]) > cosine(before[FIRST], before[SECOND])


def test_other_objects_are_kept_away(tmp_path):
    """Seen where two views are the same already, so that nothing draws them together."""
    layer = heads.head(CFG + "contrastive_neg_max=1\n", tmp_path)
    x = random(layer.output.shape)
    before = x.reshape(4, 2, 6, 2, 3)
    before[SECOND] = before[FIRST]
    _, found = gradient(layer, x, truth())
    after = before - 0.1 * found
    assert cosine(after[FIRST], before[OTHER]) < cosine(before[FIRST], before[OTHER])


def test_only_the_direction_of_an_embedding_matters(tmp_path):
    """So the gradient of vectors of equal length is at right angles to them."""
    layer = heads.head(CFG, tmp_path)
    x = random(layer.output.shape).reshape(4, 2, 6, 2, 3)
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    _, found = gradient(layer, x.reshape(4, 12, 2, 3), truth())
    assert np.abs(found).max() > 0.01
    assert np.abs((found * x).sum(axis=2)).max() < 1e-6


@pytest.mark.parametrize(
    "rows",
    [
        [row[:5] for row in VIEWS],  # no identities: what label files have
        [[*row[:5], -1] for row in VIEWS],
        [[*row[:5], identity] for identity, row in enumerate(VIEWS)],  # nobody twice
        [[number % 2, *row[1:]] for number, row in enumerate(VIEWS)],  # the views are not of one class
    ],
)
def test_without_a_second_view_nothing_is_learned(tmp_path, rows):
    layer = heads.head(CFG, tmp_path)
    cost, found = gradient(layer, random(layer.output.shape), truth(rows))
    assert cost == 0
    assert (found == 0).all()


def test_objects_of_other_anchors_are_left_out(tmp_path):
    layer = heads.head(CFG, tmp_path)
    rows = [[0, 0.1, 0.2, 40 / 48, 30 / 32, 7], *VIEWS[1:]]
    assert gradient(layer, random(layer.output.shape), truth(rows))[0] == 0


def test_of_two_objects_in_one_place_the_later_counts(tmp_path):
    layer = heads.head(CFG, tmp_path)
    x = random(layer.output.shape)
    objects = truth()
    objects[0] = np.concatenate([np.array([[0, 0.1, 0.2, 10 / 48, 12 / 32, 3]], np.float32), objects[0]])
    assert gradient(layer, x, objects)[0] == gradient(layer, x, truth())[0] > 0
    objects[0] = objects[0][::-1]
    assert gradient(layer, x, objects)[0] == 0


def test_steps_of_time_are_kept_apart(tmp_path):
    layer = heads.head(CFG, tmp_path)
    x = random(layer.output.shape)
    assert gradient(layer, x, truth())[0] > 0
    layer.graph.time_steps = 4
    assert gradient(layer, x, truth())[0] == 0


def test_embeddings_of_no_length_stay(tmp_path):
    layer = heads.head(CFG, tmp_path)
    cost, found = gradient(layer, np.zeros(layer.output.shape, np.float32), truth())
    assert cost == 0
    assert (found == 0).all()


def test_that_there_is_but_one_view_is_said(tmp_path):
    layer = heads.head(CFG, tmp_path)
    (warning,) = layer.graph.warnings
    assert str(warning) == (
        f"{tmp_path}/my.cfg:28  [contrastive] learns from two views of every picture; without contrastive=1 in [net] "
        "there is but one"
    )
    with_views = heads.head(CFG.replace("max_batches", "contrastive=1\nmax_batches"), tmp_path)
    assert with_views.graph.warnings == []


@pytest.mark.parametrize("cfg", heads.published("contrastive"))
def test_published_networks_build(shared, cfg):
    heads.check_builds(shared / "zoo" / cfg, "contrastive")


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("yolo_layer=-2", "yolo_layer=0", "29  [contrastive] yolo_layer=0 is [convolutional], not [yolo]"),
        ("yolo_layer=-2", "yolo_layer=9", "29  [contrastive] yolo_layer=9 names a missing layer; this is layer 4"),
        ("yolo_layer=-2\n", "", "28  [contrastive] needs the option 'yolo_layer'"),
        ("filters=12", "filters=13", "28  [contrastive] 13 channels cannot be shared by the 2 anchors of [yolo]"),
        ("layers=0\n", "layers=0\n[upsample]\n", "29  [contrastive] the grid is 6x4, that of [yolo] 3x2"),
    ],
)
def test_impossible_options(tmp_path, old, new, expected):
    assert old in CFG
    cfg = CFG.replace(old, new)
    if "upsample" in new:
        cfg = cfg.replace("yolo_layer=-2", "yolo_layer=-3")
    (found,) = heads.problems(cfg, tmp_path)
    assert found.startswith(expected)
