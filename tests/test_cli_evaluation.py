"""``darkpy detector map``, ``recall`` and ``valid`` through click's runner."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from darkpy.data.coco import open_coco
from darkpy.network import Network
from tests.test_cli_commands import job, run  # noqa: F401  # a fixture

FILES = ["tiny.data", "tiny.cfg", "tiny.weights"]


@pytest.mark.parametrize("command", ["map", "recall", "valid"])
def test_help(command: str) -> None:
    text = run("detector", command, "--help").output
    assert text.startswith(f"Usage: cli detector {command}") and all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("command", ["map", "recall", "valid"])
@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "Missing argument"),
        (["tiny.cfg"], "a .cfg and a .weights file are needed"),
        (["tiny.cfg", "tiny.weights", "nothing.yaml"], "nothing.yaml  no such file"),
        (["tiny.cfg", "tiny.weights", "--split", "all"], "'all' is not one of"),
        (["tiny.cfg", "tiny.weights", "--split", "test"], "tiny.yaml  has no test"),
        (["tiny.cfg", "tiny.weights", "--batch", "0"], "0 is not in the range"),
        (["tiny.cfg", "tiny.weights", "--nms", "2"], "2.0 is not in the range"),
        (["tiny.cfg", "cut.weights"], "cut.weights  "),
    ],
)
def test_mistakes(job: Path, command: str, arguments: list[str], message: str) -> None:  # noqa: F811
    (job / "cut.weights").write_bytes((job / "tiny.weights").read_bytes()[:-40])
    assert message in run("detector", command, *arguments, status=2).stderr


# map


def test_map_prints_darknets_and_cocos_numbers(job: Path) -> None:  # noqa: F811
    result = run("detector", "map", *FILES)
    assert re.search(r"^id +class +objects +AP@50 .* COCO AP$", result.stdout, re.MULTILINE)
    assert re.search(r"^COCO, % +\.50:\.95 +\.50 +\.75 +small", result.stdout, re.MULTILINE)
    assert re.search(r"^AP +\d+\.\d\d ", result.stdout, re.MULTILINE)


def test_map_draws_and_writes(job: Path) -> None:  # noqa: F811
    result = run("detector", "map", *FILES, "--plots", "plots", "--json", "map.json", "--tta")
    assert "plots: plots/precision-recall.png, plots/f1.png, plots/confusion.png\n" in result.stdout
    assert all(path.stat().st_size > 5000 for path in Path("plots").iterdir())
    numbers = json.loads(Path("map.json").read_text())
    assert set(numbers["coco"]) >= {"ap", "ap_50", "ar_100"} and "coco_ap" in numbers["classes"][0]


def test_map_gives_the_same_numbers_for_any_batch(job: Path) -> None:  # noqa: F811
    for batch in (1, 3, 8):
        run("detector", "map", *FILES, "--split", "train", "--batch", batch, "--json", f"{batch}.json")
    assert Path("1.json").read_text() == Path("3.json").read_text() == Path("8.json").read_text()


# recall


def test_recall(job: Path) -> None:  # noqa: F811
    result = run("detector", "recall", *FILES, "--json", "recall.json", "-thresh", "0")
    assert re.search(r"^2 pictures +\d of 2 objects +RPs/Img: \d+\.\d\d +IOU: [\d.]+% +Recall: ", result.stdout, re.MULTILINE)
    numbers = json.loads(Path("recall.json").read_text())
    assert (numbers["pictures"], numbers["objects"], numbers["thresh"]) == (2, 2, 0)


# valid


def test_valid_writes_what_the_data_file_says(job: Path) -> None:  # noqa: F811
    result = run("detector", "valid", *FILES)
    assert re.search(r"^[\d,]+ detections in 2 pictures: results/comp4_det_test_bright.txt and 1 more$", result.stdout, re.M)
    (job / "tiny.data").write_text((job / "tiny.data").read_text() + "eval=coco\nresults=there\n")
    assert "2 pictures: there/coco_results.json" in run("detector", "valid", *FILES).stdout
    assert "2 pictures: there/mine.json" in run("detector", "valid", *FILES, "-out", "mine").stdout
    assert "2 pictures: here/kitti_results" in run("detector", "valid", *FILES, "--format", "kitti", "--results", "here").stdout


def test_unreadable_pictures_are_named(job: Path) -> None:  # noqa: F811
    (job / "pictures/7.png").write_bytes(b"")
    for command in ("map", "recall", "valid"):
        assert "pictures/7.png  the file is empty\n" in run("detector", command, *FILES).stderr
    (job / "pictures/6.png").unlink()
    assert "data/val.txt:1" in run("detector", "recall", *FILES).stderr


def test_cocos_own_program_agrees_with_map_on_the_files_of_valid(job: Path) -> None:  # noqa: F811
    """The whole way: labels converted to COCO's form, detections written for it, judged by pycocotools."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from tests.test_evaluation_coco import judge_files

    net = Network.from_cfg("tiny.cfg", device="numpy", seed=3)
    net.parameters.values[:] *= 0.2
    net.save_weights("tiny.weights")
    run("data", "convert", "tiny.data", "--to", "coco", "--out", "coco")
    same = ["--thresh", "0.005", "--nms", ".45", "--split", "train"]
    result = run("detector", "valid", "coco", "tiny.cfg", "tiny.weights", *same, "--out", "found")
    assert "6 pictures: results/found.json" in result.stdout
    run("detector", "map", "tiny.data", "tiny.cfg", "tiny.weights", "--split", "train", "--json", "map.json")
    expected = judge_files(Path("coco/annotations/instances_train.json"), Path("results/found.json"))
    numbers = list(json.loads(Path("map.json").read_text())["coco"].values())
    np.testing.assert_allclose([-1 if value is None else value for value in numbers], expected, rtol=0, atol=1e-6)
    assert (expected > 0).sum() >= 4 and len(open_coco("coco/annotations/instances_train.json")) == 6
