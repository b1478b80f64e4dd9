from __future__ import annotations

import numpy as np
import pytest

from tests import layer_checks


@pytest.mark.parametrize("name", ["avgpool", "avg"])
def test_the_mean_of_each_channel_at_any_size(name):
    built = layer_checks.network(f"[{name}]\n")
    for width, height in ((5, 6), (1, 1), (9, 2)):
        built.resize(width, height)
        x = layer_checks.pictures(built, 2)
        np.testing.assert_allclose(built.forward(x)[..., 0, 0], x.mean((2, 3)), rtol=1e-12)


def test_it_sees_the_whole_picture():
    built = layer_checks.network("[avgpool]\n", (3, 6, 9))
    assert built.layers[0].receptive_step() == (9.0, 1.0)
