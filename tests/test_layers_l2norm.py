from __future__ import annotations

import numpy as np

from tests import layer_checks


def test_every_position_has_length_one():
    built = layer_checks.network("[l2norm]\n")
    out = np.asarray(built.forward(layer_checks.pictures(built, 2)))
    np.testing.assert_allclose((out**2).sum(axis=1), 1)


def test_nothing_stays_nothing():
    built = layer_checks.network("[l2norm]\n")
    assert (np.asarray(built.forward(np.zeros((2, 3, 6, 5)))) == 0).all()


def test_gradients_of_two_consumers_add_up():
    layer_checks.check_gradients("[l2norm]\n[shortcut]\nfrom=-2\n")
