"""The command as a real process: streams, signals, exit status."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from darkpy.network import Network
from tests.tiny_job import ROOT, darkpy, environment, write_cfg, write_job


@pytest.fixture
def job(tmp_path: Path) -> Path:
    write_job(tmp_path)
    return tmp_path


def test_train_map_and_detect(job: Path) -> None:
    trained = darkpy("detector", "train", "tiny.cfg", cwd=job)
    assert trained.returncode == 0, trained.stderr
    assert "it 6/6  100 %" in trained.stdout
    weights = job / "runs/tiny-1/best.weights"
    measured = darkpy("detector", "map", "tiny.cfg", weights, cwd=job)
    assert measured.returncode == 0, measured.stderr
    assert "mean average precision (mAP@0.50)" in measured.stdout
    found = darkpy("detect", "tiny.cfg", weights, "pictures/0.png", "-thresh", ".01", cwd=job)
    assert found.returncode == 0, found.stderr
    assert (job / "predictions/0.png").is_file()
    for process in (trained, measured, found):
        assert all(character == "\n" or character.isprintable() for character in process.stdout)
        assert process.stderr == ""


def test_wrong_input_has_status_2_and_no_traceback(job: Path) -> None:
    write_cfg(job, "bad.cfg", filters=15)
    process = darkpy("net", "check", "bad.cfg", cwd=job)
    assert process.returncode == 2
    assert "bad.cfg:26  [convolutional] filters=15 does not fit" in process.stderr
    assert "Traceback" not in process.stderr
    assert darkpy("detector", "trian", cwd=job).returncode == 2
    assert darkpy("detect", "x.jpg", "-tresh", "1", cwd=job).returncode == 2


@pytest.mark.parametrize("command", [["net", "help", "yolo"], ["--help"], ["net", "summary", "yolov3-tiny.cfg"]])
def test_a_broken_pipe_is_quiet(command: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "darkpy", *command],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
    process.stderr.close()


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom darkpy.cli.main import cli\n"
        "try: cli(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'cv2', 'numba', 'matplotlib', 'rich', 'yaml'} & set(sys.modules)), file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert process.stderr.strip() == "[]"


def test_names_that_the_terminal_cannot_show_are_no_failure(job: Path) -> None:
    Network.from_cfg(job / "tiny.cfg", device="numpy").save_weights(job / "tiny.weights")
    (job / "own.names").write_text("größe\n猫\n", encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-m", "darkpy", "detect", "tiny.cfg", "tiny.weights", "own.names", "pictures/0.png",
         "-thresh", "0"],
        cwd=job, env={**environment(), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}, capture_output=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert b"gr??e" in process.stdout


# Signals


def start_endless(job: Path) -> subprocess.Popen[str]:
    """A training that would take for ever, in its tenth iteration or a little later."""
    write_cfg(job, max_batches=10_000_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "darkpy", "detector", "train", "tiny.cfg", "--no-map"],
        cwd=job,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    results = job / "runs/tiny-1/results.csv"
    deadline = time.monotonic() + 60
    while not results.exists() or len(results.read_text().splitlines()) < 10:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


WITHOUT_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def iterations(folder: Path) -> list[int]:
    with (folder / "results.csv").open(newline="") as file:
        return [int(row["iteration"]) for row in csv.DictReader(file)]


@WITHOUT_SIGNALS
@pytest.mark.parametrize("number, name", [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_saves_and_stops_and_training_can_go_on(job: Path, number: signal.Signals, name: str) -> None:
    process = start_endless(job)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopping after this iteration; Ctrl-C again stops at once" in errors
    assert "Traceback" not in errors
    folder = job / "runs/tiny-1"
    done = iterations(folder)[-1]
    assert f"stopped at iteration {done:,} by {name}" in output
    assert "to go on: darkpy detector train --resume runs/tiny-1\n" in output
    assert (folder / "chart.png").is_file()
    assert not (folder / "final.weights").exists()
    assert Network.from_cfg(job / "tiny.cfg", folder / "last.weights", device="numpy").iteration == done

    write_cfg(folder, max_batches=done + 2)
    resumed = darkpy("detector", "train", "--resume", "runs/tiny-1", cwd=job)
    assert resumed.returncode == 0, resumed.stderr
    assert iterations(folder) == list(range(1, done + 3))


@WITHOUT_SIGNALS
def test_a_second_sigterm_stops_at_once_and_hangups_only_save(job: Path) -> None:
    process = start_endless(job)
    state = job / "runs/tiny-1/state.npz"
    for number in (signal.SIGHUP, signal.SIGUSR1):
        before = state.stat().st_mtime_ns
        process.send_signal(number)
        deadline = time.monotonic() + 60
        while state.stat().st_mtime_ns == before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)  # so that both arrive before it can end the first way
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.count("saving after this iteration") == 2
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert "to go on: darkpy detector train --resume runs/tiny-1\n" in output


@WITHOUT_SIGNALS
def test_training_goes_on_when_its_terminal_is_gone(job: Path) -> None:
    import pty

    write_cfg(job, max_batches=60)
    terminal, slave = pty.openpty()
    command = [sys.executable, "-m", "darkpy", "detector", "train", "tiny.cfg", "--no-map"]
    process = subprocess.Popen(command, cwd=job, env=environment(), stdout=slave, stderr=slave)
    os.close(slave)
    results = job / "runs/tiny-1/results.csv"
    deadline = time.monotonic() + 60
    while not results.exists() or len(results.read_text().splitlines()) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        os.read(terminal, 65536)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert iterations(job / "runs/tiny-1") == list(range(1, 61))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits for files")
def test_a_log_that_grows_too_large_for_the_disk(job: Path) -> None:
    import resource

    write_cfg(job, max_batches=100)
    command = [sys.executable, "-m", "darkpy", "detector", "train", "tiny.cfg", "--no-map"]
    process = subprocess.run(
        command,
        cwd=job,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)),
    )
    assert process.returncode == 1
    assert process.stderr == "runs/tiny-1/log.jsonl  cannot be written: File too large\n"
    assert "to go on: darkpy detector train --resume runs/tiny-1\n" in process.stdout
    resumed = darkpy("detector", "train", "--resume", "runs/tiny-1", cwd=job)
    assert resumed.returncode == 0, resumed.stderr
    assert iterations(job / "runs/tiny-1") == list(range(1, 101))


def test_the_checkout_is_what_is_tested() -> None:
    code = "import darkpy; print(darkpy.__file__)"
    process = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert Path(process.stdout.strip()).parents[1] == ROOT
