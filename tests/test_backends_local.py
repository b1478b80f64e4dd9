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


@cases
@pytest.mark.parametrize("name", BACKENDS)
def test_local_forward(name, x_shape, filters, geometry, size):
    b = backend(name)
    x, weights = random(x_shape, 0), weights_of(x_shape, filters, geometry, size)
    out = np.full((x_shape[0], filters, *size), np.nan, np.float32)
    b.local_forward(x, weights, out, geometry)
    assert_close(out, local_by_definition(x, weights, geometry, size))


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
