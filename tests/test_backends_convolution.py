from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from darkpy.backends import create
from darkpy.backends.base import ELEMENTWISE_ACTIVATIONS, ConvolutionGeometry
from darkpy.backends.numpy import convolution
from tests.backends import BACKENDS, assert_close, backend, fresh, random
from tests.gradients import check_gradient

# x shape, filters, geometry, output height and width
CASES = {
    "1x1": ((2, 5, 7, 6), 4, ConvolutionGeometry(1), (7, 6)),
    "1x1 stride 2": ((2, 5, 7, 6), 4, ConvolutionGeometry(1, 2, 2), (4, 3)),
    "1x1 padded": ((1, 3, 4, 4), 2, ConvolutionGeometry(1, padding=1), (6, 6)),
    "3x3": ((2, 3, 9, 7), 4, ConvolutionGeometry(3, padding=1), (9, 7)),
    "3x3 one picture, one filter": ((1, 1, 5, 5), 1, ConvolutionGeometry(3, padding=1), (5, 5)),
    "3x3 stride 2": ((2, 3, 9, 8), 4, ConvolutionGeometry(3, 2, 2, 1), (5, 4)),
    "3x3 unpadded": ((2, 3, 9, 8), 4, ConvolutionGeometry(3), (7, 6)),
    "5x5 strides 2 and 1": ((2, 3, 11, 9), 3, ConvolutionGeometry(5, 2, 1, 2), (6, 9)),
    "4x4 stride 3": ((1, 3, 11, 10), 2, ConvolutionGeometry(4, 3, 3, 2), (4, 4)),
    "2x2": ((2, 3, 6, 5), 2, ConvolutionGeometry(2, padding=1), (7, 6)),
    "dilated": ((2, 3, 10, 9), 4, ConvolutionGeometry(3, padding=2, dilation=2), (10, 9)),
    "dilated, output larger than it needs": ((1, 2, 8, 8), 3, ConvolutionGeometry(3, padding=0, dilation=3), (6, 6)),
    "padding beyond the kernel": ((1, 2, 4, 4), 3, ConvolutionGeometry(3, padding=4), (10, 10)),
    "picture smaller than the kernel": ((2, 3, 2, 1), 4, ConvolutionGeometry(3, padding=1), (2, 1)),
    "grouped": ((2, 6, 6, 7), 4, ConvolutionGeometry(3, padding=1, groups=2), (6, 7)),
    "grouped 1x1": ((2, 6, 6, 7), 9, ConvolutionGeometry(1, groups=3), (6, 7)),
    "depthwise": ((2, 5, 8, 7), 5, ConvolutionGeometry(3, padding=1, groups=5), (8, 7)),
    "depthwise stride 2": ((2, 4, 9, 8), 4, ConvolutionGeometry(3, 2, 2, 1, groups=4), (5, 4)),
    "depthwise 5x5 dilated": ((1, 3, 9, 8), 3, ConvolutionGeometry(5, padding=4, dilation=2, groups=3), (9, 8)),
    "depthwise 1x1": ((2, 3, 4, 4), 3, ConvolutionGeometry(1, groups=3), (4, 4)),
    "two filters per channel": ((2, 3, 6, 6), 6, ConvolutionGeometry(3, padding=1, groups=3), (6, 6)),
    "few channels": ((2, 3, 19, 45), 20, ConvolutionGeometry(3, padding=1), (19, 45)),
    "few channels, stride 2": ((1, 3, 21, 70), 37, ConvolutionGeometry(3, 2, 2, 1), (11, 35)),
    "few channels, 7x7 dilated": ((1, 4, 20, 20), 5, ConvolutionGeometry(7, 2, 1, 6, 2), (10, 20)),
    "one channel": ((2, 1, 9, 8), 64, ConvolutionGeometry(5, padding=2), (9, 8)),
    "larger": ((2, 16, 26, 26), 24, ConvolutionGeometry(3, padding=1), (26, 26)),
    "larger stride 2": ((1, 8, 33, 31), 16, ConvolutionGeometry(3, 2, 2, 1), (17, 16)),
    "larger depthwise": ((2, 32, 28, 30), 32, ConvolutionGeometry(3, padding=1, groups=32), (28, 30)),
    "larger 1x1": ((3, 40, 13, 13), 20, ConvolutionGeometry(1), (13, 13)),
}

cases = pytest.mark.parametrize(("x_shape", "filters", "geometry", "size"), CASES.values(), ids=CASES.keys())


def convolution_by_definition(x, weights, geometry, out_shape):
    """Output by output, in float64."""
    x, weights = x.astype(np.float64), weights.astype(np.float64)
    g = geometry
    height, width = x.shape[2:]
    out = np.zeros(out_shape)
    per_group, filters_per_group = weights.shape[1], out_shape[1] // g.groups
    for f in range(out_shape[1]):
        first = f // filters_per_group * per_group
        for y in range(out_shape[2]):
            for column in range(out_shape[3]):
                for ky in range(g.size):
                    for kx in range(g.size):
                        iy = y * g.stride_y - g.padding + ky * g.dilation
                        ix = column * g.stride_x - g.padding + kx * g.dilation
                        if 0 <= iy < height and 0 <= ix < width:
                            values = x[:, first : first + per_group, iy, ix]
                            out[:, f, y, column] += values @ weights[f, :, ky, kx]
    return out


def arrays(x_shape, filters, geometry, size, dtype=np.float32):
    x = random(x_shape, 1, dtype)
    weights = random((filters, x_shape[1] // geometry.groups, geometry.size, geometry.size), 2, dtype)
    return x, weights, np.full((x_shape[0], filters, *size), np.nan, dtype)


def weight_gradient_by_definition(x, grad_out, weights_shape, geometry):
    """The convolution is linear in the weights: the gradient is the output for each unit of weight, times grad_out."""
    gradient = np.zeros(weights_shape)
    for index in np.ndindex(*weights_shape):
        unit = np.zeros(weights_shape)
        unit[index] = 1
        gradient[index] = np.sum(grad_out * convolution_by_definition(x, unit, geometry, grad_out.shape))
    return gradient


@cases
@pytest.mark.parametrize("name", BACKENDS)
def test_forward(name, x_shape, filters, geometry, size):
    x, weights, out = arrays(x_shape, filters, geometry, size)
    backend(name).convolution_forward(x, weights, out, geometry)
    assert_close(out, convolution_by_definition(x, weights, geometry, out.shape))


@pytest.mark.parametrize("case", ["1x1", "3x3", "grouped", "depthwise", "larger", "larger 1x1", "larger depthwise"])
@pytest.mark.parametrize("activation", ELEMENTWISE_ACTIVATIONS)
@pytest.mark.parametrize("name", BACKENDS)
def test_epilogue(name, activation, case):
    b = backend(name)
    geometry = CASES[case][2]
    x, weights, out = arrays(*CASES[case])
    scale, bias = random(out.shape[1:2], 3), random(out.shape[1:2], 4)
    plain, expected = np.empty_like(out), np.empty_like(out)
    b.convolution_forward(x, weights, plain, geometry)
    plain /= 4
    backend("numpy").activation_forward(plain * scale[:, None, None] + bias[:, None, None], expected, activation)
    b.convolution_forward(x, weights / 4, out, geometry, scale, bias, activation)
    if activation == "stair":  # rounding may fall on either side of a step
        assert np.mean(np.abs(out - expected) > 1e-4) < 1e-3
    else:
        assert_close(out, expected, 5e-6)


@pytest.mark.parametrize("case", ["1x1", "3x3 stride 2", "depthwise"])
@pytest.mark.parametrize("name", BACKENDS)
def test_bias_alone_and_scale_alone(name, case):
    x, weights, out = arrays(*CASES[case])
    geometry = CASES[case][2]
    factor = random(out.shape[1:2], 3)
    expected = convolution_by_definition(x, weights, geometry, out.shape)
    backend(name).convolution_forward(x, weights, out, geometry, bias=factor)
    assert_close(out, expected + factor[:, None, None])
    backend(name).convolution_forward(x, weights, out, geometry, scale=factor)
    assert_close(out, expected * factor[:, None, None])


@pytest.mark.parametrize("case", ["1x1", "3x3", "depthwise"])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_residual_is_added_to_the_result(name, case):
    x, weights, out = arrays(*CASES[case])
    geometry, residual, bias = CASES[case][2], random(out.shape, 3), random(out.shape[1:2], 4)
    expected = np.empty_like(out)
    backend(name).convolution_forward(x, weights, expected, geometry, None, bias, "leaky")
    expected = np.maximum(expected + residual, 0)
    backend(name).convolution_residual_forward(x, weights, out, residual, geometry, None, bias, "leaky", "relu")
    assert_close(out, expected)


@cases
@pytest.mark.parametrize("name", BACKENDS)
def test_backward_against_float64(name, x_shape, filters, geometry, size):
    """float32 results of any backend against the float64 results that test_gradient vouches for."""
    x, weights, out = arrays(x_shape, filters, geometry, size)
    grad_out = random(out.shape, 5)
    b, exact = backend(name), backend("numpy", np.float64)
    expected_x, expected_weights = np.empty(x.shape), np.zeros(weights.shape)
    exact.convolution_backward_input(grad_out.astype(float), weights.astype(float), expected_x, geometry)
    exact.convolution_backward_weights(x.astype(float), grad_out.astype(float), expected_weights, geometry)

    grad_x, grad_weights = np.full_like(x, np.nan), np.ones_like(weights)
    b.convolution_backward_input(grad_out, weights, grad_x, geometry)
    assert_close(grad_x, expected_x)
    b.convolution_backward_input(grad_out, weights, grad_x, geometry, accumulate=True)
    assert_close(grad_x, 2 * expected_x)
    b.convolution_backward_weights(x, grad_out, grad_weights, geometry)
    assert_close(grad_weights, expected_weights + 1, 5e-6)


@cases
def test_gradient(x_shape, filters, geometry, size):
    b = backend("numpy", np.float64)
    x, weights, out = arrays(x_shape, filters, geometry, size, np.float64)

    def forward(x, weights):
        b.convolution_forward(x, weights, out, geometry)
        return out.copy()

    def gradients(grad_out):
        grad_x, grad_weights = np.full_like(x, np.nan), np.zeros_like(weights)
        b.convolution_backward_input(grad_out, weights, grad_x, geometry)
        b.convolution_backward_weights(x, grad_out, grad_weights, geometry)
        return grad_x, grad_weights

    check_gradient(forward, (x, weights), gradients)


@pytest.fixture
def small_bands(monkeypatch):
    """Bands of few rows, which in earnest only large layers have."""
    monkeypatch.setattr(convolution, "BAND_BYTES", 2000)


@cases
def test_many_bands(small_bands, x_shape, filters, geometry, size):
    x, weights, out = arrays(x_shape, filters, geometry, size, np.float64)
    b = create("numpy", np.float64)
    b.convolution_forward(x, weights, out, geometry, bias=np.ones(filters))
    assert_close(out, convolution_by_definition(x, weights, geometry, out.shape) + 1, 1e-13)

    grad_out = random(out.shape, 5, np.float64)
    pieces = [np.zeros_like(x), np.zeros_like(weights)]
    whole = [np.zeros_like(x), np.zeros_like(weights)]
    for results, band_bytes in ((pieces, 2000), (whole, 1 << 30)):
        convolution.BAND_BYTES = band_bytes
        b.convolution_backward_input(grad_out, weights, results[0], geometry)
        b.convolution_backward_weights(x, grad_out, results[1], geometry)
    assert_close(pieces[0], whole[0], 1e-13)
    assert_close(pieces[1], whole[1], 1e-13)


@pytest.mark.parametrize("case", ["3x3", "grouped", "depthwise", "two filters per channel", "dilated"])
def test_weight_gradient_by_definition(case):
    x, weights, out = arrays(*CASES[case], np.float64)
    grad_out = random(out.shape, 5, np.float64)
    gradient = np.zeros_like(weights)
    backend("numpy", np.float64).convolution_backward_weights(x, grad_out, gradient, CASES[case][2])
    assert_close(gradient, weight_gradient_by_definition(x, grad_out, weights.shape, CASES[case][2]), 1e-13)


@cases
@pytest.mark.parametrize("name", BACKENDS)
def test_workspace_is_what_the_operations_use(name, x_shape, filters, geometry, size):
    b = fresh(name)
    x, weights, out = arrays(x_shape, filters, geometry, size)
    for training in (False, True):
        b.set_workspace(b.convolution_workspace(x.shape, weights.shape, out.shape, geometry, training))
        before = b.workspace
        b.convolution_forward(x, weights, out, geometry)
        if training:
            b.convolution_backward_input(out, weights, x.copy(), geometry)
            b.convolution_backward_input(out, weights, x.copy(), geometry, accumulate=True)
            b.convolution_backward_weights(x, out, weights.copy(), geometry)
        assert b.workspace is before


@pytest.mark.parametrize("name", BACKENDS)
def test_batch_does_not_change_a_picture(name):
    x, weights, out = arrays((3, 8, 12, 12), 16, ConvolutionGeometry(3, padding=1), (12, 12))
    backend(name).convolution_forward(x, weights, out, ConvolutionGeometry(3, padding=1))
    alone = np.empty_like(out[:1])
    backend(name).convolution_forward(x[1:2], weights, alone, ConvolutionGeometry(3, padding=1))
    assert_close(alone, out[1:2].astype(np.float64))


def test_geometry_is_a_value():
    geometry = ConvolutionGeometry(3)
    assert replace(geometry, padding=1) == ConvolutionGeometry(3, padding=1)
    assert len({geometry, ConvolutionGeometry(3)}) == 1
