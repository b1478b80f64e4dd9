"""Whole trainings with 16 bits on the GPU: they go as emulated, are resumed bit for bit, told of in the logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from darkpy.cli.main import cli
from darkpy.errors import InputError
from darkpy.network import Network
from darkpy.training import Outcome, TrainingResult, TrainingSettings, resume, train
from darkpy.training.progress import Progress
from darkpy.training.state import State, capture, restore
from darkpy.training.time_limit import TimeLimit
from tests.backends import SHORT_PRECISIONS, need_tensor_cores, why_no_gpu
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
    return train(TrainingSettings(out=out, precision=precision, **{"device": "gpu", **given}), progress)


def log(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", [*SHORT_PRECISIONS, "tf32"])
def test_losses_are_those_of_the_emulation(job: Path, precision: str) -> None:
    """Far nearer to them than to those of float32; before a number was rounded to its other neighbour, the same."""
    need_tensor_cores(precision)
    cfg = job / "tiny.cfg"
    cfg.write_text(cfg.read_text().replace("burn_in=2", "burn_in=2\nloss_scale=64"))
    run("exact", "fp32", device="cpu")
    run("emulated", precision, device="emulated")
    run("found", precision)
    exact, emulated, found = (np.array([line["loss"] for line in log(name)]) for name in ("exact", "emulated", "found"))
    np.testing.assert_allclose(found[:2], emulated[:2], rtol=1e-5)
    assert np.linalg.norm(found - emulated) < 0.25 * np.linalg.norm(exact - emulated)
    np.testing.assert_allclose(found, emulated, rtol=0.002)
    assert found[-1] < 0.9 * found[0]


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


def command(*arguments: str) -> str:
    result = CliRunner().invoke(cli, [*arguments, "--device", "gpu"])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_commands(job: Path) -> None:
    command("detector", "train", "--amp", "tiny.cfg", "--no-map", "--no-report", "--workers", "0", "--quiet")
    assert "precision: fp16" in Path("runs/tiny-1/args.yaml").read_text()
    run("exact", "fp32")
    final = "exact/final.weights"
    found = []
    for given in ((), ("--half",)):
        command("detect", "tiny.cfg", final, "pictures/0.png", "-thresh", ".005", "--json", "found.json", *given)
        found.append([box["confidence"] for box in json.loads(Path("found.json").read_text())[0]["objects"]])
    # Which boxes suppress each other may differ; the surest are the same.
    assert found[0] != found[1]
    np.testing.assert_allclose(found[1][:5], found[0][:5], rtol=0.01)
    assert "mAP" in command("detector", "map", "tiny.cfg", final, "--data", "data/tiny.yaml", "-half", "fp16")
    assert "training, 2 pictures at a time" in command("net", "time", "tiny.cfg", "--amp", "--training", "--runs", "1")
    command("net", "features", "pictures/0.png", "tiny.cfg", final, "--layer", "0", "--half")
    assert Path("features.png").stat().st_size > 0


def test_memory_of_recurrent_layers_is_kept_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "memory.cfg"
    path.write_text(
        "[net]\nbatch=2\nwidth=4\nheight=4\nchannels=3\nmax_batches=9\n[lstm]\noutput=3\n[connected]\noutput=2\n[cost]\n"
    )
    network = Network.from_cfg(path, training=True, device="gpu", precision="fp16")
    network.train_batch(np.random.default_rng(0).random((2, 3, 4, 4), np.float32), np.ones((2, 2), np.float32))
    kept = capture(network)
    assert kept["0.hidden"].dtype == np.float32
    assert np.abs(kept["0.hidden"]).min() > 0
    again = Network.from_cfg(path, training=True, device="gpu", precision="fp16")
    restore(again, State(seen=2, width=4, height=4, arrays=kept), "state")
    np.testing.assert_array_equal(capture(again)["0.hidden"], kept["0.hidden"])
