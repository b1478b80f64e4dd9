from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks

CONV = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"


def test_one_factor_for_each_channel_of_each_picture():
    text = CONV + "[avgpool]\n[route]\nlayers=0\n[control_channels]\nfrom=-2\n"
    built = layer_checks.network(text, keep_outputs=True)
    built.forward(layer_checks.pictures(built, 2))
    conv, mean, _, controlled = (np.asarray(layer.output) for layer in built.layers)
    np.testing.assert_allclose(controlled, conv * mean)


def test_gradient_of_factors_that_differ_from_picture_to_picture():
    layer_checks.check_gradients(CONV + "[avgpool]\n[route]\nlayers=-2\n[control_channels]\nfrom=-2\n")


def test_gradient_of_factors_that_others_use_too():
    text = CONV + "[avgpool]\n[route]\nlayers=-2\n[control_channels]\nfrom=-2\n[control_channels]\nfrom=-3\n"
    layer_checks.check_gradients(text)


def test_other_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"layer 0 must give one factor for each of the 4 channels.*not \(4, 6, 5\)"):
        layer_checks.network(CONV + CONV + "[control_channels]\nfrom=-2\n")
