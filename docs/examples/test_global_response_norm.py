"""The checks that every layer of darkpy passes: python -m pytest docs/examples/test_global_response_norm.py"""

import global_response_norm  # noqa: F401  # registers its section
import pytest

from tests import layer_checks

FIRST = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
SECTIONS = FIRST + "[global_response_norm]\n"


@pytest.mark.parametrize("text", [SECTIONS, SECTIONS + "[shortcut]\nfrom=-2\n", SECTIONS + "epsilon=.5\n"])
def test_gradients_are_those_of_finite_differences(text):
    layer_checks.check_gradients(text)


def test_the_rest(tmp_path):
    layer_checks.check_shapes(SECTIONS)
    layer_checks.check_memory_plan(SECTIONS)
    layer_checks.check_batch_independence(SECTIONS)
    layer_checks.check_resize(SECTIONS, (3, 6, 5), (3, 8, 10))
    layer_checks.check_weights_round_trip(SECTIONS, (3, 6, 5), tmp_path)
