from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


def output(text, shape):
    built = layer_checks.network(text, shape, batch=1)
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(1, *shape)
    return x, np.array(built.forward(x))


def test_the_old_order_takes_the_input_for_a_larger_picture():
    x, out = output("[reorg]\nstride=2\n", (4, 2, 4))
    assert out.shape == (1, 16, 1, 2)
    picture = x.reshape(4, 8)  # one channel of 4 x 8 in place of four of 2 x 4
    expected = [picture[dy::2, dx::2] for dy in range(2) for dx in range(2)]
    assert (out.reshape(4, 2, 4) == np.stack(expected)).all()


def test_reverse_is_plain_depth_to_space():
    x, out = output("[reorg]\nstride=2\nreverse=1\n", (8, 2, 3))
    assert out.shape == (1, 2, 4, 6)
    for dy, dx, k in np.ndindex(2, 2, 2):
        assert (out[0, k, dy::2, dx::2] == x[0, (dy * 2 + dx) * 2 + k]).all()


@pytest.mark.parametrize("text", ["[reorg]\nstride=2\n", "[reorg]\nstride=2\nreverse=1\n", "[reorg]\nstride=1\n"])
def test_options(text):
    layer_checks.check_gradients(text, (8, 4, 6))
    layer_checks.check_shapes(text, (8, 4, 6))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[reorg]\nstride=2\n", "needs a multiple of 4 channels, not 6"),
        ("[reorg]\nstride=2\nreverse=1\n", "needs a multiple of 4 channels, not 6"),
        ("[reorg]\nstride=3\n", "stride=3 does not divide its input of 4x4"),
    ],
)
def test_impossible(text, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network(text, (9 if "stride=3" in text else 6, 4, 4))
