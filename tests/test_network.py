from __future__ import annotations

import numpy as np
import pytest

import darkpy
from darkpy.config.cfg import parse_cfg
from darkpy.errors import ConfigError, InputError, TrainingError
from darkpy.network import Network
from tests.backends import BACKENDS

DETECTOR = """
[net]
batch=4
subdivisions=2
width=32
height=32
channels=3
learning_rate=0.01
momentum=0.9
decay=0.0005
max_batches=100
[convolutional]
filters=8
size=3
stride=2
pad=1
batch_normalize=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=14
size=1
activation=linear
[yolo]
classes=2
mask=0,1
anchors=8,8, 20,20
num=2
[route]
layers=1
[convolutional]
filters=14
size=1
activation=linear
[yolo]
classes=2
mask=0,1
anchors=8,8, 20,20
num=2
"""

CLASSIFIER = """
[net]
batch=6
width=8
height=8
channels=3
learning_rate=0.1
max_batches=100
[convolutional]
filters=6
size=3
pad=1
batch_normalize=1
activation=leaky
[avgpool]
[connected]
output=3
activation=linear
[softmax]
"""


@pytest.fixture
def detector(tmp_path):
    path = tmp_path / "detector.cfg"
    path.write_text(DETECTOR)
    return path


@pytest.fixture
def classifier(tmp_path):
    path = tmp_path / "classifier.cfg"
    path.write_text(CLASSIFIER)
    return path


def pictures(n: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 3, size, size), np.float32)


def objects(n: int) -> list[np.ndarray]:
    return [np.array([[i % 2, 0.4 + 0.05 * i, 0.5, 0.3, 0.3]], np.float32) for i in range(n)]


def test_public_names():
    assert darkpy.Network is Network
    assert {"Network", "Detection", "DarkpyError"} <= set(dir(darkpy))
    with pytest.raises(AttributeError, match="no attribute 'Netwrok'"):
        _ = darkpy.Netwrok


def test_forward_returns_the_last_output_and_keeps_the_others(detector):
    network = Network.from_cfg(detector, batch=2, keep_outputs=True)
    result = network.forward(pictures(2))
    assert result.shape == (2, 14, 8, 8)
    assert result.dtype == np.float32
    assert [np.asarray(layer.output).shape[1:] for layer in network.layers] == [layer.output_shape for layer in network.layers]


def test_frugal_and_kept_outputs_agree(detector):
    x = pictures(2)
    frugal, lavish = Network.from_cfg(detector), Network.from_cfg(detector, keep_outputs=True)
    np.testing.assert_array_equal(frugal.forward(x), lavish.forward(x))
    assert frugal.memory_plan(2).arena < lavish.memory_plan(2).arena


def test_any_batch_size_works_at_inference(detector):
    network = Network.from_cfg(detector)
    x = pictures(5)
    together = np.array(network.forward(x))
    for i in range(5):
        np.testing.assert_allclose(np.array(network.forward(x[i : i + 1]))[0], together[i], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("device", BACKENDS)
def test_a_detector_learns(detector, device):
    network = Network.from_cfg(detector, training=True, device=device)
    x, truth = pictures(4), objects(4)
    losses = [network.train_batch(x, truth) for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    assert network.seen == 240
    assert network.iteration == 60


@pytest.mark.parametrize("device", BACKENDS)
def test_a_classifier_learns(classifier, device):
    network = Network.from_cfg(classifier, training=True, device=device)
    x, truth = pictures(6, 8), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    losses = [network.train_batch(x, truth) for _ in range(150)]
    assert losses[-1] < 0.3 * losses[0]


def test_two_runs_with_one_seed_are_the_same(detector):
    def run(seed: int) -> np.ndarray:
        network = Network.from_cfg(detector, training=True, seed=seed)
        for _ in range(3):
            network.train_batch(pictures(4), objects(4))
        return network.parameters.values.copy()

    np.testing.assert_array_equal(run(3), run(3))
    assert not np.array_equal(run(3), run(4))


def test_gradients_before_an_update(detector):
    network = Network.from_cfg(detector, training=True)
    network.zero_gradients()
    before = network.parameters.values.copy()
    network.forward(pictures(2))
    loss = network.backward(objects(2))
    assert loss > 0
    for layer in network.layers:
        assert np.asarray(layer.grad_output).shape == np.asarray(layer.output).shape
        assert np.any(layer.grad_output), layer.name
    np.testing.assert_array_equal(network.parameters.values, before)
    network.seen += 4
    network.update()
    assert not np.array_equal(network.parameters.values, before)


def test_truth_may_come_with_forward_or_with_backward(detector):
    gradients = []
    for early in (True, False):
        network = Network.from_cfg(detector, training=True)
        network.zero_gradients()
        if early:
            network.forward(pictures(2), objects(2))
            network.backward()
        else:
            network.forward(pictures(2))
            network.backward(objects(2))
        gradients.append(network.parameters.gradients.copy())
    np.testing.assert_array_equal(*gradients)


def test_subdivisions_add_up(detector, tmp_path):
    """Without batch normalisation two halves give what the whole gives."""
    plain = DETECTOR.replace("batch_normalize=1\n", "")
    (tmp_path / "two.cfg").write_text(plain)
    (tmp_path / "one.cfg").write_text(plain.replace("subdivisions=2", "subdivisions=1"))
    two, one = (Network.from_cfg(tmp_path / name, training=True) for name in ("two.cfg", "one.cfg"))
    loss_two, loss_one = (net.train_batch(pictures(4), objects(4)) for net in (two, one))
    np.testing.assert_allclose(two.parameters.values, one.parameters.values, rtol=1e-4, atol=1e-6)
    assert 2 * loss_two == pytest.approx(loss_one, rel=1e-5)


def test_batch_of_an_update_can_be_set(detector):
    network = Network.from_cfg(detector, training=True, batch=2)
    network.train_batch(pictures(2), objects(2))
    assert network.seen == 2
    with pytest.raises(InputError, match="batch=3 is not a multiple of subdivisions=2"):
        Network.from_cfg(detector, training=True, batch=3)


def test_stopbackward_freezes_what_is_before(tmp_path):
    text = DETECTOR.replace("[maxpool]\nsize=2\nstride=2", "[maxpool]\nsize=2\nstride=2\nstopbackward=1")
    (tmp_path / "frozen.cfg").write_text(text)
    network = Network.from_cfg(tmp_path / "frozen.cfg", training=True)
    names = ("weights", "scales", "biases", "rolling_mean", "rolling_variance")
    before = {name: network.parameters.read(network.layers[0], name) for name in names}
    later = network.parameters.read(network.layers[2], "weights")
    network.train_batch(pictures(4), objects(4))
    for name in names:
        np.testing.assert_array_equal(network.parameters.read(network.layers[0], name), before[name], err_msg=name)
    assert not np.array_equal(network.parameters.read(network.layers[2], "weights"), later)


def test_stopbackward_above_one_holds_what_is_before_for_so_many_updates(tmp_path):
    text = DETECTOR.replace("[maxpool]\nsize=2\nstride=2", "[maxpool]\nsize=2\nstride=2\nstopbackward=2")
    (tmp_path / "held.cfg").write_text(text)
    network = Network.from_cfg(tmp_path / "held.cfg", training=True)
    learned = []
    for _ in range(3):
        before = [network.parameters.read(network.layers[i], "weights") for i in (0, 2)]
        rolling = network.parameters.read(network.layers[0], "rolling_mean")
        network.train_batch(pictures(4), objects(4))
        after = [network.parameters.read(network.layers[i], "weights") for i in (0, 2)]
        learned.append([not np.array_equal(a, b) for a, b in zip(before, after)])
        assert not np.array_equal(network.parameters.read(network.layers[0], "rolling_mean"), rolling)
    assert learned == [[False, True], [False, True], [True, True]]


@pytest.mark.parametrize("option", ["dont_update=1000", "train_only_bn=1"])
def test_layers_that_are_not_updated(tmp_path, option):
    text = DETECTOR.replace("filters=8\n", f"filters=8\n{option}\n")
    (tmp_path / "held.cfg").write_text(text)
    network = Network.from_cfg(tmp_path / "held.cfg", training=True)
    before = network.parameters.read(network.layers[0], "weights")
    rolling = network.parameters.read(network.layers[0], "rolling_mean")
    network.train_batch(pictures(4), objects(4))
    np.testing.assert_array_equal(network.parameters.read(network.layers[0], "weights"), before)
    assert not np.array_equal(network.parameters.read(network.layers[0], "rolling_mean"), rolling)


def test_train_only_bn_reaches_back_to_all_layers_before(tmp_path):
    text = DETECTOR.replace("[route]\nlayers=1\n", "[route]\nlayers=1\ntrain_only_bn=1\n")
    (tmp_path / "held.cfg").write_text(text)
    network = Network.from_cfg(tmp_path / "held.cfg", training=True)
    before = [network.parameters.read(network.layers[i], "weights") for i in (0, 2, 5)]
    network.train_batch(pictures(4), objects(4))
    after = [network.parameters.read(network.layers[i], "weights") for i in (0, 2, 5)]
    assert [np.array_equal(a, b) for a, b in zip(before, after)] == [True, True, False]


def test_clip_limits_the_weights(tmp_path):
    (tmp_path / "clipped.cfg").write_text(DETECTOR.replace("filters=8\n", "filters=8\nclip=0.05\n"))
    network = Network.from_cfg(tmp_path / "clipped.cfg", training=True)
    network.train_batch(pictures(4), objects(4))
    assert np.abs(network.parameters.read(network.layers[0], "weights")).max() == pytest.approx(0.05)


def test_resize_goes_up_and_down(detector):
    network = Network.from_cfg(detector, training=True)
    for size in (64, 32, 96):
        network.resize(size, size)
        network.train_batch(pictures(4, size), objects(4))
    assert (network.width, network.height) == (96, 96)


def test_resize_refuses_weights_tied_to_a_size(tmp_path):
    (tmp_path / "fixed.cfg").write_text(CLASSIFIER.replace("[avgpool]\n", ""))
    network = Network.from_cfg(tmp_path / "fixed.cfg")
    with pytest.raises(ConfigError, match=r"has weights for inputs of 8x8; it cannot take 16x16"):
        network.resize(16, 16)
    assert network.forward(pictures(1, 8)).shape == (1, 3, 1, 1)


def test_wrong_use_is_explained(detector, classifier):
    network = Network.from_cfg(detector)
    with pytest.raises(InputError, match=r"takes arrays \(batch, 3, 32, 32\), not \(1, 3, 16, 16\)"):
        network.forward(pictures(1, 16))
    with pytest.raises(TrainingError, match="built for inference"):
        network.train_batch(pictures(4), objects(4))
    training = Network.from_cfg(detector, training=True)
    with pytest.raises(InputError, match="an update takes 4 pictures"):
        training.train_batch(pictures(3), objects(3))
    training.forward(pictures(2))
    with pytest.raises(TrainingError, match="backward needs the truth"):
        training.backward()
    with pytest.raises(InputError, match="unknown device 'gpi'"):
        Network.from_cfg(detector, device="gpi")


def test_training_plans_more_than_inference_and_grows_with_the_batch(detector):
    inference, training = Network.from_cfg(detector), Network.from_cfg(detector, training=True)
    assert inference.memory_plan().gradients == 0
    assert training.memory_plan().total > inference.memory_plan(2).total
    assert training.memory_plan(8).arena > training.memory_plan(2).arena
    assert training.memory_plan().rows()[-1] == ("peak", training.memory_plan().total)


def test_gradient_memory_is_shared_on_request():
    config = parse_cfg(DETECTOR, "detector.cfg")
    kept, shared = (Network(config, training=True, keep_gradients=keep) for keep in (True, False))
    assert shared.memory_plan().arena < kept.memory_plan().arena
    for network in (kept, shared):
        network.train_batch(pictures(4), objects(4))
    np.testing.assert_array_equal(kept.parameters.values, shared.parameters.values)
