from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import WeightsError
from darkpy.network import Network
from darkpy.weights import read_header, save

CFG = """
[net]
batch=2
width=8
height=8
channels=3
[convolutional]
filters=4
size=3
pad=1
batch_normalize=1
activation=leaky
[convolutional]
filters=2
size=1
activation=linear
{extra}
[connected]
output=5
activation=linear
[cost]
"""


@pytest.fixture
def cfg(tmp_path):
    def write(extra: str = "", name: str = "a.cfg"):
        path = tmp_path / name
        path.write_text(CFG.format(extra=extra))
        return path

    return write


def parameters(network: Network) -> dict:
    return {
        (layer.index, p.name): network.parameters.read(layer, p.name)
        for layer in network.layers
        for p in layer.parameters()
    }


def assert_same(a: Network, b: Network) -> None:
    left, right = parameters(a), parameters(b)
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=str(key))


def test_round_trip_is_bit_exact(cfg, tmp_path):
    first = Network.from_cfg(cfg(), seed=1)
    first.seen = 2**33 + 5
    first.save_weights(tmp_path / "w.weights")
    second = Network.from_cfg(cfg(), tmp_path / "w.weights", seed=2)
    assert second.seen == 2**33 + 5
    assert_same(first, second)
    second.save_weights(tmp_path / "again.weights")
    assert (tmp_path / "w.weights").read_bytes() == (tmp_path / "again.weights").read_bytes()


def test_layout_is_darknets(cfg, tmp_path):
    network = Network.from_cfg(cfg(), seed=1)
    network.save_weights(tmp_path / "w.weights")
    raw = (tmp_path / "w.weights").read_bytes()
    assert np.frombuffer(raw, "<i4", 3).tolist() == [0, 2, 5]
    layer = network.layers[0]
    order = ["biases", "scales", "rolling_mean", "rolling_variance", "weights"]
    expected = np.concatenate([network.parameters.read(layer, name).ravel() for name in order])
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4", len(expected), offset=20), expected)


@pytest.mark.parametrize(
    "version, seen_type", [((0, 1, 0), "<u4"), ((0, 2, 0), "<u8"), ((0, 2, 5), "<u8"), ((1, 0, 0), "<u8")]
)
def test_all_header_versions(cfg, tmp_path, version, seen_type):
    network = Network.from_cfg(cfg(), seed=1)
    network.save_weights(tmp_path / "new.weights")
    body = (tmp_path / "new.weights").read_bytes()[20:]
    old = tmp_path / "old.weights"
    old.write_bytes(np.array(version, "<i4").tobytes() + np.array([77], seen_type).tobytes() + body)
    loaded = Network.from_cfg(cfg(), old, seed=9)
    assert loaded.seen == 77
    assert_same(network, loaded)


def test_very_old_files_store_connected_weights_transposed(cfg, tmp_path):
    network = Network.from_cfg(cfg(), seed=1)
    connected = network.layers[2]
    weights = network.parameters.read(connected, "weights")
    network.parameters.write(connected, "weights", np.ascontiguousarray(weights.T).reshape(weights.shape))
    network.save_weights(tmp_path / "w.weights")
    raw = (tmp_path / "w.weights").read_bytes()
    (tmp_path / "w.weights").write_bytes(np.array([1001, 0, 0], "<i4").tobytes() + raw[12:])
    loaded = Network.from_cfg(cfg(), tmp_path / "w.weights", seed=2)
    np.testing.assert_array_equal(loaded.parameters.read(loaded.layers[2], "weights"), weights)


def test_partial_weights_fill_the_first_layers_in_training_only(cfg, tmp_path):
    source = Network.from_cfg(cfg(), seed=1)
    save(source, tmp_path / "first.weights", upto=1)
    target = Network.from_cfg(cfg(), training=True, seed=2)
    before = parameters(target)
    assert target.load_weights(tmp_path / "first.weights", partial=True) == 1
    after = parameters(target)
    for key in after:
        expected = parameters(source)[key] if key[0] == 0 else before[key]
        np.testing.assert_array_equal(after[key], expected)
    with pytest.raises(WeightsError, match="holds only the first layers"):
        Network.from_cfg(cfg(), tmp_path / "first.weights")


def test_dontload_leaves_a_layer_out(cfg, tmp_path):
    full = Network.from_cfg(cfg(), seed=1)
    full.save_weights(tmp_path / "full.weights")
    raw = (tmp_path / "full.weights").read_bytes()
    skipped = full.layers[1].parameters()
    start = 20 + 4 * sum(p.size for p in full.layers[0].parameters())
    stop = start + 4 * sum(p.size for p in skipped)
    (tmp_path / "cut.weights").write_bytes(raw[:start] + raw[stop:])
    loaded = Network.from_cfg(cfg("dontload=1"), tmp_path / "cut.weights", seed=5)
    fresh = Network.from_cfg(cfg("dontload=1"), seed=5)
    np.testing.assert_array_equal(np.asarray(loaded.layers[1].weights), np.asarray(fresh.layers[1].weights))
    np.testing.assert_array_equal(np.asarray(loaded.layers[2].weights), np.asarray(full.layers[2].weights))


@pytest.mark.parametrize(
    "cut, message",
    [
        (-4, r"ends inside layer 2 \[connected\] weights; .*needs 779 values, the file has 778"),
        (-3, "not a whole number of float32"),
        (10, "too few for its header"),
    ],
)
def test_truncated_files_are_refused_and_change_nothing(cfg, tmp_path, cut, message):
    path = tmp_path / "w.weights"
    Network.from_cfg(cfg(), seed=1).save_weights(path)
    path.write_bytes(path.read_bytes()[:cut])
    network = Network.from_cfg(cfg(), seed=2)
    before = parameters(network)
    with pytest.raises(WeightsError, match=message):
        network.load_weights(path)
    for key, value in parameters(network).items():
        np.testing.assert_array_equal(value, before[key])
    assert network.seen == 0


def test_oversized_files_are_refused(cfg, tmp_path):
    path = tmp_path / "w.weights"
    Network.from_cfg(cfg(), seed=1).save_weights(path)
    path.write_bytes(path.read_bytes() + bytes(400))
    with pytest.raises(WeightsError, match="the network has 779 values, the file 879"):
        Network.from_cfg(cfg(), path)


def test_a_missing_file_is_named(cfg, tmp_path):
    with pytest.raises(WeightsError, match="nothing.weights.*cannot be read"):
        Network.from_cfg(cfg(), tmp_path / "nothing.weights")


def test_header_of_a_real_file(shared):
    header = read_header(shared / "models" / "yolo-fastest-1.1" / "yolo-fastest-1.1.weights")
    assert (header.major, header.minor) == (0, 2)
    assert header.nbytes == 20
