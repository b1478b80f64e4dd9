from __future__ import annotations

import numpy as np

from tests import layer_checks


def statistics(x):
    """Mean and N - 1 variance of each channel."""
    return x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)


def channels(values):
    return np.asarray(values).reshape(1, -1, 1, 1)


def test_training_uses_the_batch_and_a_tenth_of_it_is_remembered():
    built = layer_checks.network("[batchnorm]\n[cost]\n", training=True, batch=3)
    layer = built.layers[0]
    before = np.array(layer.rolling_mean), np.array(layer.rolling_variance)
    x = layer_checks.pictures(built, 3)
    mean, variance = statistics(x)
    normalized = (x - channels(mean)) / np.sqrt(channels(variance) + 1e-5)
    out = built.forward(x)
    np.testing.assert_allclose(out, normalized * channels(layer.scales) + channels(layer.biases), rtol=1e-9)
    np.testing.assert_allclose(layer.rolling_mean, 0.9 * before[0] + 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.rolling_variance, 0.9 * before[1] + 0.1 * variance, rtol=1e-12)


def test_inference_uses_and_keeps_what_is_remembered():
    built = layer_checks.network("[batchnorm]\n")
    layer = built.layers[0]
    before = built.parameters.statistics.copy()
    x = layer_checks.pictures(built, 2)
    normalized = (x - channels(layer.rolling_mean)) / np.sqrt(channels(layer.rolling_variance) + 1e-5)
    np.testing.assert_allclose(
        built.forward(x), normalized * channels(layer.scales) + channels(layer.biases), rtol=1e-9
    )
    np.testing.assert_array_equal(built.parameters.statistics, before)


def test_the_same_as_within_a_convolution():
    """Parameters in another order of layers, the same numbers."""
    inside = layer_checks.network("[convolutional]\nfilters=4\nsize=3\nbatch_normalize=1\nactivation=linear\n")
    apart = layer_checks.network("[convolutional]\nfilters=4\nsize=3\nbias=0\nactivation=linear\n[batchnorm]\n")
    (conv,), (plain, normalized) = inside.layers, apart.layers
    apart.parameters.write(plain, "weights", np.asarray(conv.weights))
    apart.parameters.write(plain, "biases", np.zeros(4))
    for name in ("scales", "biases", "rolling_mean", "rolling_variance"):
        apart.parameters.write(normalized, name, np.asarray(getattr(conv, name)))
    x = layer_checks.pictures(inside, 2)
    np.testing.assert_allclose(apart.forward(x), inside.forward(x), rtol=1e-9, atol=1e-12)


def test_as_the_first_layer_it_learns_though_nobody_wants_the_gradient_of_its_input():
    built = layer_checks.network("[batchnorm]\n[cost]\n", training=True)
    x = layer_checks.pictures(built, 2)
    built.zero_gradients()
    out = np.array(built.forward(x))
    built.backward(out - 1)  # every value should be one less
    mean, variance = statistics(x)
    normalized = (x - channels(mean)) / np.sqrt(channels(variance) + 1e-5)
    np.testing.assert_allclose(built.layers[0].grad_biases, np.full(3, 2 * 6 * 5), rtol=1e-12)
    np.testing.assert_allclose(built.layers[0].grad_scales, normalized.sum((0, 2, 3)), atol=1e-9)
