from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


def test_blocks_of_pixels_become_channels():
    built = layer_checks.network("[reorg3d]\nstride=2\n", (3, 4, 6), batch=1)
    x = layer_checks.pictures(built, 1)
    out = np.array(built.forward(x))
    assert out.shape == (1, 12, 2, 3)
    for dy, dx, k in np.ndindex(2, 2, 3):
        assert (out[0, (dy * 2 + dx) * 3 + k] == x[0, k, dy::2, dx::2]).all()


def test_reverse_is_not_the_inverse():
    built = layer_checks.network("[reorg3d]\nstride=2\n[reorg3d]\nstride=2\nreverse=1\n", (4, 4, 4), batch=1)
    x = layer_checks.pictures(built, 1)
    out = np.array(built.forward(x))
    assert out.shape == x.shape
    assert sorted(out.ravel()) == sorted(x.ravel())
    assert not (out == x).all()


@pytest.mark.parametrize("text", ["[reorg3d]\nstride=2\n", "[reorg3d]\nstride=2\nreverse=1\n"])
def test_options(text):
    layer_checks.check_gradients(text, (16, 2, 4))
    layer_checks.check_shapes(text, (16, 2, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[reorg3d]\nstride=3\n", "stride=3 does not divide its input of 4x4"),
        ("[reorg3d]\nstride=2\nreverse=1\n", "needs a multiple of 16 channels, not 8"),
    ],
)
def test_impossible(text, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network(text, (8, 4, 4))
