"""What holds for every recurrent layer: steps in time, and what is remembered from pass to pass."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.base import Array
from darkpy.layers.recurrent import RecurrentLayer
from darkpy.network import Network
from tests import layer_checks
from tests.backends import BACKENDS

LAYERS = {
    "rnn": "[rnn]\noutput=4\nhidden=3\nactivation=tanh\n",
    "gru": "[gru]\noutput=4\n",
    "lstm": "[lstm]\noutput=4\n",
    "crnn": "[crnn]\noutput=4\nhidden=3\npad=1\nactivation=tanh\n",
    "conv_lstm": "[conv_lstm]\noutput=4\npad=1\npeephole=1\n",
}
FORGETS = ("rnn", "crnn")
every_layer = pytest.mark.parametrize("name", LAYERS)


def trained(name: str, time_steps: int, batch: int = 2) -> Network:
    return layer_checks.network(LAYERS[name] + "[cost]\n", training=True, batch=batch, time_steps=time_steps)


def sequences(built: Network, steps: int, count: int = 2, seed: int = 1) -> list[Array]:
    return [layer_checks.pictures(built, count, seed + step) for step in range(steps)]


@every_layer
def test_a_pass_of_three_steps_equals_three_passes_of_one(name):
    at_once, one_by_one = trained(name, 3), layer_checks.network(LAYERS[name], batch=2)
    one_by_one.parameters.values[:] = at_once.parameters.values
    steps = sequences(at_once, 3)
    together = np.split(np.array(at_once.forward(np.concatenate(steps))), 3)
    for x, expected in zip(steps, together, strict=True):
        np.testing.assert_allclose(one_by_one.forward(x), expected, rtol=1e-12)


@every_layer
def test_memory_lasts_until_it_is_reset(name):
    built = layer_checks.network(LAYERS[name], batch=2)
    first, second = sequences(built, 2)
    fresh = np.array(built.forward(second))
    built.reset_state()
    built.forward(first)
    assert not np.allclose(built.forward(second), fresh)
    built.reset_state()
    np.testing.assert_array_equal(built.forward(second), fresh)


@every_layer
def test_memory_survives_the_layers_around(name):
    conv = "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n"
    layer_checks.check_memory_plan(conv + conv + LAYERS[name] + "[connected]\noutput=300\n[connected]\noutput=300\n")


@every_layer
def test_another_batch_begins_with_nothing_in_memory(name):
    built = layer_checks.network(LAYERS[name], batch=2)
    (x,) = sequences(built, 1)
    fresh = np.array(built.forward(x))
    built.forward(x[:1])
    np.testing.assert_allclose(built.forward(x), fresh)


@every_layer
def test_between_training_passes(name):
    built = trained(name, 2)
    x = np.concatenate(sequences(built, 2))
    first, second = np.array(built.forward(x)), np.array(built.forward(x))
    assert np.array_equal(first, second) == (name in FORGETS)


@every_layer
def test_gradients_after_an_earlier_pass_treat_what_is_remembered_as_given(name):
    built = trained(name, 2)
    x = np.concatenate(sequences(built, 2))
    wanted = np.random.default_rng(0).normal(size=np.asarray(built.forward(x)).shape)
    before = {key: np.array(getattr(built.layers[0], key)) for key in ("state", "hidden", "cell") if hasattr(built.layers[0], key)}  # fmt: skip

    def value() -> float:
        for key, array in before.items():
            getattr(built.layers[0], key)[...] = array
        return float(np.sum(np.asarray(built.forward(x)) * wanted))

    value()
    built.zero_gradients()
    built.backward(np.asarray(built.output) - wanted)
    direction, step = np.random.default_rng(1).normal(size=built.parameters.values.shape), 1e-6
    values = []
    for sign in (1, -1):
        built.parameters.values[:] += sign * step * direction
        values.append(value())
        built.parameters.values[:] -= sign * step * direction
    slope = float(built.parameters.gradients @ direction)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


@every_layer
@pytest.mark.parametrize("time_steps", [1, 4])
def test_gradients(name, time_steps):
    layer_checks.check_gradients(LAYERS[name], time_steps=time_steps, batch=3)


@every_layer
def test_gradients_with_batch_normalisation_in_the_parts(name):
    layer_checks.check_gradients(LAYERS[name] + "batch_normalize=1\n", time_steps=3, batch=4)


@every_layer
def test_gradients_of_two_consumers_of_the_input_add_up(name):
    text = "[connected]\noutput=4\nactivation=linear\n" if name not in ("crnn", "conv_lstm") else "[empty]\n"
    shape = (4, 2, 2)
    layer_checks.check_gradients(text + LAYERS[name] + "[shortcut]\nfrom=-2\n", shape, time_steps=2, batch=2)


@every_layer
def test_a_mini_batch_holds_whole_sequences(name):
    built = trained(name, 3, batch=4)
    assert (built.batch, built.options.batch) == (12, 12)
    x = np.concatenate(sequences(built, 3, 4))
    before = built.parameters.values.copy()
    built.train_batch(x, np.zeros(np.asarray(built.forward(x)).shape))
    assert built.seen == 12 and built.iteration == 1
    assert (built.parameters.values != before).mean() > 0.9


@every_layer
@pytest.mark.parametrize("device", BACKENDS)
def test_training_takes_no_more_memory_than_planned_and_learns(name, device):
    built = layer_checks.network(
        LAYERS[name] + "[cost]\n", training=True, batch=4, time_steps=3, dtype=np.float32, device=device
    )
    x = np.concatenate(sequences(built, 3, 4))
    truth = 0.5 + np.zeros(np.asarray(built.forward(x)).shape, np.float32)
    assert built._arena_bytes == built.memory_plan().arena == built.memory_plan(4).arena
    costs = [built.train_batch(x, truth) for _ in range(15)]
    assert costs[-1] < 0.7 * costs[0]


@every_layer
def test_parts_are_named_and_ordered_as_in_a_weights_file(name):
    built = layer_checks.network(LAYERS[name] + "batch_normalize=1\n")
    layer = built.layers[0]
    assert isinstance(layer, RecurrentLayer)
    parts = list(dict.fromkeys(p.name.split(".")[0] for p in layer.parameters()))
    expected = {
        "rnn": ["input_layer", "self_layer", "output_layer"],
        "crnn": ["input_layer", "self_layer", "output_layer"],
        "gru": ["input_z", "input_r", "input_h", "state_z", "state_r", "state_h"],
        "lstm": ["wf", "wi", "wg", "wo", "uf", "ui", "ug", "uo"],
        "conv_lstm": ["vf", "vi", "vo", "wf", "wi", "wg", "wo", "uf", "ui", "ug", "uo"],
    }
    assert parts == expected[name]
    assert len(layer.parameters()) == 5 * len(parts)


def test_resize_forgets():
    built = layer_checks.network(LAYERS["crnn"], batch=1)
    (x,) = sequences(built, 1, 1)
    fresh = np.array(built.forward(x))
    built.resize(8, 8)
    built.forward(layer_checks.pictures(built, 1))
    built.resize(5, 6)
    np.testing.assert_array_equal(built.forward(x), fresh)


def test_reset_state_without_recurrent_layers_does_nothing():
    built = layer_checks.network("[maxpool]\n")
    built.reset_state()
