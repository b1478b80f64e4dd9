from __future__ import annotations

import numpy as np
import pytest

from tests.backends import BACKENDS, assert_close, backend, random
from tests.gradients import check_gradient

SHAPE = (2, 6, 5, 7)


@pytest.mark.parametrize("name", BACKENDS)
def test_copy_channels_between_views(name):
    source, out = random(SHAPE, 0), random((2, 9, 5, 7), 1)
    before = out.copy()
    backend(name).copy_channels(source[:, 1:5], out[:, 3:7])
    assert (out[:, 3:7] == source[:, 1:5]).all()
    assert (out[:, :3] == before[:, :3]).all()
    assert (out[:, 7:] == before[:, 7:]).all()
    backend(name).copy_channels(source[:, :2], out[:, 7:], accumulate=True)
    assert_close(out[:, 7:], before[:, 7:].astype(np.float64) + source[:, :2])
    backend(name).copy_channels(out, before)
    assert (before == out).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_copy_channels_between_flat_views(name):
    source, out = random((3, 12), 0), random((3, 20), 1)
    backend(name).copy_channels(source, out[:, 4:16])
    assert (out[:, 4:16] == source).all()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("activation", "slope"), [("linear", 1.0), ("leaky", 0.1)])
@pytest.mark.parametrize("pictures", [1, 3])
def test_add_forward(name, activation, slope, pictures):
    """Into an array of its own, into the first summand, into a view where the backend takes it."""
    a, b = random((pictures, 6, 5, 7), 0), random((pictures, 6, 5, 7), 1)
    out, around = np.full_like(a, np.nan), np.zeros((pictures, 9, 5, 7), np.float32)
    total = a.astype(np.float64) + b
    expected = np.where(total > 0, total, slope * total)
    backend(name).add_forward(a, b, out, activation)
    assert_close(out, expected)
    if backend(name).channel_views(pictures):
        backend(name).add_forward(a, b, around[:, 2:8], activation)
        assert_close(around[:, 2:8], expected)
    backend(name).add_forward(a, b, a, activation)
    assert_close(a, expected)


@pytest.mark.parametrize("name", BACKENDS)
def test_scaled_copy(name):
    source, out = random(SHAPE, 0), random(SHAPE, 1)
    expected = out + 2.5 * source.astype(np.float64)
    backend(name).scaled_copy(source, out, 2.5, accumulate=True)
    assert_close(out, expected)
    backend(name).scaled_copy(source, out, 2.5)
    assert_close(out, 2.5 * source.astype(np.float64))


def product_gradients(backward, a, b, grad_out, start=None):
    """Gradients of a product; overwritten, or added to arrays of ``start``."""
    filled, accumulate = (np.nan, (False, False)) if start is None else (start, (True, True))
    grad_a, grad_b = np.full_like(a, filled), np.full_like(b, filled)
    backward(a, b, grad_out, grad_a, grad_b, accumulate)
    return grad_a, grad_b


def check_product(name, operation, a_shape, b_shape):
    """A product of two arrays: forward, gradients, accumulation, missing targets."""
    b64 = backend("numpy", np.float64)
    exact_a, exact_b = random(a_shape, 0, np.float64), random(b_shape, 1, np.float64)

    def function(a, b):
        out = np.empty(a_shape)
        getattr(b64, f"{operation}_forward")(a, b, out)
        return out

    def gradients(grad_out):
        return product_gradients(getattr(b64, f"{operation}_backward"), exact_a, exact_b, grad_out)

    check_gradient(function, (exact_a, exact_b), gradients)

    a, b, grad_out = random(a_shape, 0), random(b_shape, 1), random(a_shape, 2)
    out = np.full_like(a, np.nan)
    getattr(backend(name), f"{operation}_forward")(a, b, out)
    assert_close(out, a.astype(np.float64) * b)
    expected = gradients(grad_out.astype(np.float64))
    backward = getattr(backend(name), f"{operation}_backward")
    for found, exact in zip(product_gradients(backward, a, b, grad_out), expected, strict=True):
        assert_close(found, exact)
    for found, exact in zip(product_gradients(backward, a, b, grad_out, 3), expected, strict=True):
        assert_close(found, exact + 3)
    grad_a, grad_b = np.empty_like(a), np.empty_like(b)
    backward(a, b, grad_out, grad_a, None)
    backward(a, b, grad_out, None, grad_b, (False, False))
    assert_close(grad_a, expected[0])
    assert_close(grad_b, expected[1])


@pytest.mark.parametrize("factors", [(2, 6, 1, 1), (2, 1, 5, 7)])
@pytest.mark.parametrize("name", BACKENDS)
def test_scale_channels(name, factors):
    check_product(name, "scale_channels", SHAPE, factors)


@pytest.mark.parametrize("name", BACKENDS)
def test_scale_channels_of_one_pixel(name):
    check_product(name, "scale_channels", (2, 6, 1, 1), (2, 6, 1, 1))
    check_product(name, "scale_channels", (2, 6, 1, 1), (2, 1, 1, 1))


@pytest.mark.parametrize("name", BACKENDS)
def test_multiply(name):
    check_product(name, "multiply", SHAPE, SHAPE)


def weighted_sum_by_definition(inputs, weights, normalization):
    if normalization == "relu":
        weights = np.maximum(weights, 0) / (1e-4 + np.maximum(weights, 0).sum(axis=0))
    if normalization == "softmax":
        grown = np.exp(weights - weights.max(axis=0))
        weights = grown / (1e-4 + grown.sum(axis=0))
    return sum(x * w.reshape(1, -1, 1, 1) for x, w in zip(inputs, weights, strict=True))


def run_weighted_sum(b, inputs, weights, normalization, grad_out, start=None):
    filled = np.nan if start is None else start
    grad_inputs = [np.full_like(x, filled) for x in inputs]
    grad_weights = np.zeros_like(weights)
    accumulate = None if start is None else [True] * len(inputs)
    b.weighted_sum_backward(inputs, weights, grad_out, grad_inputs, grad_weights, normalization, accumulate)
    return [*grad_inputs, grad_weights]


@pytest.mark.parametrize("normalization", ["none", "relu", "softmax"])
@pytest.mark.parametrize("weights_shape", [(3,), (6, 6)])
@pytest.mark.parametrize("name", BACKENDS)
def test_weighted_sum(name, weights_shape, normalization):
    inputs = [random(SHAPE, seed) for seed in range(weights_shape[0])]
    weights, grad_out = random(weights_shape, 3) + 2, random(SHAPE, 7)
    exact = [x.astype(np.float64) for x in inputs]
    out = np.full_like(inputs[0], np.nan)
    backend(name).weighted_sum_forward(inputs, weights, out, normalization)
    assert_close(out, weighted_sum_by_definition(exact, weights.astype(np.float64), normalization))

    b64 = backend("numpy", np.float64)
    expected = run_weighted_sum(b64, exact, weights.astype(np.float64), normalization, grad_out.astype(np.float64))
    found = run_weighted_sum(backend(name), inputs, weights, normalization, grad_out)
    for actual, wanted in zip(found, expected, strict=True):
        assert_close(actual, wanted, 1e-5)
    added = run_weighted_sum(backend(name), inputs, weights, normalization, grad_out, 1)
    for actual, wanted in zip(added[:-1], expected[:-1], strict=True):
        assert_close(actual, wanted + 1)


@pytest.mark.parametrize("normalization", ["none", "relu", "softmax"])
@pytest.mark.parametrize("weights_shape", [(3,), (3, 6), (2,)])
def test_weighted_sum_gradient(weights_shape, normalization):
    b = backend("numpy", np.float64)
    inputs = [random(SHAPE, seed, np.float64) for seed in range(weights_shape[0])]
    weights = random(weights_shape, 3, np.float64)

    def function(*arguments):
        out = np.empty(SHAPE)
        b.weighted_sum_forward(arguments[:-1], arguments[-1], out, normalization)
        return out

    def gradients(grad_out):
        return run_weighted_sum(b, inputs, weights, normalization, grad_out)

    check_gradient(function, (*inputs, weights), gradients, tolerance=1e-8)


@pytest.mark.parametrize("name", BACKENDS)
def test_weighted_sum_without_some_input_gradients(name):
    inputs, weights = [random(SHAPE, seed) for seed in range(2)], random((2,), 3)
    grad = np.full(SHAPE, np.nan, np.float32)
    grad_weights = np.zeros_like(weights)
    backend(name).weighted_sum_backward(inputs, weights, inputs[0], [None, grad], grad_weights, "none")
    assert_close(grad, weights[1] * inputs[0].astype(np.float64))


@pytest.mark.parametrize("name", BACKENDS)
def test_clip(name):
    x = random(SHAPE) * 3
    expected = np.clip(x.astype(np.float64), -1.5, 1.5)
    backend(name).clip(x, 1.5)
    assert_close(x, expected)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_is_finite(name, bad):
    array = random((100_000,), 0)
    assert backend(name).is_finite(array)
    assert backend(name).is_finite(np.full(1000, 3e38, np.float32)), "though the sum is not"
    for place in (0, 77_777, -1):
        spoiled = array.copy()
        spoiled[place] = bad
        assert not backend(name).is_finite(spoiled)
    assert not backend(name).is_finite(np.array([np.inf, -np.inf], np.float32))
