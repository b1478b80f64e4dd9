from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.base_contrastive import find_samples
from darkpy.backends.base_heads import ContrastiveLoss
from darkpy.backends.base_yolo import yolo_loss_settings
from tests.backends import BACKENDS, assert_close, backend, random

HEAD = yolo_loss_settings([(10, 12), (40, 30), (12, 20)], [0, 2], 2, 48, 32, max_boxes=40)


def settings(**keys) -> ContrastiveLoss:
    given = {"temperature": 0.5, "cls_normalizer": 1.5, "max_delta": np.inf, "contrastive_neg_max": 3, "time_steps": 1}
    return ContrastiveLoss(HEAD, **{**given, **keys})


def truth(pictures: int, count: int, identities: int) -> list[np.ndarray]:
    """Objects at random places; those of one identity are usually of one class."""
    rng = np.random.default_rng(pictures * count)
    found = []
    for _ in range(pictures):
        identity = rng.integers(0, identities, count)
        size = np.array([[10 / 48, 12 / 32], [40 / 48, 30 / 32], [12 / 48, 20 / 32]])[rng.integers(0, 3, count)]
        kind = (identity + (rng.random(count) < 0.1)) % 2
        found.append(np.column_stack([kind, rng.uniform(0.01, 0.99, (count, 2)), size, identity]).astype(np.float32))
    return found


@pytest.mark.parametrize(
    "keys", [{}, {"contrastive_neg_max": 1000, "temperature": 0.02}, {"time_steps": 3, "max_delta": 0.01}]
)
@pytest.mark.parametrize("name", BACKENDS)
def test_many_objects(name, keys):
    """More than there is room for at first, with embeddings longer than a warp takes at a time."""
    b, exact = backend(name), backend("numpy", np.float64)
    shape = (6, 2 * 150, 4, 5)
    objects = truth(6, 30, 25)
    assert len(find_samples(objects, 4, 5, HEAD).labels) > 64
    x = random((6, 303, 4, 5))[:, 1:301] if b.channel_views(6) else random(shape)
    grad, expected = np.full(shape, np.nan, np.float32), np.full(shape, np.nan)
    cost = exact.contrastive_loss(np.array(x, np.float64), objects, expected, settings(**keys))
    assert b.contrastive_loss(x, objects, grad, settings(**keys)) == pytest.approx(cost, rel=1e-6)
    assert_close(grad, expected)
    assert cost > 0


@pytest.mark.parametrize("name", BACKENDS)
def test_objects_packed_before(name):
    """In the room of those of another mini-batch, which is large enough or not."""
    b = backend(name)
    x, grad = random((4, 8, 4, 5)), np.zeros((4, 8, 4, 5), np.float32)
    room = None
    for count in (3, 30, 0, 5):
        objects = truth(4, count, 4)
        expected = b.contrastive_loss(x, objects, grad, settings())
        room = b.pack_samples(objects, 4, 5, settings(), room)
        assert b.contrastive_loss(x, room, grad, settings()) == expected
        assert (expected > 0) == (count > 0)
        assert grad.any() == (count > 0)
