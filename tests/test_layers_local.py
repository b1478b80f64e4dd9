from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


@pytest.mark.parametrize(
    "text",
    [
        "[local]\nfilters=2\nsize=3\nstride=2\nactivation=linear\n",
        "[local]\nfilters=2\nsize=3\nstride=2\npad=1\nactivation=mish\n",
        "[local]\nfilters=3\nsize=5\npad=2\nactivation=logistic\n",
        "[local]\nfilters=1\n",
    ],
)
def test_options(text):
    layer_checks.check_gradients(text, (2, 6, 5), batch=3)
    layer_checks.check_shapes(text, (2, 6, 5))
    layer_checks.check_memory_plan(text, (2, 6, 5))


def test_with_equal_weights_it_is_a_convolution():
    key = "filters=4\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
    local = layer_checks.network("[local]\n" + key)
    conv = layer_checks.network("[convolutional]\n" + key)
    weights = conv.parameters.read(conv.layers[0], "weights")
    positions = local.layers[0].weights.shape[0]
    local.parameters.write(local.layers[0], "weights", np.broadcast_to(weights, (positions, *weights.shape)))
    local.parameters.write(local.layers[0], "biases", np.repeat(np.asarray(conv.layers[0].biases), positions))
    x = layer_checks.pictures(conv, 2)
    np.testing.assert_allclose(local.forward(x), conv.forward(x), rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[local]\nsize=5\npad=1\n", "pad=1 goes with size=3 only, not with size=5"),
        ("[local]\nsize=9\n", "size=9 is larger than its input of 5x6"),
    ],
)
def test_impossible(text, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network(text)
