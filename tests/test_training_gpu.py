"""Whole trainings on the GPU: the weights are those of the CPU, and a run goes on there or back."""

from __future__ import annotations

import csv
import os
from dataclasses import astuple
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from darkpy.config.cfg import read_cfg
from darkpy.detection import Detection
from darkpy.errors import OutOfMemory
from darkpy.network import Network
from darkpy.training import Outcome, TrainingResult, TrainingSettings, resume, train
from darkpy.training.progress import ProgressLines
from darkpy.training.state import capture
from darkpy.training.time_limit import TimeLimit
from tests import hostcuda
from tests.backends import ON_REAL_GPU, why_no_gpu
from tests.tiny_job import ROOT, darkpy, environment, write_job

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]

NEAR = 2e-4
"""Difference of weights beside the largest that several updates in float32 leave, computed in different orders."""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job, with an average over its second half, as working folder."""
    cfg = write_job(tmp_path, max_batches=8, learning_rate=0.01)
    cfg.write_text(cfg.read_text().replace("burn_in=2", "burn_in=2\nema_alpha=.5"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("darkpy.training.ema.TAIL", 2)
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
    return tmp_path


def run(device: str, out: str, **settings: Any) -> TrainingResult:
    given = {"cfg": "tiny.cfg", "workers": 0, "measure": False, "report": False, **settings}
    return train(TrainingSettings(device=device, out=out, **given))


def weights_of(folder: Path, name: str = "final") -> np.ndarray:
    return np.fromfile(folder / f"{name}.weights", np.float32)[5:]


def assert_near(folder: Path, other: Path, name: str = "final") -> None:
    found, expected = weights_of(folder, name), weights_of(other, name)
    assert np.isfinite(expected).all()
    assert np.abs(found - expected).max() < NEAR * np.abs(expected).max()


@pytest.fixture
def trained(job: Path) -> Path:
    """The same training on both devices, in ``gpu`` and ``cpu``."""
    for device, out in (("gpu", "gpu"), ("numpy", "cpu")):
        run(device, out, measure=True)
    return job


def test_weights_and_detections_are_those_of_the_cpu(trained: Path) -> None:
    for name in ("final", "ema"):
        assert_near(Path("gpu"), Path("cpu"), name)
    picture = cv2.imread("pictures/0.png")
    assert picture is not None
    found, expected = (
        Network.from_cfg("tiny.cfg", "cpu/final.weights", device=device).detect(picture, thresh=0.005)
        for device in ("gpu", "numpy")
    )
    assert 0 < len(expected) == len(found)
    for one, other in zip(found, expected):
        assert one.name == other.name
        assert numbers_of(one) == pytest.approx(numbers_of(other), rel=1e-4)


def numbers_of(detection: Detection) -> list[float]:
    return [value for value in astuple(detection) if not isinstance(value, str)]


@pytest.mark.parametrize("first, then", [("gpu", "numpy"), ("numpy", "gpu"), ("gpu", "gpu")])
@pytest.mark.parametrize("adam", [0, 1])
def test_a_run_goes_on_on_another_device(
    job: Path, first: str, then: str, adam: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With moments that are not zero and a moving average; on the same device it is the same run, bit for bit."""
    cfg = job / "tiny.cfg"
    cfg.write_text(cfg.read_text().replace("burn_in=2", f"burn_in=2\nadam={adam}"))
    whole = run(then, "whole")

    def stop_at_5(self: TimeLimit, trainer: Any, record: Any) -> None:
        if record.iteration == 5:
            trainer.stop(Outcome.STOPPED, "the test")

    monkeypatch.setattr(TimeLimit, "after_iteration", stop_at_5)
    assert run(first, "parts", time_limit=0).iteration == 5
    assert resume("parts", device=then).iteration == 8
    for name in ("final", "ema"):
        if first == then:
            assert weights_of(Path("parts"), name).tobytes() == weights_of(whole.folder, name).tobytes()
        else:
            assert_near(Path("parts"), whole.folder, name)


@pytest.mark.skipif(ON_REAL_GPU, reason="the stand-in can be busy until it is waited for")
def test_a_run_read_late_is_one_read_at_once(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With graphs and a device that is always behind, or launched one by one and known at once: the same files."""
    monkeypatch.setenv("DARKPY_CUDA_GRAPHS", "0")
    run("gpu", "plain", measure=True)
    monkeypatch.delenv("DARKPY_CUDA_GRAPHS")
    monkeypatch.setenv("HOSTCUDA_BUSY", "1")
    run("gpu", "late", measure=True)
    for name in ("last", "final", "ema", "best"):
        assert weights_of(Path("late"), name).tobytes() == weights_of(Path("plain"), name).tobytes()
    late, plain = (
        list(csv.DictReader((Path(out) / "results.csv").read_text().splitlines())) for out in ("late", "plain")
    )
    assert [row["iteration"] for row in late] == [str(number) for number in range(1, 9)]
    for name in ("loss", "average_loss", "box", "objectness", "classification", "learning_rate", "map"):
        assert [row[name] for row in late] == [row[name] for row in plain]
    assert all(float(row["loss"]) > 0 for row in late)


def test_a_run_is_taken_back_after_a_nan_that_is_read_late(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOSTCUDA_BUSY", "1")
    start = Network.start_update

    def spoiled(self: Network, *arguments: Any) -> Any:
        if self.iteration + 1 == 5 and self.rate_scale == 1:
            self.backend.fill(self.layers[2].biases[:1], np.nan)
        return start(self, *arguments)

    monkeypatch.setattr(Network, "start_update", spoiled)
    settings = TrainingSettings(
        device="gpu", out="run", cfg="tiny.cfg", workers=0, measure=False, report=False, on_nan="rollback"
    )
    result = train(settings, ProgressLines())
    printed = capsys.readouterr().out
    assert (result.outcome, result.iteration) == (Outcome.FINISHED, 8)
    assert "iteration 5: the loss is NaN or infinite; the weights of layer 2 [convolutional]" in printed
    assert "rollback 1 of 3: back to iteration 0, with 0.5 of the learning rate" in printed
    assert np.isfinite(weights_of(Path("run"))).all()


def test_a_state_is_in_the_order_of_the_axes(job: Path) -> None:
    """Filters of 3 x 3 x 3 lie channels last on the GPU; files have them as the CPU does."""
    states = []
    for device in ("gpu", "numpy"):
        network = Network.from_cfg("tiny.cfg", training=True, device=device)
        states.append(capture(network)["values"])
    assert (states[0] == states[1]).all()


def test_too_little_memory_on_the_device_is_found_beforehand(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkpy.backends.cuda import CudaBackend

    network = Network(read_cfg("tiny.cfg"), training=True, keep_gradients=False, device="gpu")
    needed = network.memory_plan().total
    monkeypatch.setattr(CudaBackend, "free_memory", lambda self: needed - 1)
    with pytest.raises(OutOfMemory, match=r"tiny\.cfg:3  \[net\] training with batch=4 subdivisions=2"):
        run("gpu", "run")
    run("numpy", "run")


def test_the_system_s_memory_does_not_limit_the_device(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.training.preparation.available_memory", lambda: 300_000)
    run("gpu", "run")
    with pytest.raises(OutOfMemory):
        run("numpy", "other")


def test_the_command_trains_and_detects(job: Path) -> None:
    done = darkpy("detector", "train", "tiny.cfg", "--device", "gpu", "--no-map", cwd=job, env=with_gpu())
    assert done.returncode == 0, done.stderr
    assert "cuda backend" in done.stdout
    final = "runs/tiny-1/final.weights"
    found = darkpy("detect", "tiny.cfg", final, "pictures/0.png", "-thresh", ".01", "-i", "0", cwd=job, env=with_gpu())
    assert found.returncode == 0, found.stderr
    assert Path("predictions/0.png").is_file()


def with_gpu() -> dict[str, str]:
    """The environment of a process that sees the GPU from its start."""
    if ON_REAL_GPU:
        return environment()
    seen = hostcuda.environment()
    return {**environment(), **seen, "PYTHONPATH": os.pathsep.join([str(ROOT), seen["PYTHONPATH"]])}
