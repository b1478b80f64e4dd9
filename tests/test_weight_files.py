from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from darkpy import weight_files
from darkpy.errors import InputError, WeightsError
from darkpy.network import Network
from darkpy.weights import Header, save
from tests import layer_checks

CFG = """\
[net]
width=8
height=8
channels=3
[convolutional]
filters=4
size=3
pad=1
batch_normalize=1
activation=leaky
[maxpool]
[connected]
output=5
activation=linear
[lstm]
output=2
"""
KINDS = [".weights", ".npz", ".safetensors"]


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """A network with random weights, saved as ``full.weights``; ``first.weights`` holds its first two layers."""
    (tmp_path / "a.cfg").write_text(CFG)
    made = Network.from_cfg(tmp_path / "a.cfg", device="numpy")
    layer_checks.randomize(made, 0)
    made.seen = 2**40 + 1
    made.save_weights(tmp_path / "full.weights")
    save(made, tmp_path / "first.weights", upto=2)
    return made


def read(network: Network, path: Path) -> weight_files.StoredWeights:
    return weight_files.read(path, network.layers, cfg="a.cfg")


@pytest.mark.parametrize("name", ["full", "first"])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_byte_for_byte(network: Network, tmp_path: Path, kind: str, name: str) -> None:
    original = tmp_path / f"{name}.weights"
    stored = read(network, original)
    weight_files.write(tmp_path / f"there{kind}", stored.header, stored.tensors)
    again = read(network, tmp_path / f"there{kind}")
    assert again.header == stored.header
    weight_files.write(tmp_path / "back.weights", again.header, again.tensors)
    assert (tmp_path / "back.weights").read_bytes() == original.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0)])
def test_old_versions_stay_as_they_are(network: Network, tmp_path: Path, version: tuple, kind: str) -> None:
    old = Header(*version, seen=77)
    original = tmp_path / "old.weights"
    original.write_bytes(old.to_bytes() + (tmp_path / "full.weights").read_bytes()[20:])
    stored = read(network, original)
    weight_files.write(tmp_path / f"there{kind}", stored.header, stored.tensors)
    again = read(network, tmp_path / f"there{kind}")
    weight_files.write(tmp_path / "back.weights", again.header, again.tensors)
    assert (tmp_path / "back.weights").read_bytes() == original.read_bytes()


def test_very_old_files_are_written_as_new_ones(network: Network, tmp_path: Path) -> None:
    """They have connected weights transposed."""
    raw = (tmp_path / "full.weights").read_bytes()
    (tmp_path / "old.weights").write_bytes(Header(1001, 0, 0, 5).to_bytes() + raw[20:])
    stored = read(network, tmp_path / "old.weights")
    weight_files.write(tmp_path / "new.weights", stored.header, stored.tensors)
    again = read(network, tmp_path / "new.weights")
    assert again.header == Header(0, 2, 5, 5)
    for old, new in zip(stored.tensors, again.tensors, strict=True):
        np.testing.assert_array_equal(old.values, new.values)
    weights = next(tensor.values for tensor in again.tensors if tensor.name == "002_connected.weights")
    assert not np.array_equal(weights, network.layers[2].weights)


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_names_and_shapes_can_be_read(network: Network, tmp_path: Path, kind: str) -> None:
    stored = read(network, tmp_path / "full.weights")
    path = tmp_path / f"there{kind}"
    weight_files.write(path, stored.header, stored.tensors)
    if kind == ".npz":
        arrays = dict(np.load(path))
        assert arrays.pop("darknet.version").tolist() == [0, 2, 5]
        assert arrays.pop("darknet.seen") == 2**40 + 1
    else:
        from safetensors.numpy import load_file

        arrays = load_file(path)
    assert arrays["000_convolutional.weights"].shape == (4, 3, 3, 3)
    np.testing.assert_array_equal(arrays["003_lstm.uf.weights"], network.layers[3].uf.weights)
    assert set(arrays) == {tensor.name for tensor in stored.tensors}
    assert len(weight_files.read_values(path)[1]) == len(weight_files.read_values(tmp_path / "full.weights")[1])


def test_files_of_others_without_a_header(network: Network, tmp_path: Path) -> None:
    """Half precision and double are fine too."""
    arrays = {tensor.name: tensor.values.astype(np.float16) for tensor in read(network, tmp_path / "full.weights").tensors}
    np.savez(tmp_path / "half.npz", **arrays)
    stored = read(network, tmp_path / "half.npz")
    assert stored.header == Header(0, 2, 5, 0)
    assert all(tensor.values.dtype == np.float32 for tensor in stored.tensors)


def test_every_misfit_is_named(network: Network, tmp_path: Path) -> None:
    arrays = {tensor.name: tensor.values for tensor in read(network, tmp_path / "full.weights").tensors}
    arrays["000_convolutional.weight"] = arrays.pop("000_convolutional.weights")
    arrays["002_connected.biases"] = arrays["002_connected.biases"][:3]
    arrays["002_connected.weights"] = arrays["002_connected.weights"].astype(int)
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(WeightsError) as caught:
        read(network, tmp_path / "bad.npz")
    assert [problem.message for problem in caught.value.problems] == [
        "000_convolutional.weight is none of a.cfg; did you mean '000_convolutional.weights'?",
        "000_convolutional.weights is missing",
        "002_connected.biases has shape (3,), the cfg needs (5,)",
        "002_connected.weights holds int64, not floating point numbers",
    ]


def test_a_file_of_another_network(network: Network, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", **{"conv1.weight": np.zeros(3), "conv1.bias": np.zeros(3)})
    with pytest.raises(WeightsError, match=r"none of its 2 arrays has a name of a.cfg, such as 000_convolutional.biases"):
        read(network, tmp_path / "other.npz")


@pytest.mark.parametrize("content", [b"", b"hello" * 10, b"PK\x03\x04" + b"x" * 50])
@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_damaged_files(network: Network, tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / f"bad{kind}").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"bad{kind}  is no {kind} file"):
        read(network, tmp_path / f"bad{kind}")


def test_a_lone_array_is_no_npz_file(network: Network, tmp_path: Path) -> None:
    with (tmp_path / "bad.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(WeightsError, match=r"is no .npz file of arrays"):
        read(network, tmp_path / "bad.npz")


def test_a_header_that_is_no_number(network: Network, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **{"darknet.version": np.array([1, 2])})
    with pytest.raises(WeightsError, match="has a darknet.version or darknet.seen that is no number"):
        read(network, tmp_path / "bad.npz")


@pytest.mark.parametrize("kind", KINDS)
def test_missing_files(network: Network, tmp_path: Path, kind: str) -> None:
    with pytest.raises(WeightsError, match=rf"nothing{kind}  cannot be read: No such file"):
        read(network, tmp_path / f"nothing{kind}")


def test_without_safetensors_the_message_says_what_to_install(network: Network, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(InputError, match=r'pip install "darkpy-detector\[convert\]"'):
        read(network, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r'pip install "darkpy-detector\[convert\]"'):
        weight_files.write(tmp_path / "a.safetensors", Header(0, 2, 5, 0), [])
    assert not (tmp_path / "a.safetensors").exists()
