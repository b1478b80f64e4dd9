from __future__ import annotations

import numpy as np
import pytest

from darkpy.config.cfg import parse_cfg
from darkpy.network import Network
from tests import layer_checks


def test_the_same_values_for_every_picture():
    built = layer_checks.network("[implicit]\nfilters=3\natoms=2\n")
    out = np.asarray(built.forward(layer_checks.pictures(built, 2)))
    assert out.shape == (2, 3, 2, 1)
    assert (out == np.asarray(built.layers[0].weights).reshape(1, 3, 2, 1)).all()


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("[implicit]\nfilters=500\n", -0.2, 0.2),
        ("[implicit_add]\nfilters=500\nstd=.02\n", -0.02, 0.02),
        ("[implicit_mul]\nfilters=500\n", 0.98, 1.02),
        ("[implicit]\nfilters=500\nmean=2\nstd=.5\n", 1.5, 2.5),
    ],
)
def test_starting_values(text, low, high):
    built = layer_checks.network(text)
    built.parameters.initialize(0)
    values = np.asarray(built.layers[0].weights)
    assert low <= values.min() < low + 0.1 * (high - low)
    assert high >= values.max() > high - 0.1 * (high - low)


def test_it_learns_and_decays():
    text = "[net]\nbatch=2\nchannels=3\nheight=4\nwidth=4\nlearning_rate=1\ndecay=.5\nmomentum=0\nmax_batches=9\n"
    text += "[implicit]\nfilters=3\n[cost]\n"
    built = Network(parse_cfg(text, "a.cfg"), training=True, device="numpy", dtype=np.float64)
    before = built.parameters.read(built.layers[0], "weights")
    truth = np.array([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])
    built.train_batch(np.zeros((2, 3, 4, 4)), truth)
    expected = before - (2 * before - truth.sum(axis=0)) / 2 - 0.5 * before
    np.testing.assert_allclose(built.parameters.read(built.layers[0], "weights"), expected)
