from __future__ import annotations

import numpy as np

from tests import layer_checks


def logistic(x):
    return 1 / (1 + np.exp(-x))


def test_two_steps_by_definition():
    built = layer_checks.network("[gru]\noutput=4\n")
    layer, h = built.layers[0], np.zeros((2, 4))

    def gate(name, x, seen):
        sums = 0
        for part, values in ((layer.parts[f"input_{name}"], x), (layer.parts[f"state_{name}"], seen)):
            sums = sums + values @ np.asarray(part.weights).T + part.biases
        return logistic(sums)

    for seed in (1, 2):
        pictures = layer_checks.pictures(built, 2, seed)
        x = pictures.reshape(2, -1)
        z, r = gate("z", x, h), gate("r", x, h)
        h = z * h + (1 - z) * gate("h", x, r * h)
        np.testing.assert_allclose(np.asarray(built.forward(pictures)).reshape(2, 4), h)
