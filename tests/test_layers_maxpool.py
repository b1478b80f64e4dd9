"""[maxpool]: pooling over channels, and a blur in place of the stride; the plain layer is in test_layers.py."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


@pytest.mark.parametrize(
    "text",
    [
        "[maxpool]\nmaxpool_depth=1\nout_channels=4\n",
        "[maxpool]\nmaxpool_depth=1\nout_channels=3\nsize=9\npadding=0\n",
        "[maxpool]\nmaxpool_depth=1\n",
        "[maxpool]\nsize=2\nstride=2\nantialiasing=1\n",
        "[maxpool]\nsize=3\nstride=2\npadding=1\nantialiasing=2\n",
        "[maxpool]\nsize=3\nstride_x=1\nstride_y=2\nantialiasing=1\n[shortcut]\nfrom=-1\n",
    ],
)
def test_options(text):
    layer_checks.check_gradients(text, (8, 6, 5))
    layer_checks.check_shapes(text, (8, 6, 5))
    layer_checks.check_memory_plan(text, (8, 6, 5))
    layer_checks.check_resize(text, (8, 6, 5), (8, 4, 9))


def test_over_channels():
    built = layer_checks.network("[maxpool]\nmaxpool_depth=1\nout_channels=3\n", (8, 2, 2))
    x = layer_checks.pictures(built, 2)
    out = np.asarray(built.forward(x))
    assert built.layers[0].describe() == "channels"
    for g in range(3):
        assert (out[:, g] == x[:, g::3].max(axis=1)).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("maxpool_depth=1\nout_channels=9\n", "out_channels=9 is more than its 8 input channels"),
        ("maxpool_depth=1\nout_channels=4\nantialiasing=1\n", "antialiasing=1 does not go with maxpool_depth=1"),
        ("size=6\npadding=0\nantialiasing=2\n", "antialiasing=2 needs more than 1x1 values to blur"),
    ],
)
def test_impossible(keys, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network("[maxpool]\n" + keys, (8, 6, 6))
