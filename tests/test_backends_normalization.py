from __future__ import annotations

import numpy as np
import pytest

from tests.backends import BACKENDS, assert_close, backend, random
from tests.gradients import check_gradient

SETTINGS = {"alpha": 0.3, "beta": 0.75}


def norms_by_definition(x, size, kappa):
    """Darknet's running window, as it runs: channel size // 2 is never added, and taken away later."""
    squares, norms = x**2, np.empty_like(x)
    current = kappa + SETTINGS["alpha"] * squares[:, : size // 2].sum(axis=1)
    for k in range(x.shape[1]):
        left, reached = k - (size - 1) // 2 - 1, k + size // 2
        if k and left >= 0:
            current = current - SETTINGS["alpha"] * squares[:, left]
        if k and reached < x.shape[1]:
            current = current + SETTINGS["alpha"] * squares[:, reached]
        norms[:, k] = current
    return norms


WINDOWS = [(8, 5), (8, 4), (3, 5), (1, 5), (6, 1), (2, 9), (70, 40)]
"""Channels, and those of a window."""


@pytest.mark.parametrize(("channels", "size"), WINDOWS)
@pytest.mark.parametrize("name", BACKENDS)
def test_response_norm(name, channels, size):
    b = backend(name)
    x = random((2, channels, 3, 4), 0)
    norms, out = np.full_like(x, np.nan), np.full_like(x, np.nan)
    b.response_norm_forward(x, norms, out, size, kappa=20.0, **SETTINGS)
    expected = norms_by_definition(x.astype(np.float64), size, 20.0)
    assert_close(norms, expected)
    assert_close(out, x * expected ** -SETTINGS["beta"])


def test_response_norm_is_not_the_textbooks():
    b = backend("numpy")
    x = np.ones((1, 8, 1, 1), np.float32)
    norms, out = np.empty_like(x), np.empty_like(x)
    b.response_norm_forward(x, norms, out, 5, alpha=1.0, beta=1.0, kappa=10.0)
    # There are 3, 4, 5, 5, 5, 5, 4, 3 neighbours; the third channel is missing at first, then taken away once too often.
    assert norms.ravel().tolist() == [12, 13, 14, 14, 14, 14, 13, 12]


@pytest.mark.parametrize(("channels", "size"), [(8, 5), (3, 5), (6, 1)])
def test_response_norm_gradient(channels, size):
    b = backend("numpy", np.float64)
    x = random((2, channels, 3, 4), 0, np.float64)
    norms = norms_by_definition(x, size, 20.0)

    def gradients(grad_out):
        grad_x = np.full_like(x, np.nan)
        b.response_norm_backward(x, norms, grad_out, grad_x, size, **SETTINGS)
        twice = grad_x.copy()
        b.response_norm_backward(x, norms, grad_out, twice, size, **SETTINGS, accumulate=True)
        np.testing.assert_allclose(twice, 2 * grad_x)
        return [grad_x]

    check_gradient(lambda x: x * norms_by_definition(x, size, 20.0) ** -SETTINGS["beta"], [x], gradients)


@pytest.mark.parametrize(("channels", "size"), WINDOWS)
@pytest.mark.parametrize("name", BACKENDS)
def test_response_norm_backward(name, channels, size):
    """On channels of a larger array, of one picture and of several, where the backend takes such; a warp gets two rows."""
    b, exact = backend(name), backend("numpy", np.float64)
    batch = 3 if b.channel_views(3) else 1
    x, grad_out, grad_x = (random((batch, channels + 2, 13, 14), seed)[:, 1:-1] for seed in range(3))
    norms = norms_by_definition(x, size, 20.0)
    expected = grad_x.astype(np.float64)
    exact.response_norm_backward(
        *(each.astype(np.float64) for each in (x, norms, grad_out)), expected, size, **SETTINGS, accumulate=True
    )
    b.response_norm_backward(x, norms, grad_out, grad_x, size, **SETTINGS, accumulate=True)
    assert_close(grad_x, expected)


@pytest.mark.parametrize("channels", [5, 70])
@pytest.mark.parametrize("name", BACKENDS)
def test_unit_length_backward(name, channels):
    b, exact = backend(name), backend("numpy", np.float64)
    batch = 3 if b.channel_views(3) else 1
    x, out, grad_out, grad_x = (random((batch, channels + 2, 3, 4), seed)[:, 1:-1] for seed in range(4))
    x[0, :, 1, 1] = 0
    b.unit_length_forward(x, out)
    expected = grad_x.astype(np.float64)
    exact.unit_length_backward(*(each.astype(np.float64) for each in (x, out, grad_out)), expected, accumulate=True)
    b.unit_length_backward(x, out, grad_out, grad_x, accumulate=True)
    assert_close(grad_x, expected)


@pytest.mark.parametrize("name", BACKENDS)
def test_unit_length(name):
    b = backend(name)
    x = random((2, 5, 3, 4), 0)
    x[0, :, 1, 1] = 0
    out = np.full_like(x, np.nan)
    b.unit_length_forward(x, out)
    length = np.sqrt((out**2).sum(axis=1))
    assert length[0, 1, 1] == 0
    length[0, 1, 1] = 1
    np.testing.assert_allclose(length, 1, rtol=1e-6)
    assert_close(out * np.sqrt((x**2).sum(axis=1, keepdims=True)), x)


def test_unit_length_gradient():
    b = backend("numpy", np.float64)
    x = random((2, 5, 3, 4), 0, np.float64)

    def forward(x):
        out = np.empty_like(x)
        b.unit_length_forward(x, out)
        return out

    def gradients(grad_out):
        grad_x = np.full_like(x, np.nan)
        b.unit_length_backward(x, forward(x), grad_out, grad_x)
        twice = grad_x.copy()
        b.unit_length_backward(x, forward(x), grad_out, twice, accumulate=True)
        np.testing.assert_allclose(twice, 2 * grad_x)
        return [grad_x]

    check_gradient(forward, [x], gradients)
