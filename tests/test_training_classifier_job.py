"""Whole trainings of a classifier, from files to files."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from darkpy import resources
from darkpy.builder import build
from darkpy.config.cfg import read_cfg
from darkpy.errors import ConfigError, DataError
from darkpy.network import Network
from darkpy.training import Outcome, TrainingResult, resume
from darkpy.training.classifier_job import ClassifierSettings, PreparedClassifier, train_classifier
from darkpy.training.progress import ProgressLines
from tests import tiny_job
from tests.tiny_classes import write_cfg, write_job, write_lists, write_picture


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job, as working folder."""
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(**settings: Any) -> tuple[TrainingResult, str]:
    """Train; the result and what was printed."""
    stream = io.StringIO()
    settings = {"cfg": "colours.cfg", "data": "colours", "device": "numpy", "workers": 1, **settings}
    return train_classifier(ClassifierSettings(**settings), ProgressLines(stream)), stream.getvalue()


def rows(result: TrainingResult) -> list[dict[str, str]]:
    with (result.folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder_has_everything(job: Path) -> None:
    result, printed = run(every=4, top=2)
    assert result.outcome is Outcome.FINISHED
    names = {path.name for path in result.folder.iterdir()}
    assert names >= {
        "args.yaml", "best.weights", "chart.png", "colours.cfg", "colours.names", "confusion.png", "final.weights",
        "last.weights", "results.csv",
    }  # fmt: skip
    assert (result.folder / "colours.names").read_text() == "blue\ngreen\nred\n"
    assert cv2.imread(str(result.folder / "confusion.png")) is not None
    arguments = yaml.safe_load((result.folder / "args.yaml").read_text())
    assert (arguments["cfg"], arguments["data"], arguments["top"]) == ("colours.cfg", "colours", 2)
    assert set(rows(result)[0]) >= {"iteration", "loss", "average_loss", "learning_rate", "top1", "top2", "seconds"}
    assert not set(rows(result)[0]) & {"box", "objectness", "classification", "map"}
    assert [bool(row["top1"]) for row in rows(result)] == [False, False, False, True, False, True]
    assert "train 12 pictures   val 6   3 classes   memory" in printed
    assert re.search(r"^  it 4  top-1 \d+\.\d  top-2 \d+\.\d  best \d+\.\d  saved runs/colours-1/best.weights$", printed, re.MULTILINE)
    assert re.search(r"^done in 0:0\d   loss \S+   top-1 \d", printed, re.MULTILINE)
    assert result.evaluation is not None
    assert result.best == pytest.approx(max(float(row["top1"]) for row in rows(result) if row["top1"]), abs=1e-5)


def test_it_learns(job: Path) -> None:
    write_cfg(job, max_batches=60)
    result, _ = run()
    assert result.evaluation is not None
    assert result.evaluation.scores == {"top-1": 1.0}
    assert result.average_loss < 0.2
    network = Network.from_cfg("colours.cfg", result.folder / "final.weights", device="numpy")
    network.names = (result.folder / "colours.names").read_text().split()
    picture = write_picture(job / "new.png", 0, seed=99)
    assert network.classify(cv2.imread(str(picture)), 1)[0].name == "red"  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_weights_whatever_the_workers(job: Path) -> None:
    write_cfg(job, more="angle=10\naspect=1.3\ncutmix=1\nhue=.1\nlabel_smooth_eps=.1")
    weights = []
    for seed, workers in ((3, 0), (3, 2), (4, 2)):
        result, _ = run(seed=seed, workers=workers, measure=False)
        weights.append((result.folder / "final.weights").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(job: Path, stop: int) -> None:
    write_cfg(job, more="angle=10\nmixup=1\n", max_batches=6)
    whole, _ = run(every=2)
    for _ in range(stop):  # the limit stops a run after one iteration
        if not Path("runs/colours-2").exists():
            stopped, _ = run(every=2, time_limit=1e-9)
        else:
            stopped = resume("runs/colours-2", None, PreparedClassifier, time_limit=1e-9)
    assert (stopped.outcome, stopped.iteration) == (Outcome.STOPPED, stop)
    assert not (stopped.folder / "final.weights").exists()
    resumed = resume(stopped.folder, None, PreparedClassifier, time_limit=3600)
    assert resumed.outcome is Outcome.FINISHED
    for name in ("final", "best", "last"):
        path = resumed.folder / f"{name}.weights"
        assert path.read_bytes() == (whole.folder / f"{name}.weights").read_bytes()
    assert [row["loss"] for row in rows(resumed)] == [row["loss"] for row in rows(whole)]
    assert (resumed.folder / "confusion.png").exists()


def test_darknets_data_file(job: Path) -> None:
    write_lists(job)
    result, printed = run(data="colours.data")
    assert (result.folder / "colours.names").read_text() == "Red\nGreen\nBlue\n"
    assert "top2" in rows(result)[0], "top=2 in the .data file"
    assert "top-2" in printed


def test_pictures_that_cannot_be_used_are_reported(job: Path) -> None:
    data = write_lists(job)
    (job / "pictures/train0_red.png").write_bytes(b"no picture")
    with (job / "train.list").open("a") as file:
        file.write("pictures/train0_rot.png\npictures/none.png\n")
    write_picture(job / "pictures/train0_rot.png", 0)
    result, printed = run(data=str(data))
    problems = (result.folder / "problems.txt").read_text()
    assert "train.list:14  pictures/none.png: no such picture" in problems
    assert "pictures/train0_rot.png  left out: its path contains none of the labels" in problems
    assert "pictures/train0_red.png  is damaged" in problems
    assert "3 problems" in printed


def test_what_has_no_effect_is_said(job: Path) -> None:
    (job / "colours/val/white").mkdir()
    result, printed = run(cfg=str(write_cfg(job, filters=4, more="letter_box=1")))
    assert "colours.cfg:12  [net] letter_box has no effect on a classifier" in printed
    assert "colours  there is no picture to train with of white" in printed
    assert result.outcome is Outcome.FINISHED


def test_without_validation_pictures_nothing_is_measured(job: Path) -> None:
    (job / "colours/val").rename(job / "somewhere")
    result, printed = run()
    assert result.evaluation is None
    assert not (result.folder / "confusion.png").exists()
    assert "without a validation set" in printed
    with pytest.raises(DataError, match="has no folder val"):
        run(measure=True)


@pytest.mark.parametrize(
    "change, message",
    [
        (("filters=3", "filters=4"), r"colours.cfg:\d+  \[softmax\] colours has 3 classes, the network tells 4 apart"),
        (("[avgpool]\n", ""), r"colours.cfg:\d+  \[softmax\] colours has 3 classes, it gives 4x4 values for each"),
        (("[softmax]\n", ""), r"colours.cfg  has no \[softmax\] or other layer with a loss"),
        (("max_batches=6", "max_batches=0"), r"colours.cfg:9  \[net\] needs max_batches="),
    ],
)
def test_networks_that_cannot_be_trained(job: Path, change: tuple[str, str], message: str) -> None:
    path = job / "colours.cfg"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ConfigError, match=message):
        run()
    assert not Path("runs").exists()


def test_a_detector_is_trained_elsewhere(job: Path) -> None:
    tiny_job.write_cfg(job)
    with pytest.raises(ConfigError, match=r"tiny.cfg  has \[yolo\]: it is a detector, train it with darkpy detector train"):
        run(cfg="tiny.cfg")


def test_a_hierarchy_is_trained_with_whole_classes(job: Path) -> None:
    (job / "colours.tree").write_text("red -1\ngreen -1\nlime 1\n")
    for folder in (job / "colours/train", job / "colours/val"):
        (folder / "blue").rename(folder / "lime")
    (job / "colours.yaml").write_text("path: colours\ntrain: train\nval: val\nnames: [red, green, lime]\n")
    path = write_cfg(job, max_batches=40)
    path.write_text(path.read_text().replace("[softmax]\n", "[softmax]\ntree=colours.tree\n"))
    result, _ = run(data="colours.yaml")
    assert result.evaluation is not None
    # green is no leaf: an answer is red or lime.
    assert result.evaluation.scores["top-1"] <= 2 / 3
    path.write_text(path.read_text().replace("[net]\n", "[net]\nmixup=1\nlabel_smooth_eps=.1\n"))
    with pytest.raises(ConfigError, match=r"(?s):2  \[net\] mixup= does not go with a tree.*:3  \[net\] label_smooth_eps="):
        run(data="colours.yaml")


# The digits


def test_the_cfg_of_the_digits_says_the_truth_about_itself() -> None:
    path = resources.find("cfg", "digits.cfg")
    blueprint = build(read_cfg(path), Network.from_cfg(path, device="numpy").backend)
    assert blueprint.warnings == []
    introduction = " ".join(line.lstrip("# ") for line in path.read_text().split("\n\n")[0].splitlines())
    stated = re.search(r"(\d+) layers, ([\d.]+) M parameters, ([\d.]+) BFLOPs at 16 x 16, grey", introduction)
    assert stated is not None
    assert int(stated[1]) == len(blueprint.layers)
    parameters = sum(parameter.size for layer in blueprint.layers for parameter in layer.parameters())
    assert float(stated[2]) == round(parameters / 1e6, 2)
    assert float(stated[3]) == round(sum(layer.operations() for layer in blueprint.layers) / 1e9, 2)
    assert (blueprint.options.width, blueprint.options.height, blueprint.options.channels) == (16, 16, 1)
    assert not blueprint.options.flip


@pytest.mark.slow
def test_digits_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of the schedule; the whole reaches more than 98 %."""
    pytest.importorskip("sklearn.datasets")
    monkeypatch.chdir(tmp_path)
    cfg = resources.find("cfg", "digits.cfg").read_text()
    (tmp_path / "digits.cfg").write_text(cfg.replace("max_batches=400", "max_batches=50"))
    result, printed = run(cfg="digits.cfg", data=None, device="cpu", workers=None)
    assert "train 1,437 pictures   val 360   10 classes" in printed
    assert result.evaluation is not None
    assert result.evaluation.scores["top-1"] > 0.85
