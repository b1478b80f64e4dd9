from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks

IGNORED = -1234


def run(keys: str, truth: np.ndarray, out: np.ndarray):
    """Cost, gradient that the loss leaves and gradient that is handed back, for one value of a picture each."""
    text = "[convolutional]\nfilters=1\nsize=1\nactivation=linear\n[cost]\n" + keys
    built = layer_checks.network(text, (1, 1, 2), training=True, batch=1)
    built.parameters.write(built.layers[0], "weights", np.ones(1))
    built.parameters.write(built.layers[0], "biases", np.zeros(1))
    built.forward(out.reshape(1, 1, 1, -1))
    cost = built.backward(truth.reshape(1, -1))
    return cost, np.ravel(built.layers[1].grad_output), np.ravel(built.layers[0].grad_output)


def test_squares():
    cost, gradient, before = run("type=sse\n", np.array([1.0, 0.5]), np.array([0.25, 2.0]))
    assert cost == 0.75**2 + 1.5**2
    assert (gradient == [-0.75, 1.5]).all()  # without a factor 2, as in Darknet
    assert (before == gradient).all()


def test_smooth_is_flat_far_away():
    cost, gradient, _ = run("type=smooth\n", np.array([1.0, 0.5]), np.array([0.25, 2.0]))
    assert cost == 0.75**2 + (2 * 1.5 - 1)
    assert (gradient == [-0.75, 1.0]).all()


def test_masked_leaves_out_what_is_not_known():
    cost, gradient, _ = run("type=masked\n", np.array([IGNORED, 0.5]), np.array([0.25, 2.0]))
    assert cost == 1.5**2
    assert (gradient == [0.0, 1.5]).all()


def test_scale_is_for_the_way_back_only():
    cost, gradient, before = run("scale=3\n", np.array([1.0, 0.5]), np.array([0.25, 2.0]))
    assert cost == 0.75**2 + 1.5**2
    assert (before == 3 * gradient).all()


def test_another_type_is_refused():
    with pytest.raises(ConfigError, match=r"type=L1: expected one of sse, masked, smooth"):
        layer_checks.network("[cost]\ntype=L1\n")


def test_the_output_is_that_of_the_layer_before():
    built = layer_checks.network("[convolutional]\nfilters=2\n[cost]\n", keep_outputs=True)
    assert built.forward(layer_checks.pictures(built, 2)).shape == (2, 2, 6, 5)
    assert np.shares_memory(built.layers[0].output, built.layers[1].output)
