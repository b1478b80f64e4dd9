from __future__ import annotations

import numpy as np
import pytest

from tests.backends import BACKENDS, assert_close, backend, random

shapes = pytest.mark.parametrize(
    ("shape", "stride"), [((2, 3, 4, 6), 2), ((1, 2, 9, 3), 3), ((2, 1, 5, 5), 1), ((1, 4, 2, 2), 2)]
)


@shapes
@pytest.mark.parametrize("name", BACKENDS)
def test_space_to_depth(name, shape, stride):
    b = backend(name)
    n, c, height, width = shape
    x = random(shape, 0)
    out = np.full((n, c * stride**2, height // stride, width // stride), np.nan, np.float32)
    b.space_to_depth(x, out, stride)
    for dy, dx, k in np.ndindex(stride, stride, c):
        assert_close(out[:, (dy * stride + dx) * c + k], x[:, k, dy::stride, dx::stride], 0)
    b.space_to_depth(x, out, stride, accumulate=True)
    assert_close(out[:, :c], 2 * x[:, :, ::stride, ::stride], 0)


@shapes
@pytest.mark.parametrize("name", BACKENDS)
def test_depth_to_space_is_its_inverse(name, shape, stride):
    b = backend(name)
    n, c, height, width = shape
    x = random(shape, 0)
    moved = np.empty((n, c * stride**2, height // stride, width // stride), np.float32)
    b.space_to_depth(x, moved, stride)
    back = np.full_like(x, np.nan)
    b.depth_to_space(moved, back, stride)
    assert_close(back, x, 0)
    b.depth_to_space(moved, back, stride, accumulate=True)
    assert_close(back, 2 * x, 0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", BACKENDS)
def test_crop(name, flip):
    b = backend(name)
    x = random((2, 3, 7, 8), 0)
    out = np.full((2, 3, 4, 5), np.nan, np.float32)
    b.crop_forward(x, out, 2, 1, flip, 2.0, -1.0)
    part = x[:, :, 2:6, 1:6]
    assert_close(out, 2 * (part[..., ::-1] if flip else part) - 1)

    grad_out = random(out.shape, 1)
    wanted = np.zeros_like(x)
    wanted[:, :, 2:6, 1:6] = 2 * (grad_out[..., ::-1] if flip else grad_out)
    grad_x = np.full_like(x, np.nan)
    b.crop_backward(grad_out, grad_x, 2, 1, flip, 2.0)
    assert_close(grad_x, wanted, 0)
    b.crop_backward(grad_out, grad_x, 2, 1, flip, 2.0, accumulate=True)
    assert_close(grad_x, 2 * wanted, 0)
