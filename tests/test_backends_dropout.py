"""Random numbers, blocks of zeros, and what they leave of pictures."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backends import BACKENDS, CPU_BACKENDS, assert_close, backend, random

SHAPE = (2, 6, 5, 4)


@pytest.mark.parametrize("name", BACKENDS)
def test_uniform_depends_on_seed_clock_and_place(name):
    drawn = []
    for seed, clock, place in [(5, 64, 3), (5, 64, 3), (6, 64, 3), (5, 65, 3), (5, 64 + 2**32, 3), (5, 64, 4)]:
        out = np.empty((50, 41), np.float32)
        backend(name).set_clock(clock)
        backend(name).uniform(seed, place, out)
        drawn.append(out)
    assert (drawn[0] == drawn[1]).all()
    assert len({out.tobytes() for out in drawn}) == 5
    assert 0 <= drawn[0].min() < 0.01
    assert 0.99 < drawn[0].max() < 1
    assert abs(drawn[0].mean() - 0.5) < 0.02


@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in CPU_BACKENDS])
def test_uniform_on_the_gpu_is_philox(name):
    """The known answer for counter and key of zeros that the authors' library is tested with."""
    out = np.empty(5, np.float32)
    backend(name).set_clock(0)
    backend(name).uniform(0, 0, out)
    expected = np.array([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])
    assert (out[:4] == (expected >> 8) * 2.0**-24).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", BACKENDS)
def test_dropout(name, probability):
    x, grad_out = random(SHAPE, 0), random(SHAPE, 1)
    mask = np.random.default_rng(0).random(SHAPE, np.float32)
    mask[0, 0, 0, 0] = 0.3
    factor = (mask >= np.float32(probability)) / (1 - probability) if probability < 1 else np.zeros(SHAPE)
    out = np.full_like(x, np.nan)
    backend(name).dropout_forward(x, mask, out, probability)
    assert_close(out, x * factor)
    grad_x = np.ones_like(x)
    backend(name).dropout_backward(grad_out, mask, grad_x, probability, accumulate=True)
    assert_close(grad_x, 1 + grad_out * factor)
    expected = grad_out * factor
    backend(name).dropout_backward(grad_out, mask, grad_out, probability)
    assert_close(grad_out, expected)
    expected = x * factor
    backend(name).dropout_forward(x, mask, x, probability)
    assert_close(x, expected)


@pytest.mark.parametrize("name", BACKENDS)
def test_dropout_with_a_probability_for_each_picture(name):
    b = backend(name)
    probability = np.array([0, 0.5, 0.25], np.float32)[: 3 if b.channel_views(3) else 1]
    shape = (len(probability), 10, 5, 4)
    x, grad_x = (random(shape, seed)[:, 1:9] for seed in range(2))
    mask = np.random.default_rng(0).integers(0, 2, x.shape).astype(np.float32)
    factor = np.where(mask >= probability[:, None, None, None], 1 / (1 - probability[:, None, None, None]), 0)
    expected, out = grad_x + x * factor, np.full_like(x, np.nan)
    b.dropout_forward(x, mask, out, probability)
    assert_close(out, x * factor)
    b.dropout_backward(x, mask, grad_x, probability, accumulate=True)
    assert_close(grad_x, expected)


def blocks(name, shape=(3, 40, 9, 12), seed=3, clock=7, place=1, progress=1.0, probability=0.9, side=3.0):
    b = backend(name)
    mask, shares = np.full(shape, np.nan, np.float32), np.full(shape[0], np.nan, np.float32)
    b.set_clock(clock)
    b.set_progress(progress)
    b.drop_blocks(seed, place, mask, shares, probability, side)
    return mask, shares


@pytest.mark.parametrize("name", BACKENDS)
def test_blocks_depend_on_seed_clock_and_place(name):
    drawn = [blocks(name, **keys)[0] for keys in ({}, {}, {"seed": 4}, {"clock": 7 + 2**32}, {"place": 2})]
    assert (drawn[0] == drawn[1]).all()
    assert len({mask.tobytes() for mask in drawn}) == 4


@pytest.mark.parametrize(
    "keys, side",
    [
        ({}, 3),
        ({"progress": 0.85 * 2 / 3}, 2),  # grown by two thirds
        ({"progress": 0.1}, 1),
        ({"side": 4.5}, 4),
        ({"side": 50}, 9),
    ],
)
@pytest.mark.parametrize("name", BACKENDS)
def test_a_channel_has_one_block_at_most(name, keys, side):
    mask, shares = blocks(name, **keys)
    corners = set()
    for channel in mask.reshape(-1, 9, 12):
        assert np.isin(channel, [0, 1]).all()
        y, x = np.nonzero(channel == 0)
        if len(y):
            assert (len(y), np.ptp(y), np.ptp(x)) == (side**2, side - 1, side - 1)
            corners.add((y[0], x[0]))
    assert len(corners) > 1 or side == 9
    np.testing.assert_allclose(shares, 1 - mask.mean(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("name", BACKENDS)
def test_blocks_are_where_darknet_has_them(name):
    """A place is drawn among all; one too near the edge is moved back by how far a block may begin, not to the edge."""
    mask, _ = blocks(name, (40, 100, 5, 7), probability=0.99, side=4.0)
    begins = [np.argwhere(channel == 0)[0] for channel in mask.reshape(-1, 5, 7) if not channel.all()]
    share = np.bincount([y for y, _ in begins], minlength=2) / len(begins)
    np.testing.assert_allclose(share, [1 / 5, 4 / 5], atol=0.03)
    share = np.bincount([x for _, x in begins], minlength=4) / len(begins)
    np.testing.assert_allclose(share, [1 / 7, 2 / 7, 2 / 7, 2 / 7], atol=0.03)


@pytest.mark.parametrize("name", BACKENDS)
def test_how_many_blocks_there_are(name):
    """A channel has one if any of its positions starts one; probability and side have grown by half here."""
    mask, _ = blocks(name, (30, 100, 6, 5), progress=0.85 / 2, probability=0.3, side=4.0)
    expected = 1 - (1 - 0.5 * 0.3 / 2**2) ** 30
    assert abs((mask == 0).any(axis=(2, 3)).mean() - expected) < 0.03
    assert blocks(name, progress=0.0)[0].all()


@pytest.mark.parametrize("name", BACKENDS)
def test_not_all_of_a_picture_is_dropped(name):
    """What is left of none would grow without end."""
    mask, shares = blocks(name, (2, 3, 1, 1), probability=1.0, side=1.0)
    assert not mask.any()
    np.testing.assert_allclose(shares, 0.999)
