from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


def conv(filters: int) -> str:
    return f"[convolutional]\nfilters={filters}\nsize=1\nactivation=linear\n"


def outputs(text: str) -> list[np.ndarray]:
    built = layer_checks.network(text, keep_outputs=True)
    built.forward(layer_checks.pictures(built, 2))
    return [np.array(layer.output) for layer in built.layers]


def test_channels_in_the_order_that_is_written():
    first, second, joined = outputs(conv(2) + conv(3) + "[route]\nlayers=-1,0\n")
    np.testing.assert_array_equal(joined, np.concatenate([second, first], axis=1))


def test_a_part_of_every_layer():
    first, second, joined = outputs(conv(2) + conv(4) + "[route]\nlayers=0,1\ngroups=2\ngroup_id=1\n")
    np.testing.assert_array_equal(joined, np.concatenate([first[:, 1:], second[:, 2:]], axis=1))


def test_a_whole_layer_is_not_copied():
    built = layer_checks.network(conv(2) + conv(3) + "[route]\nlayers=0\n", keep_outputs=True)
    built.forward(layer_checks.pictures(built, 2))
    assert np.shares_memory(built.layers[0].output, built.layers[2].output)


def test_channels_that_are_not_taken_get_no_gradient():
    text = conv(4) + "[route]\nlayers=-1\ngroups=4\ngroup_id=2\n[cost]\n"
    built = layer_checks.network(text, training=True)
    built._arena.fill(0xFF)
    built.forward(layer_checks.pictures(built, 2))
    built.backward(np.asarray(built.layers[1].output) - 1)
    expected = np.zeros((2, 4, 6, 5))
    expected[:, 2] = 1
    np.testing.assert_allclose(built.layers[0].grad_output, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("layers=0,1\n", "joins layer 0 of 5x6 with layer 1 of 2x3; their widths and heights must agree"),
        ("layers=2\n", "layers=2 names a missing layer; this is layer 2, it can read 0 to 1, or -2 to -1"),
        ("layers=-1\ngroups=3\n", "groups=3 does not divide the 4 channels of layer 1"),
        ("layers=-1\ngroups=2\ngroup_id=2\n", "group_id=2: of groups=2 the last is 1"),
    ],
)
def test_impossible(route, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network(conv(4) + "[maxpool]\nstride=2\nsize=2\npadding=0\n[route]\n" + route)
