from __future__ import annotations

import numpy as np
import pytest

from tests import layer_checks


@pytest.mark.parametrize("name", ["connected", "conn"])
def test_a_weighted_sum_of_everything(name):
    built = layer_checks.network(f"[{name}]\noutput=4\nactivation=linear\n")
    layer = built.layers[0]
    x = layer_checks.pictures(built, 2)
    expected = x.reshape(2, -1) @ np.asarray(layer.weights).T + np.asarray(layer.biases)
    np.testing.assert_allclose(built.forward(x)[..., 0, 0], expected, rtol=1e-12)
    assert layer.weights.shape == (4, 3 * 6 * 5)


def test_the_same_as_a_convolution_as_large_as_its_input():
    connected = layer_checks.network("[connected]\noutput=4\n", (3, 5, 5))
    conv = layer_checks.network("[convolutional]\nfilters=4\nsize=5\n", (3, 5, 5))
    for name in ("weights", "biases"):
        values = np.asarray(getattr(conv.layers[0], name))
        connected.parameters.write(connected.layers[0], name, values.reshape(4, -1).squeeze())
    x = layer_checks.pictures(conv, 2)
    np.testing.assert_allclose(connected.forward(x), conv.forward(x), rtol=1e-12)
    assert connected.layers[0].operations() == conv.layers[0].operations()


def test_a_twentieth_of_the_batch_is_remembered():
    """A convolution remembers a tenth."""
    built = layer_checks.network("[connected]\noutput=4\nbatch_normalize=1\n[cost]\n", training=True, batch=6)
    layer = built.layers[0]
    before = np.array(layer.rolling_mean), np.array(layer.rolling_variance)
    x = layer_checks.pictures(built, 6)
    built.forward(x)
    sums = x.reshape(6, -1) @ np.asarray(layer.weights).T
    np.testing.assert_allclose(layer.rolling_mean, 0.95 * before[0] + 0.05 * sums.mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.rolling_variance, 0.95 * before[1] + 0.05 * sums.var(0, ddof=1), rtol=1e-12)


def test_the_order_in_a_weights_file():
    """Biases, weights and only then the normalisation; a convolution has its weights last."""
    built = layer_checks.network("[connected]\noutput=4\nbatch_normalize=1\n")
    names = [parameter.name for parameter in built.layers[0].parameters()]
    assert names == ["biases", "weights", "scales", "rolling_mean", "rolling_variance"]


@pytest.mark.parametrize("activation", ["linear", "mish", "normalize_channels"])
@pytest.mark.parametrize("normalized", [0, 1])
def test_gradients(activation, normalized):
    text = f"[connected]\noutput=4\nactivation={activation}\nbatch_normalize={normalized}\n"
    layer_checks.check_gradients(text, batch=4)
