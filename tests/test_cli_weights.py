"""``darkpy weights`` and Darknet's spellings of its commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from darkpy.cli.main import cli
from darkpy.network import Network
from tests.tiny_job import write_cfg, write_job

CLASSIFIER = """\
[net]
batch=4
width=32
height=32
channels=3
learning_rate=.1
max_batches=5

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=3
size=1
activation=linear

[avgpool]

[softmax]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``tiny.cfg``, ``a.weights`` and ``b.weights``, as working folder."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    write_cfg(tmp_path)
    for seed, name in enumerate("ab"):
        Network.from_cfg("tiny.cfg", device="numpy", seed=seed).save_weights(f"{name}.weights")
    return tmp_path


def run(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
    return result


@pytest.mark.parametrize(
    "command", ["weights", *(f"weights {name}" for name in ("info", "diff", "average", "fold-bn", "cut", "convert")),
                "average", "denormalize", "partial"],
)  # fmt: skip
def test_help_of_every_command(command: str) -> None:
    text = run(*command.split(), "--help").output
    assert text.startswith(f"Usage: cli {command}")
    assert all(len(line) <= 80 for line in text.splitlines())


def test_darknets_spellings_are_not_listed() -> None:
    listed = run("--help").output
    assert "  weights " in listed
    assert "denormalize" not in listed


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["info"], "Missing argument 'FILE [CFG]'"),
        (["info", "tiny.cfg"], "name one weights file, and its cfg if there is one"),
        (["info", "a.weights", "b.weights"], "name one weights file"),
        (["info", "a.weights", "--tensors"], "--tensors needs the cfg"),
        (["info", "nothing.weights"], "nothing.weights  cannot be read: No such file or directory"),
        (["info", "tiny.cfg", "nothing.weights"], "nothing.weights  cannot be read"),
        (["info", "a.weights", "nothing.cfg"], "nothing.cfg  no such file here"),
        (["info", "a.weights", "yolov3.cfg"], "a.weights  is cut short or belongs to another cfg"),
        (["diff", "tiny.cfg", "a.weights"], "3 values"),
        (["diff", "a.weights", "a.weights", "b.weights"], "no .cfg file is named"),
        (["diff", "tiny.cfg", "yolov3.cfg", "b.weights"], "name one .cfg file, not tiny.cfg and yolov3.cfg"),
        (["average", "tiny.cfg", "a.weights", "b.weights"], "Missing option '-o' / '--out'"),
        (["average", "tiny.cfg", "a.weights", "-o", "c.weights"], "two weights files or more"),
        (["fold-bn", "tiny.cfg", "a.weights", "-o", "tiny.weights"], "would take the place of the cfg itself"),
        (["cut", "tiny.cfg", "a.weights"], "Missing argument 'N'"),
        (["cut", "tiny.cfg", "a.weights", "0"], "0 is not in the range x>=1"),
        (["cut", "tiny.cfg", "a.weights", "5"], "tiny.cfg has 4 layers; the first 5 of them cannot be cut out"),
        (["convert", "tiny.cfg", "a.weights"], "3 values"),
        (["convert", "tiny.cfg", "tiny.npz", "a.weights"], "tiny.npz  cannot be read"),
        (["convert", "tiny.cfg", "a.weights", "a.onnx"], "a.onnx  is none of the files to convert to: .weights, .npz,"),
    ],
)  # fmt: skip
def test_wrong_usage_has_status_2(folder: Path, arguments: list[str], message: str) -> None:
    before = {path.name for path in folder.iterdir()}
    result = run("weights", *arguments, status=2)
    assert message in result.stderr
    assert result.stdout == ""
    assert {path.name for path in folder.iterdir()} == before


def test_info(folder: Path) -> None:
    lines = run("weights", "info", "tiny.cfg", "a.weights").output.splitlines()
    assert lines[0] == "a.weights   version 0.2.5   0 pictures seen   374 values"
    assert lines[1] == "tiny.cfg   4 layers"
    assert lines[2].split() == ["layer", "values", "mean", "deviation", "smallest", "largest", "remark"]
    assert [line.split()[:3] for line in lines[3:]] == [["0", "convolutional", "248"], ["2", "convolutional", "126"]]
    lines = run("weights", "info", "a.weights", "tiny.cfg", "--tensors").output.splitlines()
    assert lines[4].split() == ["000_convolutional.scales", "8", "1", "0", "1", "1", "all", "1"]


def test_info_without_a_cfg(folder: Path) -> None:
    run("weights", "cut", "tiny.cfg", "a.weights", "2", "-o", "a.conv.2")
    assert run("weights", "info", "a.weights").output.splitlines()[1] == "fits tiny.cfg"
    assert run("weights", "info", "a.conv.2").output.splitlines()[1] == "fits tiny.cfg (its first 1 layers)"
    Path("tiny.cfg").rename("gone")
    assert run("weights", "info", "a.weights").output.splitlines()[1].startswith("fits no cfg beside it")
    assert "the first 2 of 4 layers" in run("weights", "info", "a.conv.2", Path("gone").rename("tiny.cfg")).output


def test_diff(folder: Path) -> None:
    assert run("weights", "diff", "tiny.cfg", "a.weights", "a.weights").output == (
        "a.weights and a.weights hold the same values\n"
    )
    lines = run("weights", "diff", "a.weights", "b.weights", "tiny.cfg").output.splitlines()
    assert lines[1].split()[:4] == ["0", "convolutional", "248", "216"]  # all weights, no statistics
    run("weights", "cut", "tiny.cfg", "a.weights", "2", "-o", "a.conv.2")
    lines = run("weights", "diff", "tiny.cfg", "a.conv.2", "a.weights", "--tensors").output.splitlines()
    assert lines[1].split() == ["000_convolutional.biases", "8", "equal"]
    assert lines[-1] == "a.conv.2 holds the first 2 layers, a.weights the first 4"


def test_average(folder: Path) -> None:
    output = run("weights", "average", "tiny.cfg", "a.weights", "b.weights", "-o", "mean.weights").output
    assert output == "mean.weights   2 layers with weights, 374 values, 1.5 kB\n"
    a, b, mean = (np.fromfile(f"{name}.weights", "<f4", offset=20) for name in ("a", "b", "mean"))
    np.testing.assert_allclose(mean, (a + b) / 2, rtol=1e-6, atol=1e-7)
    run("average", "tiny.cfg", "again.weights", "a.weights", "b.weights")
    assert Path("again.weights").read_bytes() == Path("mean.weights").read_bytes()


def test_fold_bn(folder: Path) -> None:
    output = run("weights", "fold-bn", "tiny.cfg", "a.weights", "-o", "folded.weights").output
    assert output.splitlines() == [
        "folded.cfg   tiny.cfg without batch normalisation",
        "folded.weights   2 layers with weights, 350 values, 1.4 kB",
    ]
    assert run("net", "check", "folded.cfg").output == "folded.cfg  is fine: 4 layers\n"
    run("denormalize", "tiny.cfg", "a.weights", "again.weights")
    assert Path("again.weights").read_bytes() == Path("folded.weights").read_bytes()


def test_cut(folder: Path) -> None:
    output = run("weights", "cut", "a.weights", "tiny.cfg", "2").output
    assert output == "a.conv.2   1 layer with weights, 248 values, 1.0 kB\n"
    run("partial", "tiny.cfg", "a.weights", "again.conv.2", "2")
    assert Path("again.conv.2").read_bytes() == Path("a.conv.2").read_bytes()


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_convert(folder: Path, kind: str) -> None:
    assert "2 layers with weights, 374 values" in run("weights", "convert", "tiny.cfg", "a.weights", f"a.{kind}").output
    run("weights", "convert", "tiny.cfg", f"a.{kind}", "back.weights")
    assert Path("back.weights").read_bytes() == Path("a.weights").read_bytes()
    assert "hold the same values" in run("weights", "diff", "tiny.cfg", f"a.{kind}", "a.weights").output


def test_a_classifiers_weights_start_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector, trained with a rate of 0, ends with the filters the classifier has learned."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, max_batches=1, learning_rate=0)
    Path("classifier.cfg").write_text(CLASSIFIER)
    classifier = Network.from_cfg("classifier.cfg", training=True, device="numpy", seed=7)
    start = np.array(classifier.layers[0].weights)
    pictures = np.random.default_rng(0).uniform(0, 1, (4, 3, 32, 32)).astype(np.float32)
    for _ in range(5):
        classifier.train_batch(pictures, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    learned = np.array(classifier.layers[0].weights)
    assert not np.array_equal(learned, start)
    classifier.save_weights("classifier.weights")

    run("weights", "cut", "classifier.cfg", "classifier.weights", "2")
    output = run("detector", "train", "tiny.cfg", "classifier.conv.2", "--no-map", "--seed", "1").output
    assert "starting from classifier.conv.2: 1 layer with weights, iteration 0" in output
    trained = Network.from_cfg("tiny.cfg", "runs/tiny-1/final.weights", device="numpy")
    np.testing.assert_array_equal(trained.layers[0].weights, learned)
