from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


def test_every_value_becomes_a_block():
    built = layer_checks.network("[upsample]\nstride=3\nscale=.5\n")
    x = layer_checks.pictures(built, 2)
    np.testing.assert_array_equal(built.forward(x), 0.5 * np.kron(x, np.ones((3, 3))))


def test_blocks_are_summed_up_and_what_is_left_over_is_not_seen():
    built = layer_checks.network("[upsample]\nstride=-2\nscale=2\n")  # of 6 x 5 values
    x = layer_checks.pictures(built, 2)
    expected = 2 * x[..., :4].reshape(2, 3, 3, 2, 2, 2).sum((3, 5))
    np.testing.assert_allclose(built.forward(x), expected, rtol=1e-12)


def test_what_is_not_seen_gets_no_gradient():
    text = "[convolutional]\nfilters=3\nsize=1\nactivation=linear\n[upsample]\nstride=-2\n[cost]\n"
    built = layer_checks.network(text, training=True)
    built._arena.fill(0xFF)
    built.forward(layer_checks.pictures(built, 2))
    built.backward(np.asarray(built.layers[1].output) - 1)
    expected = np.ones((2, 3, 6, 5))
    expected[..., 4] = 0
    np.testing.assert_allclose(built.layers[0].grad_output, expected, atol=1e-12)


def test_the_receptive_field_grows_in_finer_steps():
    up, down = (layer_checks.network(f"[upsample]\nstride={stride}\n").layers[0] for stride in (2, -2))
    assert (up.receptive_step(), down.receptive_step()) == ((1.0, 0.5), (2.0, 2.0))
    assert (up.describe(), down.describe()) == ("x2", "/2")


@pytest.mark.parametrize(
    ("stride", "message"),
    [("0", "stride=0: needs a factor"), ("-6", "stride=-6 needs an input of at least 6x6, not 5x6")],
)
def test_impossible(stride, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network(f"[upsample]\nstride={stride}\n")
