from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


@pytest.mark.parametrize(
    "text",
    [
        "[local_avgpool]\nsize=2\nstride=1\n",
        "[local_avg]\nstride=2\n",
        "[local_avgpool]\nsize=4\nstride_x=1\nstride_y=3\n",
        "[local_avgpool]\nsize=3\npadding=0\n",
    ],
)
def test_options(text):
    layer_checks.check_gradients(text)
    layer_checks.check_shapes(text)
    layer_checks.check_memory_plan(text)


def test_what_is_outside_does_not_count():
    built = layer_checks.network("[local_avgpool]\nsize=3\n")
    assert (np.asarray(built.forward(np.ones((2, 3, 6, 5)))) == 1).all()


def test_too_large():
    with pytest.raises(ConfigError, match="size=9 is larger than its input of 5x6 with a total padding of 0"):
        layer_checks.network("[local_avgpool]\nsize=9\npadding=0\n")
