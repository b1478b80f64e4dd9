from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.base import ConvolutionGeometry
from tests.backends import BACKENDS, assert_close, backend, random
from tests.gradients import check_gradient

# x shape, filters, geometry, output height and width
CASES = {
    "3x3 same": ((2, 3, 5, 6), 4, ConvolutionGeometry(3, padding=1), (5, 6)),
    "3x3 stride 2": ((2, 3, 8, 9), 2, ConvolutionGeometry(3, 2, 2), (3, 4)),
    "3x3 stride 2 padded": ((1, 2, 7, 6), 3, ConvolutionGeometry(3, 2, 2, 1), (4, 3)),
    "1x1": ((3, 2, 2, 3), 2, ConvolutionGeometry(1), (2, 3)),
    "one position": ((2, 2, 4, 4), 5, ConvolutionGeometry(4), (1, 1)),
}
cases = pytest.mark.parametrize(("x_shape", "filters", "geometry", "size"), CASES.values(), ids=CASES.keys())
#: More pictures, channels and filters than a warp takes at a time.
MANY = {"many": ((18, 70, 3, 4), 67, ConvolutionGeometry(3, 2, 2, 1), (2, 2))}
all_cases = pytest.mark.parametrize(
    ("x_shape", "filters", "geometry", "size"), [*CASES.values(), *MANY.values()], ids=[*CASES, *MANY]
)


def weights_of(x_shape, filters, geometry, size, dtype=np.float32):
    return random((size[0] * size[1], filters, x_shape[1], geometry.size, geometry.size), 1, dtype)


def local_by_definition(x, weights, geometry, size):
    padding = geometry.padding
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out = np.empty((x.shape[0], weights.shape[1], *size), x.dtype)
    for position, (y, column) in enumerate(np.ndindex(*size)):
        top, left = y * geometry.stride_y, column * geometry.stride_x
        window = padded[:, :, top : top + geometry.size, left : left + geometry.size]
        out[:, :, y, column] = np.einsum("nckl,fckl->nf", window, weights[position])
    return out


def in_view(b, shape, seed):
    """Random numbers, as some channels of a larger array where the backend takes such."""
    n, c, height, width = shape
    return random((n, c + 3, height, width), seed)[:, 2:-1] if b.channel_views(n) else random(shape, seed)


@all_cases
@pytest.mark.parametrize("name", BACKENDS)
def test_local_forward(name, x_shape, filters, geometry, size):
    b = backend(name)
    x, weights = in_view(b, x_shape, 0), weights_of(x_shape, filters, geometry, size)
    out = in_view(b, (x_shape[0], filters, *size), 2)
    b.local_forward(x, weights, out, geometry)
    assert_close(out, local_by_definition(x, weights, geometry, size))


@all_cases
@pytest.mark.parametrize("name", BACKENDS)
def test_local_backward(name, x_shape, filters, geometry, size):
    """The gradients of float32 on every backend are those of float64, whose own are checked below."""
    b, exact = backend(name), backend("numpy", np.float64)
    weights = weights_of(x_shape, filters, geometry, size)
    grad_weights = np.ones_like(weights)
    x, grad_out, grad_x = (in_view(b, shape, 2) for shape in (x_shape, (x_shape[0], filters, *size), x_shape))
    expected, expected_weights = np.array(grad_x, np.float64), np.ones_like(weights, np.float64)
    wide = {"x": np.array(x, np.float64), "grad_out": np.array(grad_out, np.float64)}
    exact.local_backward_input(wide["grad_out"], weights.astype(np.float64), expected, geometry, accumulate=True)
    exact.local_backward_weights(wide["x"], wide["grad_out"], expected_weights, geometry)
    b.local_backward_input(grad_out, weights, grad_x, geometry, accumulate=True)
    b.local_backward_weights(x, grad_out, grad_weights, geometry)
    assert_close(grad_x, expected)
    assert_close(grad_weights, expected_weights)
    b.local_backward_input(grad_out, weights, grad_x, geometry)
    assert_close(grad_x, expected - in_view(b, x_shape, 2))


@cases
def test_local_gradients(x_shape, filters, geometry, size):
    b = backend("numpy", np.float64)
    x = random(x_shape, 0, np.float64)
    weights = weights_of(x_shape, filters, geometry, size, np.float64)

    def gradients(grad_out):
        grad_x, grad_weights = np.full_like(x, np.nan), np.ones_like(weights)
        b.local_backward_input(grad_out, weights, grad_x, geometry)
        b.local_backward_weights(x, grad_out, grad_weights, geometry)
        twice = grad_x.copy()
        b.local_backward_input(grad_out, weights, twice, geometry, accumulate=True)
        np.testing.assert_allclose(twice, 2 * grad_x)
        return [grad_x, grad_weights - 1]

    check_gradient(lambda x, weights: local_by_definition(x, weights, geometry, size), [x, weights], gradients)


@cases
def test_the_workspace_asked_for_is_enough(x_shape, filters, geometry, size):
    b = backend("numpy").__class__()
    x, weights = random(x_shape, 0), weights_of(x_shape, filters, geometry, size)
    b.set_workspace(b.local_workspace(x_shape, weights.shape, geometry))
    before = b.workspace
    out = np.empty((x_shape[0], filters, *size), np.float32)
    b.local_forward(x, weights, out, geometry)
    b.local_backward_weights(x, out, np.zeros_like(weights), geometry)
    b.local_backward_input(out, weights, np.empty_like(x), geometry)
    assert b.workspace is before
