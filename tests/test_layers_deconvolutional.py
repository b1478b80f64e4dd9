from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


@pytest.mark.parametrize(
    "text",
    [
        "[deconvolutional]\nfilters=2\nsize=2\nstride=2\nactivation=linear\n",
        "[deconv]\nfilters=2\nsize=3\npad=1\nactivation=mish\n",
        "[deconvolutional]\nfilters=4\nsize=4\nstride=2\npadding=1\nbatch_normalize=1\nactivation=leaky\n",
        "[deconvolutional]\nfilters=2\nsize=2\nstride=3\nbatch_normalize=1\nactivation=swish\n",
    ],
)
def test_options(text):
    layer_checks.check_gradients(text, (3, 4, 3), batch=3)
    layer_checks.check_shapes(text, (3, 4, 3))


def test_gradients_of_two_consumers_of_the_input_add_up():
    text = "[deconvolutional]\nfilters=3\nsize=3\npad=1\nactivation=linear\n[shortcut]\nfrom=-2\n"
    layer_checks.check_gradients(text, (3, 4, 3))


def test_windows_add_up():
    built = layer_checks.network("[deconvolutional]\nsize=3\nstride=2\nactivation=linear\n", (1, 2, 2), batch=1)
    layer = built.layers[0]
    weights = np.asarray(layer.weights)[0, 0]
    x = layer_checks.pictures(built, 1)
    expected = np.full((5, 5), float(layer.biases[0]))
    for y, column in np.ndindex(2, 2):
        expected[2 * y : 2 * y + 3, 2 * column : 2 * column + 3] += x[0, 0, y, column] * weights
    np.testing.assert_allclose(np.asarray(built.forward(x))[0, 0], expected)


def test_order_of_the_weights_file():
    text = "[deconvolutional]\nfilters=2\nsize=3\nbatch_normalize=1\n"
    names = [parameter.name for parameter in layer_checks.network(text).layers[0].parameters()]
    assert names == ["biases", "scales", "rolling_mean", "rolling_variance", "weights"]


def test_nothing_left():
    with pytest.raises(ConfigError, match="leaves nothing of its output: 1x-1 after cutting off 3"):
        layer_checks.network("[deconvolutional]\nsize=3\nstride=2\npadding=3\n", (3, 2, 3))
