"""``darkpy net time``, ``draw`` and ``features``; the other commands of the group are in test_cli_commands.py."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner, Result

from darkpy.cli.main import cli
from darkpy.network import Network
from tests.tiny_job import write_cfg, write_pictures


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``tiny.cfg``, ``tiny.weights`` and ``0.png``, as working folder."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    Network.from_cfg(write_cfg(tmp_path), device="numpy").save_weights("tiny.weights")
    write_pictures(tmp_path, 1)
    return tmp_path


def run(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
    return result


@pytest.mark.parametrize("command", ["net time", "net draw", "net features"])
def test_help_of_every_command(command: str) -> None:
    text = run(*command.split(), "--help").output
    assert text.startswith(f"Usage: cli {command}")
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["time"], "Missing argument 'CFG'"),
        (["time", "nothing.cfg"], "nothing.cfg  no such file here"),
        (["time", "tiny.cfg", "--runs", "0"], "0 is not in the range x>=1"),
        (["time", "tiny.cfg", "--device", "abacus"], "unknown device 'abacus'"),
        (["draw", "bad.cfg"], "filters=15 does not fit the [yolo]"),
        (["draw", "tiny.cfg", "--columns", "0"], "0 is not in the range x>=1"),
        (["features", "0.png"], "Missing option '--layer'"),
        (["features", "tiny.cfg", "tiny.weights", "--layer", "0"], "name one picture, not none"),
        (["features", "0.png", "0.png", "--layer", "0"], "name one picture, not 0.png and 0.png"),
        (["features", "0.png", "tiny.cfg", "--layer", "0"], "name both a .cfg and a .weights file"),
        (["features", "0.png", "tiny.cfg", "tiny.weights", "--layer", "9"], "tiny.cfg has the layers 0 to 3"),
        (["features", "nothing.png", "--layer", "0"], "nothing.png  no such picture"),
        (["features", "0.png", "--cfg", "tiny.cfg", "yolov3.cfg", "--layer", "0"], "two cfg files"),
    ],
)
def test_wrong_usage_has_status_2(folder: Path, arguments: list[str], message: str) -> None:
    write_cfg(folder, "bad.cfg", filters=15)
    before = {path.name for path in folder.iterdir()}
    result = run("net", *arguments, status=2)
    assert message in result.stderr
    assert result.stdout == ""
    assert {path.name for path in folder.iterdir()} == before


def test_time_at_inference(folder: Path) -> None:
    result = run("net", "time", "tiny.cfg", "--runs", "2", "--batch", "3")
    assert result.stderr in ("", "the whole took longer than its parts: something else keeps this machine busy\n")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tiny.cfg   inference, 3 pictures at a time   numpy backend, ")
    assert lines[1].split() == ["layer", "type", "size", "output", "forward", "ms", "share", "GFLOP/s"]
    assert [line.split()[1] for line in lines[2:6]] == ["convolutional", "maxpool", "convolutional", "yolo"]
    assert lines[6].split()[:2] == ["between", "layers"]
    assert lines[7].split()[0] == "all"
    assert lines[7].split()[2:4] == ["100.0", "%"]
    assert "pictures/s   memory " in lines[8]


def test_time_in_training(folder: Path) -> None:
    lines = run("net", "time", "tiny.cfg", "--runs", "1", "-training", "--quiet").output.splitlines()
    assert lines[0].startswith("tiny.cfg   training, 2 pictures at a time")
    assert lines[1].split()[4:8] == ["forward", "ms", "backward", "ms"]
    assert lines[7].split()[0] == "update"
    assert lines[8].split()[3:5] == ["100.0", "%"]


def test_draw(folder: Path) -> None:
    assert run("net", "draw", "tiny.cfg").output == "tiny.svg   4 layers\n"
    assert run("net", "draw", "tiny.cfg", "-o", "new/graph.svg", "--columns", "1").output == "new/graph.svg   4 layers\n"
    assert Path("tiny.svg").read_text().startswith("<svg ")
    assert Path("new/graph.svg").read_text() != Path("tiny.svg").read_text()


def test_features(folder: Path) -> None:
    line = "layer 0 convolutional 3x3/2  16x16x8   8 maps\n"
    assert run("net", "features", "0.png", "tiny.weights", "tiny.cfg", "--layer", "0").output == f"features.png   {line}"
    assert cv2.imread("features.png") is not None
    output = run("net", "features", "0.png", "--cfg", "tiny.cfg", "--weights", "tiny.weights", "--layer", "-1",
                 "-letter_box", "-o", "last.png").output  # fmt: skip
    assert output.startswith("last.png   layer 3 yolo 2 anchors, 2 classes  8x8x14   14 maps")


def test_features_of_the_detector_that_comes_with_darkpy(folder: Path) -> None:
    assert "64x64x16   16 maps" in run("net", "features", "0.png", "--layer", "0").output


def test_features_tell_of_dead_filters(folder: Path) -> None:
    network = Network.from_cfg("tiny.cfg", device="numpy")
    network.layers[0].weights[1] = 0
    network.save_weights("dead.weights")
    output = run("net", "features", "0.png", "tiny.cfg", "dead.weights", "--layer", "0").output
    assert output.endswith("8 maps, 1 of them constant\n")
