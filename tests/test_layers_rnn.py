from __future__ import annotations

import numpy as np
import pytest

from tests import layer_checks

RNN = "[rnn]\noutput=4\nhidden=3\nactivation=tanh\n"


@pytest.mark.parametrize("extra", ["shortcut=1\n", "logistic=1\n", "logistic=2\nshortcut=1\nbatch_normalize=1\n"])
def test_options(extra):
    layer_checks.check_gradients(RNN + extra, time_steps=3, batch=4)
    layer_checks.check_memory_plan(RNN + extra)


@pytest.mark.parametrize("shortcut", [0, 1])
@pytest.mark.parametrize("logistic", [0, 1, 2])
def test_two_steps_by_definition(shortcut, logistic):
    built = layer_checks.network(RNN + f"shortcut={shortcut}\nlogistic={logistic}\n")
    layer, state = built.layers[0], np.zeros((2, 3))
    of_self = [np.tanh, lambda x: 1 / (1 + np.exp(-x)), lambda x: 2 / (1 + np.exp(-x)) - 1][logistic]

    def part(part, x):
        return x @ np.asarray(part.weights).T + part.biases

    for seed in (1, 2):
        x = layer_checks.pictures(built, 2, seed)
        state = state * shortcut + np.tanh(part(layer.input_layer, x.reshape(2, -1))) + of_self(part(layer.self_layer, state))
        expected = np.tanh(part(layer.output_layer, state))
        np.testing.assert_allclose(np.asarray(built.forward(x)).reshape(2, 4), expected)
    assert layer.describe() == "hidden 3"


def test_very_old_files_have_the_weights_the_other_way_round(tmp_path):
    first, second = (layer_checks.network(RNN, dtype=np.float32, seed=seed) for seed in (1, 2))
    layer = first.layers[0]
    with (tmp_path / "old.weights").open("wb") as file:
        file.write(np.array([1001, 0, 0], "<i4").tobytes() + np.array([0], "<u8").tobytes())
        for parameter in layer.parameters():
            file.write(first.parameters.read(layer, parameter.name).T.tobytes())
    second.load_weights(tmp_path / "old.weights")
    np.testing.assert_array_equal(second.parameters.values, first.parameters.values)
