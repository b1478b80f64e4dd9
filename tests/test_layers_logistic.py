from __future__ import annotations

import numpy as np
import pytest

from tests import layer_checks

TEXT = "[connected]\noutput=4\nactivation=linear\n[logistic]\n"


def test_loss_and_its_gradient():
    built = layer_checks.network(TEXT, batch=3, training=True)
    x = layer_checks.pictures(built, 3)
    truth = np.random.default_rng(0).uniform(0, 1, (3, 4))
    p = np.array(built.forward(x)).reshape(3, 4)
    scores = np.array(built.layers[0].output).reshape(3, 4)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-scores)))
    built.zero_gradients()
    loss = built.backward(truth)
    assert loss == pytest.approx(-np.sum(truth * np.log(p) + (1 - truth) * np.log(1 - p)))
    np.testing.assert_allclose(built.layers[0].grad_output.reshape(3, 4), p - truth)

    direction, step = np.random.default_rng(1).normal(size=built.parameters.values.shape), 1e-6
    slope = float(built.parameters.gradients @ direction)
    losses = []
    for sign in (1, -1):
        built.parameters.values[:] += sign * step * direction
        built.forward(x)
        losses.append(built.loss(truth))
        built.parameters.values[:] -= sign * step * direction
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(slope, rel=1e-6)


def test_a_sure_answer_costs_nothing_and_a_wrong_one_is_finite():
    built = layer_checks.network("[logistic]\n", (1, 1, 2), batch=1, training=True, dtype=np.float32)
    built.forward(np.array([[[[200.0, -200.0]]]], np.float32))
    assert built.loss(np.array([[1.0, 0.0]])) == 0
    assert 80 < built.loss(np.array([[0.0, 1.0]])) < 1000


def test_classes():
    assert layer_checks.network(TEXT).classes == 4
