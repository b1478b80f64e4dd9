from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks

LINEAR = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"


def test_the_product_value_by_value():
    built = layer_checks.network(LINEAR + LINEAR + "[sam]\nfrom=0\nactivation=leaky\n", keep_outputs=True)
    built.forward(layer_checks.pictures(built, 2))
    first, second, out = (np.asarray(layer.output) for layer in built.layers)
    product = first * second
    np.testing.assert_allclose(out, np.where(product > 0, product, 0.1 * product), rtol=1e-12)
    assert built.layers[2].operations() == 4 * 6 * 5


def test_a_layer_by_itself():
    layer_checks.check_gradients(LINEAR + "[sam]\nfrom=-1\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINEAR + "[avgpool]\n[sam]\nfrom=0\n", r"\(4, 1, 1\) with layer 0 of \(4, 6, 5\); they must agree"),
        (LINEAR + "[sam]\nfrom=1\n", "from=1 names a missing layer; this is layer 1, it can read 0 to 0, or -1 to -1"),
        (LINEAR + "[sam]\n", r"\[sam\] needs the option 'from'"),
    ],
)
def test_impossible(text, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network(text)
