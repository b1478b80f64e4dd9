"""[shortcut]: layers of other shapes, and weights; golden cases compare the rest with Darknet."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks


def conv(filters: int) -> str:
    return f"[convolutional]\nfilters={filters}\nsize=1\nactivation=linear\n"


def run(text: str, shape=(3, 6, 4)):
    built = layer_checks.network(text, shape, keep_outputs=True)
    built.forward(layer_checks.pictures(built, 2))
    return built, [np.array(layer.output) for layer in built.layers]


def test_several_layers_and_an_activation():
    _, (a, b, c, out) = run(conv(4) + conv(4) + conv(4) + "[shortcut]\nfrom=0,-2\nactivation=relu\n")
    np.testing.assert_allclose(out, np.maximum(a + b + c, 0), rtol=1e-12)


@pytest.mark.parametrize(("before", "last"), [(6, 4), (4, 6)])
def test_the_channels_that_both_have(before, last):
    _, (a, b, out) = run(conv(before) + conv(last) + "[shortcut]\nfrom=0\n")
    expected = b.copy()
    expected[:, :4] += a[:, :4]
    np.testing.assert_array_equal(out, expected)


def test_a_larger_picture_is_seen_at_every_second_place():
    _, (a, b, out) = run(conv(3) + "[maxpool]\nsize=2\nstride=2\n[shortcut]\nfrom=0\n")
    np.testing.assert_array_equal(out, b + a[:, :, ::2, ::2])


def test_a_smaller_picture_reaches_every_second_place():
    _, (a, b, out) = run("[maxpool]\nsize=2\nstride=2\n[upsample]\n[shortcut]\nfrom=0\n")
    expected = b.copy()
    expected[:, :, ::2, ::2] += a
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("kind", ["per_feature", "per_layer", "per_channel"])
@pytest.mark.parametrize("normalization", ["none", "relu", "avg", "softmax"])
def test_weights(kind, normalization):
    """The previous layer's come first; ``avg`` is another word for ``relu``, as in Darknet."""
    keys = f"from=0,1\nweights_type={kind}\nweights_normalization={normalization}\n"
    built, (a, b, c, out) = run(conv(4) + conv(4) + conv(4) + "[shortcut]\n" + keys)
    weights = np.asarray(built.layers[3].weights)
    assert weights.shape == ((3, 4) if kind == "per_channel" else (3,))
    if normalization in ("relu", "avg"):
        weights = np.maximum(weights, 0) / (1e-4 + np.maximum(weights, 0).sum(0))
    elif normalization == "softmax":
        weights = np.exp(weights - weights.max(0)) / (1e-4 + np.exp(weights - weights.max(0)).sum(0))
    expected = sum(np.reshape(w, (-1, 1, 1)) * x for w, x in zip(weights, (c, a, b)))
    np.testing.assert_allclose(out, expected, rtol=1e-10)


def test_weights_are_one_at_first():
    from darkpy.config.cfg import parse_cfg
    from darkpy.network import Network

    text = "[net]\nwidth=4\nheight=4\nchannels=1\n" + conv(2) + conv(2) + "[shortcut]\nfrom=-2\nweights_type=per_channel\n"
    assert (np.asarray(Network(parse_cfg(text), device="numpy").layers[2].weights) == 1).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[maxpool]\nsize=4\nstride=1\npadding=0\n" + conv(3) + "[shortcut]\nfrom=-3\n", "names a missing layer"),
        (
            conv(3) + "[maxpool]\nsize=3\nstride=1\npadding=0\n[shortcut]\nfrom=0\n",
            "adds layer 0 of 4x6 to 2x4; neither is a multiple of the other",
        ),
        (conv(2) + conv(3) + "[shortcut]\nfrom=0\nweights_type=per_feature\n", "weights need inputs of one shape"),
    ],
)
def test_impossible(text, message):
    with pytest.raises(ConfigError, match=message):
        layer_checks.network(text, (3, 6, 4))
