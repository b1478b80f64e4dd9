"""The command as a real process: streams, signals, exit status."""

from __future__ import annotations

import csv
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


# Ctrl-C


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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_stops_and_training_can_go_on(job: Path, number: signal.Signals) -> None:
    process = start_endless(job)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping after this iteration; Ctrl-C again stops at once" in errors
    assert "Traceback" not in errors
    folder = job / "runs/tiny-1"
    with (folder / "results.csv").open(newline="") as file:
        done = int(list(csv.DictReader(file))[-1]["iteration"])
    assert f"stopped at iteration {done:,}; to go on, start from runs/tiny-1/last.weights" in output
    assert (folder / "chart.png").is_file()
    assert not (folder / "final.weights").exists()
    assert Network.from_cfg(job / "tiny.cfg", folder / "last.weights", device="numpy").iteration == done

    write_cfg(job, max_batches=done + 2)
    resumed = darkpy("detector", "train", "tiny.cfg", "runs/tiny-1/last.weights", "--no-map", cwd=job)
    assert resumed.returncode == 0, resumed.stderr
    with (job / "runs/tiny-2/results.csv").open(newline="") as file:
        assert [int(row["iteration"]) for row in csv.DictReader(file)] == [done + 1, done + 2]


def test_the_checkout_is_what_is_tested() -> None:
    code = "import darkpy; print(darkpy.__file__)"
    process = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert Path(process.stdout.strip()).parents[1] == ROOT
