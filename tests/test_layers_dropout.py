from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import ConfigError
from tests import layer_checks
from tests.backends import BACKENDS

LINEAR = "[convolutional]\nfilters=3\nsize=1\nactivation=linear\n"


def network(keys: str = "", **options):
    return layer_checks.network(LINEAR + f"[dropout]\n{keys}[cost]\n", (3, 20, 20), training=True, **options)


def passed(built) -> np.ndarray:
    """What the layer made of each value of its input, as a factor."""
    return np.asarray(built.layers[1].output) / np.asarray(built.layers[0].output)


@pytest.mark.parametrize("probability", [0.2, 0.75])
def test_values_are_dropped_or_grow(probability):
    built = network(f"probability={probability}\n")
    built.forward(layer_checks.pictures(built, 2))
    factors = passed(built)
    dropped = np.isclose(factors, 0)
    assert np.isclose(factors[~dropped], 1 / (1 - probability)).all()
    assert abs(dropped.mean() - probability) < 0.05  # of 2400


@pytest.mark.parametrize("keys", ["", "dropblock=1\nprobability=.9\n"])
@pytest.mark.parametrize("device", BACKENDS)
def test_what_is_dropped_depends_on_the_seed_the_pictures_seen_and_the_layer(device, keys):
    """And not on what was dropped before: a training may be stopped and go on."""

    def pattern(seed: int = 0, seen: tuple[int, ...] = (8,), before: str = "") -> bytes:
        text = before + LINEAR + f"[dropout]\n{keys}[cost]\n"
        built = layer_checks.network(text, (3, 20, 20), training=True, seed=seed, device=device, dtype=np.float32)
        for built.seen in seen:
            built.forward(layer_checks.pictures(built, 2))
        out, x = (np.asarray(layer.output) for layer in (built.layers[-2], built.layers[-3]))
        return (out / x == 0).tobytes()

    assert pattern() == pattern(seen=(2, 4, 6, 8))
    assert len({pattern(), pattern(seed=1), pattern(seen=(10,)), pattern(before="[empty]\n")}) == 4


def test_the_gradient_is_dropped_likewise():
    built = network("probability=.5\n")
    built.forward(layer_checks.pictures(built, 2))
    factors = passed(built)
    built.backward(np.asarray(built.layers[1].output) - 1)
    np.testing.assert_allclose(built.layers[0].grad_output, factors, atol=1e-12)


def test_nothing_happens_at_inference():
    built = layer_checks.network(LINEAR + "[dropout]\n", keep_outputs=True)
    built.forward(layer_checks.pictures(built, 2))
    assert np.shares_memory(built.layers[0].output, built.layers[1].output)


def test_a_frozen_layer_drops_nothing():
    built = layer_checks.network(
        LINEAR + "[dropout]\n" + LINEAR + "stopbackward=1\n" + LINEAR + "[cost]\n", training=True
    )
    built.forward(layer_checks.pictures(built, 2))
    np.testing.assert_array_equal(built.layers[0].output, built.layers[1].output)


def test_not_everything_can_be_dropped():
    with pytest.raises(ConfigError, match="probability=1: it is greater than 0.999"):
        network("probability=1\n")


def blocks(keys: str, progress: float = 1.0, pictures: int = 8, **options) -> np.ndarray:
    """The factors of a network trained that far, by the pictures seen."""
    built = network(f"probability=.9\ndropblock=1\n{keys}", **options)
    built.seen = int(progress * built.options.max_batches * built.options.batch)
    built.forward(layer_checks.pictures(built, pictures))
    return passed(built)


@pytest.mark.parametrize(
    "keys, progress, side",
    [
        ("", 1.0, 7),
        ("dropblock_size_abs=50\n", 1.0, 20),
        ("dropblock_size_rel=.25\n", 1.0, 5),
        ("dropblock_size_abs=3\ndropblock_size_rel=.9\n", 1.0, 3),
        ("dropblock_size_abs=10\n", 0.5, 5),
    ],
)
@pytest.mark.parametrize("device", [*BACKENDS, "emulated"])
def test_blocks_are_squares_of_their_size(device, keys, progress, side):
    """At most one in a channel; the rest of a picture makes up for all of its blocks."""
    found = 0
    for picture in blocks(keys, progress, device=device, dtype=np.float32):
        dropped = picture == 0
        assert dropped.all() or np.allclose(picture[~dropped], 1 / (1 - dropped.mean()))
        for channel in dropped:
            y, x = np.nonzero(channel)
            if len(y):
                found += 1
                assert (len(y), np.ptp(y), np.ptp(x)) == (side**2, side - 1, side - 1)
    assert found > 0


def test_blocks_grow_over_the_training():
    assert not (blocks("", progress=0.0) == 0).any()
    assert (blocks("dropblock_size_abs=4\n", 0.5) == 0).mean() < (blocks("dropblock_size_abs=4\n", 0.9) == 0).mean()


def test_blocks_are_as_frequent_as_asked_for():
    """A channel has one if any of its positions starts one."""
    dropped = blocks("dropblock_size_abs=10\n", pictures=200) == 0
    expected = 1 - (1 - 0.9 / 10**2) ** (20 * 20)
    assert abs(dropped.any(axis=(2, 3)).mean() - expected) < 0.04  # of 600 channels


def test_the_gradient_is_dropped_in_the_same_blocks():
    built = network("probability=.9\ndropblock=1\n")
    built.seen = built.options.max_batches * built.options.batch
    built.forward(layer_checks.pictures(built, 4))
    built.backward(np.asarray(built.layers[1].output) - 1)
    np.testing.assert_allclose(built.layers[0].grad_output, passed(built), atol=1e-12)
