"""Convolutions of few channels on the GPU; tests/test_backends_convolution.py has what they share with all others."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends import create
from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda import first_layer
from darkpy.backends.cuda.first_layer import FirstLayer
from tests.backends import assert_close, backend, random, why_no_gpu

GEOMETRY = ConvolutionGeometry(3, padding=1)
on_gpu = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]


@pytest.mark.parametrize(
    ("channels", "geometry", "size", "chosen"),
    [
        (3, GEOMETRY, (416, 416), True),
        (4, ConvolutionGeometry(5, 2, 2, 2), (208, 208), True),
        (3, ConvolutionGeometry(7, 2, 2, 3), (208, 208), True),
        (5, GEOMETRY, (416, 416), False),
        (4, ConvolutionGeometry(3, padding=1, groups=2), (416, 416), False),
        (3, ConvolutionGeometry(1), (416, 416), False),
        (3, GEOMETRY, (1, 1), False),
        (3, ConvolutionGeometry(11, 4, 4, 2), (55, 55), False),  # its patches do not fit into shared memory
    ],
)
def test_what_it_is_chosen_for(channels, geometry, size, chosen):
    layer = FirstLayer.of((1, channels, 416, 416), (1, 32, *size), geometry)
    assert (layer is not None) == chosen


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("filters", [20, 37])
@pytest.mark.parametrize("_", [pytest.param("", marks=on_gpu)])
def test_sixteen_bits(_, filters, dtype):
    """Inputs are rounded to the type beforehand; sums are of single precision, results the nearest of the type."""
    kind = np.dtype(np.float16) if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16
    half_a_step = 2**-11 if dtype == "float16" else 2**-8
    x, grad_out = (random((2, c, 11, 40), c).astype(kind).astype(np.float32) for c in (3, filters))
    weights = random((filters, 3, 3, 3), 2)
    expected, expected_gradient = np.empty(grad_out.shape), np.zeros(weights.shape)
    exact = backend("numpy", np.float64)
    exact.convolution_forward(x.astype(float), weights.astype(float), expected, GEOMETRY)
    exact.convolution_backward_weights(x.astype(float), grad_out.astype(float), expected_gradient, GEOMETRY)

    device = create("cuda")
    arrays = [device.empty(array.shape, kind) for array in (x, grad_out, grad_out)]
    for host, array in zip((x, grad_out), arrays):
        device.copy(host, array)
    gradient = device.zeros(weights.shape)
    device.convolution_forward(arrays[0], device.asarray(weights), arrays[2], GEOMETRY)
    device.convolution_backward_weights(arrays[0], arrays[1], gradient, GEOMETRY)
    found = device.to_host(arrays[2]).astype(np.float64)
    assert (np.abs(found - expected) <= half_a_step * np.abs(expected) + 1e-5).all()
    assert_close(device.to_host(gradient), expected_gradient)


@pytest.mark.parametrize("_", [pytest.param("", marks=on_gpu)])
def test_one_block_takes_all_tiles(_, monkeypatch):
    monkeypatch.setattr(first_layer, "BLOCKS_EACH", 0)
    x, grad_out = random((2, 3, 19, 45), 1), random((2, 16, 19, 45), 2)
    expected, gradient = np.zeros((16, 3, 3, 3)), np.ones((16, 3, 3, 3), np.float32)
    backend("numpy", np.float64).convolution_backward_weights(x.astype(float), grad_out.astype(float), expected, GEOMETRY)
    backend("cuda").convolution_backward_weights(x, grad_out, gradient, GEOMETRY)
    assert_close(gradient, expected + 1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("filters, channels, size, mean", [(20, 3, 3, 0), (37, 3, 3, 50), (64, 1, 2, 0)])
@pytest.mark.parametrize("_", [pytest.param("", marks=on_gpu)])
def test_statistics_on_the_way(monkeypatch, _, filters, channels, size, mean, precision):
    """Those of what has been written, from tiles that the picture's edges leave more or fewer positions; far from 0 too."""
    device = create("cuda", precision=precision)
    launched = []
    launch = device.launch
    monkeypatch.setattr(device, "launch", lambda file, name, *rest, **options: (launched.append(name), launch(file, name, *rest, **options)))
    geometry, shape = ConvolutionGeometry(size, padding=size // 2), (3, filters, 21 + 1 - size % 2, 70 + 1 - size % 2)
    x, convolved, out = (device.empty(s, device.activation_dtype) for s in ((3, channels, 21, 70), shape, shape))
    device.copy((random(x.shape, 1) + mean).astype(x.dtype), x)
    weights = device.asarray(np.abs(random((filters, channels, size, size), 2)))
    device.set_workspace(device.convolution_workspace(x.shape, weights.shape, shape, geometry, True))
    before = device.workspace
    learned = [device.asarray(random((filters,), seed)) for seed in (3, 4)]
    found = [device.zeros((filters,)) for _ in range(4)]
    device.convolution_batchnorm_forward_training(x, weights, convolved, out, geometry, *learned, *found, 0.1, "leaky")
    assert "statistics_of_stretches" not in launched
    assert "join_stretches" in launched
    assert device.workspace is before
    values = device.to_host(convolved).astype(np.float64).transpose(1, 0, 2, 3).reshape(filters, -1)
    for statistics, share in ((found[:2], 1), (found[2:], 0.1)):
        np.testing.assert_allclose(device.to_host(statistics[0]), share * values.mean(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(device.to_host(statistics[1]), share * values.var(1, ddof=1), rtol=1e-5)
    exact = np.empty(shape)
    scales, biases = (device.to_host(array).astype(np.float64) for array in learned)
    backend("numpy", np.float64).batchnorm_forward_training(
        device.to_host(convolved).astype(np.float64), exact, scales, biases, *np.zeros((4, filters)), 0.1, "leaky"
    )
    assert_close(device.to_host(out).astype(np.float64), exact, 1e-5 if precision == "fp32" else 2e-3)
