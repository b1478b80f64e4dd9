from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpy.errors import ConfigError, InputError, WeightsError
from darkpy.network import Network
from darkpy.weight_tools import average, compare, convert, cut, describe, fold_batchnorm
from darkpy.weights import read_header, save
from tests import layer_checks
from tests.tiny_job import write_cfg

NET = "[net]\nbatch=2\nwidth=8\nheight=8\nchannels=3\n"
NORMALIZED = "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n"


def make(folder: Path, text: str = NORMALIZED + "[maxpool]\nsize=2\nstride=2\n[connected]\noutput=5\n", *, seed: int = 0) -> Network:
    """A network with random weights; ``a.cfg`` and ``a<seed>.weights``."""
    (folder / "a.cfg").write_text(NET + text)
    network = Network.from_cfg(folder / "a.cfg", device="numpy", keep_outputs=True)
    layer_checks.randomize(network, seed)
    network.seen = 100 + seed
    network.save_weights(folder / f"a{seed}.weights")
    return network


# describe


def test_statistics_of_layers_and_tensors(tmp_path: Path) -> None:
    network = make(tmp_path)
    found = describe(tmp_path / "a0.weights", tmp_path / "a.cfg")
    assert (found.header.version, found.header.seen) == ((0, 2, 5), 100)
    assert (found.covered, found.layers, found.values) == (3, 3, 124 + 325)
    first, connected = found.rows
    weights = np.asarray(network.layers[0].weights)
    assert (first.name, first.count, first.remark) == ("0 convolutional", 124, "")
    assert first.mean == pytest.approx(weights.mean(), abs=1e-6)
    assert first.deviation == pytest.approx(weights.std(), abs=1e-6)
    assert (first.smallest, first.largest) == (weights.min(), weights.max())
    assert connected.count == 5 * 64 + 5

    tensors = describe(tmp_path / "a0.weights", tmp_path / "a.cfg", by_tensor=True).rows
    assert [row.name for row in tensors][-2:] == ["002_connected.biases", "002_connected.weights"]
    assert tensors[0].mean == pytest.approx(np.mean(network.layers[0].biases), abs=1e-6)


def test_odd_values_are_remarked_on(tmp_path: Path) -> None:
    network = make(tmp_path)
    network.layers[0].biases[1:3] = np.nan
    network.layers[0].rolling_mean[:] = np.inf
    network.layers[2].weights[:] = 0
    network.save_weights(tmp_path / "odd.weights")
    first, connected = describe(tmp_path / "odd.weights", tmp_path / "a.cfg").rows
    assert first.remark == "6 NaN or infinite"
    assert np.isfinite(first.mean)
    assert connected.remark == "all 0"
    rows = {row.name: row for row in describe(tmp_path / "odd.weights", tmp_path / "a.cfg", by_tensor=True).rows}
    assert rows["000_convolutional.rolling_mean"].not_finite == 4
    assert np.isnan(rows["000_convolutional.rolling_mean"].largest)


def test_a_file_of_the_first_layers(tmp_path: Path) -> None:
    save(make(tmp_path), tmp_path / "first.weights", upto=1)
    found = describe(tmp_path / "first.weights", tmp_path / "a.cfg")
    assert (found.covered, found.layers, len(found.rows)) == (2, 3, 1)  # the second has no weights


def test_without_a_cfg_those_around_are_tried(tmp_path: Path) -> None:
    network = make(tmp_path)
    write_cfg(tmp_path, "other.cfg")
    (tmp_path / "broken.cfg").write_text("[nonsense]\n")
    found = describe(tmp_path / "a0.weights")
    assert (found.values, found.layers) == (449, 0)
    assert found.fits == (str(tmp_path / "a.cfg"),)
    assert [row.name for row in found.rows] == ["all"]
    save(network, tmp_path / "first.weights", upto=1)
    assert describe(tmp_path / "first.weights").fits == (f"{tmp_path / 'a.cfg'} (its first 1 layers)",)


def test_the_packages_cfgs_are_recognised(tmp_path: Path) -> None:
    count = 35_434_956 // 4 - 5  # bytes of the published yolov3-tiny.weights
    header = np.array([0, 2, 0, 5, 0], "<i4").tobytes()
    (tmp_path / "unknown.weights").write_bytes(header + bytes(4 * count))
    fits = describe(tmp_path / "unknown.weights").fits
    assert [Path(fit).name for fit in fits] == ["yolov3-tiny.cfg"]


# compare


def test_differences(tmp_path: Path) -> None:
    first = make(tmp_path)
    assert compare(tmp_path / "a.cfg", tmp_path / "a0.weights", tmp_path / "a0.weights").are_equal
    first.layers[0].biases[1] += 0.5
    first.save_weights(tmp_path / "moved.weights")
    found = compare(tmp_path / "a.cfg", tmp_path / "a0.weights", tmp_path / "moved.weights")
    conv, connected = found.rows
    assert not found.are_equal
    assert (conv.name, conv.count, conv.differing) == ("0 convolutional", 124, 1)
    assert conv.largest == pytest.approx(0.5)
    assert conv.mean == pytest.approx(0.5 / 124)
    assert 0 < conv.relative < 0.5
    assert (connected.differing, connected.largest, connected.relative) == (0, 0, 0)
    by_tensor = compare(tmp_path / "a.cfg", tmp_path / "a0.weights", tmp_path / "moved.weights", by_tensor=True)
    assert [row.name for row in by_tensor.rows if row.differing] == ["000_convolutional.biases"]


def test_nan_equals_nan_and_nothing_else(tmp_path: Path) -> None:
    network = make(tmp_path)
    network.layers[0].biases[0] = np.nan
    network.save_weights(tmp_path / "nan.weights")
    cfg = tmp_path / "a.cfg"
    assert compare(cfg, tmp_path / "nan.weights", tmp_path / "nan.weights").are_equal
    row = compare(cfg, tmp_path / "nan.weights", tmp_path / "a0.weights").rows[0]
    assert row.differing == 1
    assert np.isnan(row.largest)


def test_what_only_one_file_has_is_not_compared(tmp_path: Path) -> None:
    save(make(tmp_path), tmp_path / "first.weights", upto=1)
    found = compare(tmp_path / "a.cfg", tmp_path / "first.weights", tmp_path / "a0.weights")
    assert (found.first_layers, found.second_layers, len(found.rows)) == (2, 3, 1)
    assert not found.are_equal


# average


def test_the_average_of_three(tmp_path: Path) -> None:
    networks = [make(tmp_path, seed=seed) for seed in range(3)]
    files = [tmp_path / f"a{seed}.weights" for seed in range(3)]
    average(tmp_path / "a.cfg", files, tmp_path / "mean.weights")
    mean = Network.from_cfg(tmp_path / "a.cfg", tmp_path / "mean.weights", device="numpy")
    assert mean.seen == 100
    for index, name in ((0, "weights"), (0, "rolling_variance"), (2, "biases")):
        expected = np.mean([network.parameters.read(network.layers[index], name) for network in networks], axis=0)
        np.testing.assert_allclose(mean.parameters.read(mean.layers[index], name), expected, rtol=1e-6, atol=1e-7)


def test_averages_that_make_no_sense(tmp_path: Path) -> None:
    save(make(tmp_path), tmp_path / "first.weights", upto=1)
    with pytest.raises(InputError, match="two weights files or more"):
        average(tmp_path / "a.cfg", [tmp_path / "a0.weights"], tmp_path / "mean.weights")
    with pytest.raises(WeightsError, match=r"first.weights  holds the first 2 layers, .*a0.weights the first 3"):
        average(tmp_path / "a.cfg", [tmp_path / "a0.weights", tmp_path / "first.weights"], tmp_path / "mean.weights")
    assert not (tmp_path / "mean.weights").exists()


# cut


def test_the_first_layers(tmp_path: Path) -> None:
    network = make(tmp_path)
    written = cut(tmp_path / "a.cfg", tmp_path / "a0.weights", 2, tmp_path / "a.conv.2")
    assert [tensor.layer.index for tensor in written.tensors] == [0] * 5
    assert read_header(tmp_path / "a.conv.2").seen == 0
    start = Network.from_cfg(tmp_path / "a.cfg", tmp_path / "a.conv.2", training=True, device="numpy")
    np.testing.assert_array_equal(start.layers[0].weights, network.layers[0].weights)
    assert not np.array_equal(start.layers[2].weights, network.layers[2].weights)


def test_cuts_that_cannot_be(tmp_path: Path) -> None:
    make(tmp_path)
    for count in (0, 4):
        with pytest.raises(InputError, match=rf"a.cfg has 3 layers; the first {count} of them cannot be cut out"):
            cut(tmp_path / "a.cfg", tmp_path / "a0.weights", count, tmp_path / "out")
    cut(tmp_path / "a.cfg", tmp_path / "a0.weights", 1, tmp_path / "a.conv.1")
    with pytest.raises(WeightsError, match="holds the first 2 layers only, not 3"):
        cut(tmp_path / "a.cfg", tmp_path / "a.conv.1", 3, tmp_path / "out")
    make(tmp_path, "[maxpool]\n" + NORMALIZED)
    with pytest.raises(InputError, match="the first 1 layers of .* have no weights"):
        cut(tmp_path / "a.cfg", tmp_path / "a0.weights", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_convert_writes_all_of_it(tmp_path: Path) -> None:
    make(tmp_path)
    cfg = tmp_path / "a.cfg"
    convert(cfg, tmp_path / "a0.weights", tmp_path / "a.npz")
    convert(cfg, tmp_path / "a.npz", tmp_path / "a.safetensors")
    convert(cfg, tmp_path / "a.safetensors", tmp_path / "back.weights")
    assert (tmp_path / "back.weights").read_bytes() == (tmp_path / "a0.weights").read_bytes()


# fold_batchnorm

FOLDED = {
    "convolutional": NORMALIZED,
    "groups": NORMALIZED.replace("[convolutional]\n", "[convolutional]\ngroups=1\nbias=0\n"),
    "cbn": NORMALIZED.replace("batch_normalize", "cbn"),
    "shared": NORMALIZED.replace("filters=4", "filters=3") + NORMALIZED.replace("filters=4", "filters=3\nshare_index=0"),
    "over channels": NORMALIZED.replace("leaky", "normalize_channels_softmax"),
    "antialiasing": NORMALIZED + "antialiasing=1\nstride=2\n",
    "xnor": NORMALIZED + "xnor=1\n",
    "binary": NORMALIZED + "binary=1\n",
    "deconvolutional": "[deconvolutional]\nfilters=4\nsize=2\nstride=2\nbatch_normalize=1\nactivation=leaky\n",
    "connected": "[connected]\noutput=4\nbatch_normalize=1\nactivation=leaky\n",
    "rnn": "[rnn]\noutput=4\nhidden=3\nbatch_normalize=1\nactivation=tanh\n",
    "gru": "[gru]\noutput=4\nbatch_normalize=1\n",
    "lstm": "[lstm]\noutput=4\nbatch_normalize=1\n",
    "crnn": "[crnn]\noutput=4\nhidden=3\npad=1\nbatch_normalize=1\nactivation=tanh\n",
    "conv_lstm": "[conv_lstm]\noutput=4\npad=1\npeephole=1\nbatch_normalize=1\n",
    "several": NORMALIZED + "[batchnorm]\n" + NORMALIZED + "[shortcut]\nfrom=-2\n[connected]\noutput=4\nbatch_normalize=0\n",
}


@pytest.mark.parametrize("name", FOLDED)
def test_folded_networks_compute_the_same(tmp_path: Path, name: str) -> None:
    original = make(tmp_path, FOLDED[name])
    _, cfg = fold_batchnorm(tmp_path / "a.cfg", tmp_path / "a0.weights", tmp_path / "folded.weights")
    assert cfg == tmp_path / "folded.cfg"
    folded = Network.from_cfg(cfg, tmp_path / "folded.weights", device="numpy")
    assert folded.seen == 100
    assert not any(getattr(layer.options, "batch_normalize", False) for layer in folded.layers)
    for seed in (1, 2):  # the second pass sees what recurrent layers remember
        x = layer_checks.pictures(original, 1, seed)
        np.testing.assert_allclose(folded.forward(x), original.forward(x), rtol=1e-4, atol=1e-5)


def test_a_published_detector_finds_the_same(shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "yolo-fastest-1.1" / "yolo-fastest-1.1"
    fold_batchnorm(f"{model}.cfg", f"{model}.weights", tmp_path / "folded.weights")
    original = Network.from_cfg(f"{model}.cfg", f"{model}.weights", device="numpy", keep_outputs=True)
    folded = Network.from_cfg(tmp_path / "folded.cfg", tmp_path / "folded.weights", device="numpy", keep_outputs=True)
    x = np.load(shared / "images" / "input_320" / "dog.npz")["resize"]
    original.forward(x)
    folded.forward(x)
    for head, other in zip(original.heads, folded.heads, strict=True):
        np.testing.assert_allclose(other.output, head.output, rtol=1e-3, atol=1e-4)


def test_the_text_of_the_cfg_stays(tmp_path: Path) -> None:
    make(tmp_path, "# first\n" + NORMALIZED.replace("size=3\n", "size=3 # large\n\n"))
    fold_batchnorm(tmp_path / "a.cfg", tmp_path / "a0.weights", tmp_path / "folded.npz")
    before, after = ((tmp_path / name).read_text() for name in ("a.cfg", "folded.cfg"))
    assert after == before.replace("batch_normalize=1", "batch_normalize=0")
    assert "# large" in after


def test_folding_that_cannot_be(tmp_path: Path) -> None:
    out = tmp_path / "out.weights"
    make(tmp_path, "[connected]\noutput=5\n")
    with pytest.raises(ConfigError, match="has no batch_normalize=1"):
        fold_batchnorm(tmp_path / "a.cfg", tmp_path / "a0.weights", out)
    make(tmp_path, NORMALIZED + "dontload=1\n" + NORMALIZED + "dontloadscales=1\n")
    with pytest.raises(ConfigError) as caught:
        fold_batchnorm(tmp_path / "a.cfg", tmp_path / "a0.weights", out)
    assert [problem.where.rpartition(":")[2] for problem in caught.value.problems] == ["12", "19"]
    save(make(tmp_path, NORMALIZED + NORMALIZED), tmp_path / "first.weights", upto=1)
    with pytest.raises(WeightsError, match="holds the first 1 layers only; all 2 are needed"):
        fold_batchnorm(tmp_path / "a.cfg", tmp_path / "first.weights", out)
    with pytest.raises(InputError, match=r"a.cfg  would take the place of the cfg itself"):
        fold_batchnorm(tmp_path / "a.cfg", tmp_path / "a0.weights", tmp_path / "a.weights")
    assert not out.exists()
    assert not out.with_suffix(".cfg").exists()
