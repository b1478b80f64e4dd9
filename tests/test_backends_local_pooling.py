from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.base import PoolGeometry
from tests.backends import BACKENDS, assert_close, backend, random
from tests.gradients import check_gradient

# x shape, geometry, output height and width
CASES = {
    "3x3 stride 2": ((2, 3, 13, 15), PoolGeometry(3, 2, 2, 1), (7, 8)),
    "2x2 stride 1": ((2, 3, 5, 6), PoolGeometry(2), (5, 6)),
    "4x4": ((1, 2, 12, 8), PoolGeometry(4, 4, 4, 1), (3, 2)),
    "strides 1 and 3": ((2, 2, 7, 10), PoolGeometry(3, 1, 3, 1), (7, 4)),
    "larger than the picture": ((1, 2, 4, 3), PoolGeometry(7, offset=3), (4, 3)),
    "windows outside": ((1, 2, 4, 5), PoolGeometry(2, offset=3), (9, 10)),
    "large planes": ((1, 2, 140, 130), PoolGeometry(3, 2, 2, 1), (70, 65)),
}
cases = pytest.mark.parametrize(("x_shape", "geometry", "size"), CASES.values(), ids=CASES.keys())


def means_by_definition(x, geometry, size):
    out = np.zeros((*x.shape[:2], *size), x.dtype)
    for y, column in np.ndindex(*size):
        top, left = y * geometry.stride_y - geometry.offset, column * geometry.stride_x - geometry.offset
        window = x[:, :, max(top, 0) : max(top + geometry.size, 0), max(left, 0) : max(left + geometry.size, 0)]
        if window.size:
            out[:, :, y, column] = window.mean(axis=(2, 3))
    return out


@cases
@pytest.mark.parametrize("name", BACKENDS)
def test_local_avgpool(name, x_shape, geometry, size):
    b = backend(name)
    x = random(x_shape, 0)
    out = np.full((*x_shape[:2], *size), np.nan, np.float32)
    b.local_avgpool_forward(x, out, geometry)
    assert_close(out, means_by_definition(x, geometry, size))


@cases
def test_local_avgpool_gradient(x_shape, geometry, size):
    b = backend("numpy", np.float64)
    x = random(x_shape, 0, np.float64)

    def gradients(grad_out):
        grad_x = np.full_like(x, np.nan)
        b.local_avgpool_backward(grad_out, grad_x, geometry)
        twice = grad_x.copy()
        b.local_avgpool_backward(grad_out, twice, geometry, accumulate=True)
        np.testing.assert_allclose(twice, 2 * grad_x)
        return [grad_x]

    check_gradient(lambda x: means_by_definition(x, geometry, size), [x], gradients)


@pytest.mark.parametrize(("channels", "groups"), [(8, 4), (6, 1), (7, 3), (5, 5)])
@pytest.mark.parametrize("name", BACKENDS)
def test_depth_maxpool(name, channels, groups):
    b = backend(name)
    x = random((2, channels, 3, 4), 0)
    out = np.full((2, groups, 3, 4), np.nan, np.float32)
    winners = np.full(out.shape, 77, np.int32)
    b.depth_maxpool_forward(x, out, winners)
    expected = np.stack([x[:, g::groups].max(axis=1) for g in range(groups)], axis=1)
    assert_close(out, expected, 0)
    inference = np.empty_like(out)
    b.depth_maxpool_forward(x, inference)
    assert_close(inference, expected, 0)

    grad_out = random(out.shape, 1)
    wanted = np.zeros_like(x)
    for g in range(groups):
        first = x[:, g::groups].argmax(axis=1)[:, None]
        np.put_along_axis(wanted[:, g::groups], first, grad_out[:, g : g + 1], axis=1)
    grad_x = np.full_like(x, np.nan)
    b.depth_maxpool_backward(grad_out, winners, grad_x)
    assert_close(grad_x, wanted, 0)
    b.depth_maxpool_backward(grad_out, winners, grad_x, accumulate=True)
    assert_close(grad_x, 2 * wanted, 0)


@pytest.mark.parametrize("name", BACKENDS)
def test_depth_maxpool_tie_goes_to_the_first_channel(name):
    b = backend(name)
    out, winners, grad_x = np.empty((1, 2, 1, 1), np.float32), np.empty((1, 2, 1, 1), np.int32), np.empty((1, 6, 1, 1))
    b.depth_maxpool_forward(np.zeros((1, 6, 1, 1), np.float32), out, winners)
    b.depth_maxpool_backward(np.ones_like(out), winners, grad_x)
    assert grad_x.ravel().tolist() == [1, 1, 0, 0, 0, 0]
