"""``darkpy classifier`` through click's runner: what it prints, what it writes, its exit status."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from darkpy.cli.main import cli
from darkpy.network import Network
from tests import tiny_job
from tests.tiny_classes import write_job, write_lists, write_picture


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job and trained weights for it, as working folder."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    network = Network.from_cfg("colours.cfg", device="numpy")
    # A network that tells colours apart without training: the first filters are the mean of each channel.
    network.layers[0].weights[:] = 0
    for class_id in range(3):
        network.layers[0].weights[class_id, class_id] = 1 / 9
    network.layers[1].weights[:] = 0
    for row, class_id in enumerate((2, 1, 0)):  # blue, green, red
        network.layers[1].weights[row, class_id] = 20
    network.save_weights("colours.weights")
    return tmp_path


def run(*arguments: str | Path, status: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(cli, ["classifier", *(str(argument) for argument in arguments)], input=stdin)
    assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
    return result


@pytest.mark.parametrize("command", ["", "train", "valid", "predict"])
def test_help_of_every_command(command: str) -> None:
    text = run(*command.split(), "--help").output
    assert text.startswith(f"Usage: cli classifier{' ' if command else ''}{command}")
    assert all(len(line) <= 80 for line in text.splitlines())


# Training


def test_train(job: Path) -> None:
    result = run("train", "colours.cfg", "--data", "colours", "-t", "2")
    assert "train 12 pictures   val 6   3 classes" in result.stdout
    assert re.search(r"it 6  top-1 \d+\.\d  top-2 \d+\.\d", result.stdout)
    assert result.stdout.splitlines()[-1].endswith("are in runs/colours-1")
    assert Path("runs/colours-1/final.weights").exists()


def test_train_in_darknets_order_with_its_flags(job: Path) -> None:
    write_lists(job)
    result = run("train", "colours.data", "colours.cfg", "colours.weights", "-topk", "-dont_show", "-clear", "-gpus", "0")
    assert "starting from colours.weights: 2 layers with weights" in result.stdout
    assert Path("runs/colours-1/final.weights").exists()


def test_train_quietly(job: Path) -> None:
    assert run("train", "colours.cfg", "--data", "colours", "--quiet", "--no-topk", "--out", "here").output == ""
    assert Path("here/final.weights").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["colours"], "no .cfg file is named"),
        (["colours.cfg"], "colours.cfg  no data set is named, and there is no data/colours.yaml"),
        (["colours.cfg", "empty"], "empty  has no folders with pictures in them, one for each class"),
        (["colours.cfg", "none.data"], "none.data  no such file"),
        (["colours.cfg", "labels.data"], "labels.data  needs labels=, a file with the words that tell the class"),
        (["tiny.cfg", "colours"], "tiny.cfg  has [yolo]: it is a detector, train it with darkpy detector train"),
        (["colours.cfg", "colours", "-t", "0"], "0 is not in the range x>=1"),
        (["colours.cfg", "colours", "two"], "two  a second data file; colours is given already"),
        (["colours.cfg", "two"], "[softmax] two has 2 classes, the network tells 3 apart"),
        (["colours.cfg", "colours", "--lables", "x"], "No such option"),
    ],
)
def test_train_with_wrong_input(job: Path, arguments: list[str], message: str) -> None:
    (job / "empty").mkdir()
    for name in ("a", "b"):
        for number in range(5):
            write_picture(job / f"two/{name}/{number}.png", 0)
    tiny_job.write_cfg(job)
    (job / "labels.data").write_text("classes=3\ntrain=x.list\n")
    assert message in run("train", *arguments, status=2).stderr
    assert not Path("runs").exists()


# Measuring


def test_valid(job: Path) -> None:
    result = run("valid", "colours.cfg", "colours.weights", "--data", "colours", "--top", "2")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["colours.cfg", "colours.weights", "8x8", "3", "classes", "(colours)"]
    assert lines[1] == ["colours", "val", "6", "pictures"]
    assert lines[2] == ["id", "class", "pictures", "right", "P", "R", "F1"]
    assert lines[3] == ["0", "blue", "2", "2", "1.000", "1.000", "1.000"]
    assert lines[6] == ["all", "6", "6", "1.000", "1.000", "1.000"]
    assert result.stdout.splitlines()[8:14] == [
        "what a picture shows (rows) and what it was taken for (columns):",
        "       blue  green  red",
        "blue      2      ·    ·",
        "green     ·      2    ·",
        "red       ·      ·    2",
        "",
    ]
    assert re.fullmatch(r"top-1 100\.00 %   top-2 100\.00 %   6 of 6 right   loss 0\.\d{3}", result.stdout.splitlines()[-1])
    assert result.stderr == ""


def test_valid_in_darknets_order(job: Path) -> None:
    write_lists(job)
    network = Network.from_cfg("colours.cfg", "colours.weights", device="numpy")
    network.layers[1].weights[:] = network.layers[1].weights[::-1].copy()  # red, green, blue
    network.save_weights("rgb.weights")
    result = run("valid", "colours.data", "colours.cfg", "rgb.weights", "-i", "0")
    assert "3 classes (colours.data)" in result.stdout
    assert "Green" in result.stdout
    assert "top-1 100.00 %   top-2 100.00 %   6 of 6 right" in result.stdout
    assert "top-1 33.33 %" in run("valid", "colours.data", "colours.cfg", "colours.weights").stdout
    assert "12 of 12 right" in run("valid", "colours.data", "colours.cfg", "rgb.weights", "--split", "train").stdout
    assert "18 of 18 right" in run("valid", "colours.data", "colours.cfg", "rgb.weights", "--split", "all").stdout


def test_valid_with_many_classes_lists_the_mistakes(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.evaluation.confusion.MOST_IN_TABLE", 2)
    arguments = ["valid", "colours.cfg", "colours.weights", "--data", "colours"]
    assert "mistakes" not in run(*arguments).stdout
    (job / "colours/val/red/0.png").rename(job / "colours/val/blue/9.png")
    lines = [line.split() for line in run(*arguments).stdout.splitlines()]
    start = lines.index(["most", "frequent", "mistakes:"])
    assert lines[start + 1 : start + 3] == [["what", "it", "is", "taken", "for", "times", "of"], ["blue", "red", "1", "3"]]


def test_valid_writes_json_and_a_picture(job: Path) -> None:
    (job / "colours/val/red/0.png").rename(job / "colours/val/blue/9.png")
    arguments = ["valid", "colours.cfg", "colours.weights", "--data", "colours"]
    result = run(*arguments, "--json", "v.json", "--confusion", "out/confusion.png")
    assert result.stdout.endswith("json: v.json\nconfusion matrix: out/confusion.png\n")
    assert cv2.imread("out/confusion.png") is not None
    numbers = json.loads(Path("v.json").read_text())
    assert numbers["top_1"] == pytest.approx(5 / 6)
    assert numbers["confusion"] == [[2, 0, 1], [0, 2, 0], [0, 0, 1]]
    [mistake] = numbers["mistakes"]
    assert (mistake["picture"], mistake["class"], mistake["guess"]) == ("colours/val/blue/9.png", "blue", "red")
    assert json.loads(run(*arguments, "--json", "-").stdout) == numbers


def test_valid_says_what_it_left_out(job: Path) -> None:
    (job / "colours/val/red/0.png").write_bytes(b"")
    result = run("valid", "colours.cfg", "colours.weights", "--data", "colours")
    assert "1 picture could not be read and left out of the numbers\ntop-1 100.00 %   5 of 5 right" in result.stdout
    assert result.stderr == "colours/val/red/0.png  the file is empty\n"


def test_valid_of_weights_that_are_no_numbers(job: Path) -> None:
    network = Network.from_cfg("colours.cfg", device="numpy")
    network.parameters.values[:] = np.nan
    network.save_weights("nan.weights")
    result = run("valid", "colours.cfg", "nan.weights", "--data", "colours", "--json", "v.json")
    assert "6 pictures got no numbers from the network and count as wrong\ntop-1 0.00 %" in result.stdout
    assert json.loads(Path("v.json").read_text())["unanswered"] == 6


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["colours.cfg"], "a .cfg and a .weights file are needed"),
        (["colours.cfg", "colours.weights"], "colours.cfg  no data set is named"),
        (["colours.cfg", "none.weights", "colours"], "none.weights"),
        (["colours.cfg", "colours.weights", "colours", "--split", "dev"], "'dev' is not one of"),
        (["colours.cfg", "colours.weights", "colours", "--split", "test"], "colours  has no folder test"),
        (["colours.cfg", "colours.weights", "colours", "--confusion", "x.gif"], "x.gif: the confusion matrix is drawn into a .png"),
        (["tiny.cfg", "tiny.weights", "colours"], "tiny.cfg  has [yolo]: it is a detector; see darkpy detector"),
        (["colours.cfg", "colours.weights", "two"], "[softmax] two has 2 classes, the network tells 3 apart"),
    ],
)  # fmt: skip
def test_valid_with_wrong_input(job: Path, arguments: list[str], message: str) -> None:
    for name in ("a", "b"):
        for number in range(5):
            write_picture(job / f"two/{name}/{number}.png", 0)
    Network.from_cfg(tiny_job.write_cfg(job), device="numpy").save_weights("tiny.weights")
    assert message in run("valid", *arguments, status=2).stderr


# Using


PREDICT = ["predict", "colours.cfg", "colours.weights"]


def test_predict_one_picture(job: Path) -> None:
    result = run(*PREDICT, "colours/val/green/0.png", "--data", "colours", "-t", "2")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["colours.cfg   colours.weights   8x8   3 classes (colours)", "colours/val/green/0.png"]
    assert re.fullmatch(r" *\d+\.\d\d %  green  ━+", lines[2])
    assert re.fullmatch(r" *\d+\.\d\d %  (red|blue)( +━*)?", lines[3])
    assert len(lines) == 4


def test_predict_folders(job: Path) -> None:
    (job / "colours.names").write_text("Blue\nGreen\nRed\n")
    result = run(*PREDICT, "colours/val/green", "colours/val/red/1.png")
    lines = result.stdout.splitlines()
    assert lines[0].endswith("3 classes (colours.names)")
    assert [line.split()[:2] for line in lines[2:]] == [
        ["colours/val/green/0.png", "Green"],
        ["colours/val/green/1.png", "Green"],
        ["colours/val/red/1.png", "Red"],
    ]


def test_predict_in_darknets_order(job: Path) -> None:
    write_lists(job)
    result = run("predict", "colours.data", "colours.cfg", "colours.weights", "colours/val/green/0.png", "-dont_show")
    lines = result.stdout.splitlines()
    assert re.fullmatch(r" *\d+\.\d\d %  Green  ━+", lines[2])
    assert len(lines) == 4, "top=2 in the .data file"
    result = run("predict", "colours.data", "colours.cfg", "colours.weights", stdin="colours/val/red/0.png\n\n")
    assert "colours/val/red/0.png" in result.stdout


def test_predict_json(job: Path) -> None:
    (job / "colours.names").write_text("Blue\nGreen\nRed\n")
    result = run(*PREDICT, "colours/val", "--json", "-", "-t", "1", "--batch", "4")
    frames = json.loads(result.stdout)
    assert [frame["classes"][0]["name"] for frame in frames] == ["Blue", "Blue", "Green", "Green", "Red", "Red"]
    assert {(frame["width"], frame["height"]) for frame in frames} == {(14, 10)}
    assert all(len(frame["classes"]) == 1 for frame in frames)
    result = run(*PREDICT, "colours/val", "--json", "x.json", "-t", "1")
    assert result.stdout.endswith("json: x.json\n")
    assert json.loads(Path("x.json").read_text()) == frames


def test_quiet_commands_print_nothing(job: Path) -> None:
    assert run(*PREDICT, "colours/val", "--json", "x.json", "--quiet").output == ""
    assert len(json.loads(Path("x.json").read_text())) == 6
    arguments = ["valid", "colours.cfg", "colours.weights", "--data", "colours", "--quiet"]
    assert run(*arguments, "--json", "v.json", "--confusion", "c.png").output == ""
    assert Path("v.json").exists()
    assert Path("c.png").exists()


def test_predict_patterns_and_lists(job: Path) -> None:
    (job / "pictures.txt").write_text("colours/val/red/0.png\ncolours/val/blue/1.png\n")
    for source, count in (("colours/val/*/1.png", 3), ("pictures.txt", 2)):
        assert len(json.loads(run(*PREDICT, source, "--json", "-").stdout)) == count


def test_predict_goes_on_after_a_picture_that_cannot_be_used(job: Path) -> None:
    (job / "colours/val/green/0.png").write_bytes(b"")
    result = run(*PREDICT, "colours/val/green", status=2)
    assert "colours/val/green/1.png" in result.stdout
    assert result.stderr == "colours/val/green/0.png  the file is empty\n1 of 2 pictures could not be used\n"


def test_predict_with_weights_that_are_no_numbers(job: Path) -> None:
    network = Network.from_cfg("colours.cfg", device="numpy")
    network.parameters.values[:] = np.nan
    network.save_weights("nan.weights")
    result = run("predict", "colours.cfg", "nan.weights", "colours/val/red/0.png", status=2)
    assert "colours/val/red/0.png  the network's output is not a number; are these the right weights?" in result.stderr


def test_class_names_come_from_the_nearest_place(job: Path) -> None:
    (job / "own.names").write_text("B\nG\nR\n")
    (job / "w").mkdir()
    (job / "colours.weights").rename(job / "w/colours.weights")
    arguments = ["predict", "colours.cfg", "w/colours.weights", "colours/val/red/0.png"]
    assert "3 classes (no names)" in run(*arguments).stdout
    (job / "data").mkdir()
    (job / "data/colours.yaml").write_text("format: folders\npath: ../colours\n")
    assert "3 classes (data/colours.yaml)" in run(*arguments).stdout
    (job / "colours.names").write_text("b\ng\nr\n")
    assert "3 classes (colours.names)" in run(*arguments).stdout
    (job / "w/colours.names").write_text("b\ng\nr\n")
    assert "3 classes (w/colours.names)" in run(*arguments).stdout
    assert "3 classes (own.names)" in run(*arguments, "own.names").stdout
    assert "3 classes (own.names)" in run(*arguments, "--names", "own.names").stdout
    assert "3 classes (colours)" in run(*arguments, "--data", "colours").stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["colours.cfg", "colours/val/red/0.png"], "a .cfg and a .weights file are needed"),
        ([*PREDICT[1:], "none.png", "more.png"], "none.png  no such picture or folder\nmore.png  no such"),
        ([*PREDICT[1:], "empty"], "empty  is a folder without pictures"),
        ([*PREDICT[1:], "colours/val/red/0.png", "--names", "two.names"], "two.names has 2 classes, the network tells 3"),
        ([*PREDICT[1:], "colours/val/red/0.png", "--names", "none.names"], "none.names  no such file"),
        ([*PREDICT[1:], "colours/val/red/0.png", "-t", "0"], "0 is not in the range"),
        (["tiny.cfg", "tiny.weights", "colours/val/red/0.png"], "tiny.cfg  has [yolo]: it is a detector"),
    ],
)
def test_predict_with_wrong_input(job: Path, arguments: list[str], message: str) -> None:
    (job / "empty").mkdir()
    (job / "two.names").write_text("a\nb\n")
    Network.from_cfg(tiny_job.write_cfg(job), device="numpy").save_weights("tiny.weights")
    assert message in run("predict", *arguments, status=2).stderr


# Other views of a picture, and Darknet's words for them


@pytest.mark.parametrize(
    "word, flags",
    [
        ("valid10", ["--crops", "10"]),
        ("validmulti", ["--scales", "224,288,320,352,384"]),
        ("validcrop", ["--stretch"]),
    ],
)
def test_darknets_words_for_other_views(job: Path, word: str, flags: list[str]) -> None:
    network = Network.from_cfg("colours.cfg", "colours.weights", device="numpy")
    network.layers[1].weights[:] *= 0.0001  # less sure, so that every pixel counts
    network.save_weights("colours.weights")
    files = write_lists(job).name, "colours.cfg", "colours.weights", "--json"
    run(word, *files, "word.json")
    run("valid", *files, "flags.json", *flags)
    run("valid", *files, "plain.json")
    found, expected, plain = (json.loads(Path(f"{name}.json").read_text()) for name in ("word", "flags", "plain"))
    assert found == expected and found["pictures"] == 6
    assert found["loss"] != plain["loss"]


def test_predict_with_ten_crops(job: Path) -> None:
    picture = write_picture(job / "a.png", 1)
    result = run("predict", "colours.cfg", "colours.weights", picture, "--crops", "10", "--names", "x.names", status=2)
    assert "x.names" in result.stderr
    write_lists(job)
    out = run("predict", "colours.cfg", "colours.weights", picture, "--crops", "10", "--names", "colours.names").stdout
    assert "Green" in out


def test_views_that_make_no_sense(job: Path) -> None:
    files = "colours.cfg", "colours.weights", "--data", "colours"
    assert "only one" in run("valid", *files, "--crops", "10", "--stretch", status=2).stderr
    assert "expected lengths in pixels" in run("valid", *files, "--scales", "big", status=2).stderr
    assert "each is a length in pixels" in run("valid", *files, "--scales", "0", status=2).stderr


def test_label_tells_the_pictures_of_the_test_list(job: Path) -> None:
    data = write_lists(job)
    assert "colours.data  has no test=" in run("label", data, "colours.cfg", "colours.weights", status=2).stderr
    (job / "test.list").write_text("pictures/valid0_green.png\npictures/gone.png\n")
    data.write_text(data.read_text() + "test=test.list\n")
    result = run("label", data.name, "colours.cfg", "colours.weights", status=2)
    assert re.search(r"valid0_green.png +Green", result.stdout)
    assert "pictures/gone.png  no such picture" in result.stderr
