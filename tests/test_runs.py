"""Run folders side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from darkpy.cli.main import cli
from darkpy.errors import InputError
from darkpy.runs import COLORS, Difference, differing_arguments, differing_cfg, find_runs, open_run, plot_runs
from darkpy.training import TrainingSettings, train
from darkpy.training.run_folder import RunFolder
from tests.tiny_job import write_cfg, write_job


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three runs: two of tiny.cfg, with and without an evaluation, and one of other.cfg."""
    write_job(tmp_path)
    write_cfg(tmp_path, "other.cfg", learning_rate=0.002, max_batches=5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
    common: dict[str, Any] = {"data": "data/tiny.yaml", "device": "numpy"}
    train(TrainingSettings("tiny.cfg", every=2, **common))
    train(TrainingSettings("tiny.cfg", measure=False, seed=3, time_limit=0, **common))
    train(TrainingSettings("other.cfg", every=4, **common))
    return tmp_path


def darkpy(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


def test_runs_are_found_in_order(job: Path) -> None:
    shutil.copytree("runs/tiny-2", "runs/tiny-10")
    assert [run.name for run in find_runs(["runs"])] == ["other-1", "tiny-1", "tiny-2", "tiny-10"]
    assert [run.name for run in find_runs(["runs/tiny-2", "runs/other-1"])] == ["tiny-2", "other-1"]
    with pytest.raises(InputError) as caught:
        find_runs(["pictures", "runs/tiny-7", "runs"])
    assert str(caught.value) == "pictures  no runs are here\nruns/tiny-7  no such folder"


def test_state_of_a_run(job: Path) -> None:
    pytest.importorskip("fcntl")
    states = [(run.status.state, run.status.iteration, run.status.max_batches) for run in find_runs(["runs"])]
    assert states == [("finished", 5, 5), ("finished", 6, 6), ("stopped", 1, 6)]
    path = job / "runs/tiny-1/status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "running"}))
    with RunFolder(path.parent).locked():
        assert open_run(path.parent).status.state == "running"
    assert open_run(path.parent).status.state == "failed"
    assert open_run(path.parent).status.reason == "its process is gone"
    for damage in ("{", "[]", '{"a": 1}'):
        path.write_text(damage)
        assert open_run(path.parent).status.state == "failed"


def test_list(job: Path) -> None:
    listed = darkpy("runs", "list")
    assert listed.exit_code == 0
    lines = listed.stdout.splitlines()
    assert lines[0].split() == ["run", "cfg", "data", "iterations", "loss", "best", "at", "time", "state"]
    assert lines[1].split()[:4] == ["runs/other-1", "other.cfg", "data/tiny.yaml", "5/5"]
    assert "mAP@50" in lines[1]
    assert lines[3].split()[:4] == ["runs/tiny-2", "tiny.cfg", "data/tiny.yaml", "1/6"]
    assert lines[3].split()[-6:] == ["stopped", "the", "time", "limit", "of", "0:00"]
    assert "mAP" not in lines[3]
    assert darkpy("runs", "list", "nowhere").exit_code == 2


def test_differences(job: Path) -> None:
    first, second, other = (open_run(f"runs/{name}") for name in ("tiny-1", "tiny-2", "other-1"))
    assert differing_arguments([first, second]) == [
        Difference("seed", (0, 3)),
        Difference("measure", (None, False)),
        Difference("every", (2, None)),
        Difference("time_limit", (None, 0)),
    ]
    assert differing_cfg([first, second]) == []
    assert differing_cfg([first, second, other]) == [
        Difference("[net] learning_rate", ("0.001", "0.001", "0.002")),
        Difference("[net] max_batches", ("6", "6", "5")),
    ]
    text = other.cfg.read_text()
    other.cfg.write_text(text.replace("filters=8\nsize=3", "filters=8\npad=0\nsize=3").replace("jitter=.1\n", ""))
    assert differing_cfg([first, other])[2:] == [
        Difference("0 [convolutional] pad", ("1", "0")),
        Difference("3 [yolo] jitter", (".1", None)),
    ]
    other.cfg.write_text(text.replace("[maxpool]\nsize=2\nstride=2\n", ""))
    assert differing_cfg([first, other])[2:] == [Difference("layers", ("4, other kinds", "3, other kinds"))]


def test_compare(job: Path) -> None:
    compared = darkpy("runs", "compare", "runs/tiny-1", "runs/other-1")
    assert compared.exit_code == 0
    lines = compared.stdout.splitlines()
    assert cells(lines[0])[0] == "arguments"
    assert any(line.split() == ["[net]", "learning_rate", "0.001", "0.002"] for line in lines)
    assert any(line.split() == ["iterations", "6/6", "5/5"] for line in lines)
    same = darkpy("runs", "compare", "runs/tiny-1", "runs/tiny-2").stdout
    assert "the same" in same
    alone = darkpy("runs", "compare", "runs/tiny-1")
    assert alone.exit_code == 2
    assert "it takes two runs to compare" in alone.stderr


def colours(path: Path) -> set[str]:
    image = cv2.imread(str(path))
    assert image is not None
    return {f"#{colour:06x}" for colour in np.unique(image.astype(int) @ (1, 1 << 8, 1 << 16)).tolist()}


def test_plot(job: Path) -> None:
    done = darkpy("runs", "plot", "runs/tiny-1", "runs/other-1", "--out", "both.png")
    assert done.stdout == "2 runs drawn: both.png\n"
    assert {COLORS[0], COLORS[1]} <= colours(job / "both.png")
    assert COLORS[2] not in colours(job / "both.png")
    assert darkpy("runs", "plot").stdout == "3 runs drawn: runs.png\n"
    assert COLORS[2] in colours(job / "runs.png")
    assert darkpy("runs", "plot", "--out", "chart.jpg").exit_code == 2


def test_a_chart_without_scores_is_lower_and_one_of_nothing_is_none(job: Path) -> None:
    plot_runs([open_run("runs/tiny-1")], "high.png")
    plot_runs([open_run("runs/tiny-2")], "low.png")
    assert cv2.imread("high.png").shape[:2] == (800, 1100)
    assert cv2.imread("low.png").shape[:2] == (500, 1100)
    (job / "runs/tiny-2/log.jsonl").write_text("")
    with pytest.raises(InputError, match="runs/tiny-2  no iteration is logged"):
        plot_runs([open_run("runs/tiny-2")], "none.png")
    assert not Path("none.png").exists()
