from __future__ import annotations

import math

import numpy as np
import pytest

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, gradient_needs_input
from tests.backends import BACKENDS, assert_close, backend, random
from tests.gradients import check_gradient

EVERY = ELEMENTWISE_ACTIVATIONS + CHANNEL_ACTIVATIONS


def softplus(x):
    return math.log1p(math.exp(x)) if x < 20 else x


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def stair(x):
    whole = math.floor(x)
    return math.floor(x / 2) if whole % 2 == 0 else x - whole + math.floor(x / 2)


DEFINITIONS = {
    "linear": lambda x: x,
    "logistic": sigmoid,
    "loggy": lambda x: 2 * sigmoid(x) - 1,
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "elu": lambda x: x if x >= 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507 * (x if x >= 0 else 1.6732 * (math.exp(x) - 1)),
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "ramp": lambda x: max(x, 0) + 0.1 * x,
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "revleaky": lambda x: x if x > 0 else 0.1 * x,
    "tanh": lambda x: 2 / (1 + math.exp(-2 * x)) - 1,
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3)),
    "plse": lambda x: 0.01 * (x + 4) if x < -4 else 0.01 * (x - 4) + 1 if x > 4 else 0.125 * x + 0.5,
    "stair": stair,
    "hardtan": lambda x: min(max(x, -1), 1),
    "lhtan": lambda x: 0.001 * x if x < 0 else 0.001 * (x - 1) + 1 if x > 1 else x,
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * math.tanh(softplus(x)),
    "hard_mish": lambda x: x if x > 0 else x * x / 2 + x if x > -2 else 0,
}

def inputs(dtype=np.float32):
    """(2, 3, 40, 7): from -12 to 12, no value within 1e-3 of a whole number."""
    values = np.linspace(-12, 12, 1680)
    values += np.where(np.abs(values - np.round(values)) < 1e-3, 2e-3, 0)
    return np.random.default_rng(0).permutation(values).reshape(2, 3, 40, 7).astype(dtype)


def channel_activation_by_definition(x, activation):
    out = np.zeros(x.shape)
    for n, y, column in np.ndindex(x.shape[0], *x.shape[2:]):
        values = x[n, :, y, column].astype(np.float64)
        if activation == "normalize_channels":
            values = np.maximum(values, 0)
        elif activation == "normalize_channels_softmax":
            values = np.exp(values)
        else:
            values = np.exp(values - values.max())
        out[n, :, y, column] = values / (1e-4 + values.sum())
    return out


def test_every_activation_has_a_definition_here():
    assert sorted(DEFINITIONS) == sorted(ELEMENTWISE_ACTIVATIONS)


@pytest.mark.parametrize("activation", ELEMENTWISE_ACTIVATIONS)
@pytest.mark.parametrize("name", BACKENDS)
def test_forward(name, activation):
    x = inputs()
    expected = np.vectorize(DEFINITIONS[activation], otypes=[np.float64])(x.astype(np.float64))
    out = np.full_like(x, np.nan)
    backend(name).activation_forward(x, out, activation)
    assert_close(out, expected)
    backend(name).activation_forward(x, x, activation)
    assert_close(x, expected)


@pytest.mark.parametrize("activation", CHANNEL_ACTIVATIONS)
@pytest.mark.parametrize("name", BACKENDS)
def test_channel_forward(name, activation):
    x = inputs()
    expected = channel_activation_by_definition(x, activation)
    out = np.full_like(x, np.nan)
    backend(name).activation_forward(x, out, activation)
    assert_close(out, expected)
    backend(name).activation_forward(x, x, activation)
    assert_close(x, expected)


def run_backward(b, x, activation, grad_out, grad_x, accumulate=False):
    out = np.empty_like(x)
    b.activation_forward(x, out, activation)
    kept = x if gradient_needs_input(activation) else None
    b.activation_backward(kept, out, grad_out, grad_x, activation, accumulate)
    return grad_x


@pytest.mark.parametrize("activation", EVERY)
def test_gradient(activation):
    b = backend("numpy", np.float64)
    x = inputs(np.float64)

    def forward(x):
        out = np.empty_like(x)
        b.activation_forward(x, out, activation)
        return out

    def gradients(grad_out):
        return [run_backward(b, x, activation, grad_out, np.full_like(x, np.nan))]

    check_gradient(forward, [x], gradients)


@pytest.mark.parametrize("shape", [(2, 3, 40, 7), (3, 5), (1, 3, 1, 1), (1, 2, 200, 190)])
@pytest.mark.parametrize("activation", EVERY)
@pytest.mark.parametrize("name", BACKENDS)
def test_backward_in_place_and_accumulating(name, activation, shape):
    x, grad_out = random(shape, 0) * 3, random(shape, 1)
    exact = np.empty(shape)
    run_backward(backend("numpy", np.float64), x.astype(np.float64), activation, grad_out.astype(np.float64), exact)
    b = backend(name)
    assert_close(run_backward(b, x, activation, grad_out, np.ones_like(x), accumulate=True), exact + 1)
    in_place = grad_out.copy()
    assert_close(run_backward(b, x, activation, in_place, in_place), exact, 5e-6)


@pytest.mark.parametrize("activation", EVERY)
@pytest.mark.parametrize("name", BACKENDS)
def test_large_values_neither_overflow_nor_warn(name, activation):
    x = np.array([-1e30, -1000, -100, 100, 1000, 1e30], np.float32).reshape(6, 1, 1, 1)
    with np.errstate(over="raise"):
        grad = run_backward(backend(name), x, activation, np.ones_like(x), np.empty_like(x))
        out = np.empty_like(x)
        backend(name).activation_forward(x, out, activation)
    assert np.isfinite(out).all()
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("activation", sorted(set(ELEMENTWISE_ACTIVATIONS) - {"relu6", "hardtan"}))
@pytest.mark.parametrize("name", BACKENDS)
def test_not_a_number_shows(name, activation):
    x = np.full((1, 1, 1, 3), np.nan, np.float32)
    backend(name).activation_forward(x, x, activation)
    assert np.isnan(x).all()


@pytest.mark.parametrize("activation", ["mish", "normalize_channels"])
def test_backward_without_the_input_it_needs(activation):
    x = np.zeros((1, 3, 1, 1), np.float32)
    with pytest.raises(ValueError, match="needs the activation's input"):
        backend("numpy").activation_backward(None, x, x, x, activation)
