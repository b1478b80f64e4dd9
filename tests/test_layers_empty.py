from __future__ import annotations

import numpy as np
import pytest

from tests import layer_checks

CONV = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"


@pytest.mark.parametrize("name", ["empty", "silence"])
def test_it_counts_as_a_layer_and_does_nothing(name):
    built = layer_checks.network(CONV + f"[{name}]\n[route]\nlayers=1\n")
    built.forward(layer_checks.pictures(built, 2))
    assert len(built.layers) == 3
    assert np.shares_memory(built.layers[0].output, built.layers[1].output)


def test_gradients_of_both_sides_add_up():
    layer_checks.check_gradients(CONV + "[empty]\n[shortcut]\nfrom=-2\n")
