"""Connected layers, softmax and the losses that belong to them."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.numpy import linear
from tests.backends import BACKENDS, assert_close, backend, fresh, random
from tests.gradients import check_gradient

SHAPES = pytest.mark.parametrize(("batch", "inputs", "outputs"), [(3, 5, 4), (1, 1, 1), (2, 300, 77), (16, 8, 1)])


@SHAPES
@pytest.mark.parametrize("name", BACKENDS)
def test_linear(name, batch, inputs, outputs):
    b = backend(name)
    x, weights, grad_out = random((batch, inputs), 0), random((outputs, inputs), 1), random((batch, outputs), 2)
    exact = [array.astype(np.float64) for array in (x, weights, grad_out)]
    out = np.full_like(grad_out, np.nan)
    b.linear_forward(x, weights, out)
    assert_close(out, exact[0] @ exact[1].T)
    grad_weights = np.ones_like(weights)
    b.linear_backward_weights(x, grad_out, grad_weights)
    assert_close(grad_weights, 1 + exact[2].T @ exact[0])
    grad_x = np.full_like(x, np.nan)
    b.linear_backward_input(grad_out, weights, grad_x)
    assert_close(grad_x, exact[2] @ exact[1])
    b.linear_backward_input(grad_out, weights, grad_x, accumulate=True)
    assert_close(grad_x, 2 * exact[2] @ exact[1])


@pytest.mark.parametrize("name", BACKENDS)
def test_workspace_is_what_the_operations_use(name):
    """Sums are long enough here to be divided on a GPU."""
    b = fresh(name)
    x, weights, grad_out = random((2, 5000), 0), random((4, 5000), 1), random((2, 4), 2)
    for training in (False, True):
        b.set_workspace(b.linear_workspace(2, 5000, 4, training))
        before = b.workspace
        b.linear_forward(x, weights, np.empty_like(grad_out))
        if training:
            b.linear_backward_weights(x, grad_out, np.zeros_like(weights))
            b.linear_backward_input(grad_out, weights, np.empty_like(x))
        assert b.workspace is before


def test_linear_in_parts(monkeypatch):
    monkeypatch.setattr(linear, "PART_BYTES", 100)
    test_linear("numpy", 5, 6, 7)


@SHAPES
def test_linear_gradient(batch, inputs, outputs):
    b = backend("numpy", np.float64)
    x, weights = random((batch, inputs), 0, np.float64), random((outputs, inputs), 1, np.float64)

    def forward(x, weights):
        out = np.empty((batch, outputs))
        b.linear_forward(x, weights, out)
        return out

    def gradients(grad_out):
        grad_x, grad_weights = np.empty_like(x), np.zeros_like(weights)
        b.linear_backward_input(grad_out, weights, grad_x)
        b.linear_backward_weights(x, grad_out, grad_weights)
        return grad_x, grad_weights

    check_gradient(forward, (x, weights), gradients)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(4, 10), (1, 1), (3, 1000)])
@pytest.mark.parametrize("name", BACKENDS)
def test_softmax(name, shape, temperature):
    x = random(shape) * 5 + 200
    grown = np.exp((x.astype(np.float64) - 200) / temperature)
    expected = grown / grown.sum(axis=1, keepdims=True)
    out = np.full_like(x, np.nan)
    backend(name).softmax_forward(x, out, temperature)
    assert_close(out, expected, 1e-5)
    backend(name).softmax_forward(x, x, temperature)
    assert_close(x, expected, 1e-5)


@pytest.mark.parametrize("name", BACKENDS)
def test_cross_entropy_of_a_softmax(name):
    b = backend("numpy", np.float64)
    scores, truth = random((3, 5), 0, np.float64), np.eye(5)[[1, 4, 0]]

    def loss(scores):
        out, unused = np.empty_like(scores), np.empty_like(scores)
        b.softmax_forward(scores, out, 1.0)
        return np.array(b.cross_entropy(out, truth, unused))

    def gradients(grad_out):
        out, grad = np.empty_like(scores), np.empty_like(scores)
        b.softmax_forward(scores, out, 1.0)
        b.cross_entropy(out, truth, grad)
        return [grad_out * grad]

    check_gradient(loss, [scores], gradients)

    out, grad = np.empty((3, 5), np.float32), np.empty((3, 5), np.float32)
    backend(name).softmax_forward(scores.astype(np.float32), out, 1.0)
    cost = backend(name).cross_entropy(out, truth.astype(np.float32), grad)
    assert cost == pytest.approx(float(loss(scores)), rel=1e-6)
    assert_close(grad, gradients(1.0)[0])


@pytest.mark.parametrize("name", BACKENDS)
def test_cross_entropy_of_a_probability_of_zero_is_finite(name):
    output, truth = np.array([[0, 1]], np.float32), np.array([[1, 0]], np.float32)
    assert 80 < backend(name).cross_entropy(output, truth, np.empty_like(output)) < 110


@pytest.mark.parametrize("name", BACKENDS)
def test_difference(name):
    output, truth = np.array([[1, 0.5, -3, 2]], np.float32), np.array([[0, 0, -1, -1234]], np.float32)
    grad = np.empty_like(output)
    difference = backend(name).difference
    assert difference(output[:, :3], truth[:, :3], grad[:, :3], "sse") == pytest.approx(1 + 0.25 + 4)
    assert (grad[0, :3] == [1, 0.5, -2]).all()
    assert difference(output, truth, grad, "masked") == pytest.approx(1 + 0.25 + 4)
    assert (grad[0] == [1, 0.5, -2, 0]).all()
    assert difference(output[:, :3], truth[:, :3], grad[:, :3], "smooth") == pytest.approx(1 + 0.25 + 3)
    assert (grad[0, :3] == [1, 0.5, -1]).all()
