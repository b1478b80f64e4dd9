"""Runs that are interrupted end as if they had not been."""

from __future__ import annotations

import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from darkpy.errors import InputError, TrainingError
from darkpy.training import Outcome, TrainingResult, TrainingSettings, resume, train
from darkpy.training.chart import Curves
from darkpy.training.json_log import JsonLog, read_log
from darkpy.training.progress import ProgressLines
from darkpy.training.run_folder import RunFolder
from darkpy.training.state import State
from tests.tiny_job import environment, write_job

ITERATIONS = 14
TIMES = ("images_per_second", "waited", "seconds")
DROPOUT = "[maxpool]\nsize=2\nstride=2\n\n[dropout]\nprobability=.3\n"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job, with changing sizes and dropout, as working folder."""
    write_job(tmp_path, random=1, max_batches=ITERATIONS)
    change_cfg(tmp_path, "[maxpool]\nsize=2\nstride=2\n", DROPOUT)
    monkeypatch.chdir(tmp_path)
    # What is drawn is tested elsewhere; here it would take most of the time.
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
    return tmp_path


def change_cfg(folder: Path, old: str, new: str, name: str = "tiny.cfg") -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def run(**settings: Any) -> TrainingResult:
    settings = {"cfg": "tiny.cfg", "device": "numpy", "workers": 1, "every": 4, "seed": 5, **settings}
    return train(TrainingSettings(**settings))


def signal_at(iteration: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """Let the process get a signal when an iteration is computed and before anything is done with it."""
    write = JsonLog.line

    def line(self: JsonLog, record: Any) -> str:
        if record.iteration == iteration:
            os.kill(os.getpid(), number)
        return write(self, record)

    monkeypatch.setattr(JsonLog, "line", line)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def assert_same(folder: Path, other: Path) -> None:
    """The same weights and logs, but for the time things took."""
    for name in ("final", "last", "best"):
        assert (folder / f"{name}.weights").read_bytes() == (other / f"{name}.weights").read_bytes(), name
    assert rows(folder) == rows(other)
    logs = [list(read_log(path / "log.jsonl")) for path in (folder, other)]
    for line in (*logs[0], *logs[1]):
        for key in (*TIMES, "time"):
            del line[key]
    assert logs[0] == logs[1]
    states = [State.load(path / "state.npz") for path in (folder, other)]
    for name, array in states[0].arrays.items():
        assert np.array_equal(array, states[1].arrays[name]), name
    assert states[0].callbacks["Evaluator"] == states[1].callbacks["Evaluator"]


@pytest.mark.parametrize("stop", [1, 4, 9, 10, 13])
def test_a_stopped_run_ends_as_if_it_had_not_been(job: Path, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(out="whole")
    with monkeypatch.context() as patch:
        signal_at(stop, patch)
        stopped = run(out="parts")
    assert (stopped.outcome, stopped.iteration, stopped.signal) == (Outcome.STOPPED, stop, signal.SIGTERM)
    resumed = resume("parts")
    assert (resumed.outcome, resumed.iteration) == (Outcome.FINISHED, ITERATIONS)
    assert resumed.average_loss == whole.average_loss
    assert_same(whole.folder, resumed.folder)


def test_adam_and_the_moving_average_are_kept(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.training.ema.TAIL", 2)
    change_cfg(job, "batch=4\n", "batch=4\nadam=1\nema_alpha=.6\n")
    whole = run(out="whole")
    with monkeypatch.context() as patch:
        signal_at(9, patch)
        run(out="parts")
    assert (job / "parts/ema.weights").exists()
    assert_same(whole.folder, resume("parts").folder)
    assert (job / "parts/ema.weights").read_bytes() == (job / "whole/ema.weights").read_bytes()
    assert (job / "parts/ema.weights").read_bytes() != (job / "whole/final.weights").read_bytes()


def test_recurrent_layers_remember(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recurrent = "[conv_lstm]\noutput=8\nsize=3\npad=1\nactivation=leaky\n"
    change_cfg(job, DROPOUT, f"[maxpool]\nsize=2\nstride=2\n\n{recurrent}")
    change_cfg(job, "random=1", "random=0")
    whole = run(out="whole", measure=False)
    with monkeypatch.context() as patch:
        signal_at(5, patch)
        run(out="parts", measure=False)
    resume("parts")
    assert (job / "parts/final.weights").read_bytes() == (job / "whole/final.weights").read_bytes()
    assert whole.outcome is Outcome.FINISHED


def test_an_evaluation_that_was_broken_off_is_made_up_for(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(out="whole")
    with monkeypatch.context() as patch:
        from darkpy.training import evaluator

        def copy(*networks: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        patch.setattr(evaluator, "copy_parameters", copy)
        stopped = run(out="parts")
    assert stopped.iteration == 4
    assert rows(stopped.folder)[-1]["map"] == ""
    assert_same(whole.folder, resume("parts").folder)


def test_a_signal_in_the_last_evaluation_leaves_it_to_be_done(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(out="whole", every=100)
    with monkeypatch.context() as patch:
        from darkpy.training import evaluator

        patch.setattr(evaluator, "copy_parameters", lambda *networks: os.kill(os.getpid(), signal.SIGINT))
        stopped = run(out="parts", every=100)
    assert (stopped.outcome, stopped.iteration) == (Outcome.STOPPED, ITERATIONS)
    assert not (job / "parts/final.weights").exists()
    assert_same(whole.folder, resume("parts").folder)


def test_the_chart_shows_the_whole_course(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Curves] = []
    with monkeypatch.context() as patch:
        signal_at(6, patch)
        run(out="parts")
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: drawn.append(curves))
    resume("parts")
    assert drawn[-1].iterations == list(range(1, ITERATIONS + 1))
    assert [iteration for iteration, _ in drawn[-1].scores["mAP@50"]] == [4, 8, 12, 14]
    assert drawn[-1].losses == [line["loss"] for line in read_log(job / "parts/log.jsonl")]


def test_a_validation_set_that_was_not_there_before_is_used(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (job / "data/tiny.yaml").read_text()
    (job / "data/tiny.yaml").write_text(data.replace("val: val.txt\n", ""))
    with monkeypatch.context() as patch:
        signal_at(6, patch)
        run(out="parts")
    (job / "data/tiny.yaml").write_text(data)
    resume("parts")
    measured = [row["iteration"] for row in rows(job / "parts") if row["map"]]
    assert measured == ["10", "14"]


def test_a_run_is_resumed_from_another_folder(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        signal_at(3, patch)
        run()
    monkeypatch.chdir("/")
    assert resume(job / "runs/tiny-1").outcome is Outcome.FINISHED
    assert len(rows(job / "runs/tiny-1")) == ITERATIONS


def test_the_original_cfg_may_change_or_go(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(out="whole")
    with monkeypatch.context() as patch:
        signal_at(3, patch)
        run(out="parts")
    (job / "tiny.cfg").unlink()
    assert_same(whole.folder, resume("parts").folder)


def test_what_differs_from_before_is_told(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        signal_at(3, patch)
        run(out="parts")
    change_cfg(job, f"max_batches={ITERATIONS}", f"max_batches={ITERATIONS + 1}", "parts/tiny.cfg")
    lines = (job / "data/train.txt").read_text().splitlines()
    (job / "data/train.txt").write_text("\n".join(lines[:5]))
    stream = io.StringIO()
    assert resume("parts", ProgressLines(stream), workers=0).iteration == ITERATIONS + 1
    assert "the cfg in the run folder was changed" in stream.getvalue()
    assert "the data set had 6 pictures to train with, it now has 5" in stream.getvalue()
    assert "going on with parts from iteration 3" in stream.getvalue()
    assert yaml.safe_load((job / "parts/args.yaml").read_text())["workers"] == 0


def test_settings_that_change_the_result_stay(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal_at(3, monkeypatch)
    run(out="parts")
    with pytest.raises(InputError, match="seed cannot be changed when a run is resumed"):
        resume("parts", seed=3)


def test_nothing_left_to_do(job: Path) -> None:
    run(out="whole")
    with pytest.raises(InputError, match="whole  has done all its 14 iterations; to train longer, raise max_batches in"):
        resume("whole")
    change_cfg(job, f"max_batches={ITERATIONS}", "max_batches=16", "whole/tiny.cfg")
    assert resume("whole").iteration == 16
    assert len(rows(job / "whole")) == 16


def test_a_network_that_was_changed_is_refused(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal_at(3, monkeypatch)
    run(out="parts")
    change_cfg(job, "filters=8", "filters=9", "parts/tiny.cfg")
    with pytest.raises(InputError, match=r"parts/state.npz  does not fit parts/tiny.cfg"):
        resume("parts")


@pytest.mark.parametrize("damage", [b"", b"PK", b"no zip file"])
def test_a_damaged_state_is_refused(job: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    signal_at(1, monkeypatch)
    run(out="parts")
    (job / "parts/state.npz").write_bytes(damage)
    with pytest.raises(InputError, match=r"parts/state.npz  cannot be read"):
        resume("parts")


def test_a_folder_without_a_run(job: Path) -> None:
    with pytest.raises(InputError, match="none  no such run folder"):
        resume("none")
    with pytest.raises(InputError, match="pictures  is no run folder: it has no args.yaml"):
        resume("pictures")


def test_a_run_that_was_killed_before_anything_was_saved_begins_again(job: Path) -> None:
    whole = run(out="whole")
    started = job / "parts"
    started.mkdir()
    for name in ("args.yaml", "tiny.cfg"):
        (started / name).write_bytes((whole.folder / name).read_bytes())
    (started / "state.npz.abc.tmp").touch()
    (started / "results.csv").write_text("iteration,lo")
    assert_same(whole.folder, resume("parts").folder)
    assert not list(started.glob("*.tmp"))


def test_one_training_in_a_folder_at_a_time(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    signal_at(3, monkeypatch)
    run(out="parts")
    with RunFolder(Path("parts")).locked():
        with pytest.raises(InputError, match="parts  is in use: a training is running in it"):
            resume("parts")
        assert RunFolder(Path("parts")).is_locked()
    assert not RunFolder(Path("parts")).is_locked()


# A full disk


def test_a_full_disk_is_told_and_what_was_saved_stays_good(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(out="whole", data="tiny.data")
    (job / "tiny.data").write_text((job / "tiny.data").read_text() + "savelast=3\n")
    told = []
    # The first two are the cfg and the arguments; from then on it can be any file that does not fit any more.
    for call in (3, 5, 6, 7, 8, 11, 12, 13, 14):
        folder = f"call-{call}"
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full_from(call))
            with pytest.raises(TrainingError, match="  cannot be written: No space left on device$") as caught:
                run(out=folder, data="tiny.data")
        told.append(str(caught.value).split("  ")[0].removeprefix(f"{folder}/"))
        assert not list((job / folder).glob("*.tmp"))
        assert_same(whole.folder, resume(folder).folder)
    last = "backup/tiny_last.weights"
    assert told == [
        "results.csv", "state.npz", "last.weights", last, "status.json", "state.npz", "last.weights", last, "best.weights",
    ]  # fmt: skip


def full_from(call: int) -> Any:
    """A disk that is full from a certain write on."""
    calls = iter(range(1, 1000))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) >= call:
            raise OSError(28, "No space left on device")
        real(descriptor)

    return fsync


# Processes that are killed

DIES_AT_A_CALL = """
import os, pathlib, signal, sys

calls = 0

def deadly(real):
    def call(*arguments):
        global calls
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    return call

os.fsync = deadly(os.fsync)
pathlib.Path.replace = deadly(pathlib.Path.replace)
from darkpy.cli.main import cli
cli(sys.argv[2:])
"""

WHOLE = ("detector", "train", "tiny.data", "tiny.cfg", "--device", "numpy", "--seed", "5", "--map-every", "4")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_again_and_again_while_it_saves(job: Path) -> None:
    (job / "tiny.data").write_text((job / "tiny.data").read_text() + "savelast=2\n")
    whole = run(data="tiny.data", out="whole")
    arguments: tuple[str, ...] = (*WHOLE, "--out", "parts")
    # Before there is a state; the first state of iteration 2 before it is on the disk, before it has its name, and when
    # it is newer than last.weights; the same at iteration 4, where best.weights are newer than both.
    for call in (5, 13, 14, 15, 18, 19):
        process = subprocess.run(
            [sys.executable, "-c", DIES_AT_A_CALL, str(call), *arguments],
            cwd=job,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == -signal.SIGKILL, process.stdout + process.stderr
        arguments = ("detector", "train", "--resume", "parts")
    before = State.load(job / "parts/state.npz").seen
    assert 0 < before < ITERATIONS * 4, "it had come some way"
    assert_same(whole.folder, resume("parts").folder)
    assert not list((job / "parts").glob("*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_at_random_moments(job: Path) -> None:
    iterations = 50
    change_cfg(job, f"max_batches={ITERATIONS}", f"max_batches={iterations}")
    (job / "tiny.data").write_text((job / "tiny.data").read_text() + "savelast=3\n")
    whole = run(data="tiny.data", out="whole", every=10)
    arguments: tuple[str, ...] = (*WHOLE[:-1], "10", "--out", "parts")
    chance = random.Random(1)
    for kill in range(1, 4):
        process = subprocess.Popen(
            [sys.executable, "-m", "darkpy", *arguments], cwd=job, env=environment(), stdout=subprocess.DEVNULL
        )
        wait_for_lines(process, job / "parts/results.csv", 12 * kill)
        time.sleep(chance.random() / 20)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        arguments = ("detector", "train", "--resume", "parts")
    assert_same(whole.folder, resume("parts").folder)


def wait_for_lines(process: subprocess.Popen[bytes], path: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_bytes().splitlines()) < lines:
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.002)
