from __future__ import annotations

import pytest

from tests import layer_checks


@pytest.mark.parametrize(
    "text",
    [
        "[normalization]\n",
        "[lrn]\nsize=3\nalpha=.2\nbeta=.5\nkappa=4\n",
        "[normalization]\nsize=1\nalpha=.1\nkappa=3\n",
        "[normalization]\nsize=20\nalpha=.1\nkappa=9\n",
    ],
)
def test_options(text):
    layer_checks.check_gradients(text, (7, 4, 3))
    layer_checks.check_shapes(text, (7, 4, 3))
    layer_checks.check_memory_plan(text, (7, 4, 3))


def test_describe():
    assert layer_checks.network("[normalization]\nsize=3\n").layers[0].describe() == "3 channels"
