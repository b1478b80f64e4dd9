from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks

CELL = "[conv_lstm]\noutput=4\n"


@pytest.mark.parametrize(
    "extra", ["pad=1\n", "size=1\nactivation=leaky\n", "pad=1\npeephole=1\nbatch_normalize=1\n", "pad=1\nstate_constrain=0\n"]
)
def test_options(extra):
    layer_checks.check_gradients(CELL + extra, time_steps=3, batch=3)
    layer_checks.check_memory_plan(CELL + extra)


@pytest.mark.parametrize("peephole", [0, 1])
def test_gradients_where_the_cell_is_held(peephole):
    text = CELL + f"pad=1\npeephole={peephole}\nstate_constrain=1\n"
    layer_checks.check_gradients(text, time_steps=4, batch=2, gain=2.5, tolerance=1e-5)


def test_the_cell_is_held_after_it_was_shown():
    built = layer_checks.network(CELL + "size=1\nstate_constrain=1\n[cost]\n", (1, 1, 1), training=True, time_steps=3)
    layer = built.layers[0]
    for parameter in layer.parameters():
        built.parameters.write(layer, parameter.name, np.full(parameter.shape, 10 * parameter.name.endswith("biases")))
    out = np.asarray(built.forward(np.zeros((6, 1, 1, 1)))).reshape(3, -1)
    np.testing.assert_allclose(out, np.tanh([[1] * 8, [2] * 8, [2] * 8]), rtol=1e-4)
    np.testing.assert_allclose(layer.cell, 1)


def test_of_single_pixels_it_is_an_lstm():
    cell = layer_checks.network(CELL + "size=1\n", (3, 1, 1))
    lstm = layer_checks.network("[lstm]\noutput=4\n", (3, 1, 1))
    lstm.parameters.values[:] = cell.parameters.values
    for seed in (1, 2, 3):
        x = layer_checks.pictures(lstm, 2, seed)
        np.testing.assert_allclose(cell.forward(x), lstm.forward(x))


def test_peephole_by_definition():
    built = layer_checks.network(CELL + "size=1\npeephole=1\n", (3, 1, 1))
    layer, h, c = built.layers[0], np.zeros((2, 4)), np.zeros((2, 4))

    def part(name, x):
        weights = np.asarray(layer.parts[name].weights)[:, :, 0, 0]
        return x @ weights.T + layer.parts[name].biases

    def logistic(x):
        return 1 / (1 + np.exp(-x))

    for seed in (1, 2):
        pictures = layer_checks.pictures(built, 2, seed)
        x = pictures.reshape(2, -1)
        f, i = (logistic(part("w" + gate, h) + part("u" + gate, x) + part("v" + gate, c)) for gate in "fi")
        c = f * c + i * np.tanh(part("wg", h) + part("ug", x))
        h = logistic(part("wo", h) + part("uo", x) + part("vo", c)) * np.tanh(c)
        np.testing.assert_allclose(np.asarray(built.forward(pictures)).reshape(2, 4), h)


def test_the_limit_grows_with_the_steps():
    training = layer_checks.network(CELL + "pad=1\n[cost]\n", training=True, time_steps=3)
    assert training.layers[0].limit == 96
    assert layer_checks.network(CELL + "pad=1\n", time_steps=3).layers[0].limit == 32


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("", "size=3, stride=1 do not keep height and width; add pad=1"),
        ("pad=1\nbottleneck=1\n", "bottleneck=1 is not supported: it exists in Darknet's CUDA code only"),
        ("pad=1\nxnor=1\n", "xnor=1 is not supported: recurrent layers compute with numbers"),
        ("pad=1\nlstm_activation=relu\n", "lstm_activation=relu: expected one of tanh"),
    ],
)
def test_impossible(extra, message):
    with pytest.raises(ConfigError, match=message) as caught:
        layer_checks.network(CELL + extra)
    assert len(caught.value.problems) == 1
