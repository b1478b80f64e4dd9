from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.base import PoolGeometry
from tests.backends import BACKENDS, assert_close, backend, random
from tests.gradients import check_gradient

# x shape, geometry, output height and width
CASES = {
    "2x2": ((2, 3, 6, 8), PoolGeometry(2, 2, 2), (3, 4)),
    "2x2 odd": ((2, 3, 7, 5), PoolGeometry(2, 2, 2), (4, 3)),
    "2x2 stride 1": ((2, 3, 5, 6), PoolGeometry(2), (5, 6)),
    "3x3 stride 2": ((1, 4, 9, 8), PoolGeometry(3, 2, 2, 1), (5, 4)),
    "3x3 strides 1 and 3": ((2, 2, 7, 10), PoolGeometry(3, 1, 3, 1), (7, 4)),
    "5x5 same": ((2, 2, 6, 7), PoolGeometry(5, offset=2), (6, 7)),
    "13x13 of a smaller picture": ((1, 2, 6, 5), PoolGeometry(13, offset=6), (6, 5)),
    "17x17": ((1, 2, 20, 20), PoolGeometry(17, offset=8), (20, 20)),
    "1x1 stride 3": ((2, 2, 7, 7), PoolGeometry(1, 3, 3), (3, 3)),
    "windows outside": ((1, 2, 4, 5), PoolGeometry(2, offset=3), (9, 10)),
    "windows outside, stride 2": ((1, 1, 3, 3), PoolGeometry(2, 2, 2, 4), (6, 6)),
    "one pixel": ((1, 1, 1, 1), PoolGeometry(2, 2, 2), (1, 1)),
    "large": ((2, 5, 60, 61), PoolGeometry(2, 2, 2), (30, 31)),
    "large planes": ((1, 2, 140, 130), PoolGeometry(3, 2, 2, 1), (70, 65)),
}

cases = pytest.mark.parametrize(("x_shape", "geometry", "size"), CASES.values(), ids=CASES.keys())


def maxpool_by_definition(x, geometry, size):
    """Maxima, and the position in the plane of x where each comes from (-1: from nowhere)."""
    n, c, height, width = x.shape
    out, origin = np.zeros((n, c, *size)), np.full((n, c, *size), -1)
    for index in np.ndindex(n, c, *size):
        best = -np.inf
        for ky in range(geometry.size):
            for kx in range(geometry.size):
                y = index[2] * geometry.stride_y - geometry.offset + ky
                column = index[3] * geometry.stride_x - geometry.offset + kx
                if 0 <= y < height and 0 <= column < width and x[index[0], index[1], y, column] > best:
                    best = x[index[0], index[1], y, column]
                    out[index], origin[index] = best, y * width + column
    return out, origin


def maxpool(b, x, geometry, size):
    out = np.full((*x.shape[:2], *size), np.nan, x.dtype)
    winners = np.full(out.shape, 77, b.winner_dtype(geometry))
    b.maxpool_forward(x, out, geometry, winners)
    return out, winners


@cases
@pytest.mark.parametrize("name", BACKENDS)
def test_maxpool(name, x_shape, geometry, size):
    b = backend(name)
    x = random(x_shape, 0)
    expected, origin = maxpool_by_definition(x, geometry, size)
    out, winners = maxpool(b, x, geometry, size)
    assert_close(out, expected, 0)
    inference = np.full_like(out, np.nan)
    b.maxpool_forward(x, inference, geometry)
    assert_close(inference, expected, 0)

    grad_out = random(out.shape, 1)
    expected_gradient = np.zeros(x.shape)
    for index in np.argwhere(origin >= 0):
        n, c, y, column = index
        expected_gradient[n, c].reshape(-1)[origin[n, c, y, column]] += grad_out[n, c, y, column]
    grad_x = np.full_like(x, np.nan)
    b.maxpool_backward(grad_out, winners, grad_x, geometry)
    assert_close(grad_x, expected_gradient)
    b.maxpool_backward(grad_out, winners, grad_x, geometry, accumulate=True)
    assert_close(grad_x, 2 * expected_gradient)


@pytest.mark.parametrize("value", [0.0, -5.0, -np.inf])
@pytest.mark.parametrize("geometry", [PoolGeometry(3, 2, 2, 1), PoolGeometry(2), PoolGeometry(5, offset=2)])
@pytest.mark.parametrize("name", BACKENDS)
def test_maxpool_tie_goes_to_the_first_position(name, geometry, value):
    b = backend(name)
    x = np.full((1, 2, 6, 6), value, np.float32)
    size = (3, 3) if geometry.stride_x == 2 else (6, 6)
    out, winners = maxpool(b, x, geometry, size)
    assert (out == value).all()
    grad_x = np.empty_like(x)
    b.maxpool_backward(np.ones_like(out), winners, grad_x, geometry)
    _, origin = maxpool_by_definition(np.zeros_like(x), geometry, size)
    assert (grad_x[0, 0].ravel() == np.bincount(origin[0, 0].ravel(), minlength=36)).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_maxpool_ties_in_few_values(name):
    b, geometry = backend(name), PoolGeometry(3, offset=1)
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 12, 12)).astype(np.float32)
    _, origin = maxpool_by_definition(x, geometry, (12, 12))
    out, winners = maxpool(b, x, geometry, (12, 12))
    grad_x = np.empty_like(x)
    b.maxpool_backward(np.ones_like(out), winners, grad_x, geometry)
    for n, c in np.ndindex(2, 3):
        assert (grad_x[n, c].ravel() == np.bincount(origin[n, c].ravel(), minlength=144)).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_maxpool_of_not_a_number_keeps_inside_the_picture(name):
    b, geometry = backend(name), PoolGeometry(3, 2, 2, 1)
    x = np.full((1, 1, 5, 5), np.nan, np.float32)
    _, winners = maxpool(b, x, geometry, (3, 3))
    grad_x = np.zeros_like(x)
    b.maxpool_backward(np.ones((1, 1, 3, 3), np.float32), winners, grad_x, geometry)
    assert grad_x.sum() <= 9


@cases
def test_maxpool_gradient(x_shape, geometry, size):
    b = backend("numpy", np.float64)
    x = np.random.default_rng(0).permutation(np.arange(float(np.prod(x_shape)))).reshape(x_shape)

    def gradients(grad_out):
        grad_x = np.full_like(x, np.nan)
        b.maxpool_backward(grad_out, maxpool(b, x, geometry, size)[1], grad_x, geometry)
        return [grad_x]

    check_gradient(lambda x: maxpool(b, x, geometry, size)[0], [x], gradients, step=0.01)


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 4, 1, 1), (1, 1000, 7, 7)])
@pytest.mark.parametrize("name", BACKENDS)
def test_avgpool(name, shape):
    b, x = backend(name), random(shape)
    out = np.full((*shape[:2], 1, 1), np.nan, np.float32)
    b.avgpool_forward(x, out)
    assert_close(out, x.astype(np.float64).mean(axis=(2, 3), keepdims=True))
    grad_x = np.full_like(x, np.nan)
    expected = np.broadcast_to(out / (shape[2] * shape[3]), shape)
    b.avgpool_backward(out, grad_x)
    assert_close(grad_x, expected)
    b.avgpool_backward(out, grad_x, accumulate=True)
    assert_close(grad_x, 2 * expected)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (1, 30, 26, 27)])
@pytest.mark.parametrize("name", BACKENDS)
def test_upsample(name, shape, stride, scale):
    b, x = backend(name), random(shape)
    larger = (*shape[:2], shape[2] * stride, shape[3] * stride)
    out = np.full(larger, np.nan, np.float32)
    b.upsample_forward(x, out, stride, scale)
    assert_close(out, scale * np.kron(x.astype(np.float64), np.ones((stride, stride))))

    grad_out, grad_x = random(larger, 1), np.full_like(x, np.nan)
    blocks = grad_out.reshape(*shape[:3], stride, shape[3], stride).astype(np.float64)
    expected = scale * blocks.sum(axis=(3, 5))
    b.upsample_backward(grad_out, grad_x, stride, scale)
    assert_close(grad_x, expected)
    b.upsample_backward(grad_out, grad_x, stride, scale, accumulate=True)
    assert_close(grad_x, 2 * expected)


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (1, 2, 7, 5), (1, 30, 53, 52)])
@pytest.mark.parametrize("name", BACKENDS)
def test_downsample(name, shape):
    b, x = backend(name), random(shape)
    smaller = (*shape[:2], shape[2] // 2, shape[3] // 2)
    covered = x[:, :, : smaller[2] * 2, : smaller[3] * 2]
    blocks = covered.reshape(*smaller[:3], 2, smaller[3], 2).astype(np.float64)
    out = np.full(smaller, np.nan, np.float32)
    b.downsample_forward(x, out, 2, 0.5)
    assert_close(out, 0.5 * blocks.sum(axis=(3, 5)))

    grad_out, grad_x = random(smaller, 1), np.full_like(x, np.nan)
    expected = np.zeros(shape)
    expected[:, :, : smaller[2] * 2, : smaller[3] * 2] = 0.5 * np.kron(grad_out, np.ones((2, 2)))
    b.downsample_backward(grad_out, grad_x, 2, 0.5)
    assert_close(grad_x, expected)
    b.downsample_backward(grad_out, grad_x, 2, 0.5, accumulate=True)
    assert_close(grad_x, 2 * expected)
