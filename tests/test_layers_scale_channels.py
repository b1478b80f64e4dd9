from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks

LINEAR = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"


@pytest.mark.parametrize(
    "text",
    [
        LINEAR + "[avgpool]\n[scale_channels]\nfrom=0\nactivation=relu\n",
        LINEAR + LINEAR.replace("4", "1") + "[scale_channels]\nfrom=0\nscale_wh=1\nactivation=relu\n",
    ],
    ids=["channels", "positions"],
)
def test_one_factor_for_each(text):
    built = layer_checks.network(text, keep_outputs=True)
    built.forward(layer_checks.pictures(built, 2))
    x, factors, out = (np.asarray(layer.output) for layer in built.layers)
    np.testing.assert_allclose(out, np.maximum(factors * x, 0), rtol=1e-12)  # (c, 1, 1) or (1, h, w)


def test_squeeze_and_excitation():
    text = LINEAR + "[avgpool]\n[convolutional]\nfilters=2\nactivation=relu\n" + LINEAR.replace("linear", "logistic")
    layer_checks.check_gradients(text + "[scale_channels]\nfrom=1\nactivation=linear\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINEAR + LINEAR + "[scale_channels]\nfrom=0\n", r"must give \(4, 1, 1\), it gives \(4, 6, 5\)"),
        (LINEAR + "[avgpool]\n[scale_channels]\nfrom=0\nscale_wh=1\n", r"must give \(1, 6, 5\), it gives \(4, 1, 1\)"),
        ("[avgpool]\n[scale_channels]\nfrom=-2\n", "from=-2 names a missing layer"),
    ],
)
def test_impossible(text, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network(text)
