"""Options that the commands that train have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from darkpy.cli.main import cli
from tests.tiny_job import write_cfg, write_job


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the tiny job and a run of it that was stopped after its first iteration."""
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
    stopped = train("tiny.cfg", "--time-limit", "0s", "--device", "numpy", "--seed", "3")
    assert stopped.exit_code == 0, stopped.output
    return tmp_path


def train(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["detector", "train", *arguments])


def test_options_arrive(job: Path) -> None:
    write_cfg(job, "other.cfg", max_batches=3)
    given = ("--patience", "7", "-time_limit", "1h30m", "--freeze", "1", "-on_nan", "rollback", "-auto_subdivisions")
    assert train("other.cfg", "--data", "data/tiny.yaml", "--device", "numpy", *given).exit_code == 0
    arguments = yaml.safe_load(Path("runs/other-1/args.yaml").read_text())
    names = ("patience", "time_limit", "freeze", "on_nan", "auto_subdivisions", "subdivisions")
    assert [arguments[name] for name in names] == [7, 5400, 1, "rollback", True, 1]


def test_a_run_goes_on_with_other_options(job: Path) -> None:
    resumed = train("--resume", "runs/tiny-1", "--time-limit", "1h", "--workers", "0")
    assert resumed.exit_code == 0, resumed.output
    assert "going on with runs/tiny-1 from iteration 1" in resumed.output
    arguments = yaml.safe_load(Path("runs/tiny-1/args.yaml").read_text())
    assert (arguments["time_limit"], arguments["workers"], arguments["seed"]) == (3600, 0, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--amp", "tiny.cfg", "--device", "cpu"], "fp16 needs a GPU; the CPU computes in float32: leave it out"),
        (["tiny.cfg", "--amp=fp8"], "'fp8' is not one of 'fp16', 'bf16', 'tf32'"),
        (["--resume", "runs/tiny-1", "tiny.cfg"], "--resume takes everything from the run folder; leave out tiny.cfg"),
        (["--resume", "runs/tiny-1", "--seed", "3", "--no-map"], "--seed, --map cannot be changed when a run is resumed"),
        (["--resume", "runs/tiny-2"], "runs/tiny-2  no such run folder"),
        (["tiny.cfg", "--time-limit", "90"], "'90' is no length of time such as 90s, 30m, 1h30m or 2d"),
        (["tiny.cfg", "--on-nan", "go"], "'go' is not one of"),
        ([], "no .cfg file is named"),
    ],
)
def test_wrong_use(job: Path, arguments: list[str], message: str) -> None:
    result = train(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in Path("runs").iterdir()] == ["tiny-1"]


@pytest.mark.parametrize(
    "command, message",
    [
        ("detector train shapes.cfg --amp bf16", "bf16 needs a GPU"),
        ("detector train bad.cfg --data shapes.yaml", "bad.cfg:6  [convolutional] activation=leeky: expected one of"),
        ("detector map shapes.cfg shapes.weights --half", "fp16 needs a GPU"),
    ],
)
def test_what_is_known_at_once_is_said_before_data_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.cfg").write_text("[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nactivation=leeky\n")
    result = CliRunner().invoke(cli, [*command.split(), "--device", "cpu"])
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.cfg"]


def test_a_classifier_is_not_a_detector(job: Path) -> None:
    result = CliRunner().invoke(cli, ["classifier", "train", "--resume", "runs/tiny-1"])
    assert result.exit_code == 2
    assert "runs/tiny-1  is a run of darkpy detector train; resume it with that" in result.stderr
