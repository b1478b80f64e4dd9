from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.base import ELEMENTWISE_ACTIVATIONS
from tests.backends import BACKENDS, assert_close, backend, random
from tests.gradients import check_gradient

SHAPES = [(4, 3, 5, 7), (2, 70, 3, 3), (1, 2, 180, 150), (6, 5), (1, 3, 4, 4), (2, 4, 1, 1)]
SMOOTH = sorted(set(ELEMENTWISE_ACTIVATIONS) - {"stair"})


def statistics(channels, dtype=np.float32):
    """scales, biases, mean, variance, rolling mean, rolling variance."""
    scales, biases = 1 + 0.3 * random((channels,), 1, dtype), random((channels,), 2, dtype)
    nothing = np.full(channels, np.nan, dtype)
    return scales, biases, nothing, nothing.copy(), random((channels,), 3, dtype), random((channels,), 4, dtype) ** 2


def by_channel(values, ndim):
    return values.reshape(1, -1, *[1] * (ndim - 2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BACKENDS)
def test_forward_training(name, shape):
    x = random(shape, 0) * 3 + 10
    scales, biases, mean, variance, rolling_mean, rolling_variance = statistics(shape[1])
    old_mean, old_variance = rolling_mean.astype(float), rolling_variance.astype(float)
    out = np.empty_like(x)
    backend(name).batchnorm_forward_training(
        x, out, scales, biases, mean, variance, rolling_mean, rolling_variance, 0.1, "leaky"
    )
    axes = (0, *range(2, x.ndim))
    exact = x.astype(np.float64)
    expected_mean, expected_variance = exact.mean(axis=axes), exact.var(axis=axes, ddof=1)
    assert_close(mean, expected_mean)
    assert_close(variance, expected_variance)
    assert_close(rolling_mean, 0.9 * old_mean + 0.1 * expected_mean)
    assert_close(rolling_variance, 0.9 * old_variance + 0.1 * expected_variance)
    normal = (exact - by_channel(expected_mean, x.ndim)) / np.sqrt(by_channel(expected_variance, x.ndim) + 1e-5)
    z = normal * by_channel(scales, x.ndim) + by_channel(biases, x.ndim)
    assert_close(out, np.where(z > 0, z, 0.1 * z), 2e-5 if x.size <= 8 else 5e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BACKENDS)
def test_forward_inference(name, shape):
    x = random(shape, 0)
    scales, biases, _, _, mean, variance = statistics(shape[1])
    exact = (x - by_channel(mean, x.ndim).astype(float)) / np.sqrt(by_channel(variance, x.ndim) + 1e-5)
    exact = exact * by_channel(scales, x.ndim) + by_channel(biases, x.ndim)
    before = mean.copy(), variance.copy()
    backend(name).batchnorm_forward_inference(x, x, scales, biases, mean, variance, "relu")
    assert_close(x, np.maximum(exact, 0))
    assert (mean == before[0]).all()
    assert (variance == before[1]).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_one_value_per_channel_has_no_variance(name):
    x = random((1, 3, 1, 1))
    scales, biases, mean, variance, rolling_mean, rolling_variance = statistics(3)
    out, grad_x = np.empty_like(x), np.empty_like(x)
    b = backend(name)
    b.batchnorm_forward_training(x, out, scales, biases, mean, variance, rolling_mean, rolling_variance, 0.1)
    assert (variance == 0).all()
    assert_close(out, by_channel(biases, 4).astype(float))
    grad_scales, grad_biases = np.zeros(3, np.float32), np.zeros(3, np.float32)
    grad_out = np.ones_like(x)
    b.batchnorm_backward(
        x, out, grad_out, mean, variance, scales, biases, grad_scales, grad_biases, grad_x, "linear"
    )
    assert not grad_x.any()
    assert (grad_biases == 1).all()


def run_backward(b, x, scales, biases, activation, grad_out, grad_x, accumulate=False):
    """Gradients of x, scales and biases after a forward pass; those of scales and biases start from 1."""
    mean, variance = np.empty_like(scales), np.empty_like(scales)
    out = np.empty_like(x)
    b.batchnorm_forward_training(
        x, out, scales, biases, mean, variance, np.zeros_like(scales), np.ones_like(scales), 0.1, activation
    )
    grad_scales, grad_biases = np.ones_like(scales), np.ones_like(biases)
    b.batchnorm_backward(
        x, out, grad_out, mean, variance, scales, biases, grad_scales, grad_biases, grad_x, activation, accumulate
    )
    return grad_x, grad_scales - 1, grad_biases - 1


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (6, 5), (2, 4, 1, 1)])
def test_gradient(shape, activation):
    b = backend("numpy", np.float64)
    x = random(shape, 0, np.float64) * 2 + 1
    scales, biases = statistics(shape[1], np.float64)[:2]

    def forward(x, scales, biases):
        out = np.empty_like(x)
        parts = [np.empty_like(scales) for _ in range(4)]
        b.batchnorm_forward_training(x, out, scales, biases, *parts, 0.1, activation)
        return out

    def gradients(grad_out):
        return run_backward(b, x, scales, biases, activation, grad_out, np.full_like(x, np.nan))

    check_gradient(forward, (x, scales, biases), gradients, step=1e-6, tolerance=1e-6)


@pytest.mark.parametrize("activation", ["linear", "leaky", "logistic", "mish", "swish", "gelu", "hard_mish"])
@pytest.mark.parametrize("shape", SHAPES[:-1])  # the gradients of two values per channel cancel but for rounding
@pytest.mark.parametrize("name", BACKENDS)
def test_backward_in_place_and_accumulating(name, shape, activation):
    x, grad_out = random(shape, 0) * 2 + 1, random(shape, 5)
    scales, biases = statistics(shape[1])[:2]
    exact = [array.astype(np.float64) for array in (x, scales, biases)]
    expected = run_backward(
        backend("numpy", np.float64), *exact, activation, grad_out.astype(np.float64), np.empty(shape)
    )
    b = backend(name)
    added = run_backward(b, x, scales, biases, activation, grad_out, np.ones_like(x), accumulate=True)
    in_place = grad_out.copy()
    overwritten = run_backward(b, x, scales, biases, activation, in_place, in_place)
    for found, start in ((added, 1), (overwritten, 0)):
        assert_close(found[0], expected[0] + start, 2e-5)
        assert_close(found[1], expected[1], 2e-5)
        assert_close(found[2], expected[2], 2e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BACKENDS)
def test_bias_activation(name, shape):
    x, biases = random(shape, 0), random(shape[1:2], 1)
    z = x.astype(np.float64) + by_channel(biases, x.ndim)
    out = np.empty_like(x)
    backend(name).bias_activation_forward(x, biases, out, "leaky")
    assert_close(out, np.where(z > 0, z, 0.1 * z))
    backend(name).bias_activation_forward(x, biases, x, "linear")
    assert_close(x, z)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", BACKENDS)
def test_bias_backward_adds(name, shape):
    grad = random(shape, 0)
    grad_biases = np.full(shape[1], 2, np.float32)
    backend(name).bias_backward(grad, grad_biases)
    assert_close(grad_biases, 2 + grad.astype(np.float64).sum(axis=(0, *range(2, grad.ndim))), 1e-5)
