from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks

CRNN = "[crnn]\noutput=4\nhidden=2\nactivation=tanh\n"


@pytest.mark.parametrize(
    "extra", ["pad=1\nshortcut=1\n", "size=1\nbatch_normalize=1\n", "padding=1\ndilation=2\n", "size=5\npad=1\ngroups=2\n"]
)
def test_options(extra):
    layer_checks.check_gradients(CRNN + extra, (2, 6, 5), time_steps=3, batch=3)
    layer_checks.check_memory_plan(CRNN + extra, (2, 6, 5))


def test_of_single_pixels_it_is_an_rnn():
    crnn = layer_checks.network(CRNN + "size=1\n", (3, 1, 1))
    rnn = layer_checks.network("[rnn]\noutput=4\nhidden=2\nactivation=tanh\n", (3, 1, 1))
    rnn.parameters.values[:] = crnn.parameters.values
    for seed in (1, 2, 3):
        x = layer_checks.pictures(rnn, 2, seed)
        np.testing.assert_allclose(crnn.forward(x), rnn.forward(x))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("", "size=3, stride=1 do not keep height and width; add pad=1"),
        ("pad=1\nstride=2\n", "size=3, stride=2 do not keep height and width"),
        ("size=9\n", "size=9 is larger than its input of 5x6"),
        ("pad=1\nxnor=1\n", "xnor=1 is not supported: recurrent layers compute with numbers"),
    ],
)
def test_impossible(extra, message):
    with pytest.raises(ConfigError, match=message) as caught:
        layer_checks.network(CRNN + extra)
    assert len(caught.value.problems) == 1
