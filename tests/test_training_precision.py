"""Whole trainings with 16 bits on the GPU: as good as in float32, resumed bit for bit, told of in the logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpy.errors import InputError
from darkpy.network import Network
from darkpy.training import Outcome, TrainingResult, TrainingSettings, resume, train
from darkpy.training.progress import Progress
from darkpy.training.state import State
from darkpy.training.time_limit import TimeLimit
from tests.backends import why_no_gpu
from tests.tiny_job import write_job

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job as working folder."""
    write_job(tmp_path, max_batches=8, learning_rate=0.01)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
    return tmp_path


class Heard(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def run(out: str, precision: str, progress: Progress | None = None, **settings: Any) -> TrainingResult:
    given = {"cfg": "tiny.cfg", "workers": 0, "measure": False, "report": False, **settings}
    return train(TrainingSettings(device="gpu", out=out, precision=precision, **given), progress)


def log(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision, near", [("fp16", 0.02), ("bf16", 0.04)])
def test_losses_are_those_of_float32(job: Path, precision: str, near: float) -> None:
    cfg = job / "tiny.cfg"
    cfg.write_text(cfg.read_text().replace("burn_in=2", "burn_in=2\nloss_scale=64"))
    run("exact", "fp32")
    run("short", precision)
    exact, found = ([line["loss"] for line in log(name)] for name in ("exact", "short"))
    assert found != exact
    np.testing.assert_allclose(found, exact, rtol=near)
    assert exact[-1] < 0.9 * exact[0]


def test_the_log_has_the_scale_and_says_what_was_left_out(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.loss_scaling.FIRST_SCALE", 2.0**16)
    heard = Heard()
    run("run", "fp16", heard)
    lines = log("run")
    skipped = [line["skipped"] for line in lines]
    assert skipped[0] == 1
    assert lines[0]["loss_scale"] == 2.0**15
    assert lines[-1]["loss_scale"] == 2.0 ** (16 - skipped[-1])
    assert skipped[-1] < 7
    count = "1 update" if skipped[-1] == 1 else f"{skipped[-1]} updates"
    said = [text for text in heard.messages if "left out" in text]
    assert said[0].startswith(f"before iteration {skipped[-1] + 1} {count} left out, gradients being beyond 16 bits")
    assert said[-1] == f"{skipped[-1]} of 8 updates left out because of the loss scale"


def test_a_run_goes_on_bit_for_bit_with_its_scale(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.loss_scaling.FIRST_SCALE", 2.0**16)
    run("whole", "fp16")

    def stop_at_5(self: TimeLimit, trainer: Any, record: Any) -> None:
        if record.iteration == 5:
            trainer.stop(Outcome.STOPPED, "the test")

    monkeypatch.setattr(TimeLimit, "after_iteration", stop_at_5)
    run("parts", "fp16", time_limit=0)
    state = State.load(Path("parts/state.npz"))
    assert state.loss_scale["scale"] < 2.0**16
    assert state.loss_scale["skipped"] > 0
    assert resume("parts").iteration == 8
    assert Path("parts/final.weights").read_bytes() == Path("whole/final.weights").read_bytes()
    assert [line["loss_scale"] for line in log("parts")] == [line["loss_scale"] for line in log("whole")]
    with pytest.raises(InputError, match="fp16 needs a GPU; the CPU computes in float32"):
        resume("parts", device="cpu")


def test_inference_finds_the_same(job: Path) -> None:
    run("run", "fp32")
    picture = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    exact, half = (
        Network.from_cfg("tiny.cfg", "run/final.weights", device="gpu", precision=precision).forward(picture)
        for precision in ("fp32", "fp16")
    )
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.01
