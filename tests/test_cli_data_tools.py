"""``darkpy data check``, ``convert``, ``split``, ``darkpy init`` and ``darkpy detector calc_anchors``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import cv2
import pytest
from click.testing import CliRunner

from darkpy.cli.data_tools import parse_size
from darkpy.cli.main import cli
from darkpy.data.opening import open_dataset, open_splits
from darkpy.fitting import build
from darkpy.network import Network
from darkpy.training import TrainingSettings
from darkpy.training.preparation import prepare
from tests.test_cli_commands import job, run  # noqa: F401  # a fixture
from tests.tiny_job import write_cfg, write_pictures

COMMANDS = ["data check", "data convert", "data split", "init", "detector calc_anchors"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    text = run(*command.split(), "--help").output
    assert text.startswith(f"Usage: cli {command}") and all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["data", "check"], "Missing argument"),
        (["data", "check", "a", "b"], "name one data set, and the cfg of its network if there is one"),
        (["data", "check", "tiny.cfg"], "name one data set"),
        (["data", "check", "data/tiny.yaml", "a.cfg", "b.cfg"], "name one data set"),
        (["data", "check", "nothing.yaml"], "nothing.yaml  no such file"),
        (["data", "check", "data/tiny.yaml", "nothing.cfg"], "nothing.cfg  no such file"),
        (["data", "check", "data/tiny.yaml", "--size", "big"], "--size big: expected pixels such as 416, or 608x416"),
        (["data", "check", "data/tiny.yaml", "--names", "none.names"], "none.names  no such file"),
        (["data", "check", "data/tiny.yaml", "classifier.cfg"], "has no detection head"),
        (["data", "convert", "data/tiny.yaml", "--out", "new"], "Missing option '--to'"),
        (["data", "convert", "data/tiny.yaml", "--to", "voc"], "Missing option '--out'"),
        (["data", "convert", "data/tiny.yaml", "--to", "csv", "--out", "new"], "'csv' is not one of"),
        (["data", "convert", "data/tiny.yaml", "--to", "voc", "--out", "pictures"], "is there already and not empty"),
        (["data", "convert", "none", "--to", "voc", "--out", "new"], "none  no such file"),
        (["data", "split", "data/tiny.yaml", "--val", "1.2"], "1.2 is not in the range"),
        (["data", "split", "data/tiny.yaml", "--val", ".6", "--test", ".5"], "the shares must be above 0, and 1 in all"),
        (["data", "split", "none"], "none  no such file"),
        (["init"], "no data set is named; use --data"),
        (["init", "--data", "none.yaml"], "none.yaml  no such file"),
        (["init", "--data", "data/tiny.yaml", "--base", "yolov9"], "yolov9.cfg  no such file"),
        (["init", "--data", "data/tiny.yaml", "--size", "100"], "width 100 is no multiple of 32, as this network needs it"),
        (["init", "--data", "data/tiny.yaml", "--out", "tiny.cfg"], "tiny.cfg  is there already"),
        (["init", "--data", "data/tiny.yaml", "--base", "classifier"], "has no head with anchors"),
        (["detector", "calc_anchors"], "Missing argument"),
        (["detector", "calc_anchors", "tiny.data"], "name a .cfg file, or -width and -height"),
        (["detector", "calc_anchors", "tiny.data", "-width", "32"], "name a .cfg file, or -width and -height"),
        (["detector", "calc_anchors", "tiny.data", "-width", "32", "-height", "32", "--write"], "--write needs the cfg"),
        (["detector", "calc_anchors", "tiny.data", "shapes.cfg", "--write"], "shapes.cfg  no such file to write into"),
        (["detector", "calc_anchors", "tiny.data", "tiny.cfg", "-num_of_clusters", "9"], "different shapes, too few for 9"),
        (["detector", "calc_anchors", "tiny.data", "tiny.cfg", "--split", "test"], "tiny.data  has no test: the pictures to test with"),
    ],
)  # fmt: skip
def test_mistakes(job: Path, arguments: list[str], message: str) -> None:  # noqa: F811
    before = sorted(job.rglob("*"))
    result = run(*arguments, status=2)
    assert message in result.stderr
    assert sorted(job.rglob("*")) == before


def test_sizes() -> None:
    assert (parse_size("416"), parse_size("608x416")) == ((416, 416), (608, 416))
    for text in ("0", "4x", "1x2x3", "-3", "4.5"):
        with pytest.raises(click.UsageError, match="expected pixels"):
            parse_size(text)


# check


def test_check_of_a_good_data_set(job: Path) -> None:  # noqa: F811
    result = run("data", "check", "data/tiny.yaml", "tiny.cfg")
    assert "data/tiny.yaml   2 classes   32x32   tiny.cfg\n" in result.stdout
    assert re.search(r"^pictures +6 +2$", result.stdout, re.MULTILINE)
    assert re.search(r"^ 0 +bright +3 +3 +1 +1 +█+$", result.stdout, re.MULTILINE)
    assert re.search(r"^ +8-16 +6 +2 +█{24}$", result.stdout, re.MULTILINE)
    assert re.search(r"^anchors of tiny.cfg: avg IoU = \d\d\.\d\d %", result.stdout, re.MULTILINE)
    assert result.stdout.endswith("nothing is wrong with 8 pictures\n")


def test_check_finds_writes_draws_and_cleans(job: Path) -> None:  # noqa: F811
    (job / "pictures/1.txt").write_text("0 .5 .5 .5 .5\n5 .5 .5 .5 .5\n")
    (job / "pictures/7.png").write_bytes((job / "pictures/7.png").read_bytes()[:200])
    labels = {path: path.read_text() for path in (job / "pictures").glob("*.txt")}
    options = ["--size", "64x32", "--json", "check.json", "--plot", "check.png", "--fix", "--out", "clean"]
    result = run("data", "check", "tiny.data", *options, status=2)
    assert result.stderr.splitlines()[-3:] == [
        f"{job}/pictures/1.txt:2  class 5 is not one of the 2 classes, 0 to 1",
        f"{job}/pictures/7.png  the picture is cut short after 200 bytes",
        "2 problems; 2 of 8 pictures affected",
    ]
    assert "64x32   no cfg named" in result.stdout and "nothing is wrong" not in result.stdout
    assert "json: check.json\nplot: check.png\ncleaned: clean/tiny-clean.yaml   train 5   val 1\n" in result.stdout
    numbers = json.loads(Path("check.json").read_text())
    assert [problem["where"] for problem in numbers["problems"]] == [f"{job}/pictures/1.txt:2", f"{job}/pictures/7.png"]
    assert cv2.imread("check.png") is not None
    assert {path: path.read_text() for path in (job / "pictures").glob("*.txt")} == labels
    assert "nothing is wrong with 6 pictures" in run("data", "check", "clean/tiny-clean.yaml").stdout
    assert "train 5 pictures" in run("detector", "train", "tiny.cfg", "--data", "clean/tiny-clean.yaml").stdout


def test_check_prints_the_first_of_many_problems(job: Path) -> None:  # noqa: F811
    (job / "pictures/0.txt").write_text("nonsense\n" * 60)
    result = run("data", "check", "tiny.data", status=2)
    assert "... and 10 more; --all prints them\n60 problems; 1 of 8 pictures affected\n" in result.stderr
    assert run("data", "check", "tiny.data", "--all", status=2).stderr.count("expected 5 numbers") == 60


def test_check_of_a_list_of_pictures(job: Path) -> None:  # noqa: F811
    result = run("data", "check", "data/train.txt", "--names", "data/tiny.names")
    assert "nothing is wrong with 6 pictures" in result.stdout and "bright" in result.stdout


# convert and split


def test_convert_round_trip_and_training_on_it(job: Path) -> None:  # noqa: F811
    result = run("data", "convert", "data/tiny.yaml", "--to", "coco", "--out", "new/coco")
    assert result.stdout == "new/coco/data.yaml   train, val   8 pictures, 8 objects\n"
    run("data", "convert", "new/coco", "--to", "voc", "--out", "new/voc", "--link")
    run("data", "convert", "new/voc/data.yaml", "--to", "yolo", "--out", "new/yolo")
    for path in (job / "pictures").glob("*.txt"):
        assert next(Path("new/yolo").rglob(f"[tv]*/{path.name}")).read_text() == path.read_text()
    for data in ("new/coco", "new/coco/annotations/instances_train.json", "new/voc", "new/yolo/data.data"):
        assert "train 6 pictures, 6 boxes" in run("detector", "train", "tiny.cfg", "--data", data, "--no-map").stdout


def test_convert_names_what_it_leaves_out(job: Path) -> None:  # noqa: F811
    (job / "pictures/1.png").unlink()
    (job / "pictures/2.png").write_bytes(b"")
    result = run("data", "convert", "data/tiny.yaml", "--to", "yolo", "--out", "new")
    assert "data/train.txt:2" in result.stderr and "pictures/2.png  the file is empty" in result.stderr
    assert "6 pictures, 6 objects" in result.stdout


def test_split(job: Path) -> None:  # noqa: F811
    result = run("data", "split", "data/tiny.yaml", "--val", ".25", "--test", ".25", "--out", "parts", "--seed", "3")
    assert re.search(r"^pictures +4 +50.0 +2 +25.0 +2 +25.0$", result.stdout, re.MULTILINE)
    assert re.search(r"^bright +2 +50.0 +1 +25.0 +1 +25.0$", result.stdout, re.MULTILINE)
    assert "written: parts/tiny-split.yaml, parts/train.txt, parts/val.txt, parts/test.txt\n" in result.stdout
    splits = open_splits("parts/tiny-split.yaml")
    assert [len(part) for part in splits.values()] == [4, 2, 2]
    assert len({path.name for part in splits.values() for path in part.pictures}) == 8
    first = Path("parts/train.txt").read_text()
    run("data", "split", "data/tiny.yaml", "--val", ".25", "--test", ".25", "--out", "parts", "--seed", "3")
    assert Path("parts/train.txt").read_text() == first


def test_split_of_a_folder(job: Path) -> None:  # noqa: F811
    run("data", "split", "pictures", "--out", "pictures", "--name", "mine")
    assert sorted(Path("pictures/train.txt").read_text().split() + Path("pictures/val.txt").read_text().split()) == [
        f"{n}.png" for n in range(8)
    ]
    assert len(open_dataset("pictures/mine.yaml", "val")) in (1, 2)


# calc_anchors


def test_calc_anchors_in_darknets_manner(job: Path) -> None:  # noqa: F811
    write_pictures(job / "pictures", 8)
    for number in range(8):
        (job / f"pictures/{number}.txt").write_text(f"{number % 2} .5 .5 .{1 + number // 2}01 .2{number}\n")
    arguments = ["detector", "calc_anchors", "tiny.data", "-num_of_clusters", "3", "-width", "416", "-height", "320", "-show"]
    result = run(*arguments)
    assert result.stdout.startswith("num_of_clusters = 3, width = 416, height = 320\n")
    assert "written: anchors.txt, counters_per_class.txt, anchors.png\n" in result.stdout
    line = Path("anchors.txt").read_text()
    assert re.fullmatch(r"(\d+,\d+, ){2}\d+,\d+\n", line) and f"anchors = {line}" in result.stdout
    assert re.search(r"^avg IoU = \d\d\.\d\d %", result.stdout, re.MULTILINE)
    assert Path("counters_per_class.txt").read_text() == "counters_per_class = 3, 3\n"
    assert cv2.imread("anchors.png") is not None
    run(*arguments)
    assert Path("anchors.txt").read_text() == line
    result = run("detector", "calc_anchors", "tiny.data", "-num_of_clusters", "2", "-width", "13", "-height", "13")
    assert re.search(r"^anchors = \d+\.\d{4},\d+\.\d{4}, ", result.stdout, re.MULTILINE)


def test_calc_anchors_writes_the_cfg(job: Path) -> None:  # noqa: F811
    (job / "pictures/0.txt").write_text("0 .5 .5 .9 .8\n")
    before = (job / "tiny.cfg").read_text()
    result = run("detector", "calc_anchors", "data/tiny.yaml", "tiny.cfg", "--write", "--out", "found")
    assert "as the cfg has them now: avg IoU = " in result.stdout
    assert result.stdout.endswith("written: found/anchors.txt, found/counters_per_class.txt, found/anchors.png\n"
                                  "anchors written into tiny.cfg\n")  # fmt: skip
    after = (job / "tiny.cfg").read_text()
    assert Path("found/anchors.txt").read_text() == "9.6000,12.8000, 28.8000,25.6000\n"
    assert after == before.replace("8,8, 16,16", "10,13, 29,26") and after != before
    write_cfg(job, "three.cfg")
    result = run("detector", "calc_anchors", "data/tiny.yaml", "three.cfg", "-num_of_clusters", "1", "--write", status=2)
    assert "[yolo] has 2 anchors, not 1: use -num_of_clusters 2, or change num=, mask= and filters= too" in result.stderr
    assert (job / "three.cfg").read_text() == before


# init


def test_init_writes_a_cfg_that_trains(job: Path) -> None:  # noqa: F811
    (job / "pictures/0.txt").write_text("0 .5 .5 .9 .8\n")
    result = run("init", "--data", "data/tiny.yaml", "--base", "tiny.cfg", "--size", "64x32", "--out", "mine.cfg")
    assert "size       64x32\nclasses    2, filters 14\nanchors    " in result.stdout
    assert "iterations 6,000 of 4 pictures, steps at 4,800, 5,400\n" in result.stdout
    assert result.stdout.endswith("written: mine.cfg\ntrain:   darkpy detector train mine.cfg --data data/tiny.yaml\n")
    prepared = prepare(TrainingSettings("mine.cfg", data="data/tiny.yaml", device="numpy"), print)
    assert prepared.network.width == 64 and prepared.network.options.max_batches == 6000
    text = Path("mine.cfg").read_text()
    assert "is there already" in run("init", "--data", "data/tiny.yaml", "--base", "tiny", "--out", "mine.cfg",
                                     "--size", "32", status=2).stderr  # fmt: skip
    assert Path("mine.cfg").read_text() == text
    run("init", "--data", "data/tiny.yaml", "--base", "tiny", "--out", "mine.cfg", "--size", "32", "--force",
        "--iterations", "50")  # fmt: skip
    assert "max_batches=50" in Path("mine.cfg").read_text()


def test_init_tells_a_command_that_can_be_typed(job: Path) -> None:  # noqa: F811
    (job / "pictures/0.txt").write_text("0 .5 .5 .9 .8\n")
    result = run("init", "--data", "data/tiny.yaml", "--base", "tiny.cfg", "--size", "32", "--out", "my cells.cfg")
    command = "darkpy detector train 'my cells.cfg' --data data/tiny.yaml\n"
    assert f"train:   {command}" in result.stdout and f"# Train:  {command}" in Path("my cells.cfg").read_text()


def test_init_finds_a_name_and_a_base(job: Path) -> None:  # noqa: F811
    for number in range(6):
        (job / f"pictures/{number}.txt").write_text(f"0 .5 .5 .{number + 1} .2\n")
    run("init", "--data", "data/tiny.yaml", "--size", "64")
    config = Network.from_cfg("tiny-yolov4-tiny.cfg", device="numpy")
    assert (config.width, config.classes) == (64, 2)


def test_init_asks_on_a_terminal(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for number in range(6):
        (job / f"pictures/{number}.txt").write_text(f"0 .5 .5 .{number + 1} .2\n")
    monkeypatch.setattr("darkpy.cli.init.is_terminal", lambda: True)
    answers = "nothing.yaml\ndata/tiny.yaml\nyolov3-tini\nyolov3-tiny\n100\nlarge\n96\n"
    result = CliRunner().invoke(cli, ["init"], input=answers)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("data set: ") == result.stderr.count("cfg to begin with: a file, or ") == 2
    assert "yolov4-tiny" in result.stderr and "digits" not in result.stderr, "what there is to begin with"
    for told in ("nothing.yaml  no such file", "did you mean 'yolov3-tiny.cfg'", "width 100 is no multiple of 32; take",
                 "--size large: expected pixels"):  # fmt: skip
        assert told.replace("of 32; take", "of 32") in result.stderr
    assert build(Network.from_cfg("tiny-yolov3-tiny.cfg", device="numpy").config).options.width == 96
