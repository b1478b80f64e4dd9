from __future__ import annotations

import numpy as np

from tests import layer_checks


def logistic(x):
    return 1 / (1 + np.exp(-x))


def test_two_steps_by_definition():
    built = layer_checks.network("[lstm]\noutput=4\n")
    layer, h, c = built.layers[0], np.zeros((2, 4)), np.zeros((2, 4))

    def gate(name, x):
        sums = 0
        for part, values in ((layer.parts[f"w{name}"], h), (layer.parts[f"u{name}"], x)):
            sums = sums + values @ np.asarray(part.weights).T + part.biases
        return sums

    for seed in (1, 2):
        pictures = layer_checks.pictures(built, 2, seed)
        x = pictures.reshape(2, -1)
        f, i, o = (logistic(gate(name, x)) for name in "fio")
        c = f * c + i * np.tanh(gate("g", x))
        h = o * np.tanh(c)
        np.testing.assert_allclose(np.asarray(built.forward(pictures)).reshape(2, 4), h)
