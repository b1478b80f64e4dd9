from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS
from tests import layer_checks


@pytest.mark.parametrize("activation", [*ELEMENTWISE_ACTIVATIONS, *CHANNEL_ACTIVATIONS])
def test_gradient_of_every_activation(activation):
    layer_checks.check_gradients(f"[activation]\nactivation={activation}\n")


def test_linear_shares_the_memory_of_its_input():
    text = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n[activation]\n[activation]\nactivation=relu\n"
    built = layer_checks.network(text, keep_outputs=True)
    built.forward(layer_checks.pictures(built, 2))
    conv, linear, relu = (np.asarray(layer.output) for layer in built.layers)
    assert np.shares_memory(conv, linear)
    assert (relu == np.maximum(conv, 0)).all()
