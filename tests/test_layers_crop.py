from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks

CROP = "[crop]\ncrop_height=4\ncrop_width=3\n"


def test_the_middle_at_inference():
    built = layer_checks.network(CROP + "flip=1\n", (3, 7, 6))
    x = layer_checks.pictures(built, 2)
    np.testing.assert_allclose(built.forward(x), 2 * x[:, :, 1:5, 1:4] - 1)


def test_noadjust_keeps_the_values():
    built = layer_checks.network(CROP + "noadjust=1\n", (3, 4, 3))
    x = layer_checks.pictures(built, 2)
    np.testing.assert_array_equal(built.forward(x), x)


def test_anywhere_in_training_and_the_same_again_for_the_same_seed():
    def places():
        built = layer_checks.network(CROP + "flip=1\nnoadjust=1\n[cost]\n", (1, 9, 8), training=True)
        x = np.arange(144.0).reshape(2, 1, 9, 8)
        found = []
        for _ in range(40):
            built.seen += 2
            out = np.array(built.forward(x))
            top, left, flip = built.layers[0].place
            part = x[:, :, top : top + 4, left : left + 3]
            np.testing.assert_array_equal(out, part[..., ::-1] if flip else part)
            found.append((top, left, flip))
        return found

    first = places()
    assert places() == first
    assert {top for top, _, _ in first} == set(range(6))
    assert {left for _, left, _ in first} == set(range(6))
    assert {flip for _, _, flip in first} == {False, True}


@pytest.mark.parametrize("extra", ["", "flip=1\n", "noadjust=1\nflip=1\n"])
def test_gradient(extra):
    layer_checks.check_gradients(CROP + extra, (3, 7, 6))


def test_a_resized_network_keeps_the_share_of_the_height():
    built = layer_checks.network("[crop]\ncrop_height=6\ncrop_width=4\n", (3, 8, 8))
    built.resize(16, 12)
    assert built.layers[0].output_shape == (3, 9, 12)
    built.resize(8, 8)
    assert built.layers[0].output_shape == (3, 6, 4)


def test_too_large():
    with pytest.raises(ConfigError, match="crop_width=3 and crop_height=4 are more than its input of 2x7"):
        layer_checks.network(CROP, (3, 7, 2))
