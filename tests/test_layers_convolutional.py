"""[convolutional]: what is special about some of its options; the plain ones are in test_layers.py."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks

CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation={}\n"
LINEAR, LEAKY = CONV.format("linear"), CONV.format("leaky")


def padded(x: np.ndarray, value: float) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=value)


def signs(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, 1.0, -1.0)


def binary_filters(weights: np.ndarray) -> np.ndarray:
    return signs(weights) * np.abs(weights).mean(axis=(1, 2, 3), keepdims=True)


def convolve(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return np.einsum("nchwkl,fckl->nfhw", windows, weights)


class TestBinary:
    @pytest.mark.parametrize(("training", "outside"), [(False, -1.0), (True, 0.0)])
    def test_xnor_convolves_signs(self, training, outside):
        text = "[convolutional]\nfilters=5\nsize=3\npad=1\nxnor=1\ngroups=3\nactivation=linear\n[cost]\n"
        built = layer_checks.network(text, training=training)
        layer, x = built.layers[0], layer_checks.pictures(built, 2)
        weights, biases = np.array(layer.weights), np.array(layer.biases)
        assert weights.shape == (5, 3, 3, 3)  # groups count for nothing
        expected = convolve(padded(signs(x), outside), binary_filters(weights)) + biases.reshape(1, -1, 1, 1)
        np.testing.assert_allclose(built.forward(x), expected, rtol=1e-12)

    def test_xnor_gradients_are_those_of_the_signs_and_stop_beyond_one(self):
        built = layer_checks.network(LINEAR + "[convolutional]\nfilters=2\nsize=3\npad=1\nxnor=1\nactivation=linear\n[cost]\n", training=True)  # fmt: skip
        first, layer = built.layers[:2]
        x = 2 * layer_checks.pictures(built, 2)
        out = np.array(built.forward(x))
        hidden = np.array(first.output)
        wanted = np.random.default_rng(0).normal(size=out.shape)
        built.zero_gradients()
        built.backward(out - wanted)
        windows = np.lib.stride_tricks.sliding_window_view(padded(signs(hidden), 0.0), (3, 3), axis=(2, 3))
        np.testing.assert_allclose(layer.grad_weights, np.einsum("nchwkl,nfhw->fckl", windows, wanted))
        turned = binary_filters(np.array(layer.weights)).transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        expected = convolve(padded(wanted, 0.0), turned) * (np.abs(hidden) < 1)
        assert 0.1 < (np.abs(hidden) < 1).mean() < 0.9
        np.testing.assert_allclose(first.grad_output, expected, atol=1e-12)

    def test_xnor_gradient_is_added_to_that_of_another_layer(self):
        text = LINEAR + "[convolutional]\nfilters=4\nsize=3\npad=1\nxnor=1\nactivation=linear\n{}[cost]\n"
        built = layer_checks.network(text.format("[shortcut]\nfrom=-2\n"), training=True)
        alone = layer_checks.network(text.format(""), training=True)
        x = layer_checks.pictures(built, 2)
        wanted = np.random.default_rng(0).normal(size=(2, 4, 6, 5))
        for each in (built, alone):
            each.zero_gradients()
            each.backward(np.array(each.forward(x)) - wanted)
        np.testing.assert_allclose(built.layers[0].grad_output, np.array(alone.layers[0].grad_output) + wanted)

    def test_binary_convolves_signs_of_weights(self):
        text = "[convolutional]\nfilters=5\nsize=3\npad=1\nbinary=1\nactivation=linear\n[cost]\n"
        built = layer_checks.network(text, training=True)
        layer, x = built.layers[0], layer_checks.pictures(built, 2)
        expected = convolve(padded(x, 0.0), binary_filters(np.array(layer.weights)))
        np.testing.assert_allclose(built.forward(x) - np.reshape(layer.biases, (1, -1, 1, 1)), expected, rtol=1e-12)
        built.zero_gradients()
        wanted = np.random.default_rng(0).normal(size=expected.shape)
        built.backward(np.array(layer.output) - wanted)
        windows = np.lib.stride_tricks.sliding_window_view(padded(x, 0.0), (3, 3), axis=(2, 3))
        np.testing.assert_allclose(layer.grad_weights, np.einsum("nchwkl,nfhw->fckl", windows, wanted))

    @pytest.mark.parametrize("key", ["xnor", "binary"])
    def test_with_batch_normalisation_and_shared_memory(self, key):
        text = LEAKY + f"[convolutional]\nfilters=5\nsize=3\npad=1\nbatch_normalize=1\n{key}=1\nactivation=leaky\n"
        layer_checks.check_shapes(text)
        layer_checks.check_memory_plan(text)
        layer_checks.check_batch_independence(text)

    def test_operations_are_counted_32_at_a_time(self):
        plain, xnor = (layer_checks.network(LINEAR + extra).layers[0] for extra in ("", "xnor=1\n"))
        assert plain.operations() == 32 * xnor.operations()


class TestShareIndex:
    @pytest.mark.parametrize("normalized", [0, 1])
    def test_gradients_add_up(self, normalized):
        conv = LEAKY + f"batch_normalize={normalized}\n"
        layer_checks.check_gradients(LEAKY + conv + conv + "share_index=-1\n" + conv + "share_index=-1\n", batch=3)

    def test_one_set_of_parameters(self, tmp_path):
        built = layer_checks.network(LINEAR + LINEAR + LINEAR + "share_index=1\n", training=True, dtype=np.float32)
        first, second, third = built.layers
        assert third.parameters() == []
        for name in ("weights", "biases", "grad_weights", "grad_biases"):
            assert getattr(third, name) is not None
            assert np.shares_memory(getattr(second, name), getattr(third, name))
            assert not np.shares_memory(getattr(first, name), getattr(third, name))
        assert len(built.parameters.values) == (4 * 3 + 4 * 4) * 9 + 2 * 4

    def test_a_file_holds_them_once(self, tmp_path):
        layer_checks.check_weights_round_trip(LEAKY + LEAKY + LEAKY + "share_index=-1\n", (3, 6, 5), tmp_path)
        assert (tmp_path / "round.weights").stat().st_size == 20 + 4 * ((4 * 3 + 4 * 4) * 9 + 2 * 4)

    def test_resized(self):
        layer_checks.check_resize(LEAKY + LEAKY + LEAKY + "share_index=-1\n", (3, 6, 5), (3, 8, 9))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (LEAKY + LEAKY + "share_index=0\n", r"layer 0 is no \[convolutional\] of the same filters"),
            (LEAKY + "[maxpool]\n" + LEAKY + "share_index=1\n", r"layer 1 is no \[convolutional\] of the same filters"),
            (LEAKY + LEAKY + "share_index=1\n", "share_index=1 names a missing layer"),
            (LEAKY + LEAKY + LEAKY + "share_index=1\nbatch_normalize=1\n", "layer 1 is no"),
        ],
    )
    def test_impossible(self, text, message):
        with pytest.raises(ConfigError, match=message):
            layer_checks.network(text)


class TestAntialiasing:
    @pytest.mark.parametrize("kind", [1, 2])
    @pytest.mark.parametrize("key", ["stride=2\n", "stride_x=1\nstride_y=3\n", "stride=1\n"])
    @pytest.mark.parametrize("activation", ["linear", "leaky", "mish", "normalize_channels_softmax"])
    @pytest.mark.parametrize("normalized", [0, 1])
    def test_gradients(self, kind, key, activation, normalized):
        text = CONV.format(activation) + key + f"antialiasing={kind}\nbatch_normalize={normalized}\n"
        layer_checks.check_gradients(text)
        layer_checks.check_memory_plan(text)

    def test_a_blur_after_stride_one(self):
        plain = layer_checks.network(LEAKY, (3, 7, 6))
        blurred = layer_checks.network(LEAKY + "stride=2\nantialiasing=1\n", (3, 7, 6))
        x = layer_checks.pictures(plain, 2)
        sharp = padded(np.array(plain.forward(x)), 0.0)
        kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
        windows = np.lib.stride_tricks.sliding_window_view(sharp, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
        expected = np.einsum("nchwkl,kl->nchw", windows, kernel)
        np.testing.assert_allclose(blurred.forward(x), expected)

    def test_resized(self):
        layer_checks.check_resize(LEAKY + "stride=2\nantialiasing=2\n", (3, 6, 5), (3, 8, 9))

    def test_too_small(self):
        with pytest.raises(ConfigError, match="antialiasing=2 needs more than 5x1 values to blur"):
            layer_checks.network(LEAKY + "antialiasing=2\n", (3, 1, 5))


def test_cbn_is_batch_normalisation():
    names = [p.name for p in layer_checks.network(LEAKY + "cbn=1\n").layers[0].parameters()]
    assert names == ["biases", "scales", "rolling_mean", "rolling_variance", "weights"]
    with pytest.raises(ConfigError, match="cbn=1 is a batch normalisation"):
        layer_checks.network(LEAKY + "cbn=1\nbatch_normalize=0\n")


@pytest.mark.parametrize("key", ["sway", "rotate", "stretch", "stretch_sway", "assisted_excitation", "coordconv"])
def test_refused_by_name(key):
    with pytest.raises(ConfigError, match=f"{key}=1 is not supported: .*no published cfg asks for"):
        layer_checks.network(LEAKY + f"{key}=1\n")
    layer_checks.network(LEAKY + f"{key}=0\n")


@pytest.mark.parametrize("key", ["grad_centr", "reverse", "bin_output", "flipped", "dot", "angle"])
def test_without_effect(key):
    assert any(f"{key}= has no effect" in w.message for w in layer_checks.network(LEAKY + f"{key}=1\n").warnings)
