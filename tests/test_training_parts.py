"""The small parts of a training: numbers as text, signals, memory, folders, the progress."""

from __future__ import annotations

import io
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from darkpy.config.cfg import read_cfg
from darkpy.errors import InputError, OutOfMemory, Problem
from darkpy.network import Network
from darkpy.training.callback import Outcome, Record
from darkpy.training.interrupt import Interrupt
from darkpy.training.memory import available_memory, check_memory
from darkpy.training.problems import ProblemLog
from darkpy.training.progress import Progress, ProgressLines, create_progress, losses
from darkpy.training.progress_bar import ProgressBar
from darkpy.training.run_folder import RunFolder
from tests.tiny_job import write_cfg

RECORD = Record(
    iteration=1240,
    loss=1.84,
    average=1.9,
    box=0.61,
    objectness=0.72,
    classification=0.51,
    rate=0.001,
    images_per_second=412.3,
    seconds_per_iteration=0.1,
    seconds=130.0,
    width=416,
    height=416,
)


class Course:
    """What progress needs to know of a trainer."""

    first_iteration = 0
    last_iteration = 2000


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_second_raises(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), number)
        assert interrupt.requested
        assert (interrupt.signal, interrupt.name) == (number, "Ctrl-C" if number == signal.SIGINT else "SIGTERM")
        assert "Ctrl-C again stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1"])
def test_other_signals_ask_for_saving_once(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"no {name} on this system")
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), number)
        assert not interrupt.requested
        assert [interrupt.take_save_request() for _ in range(2)] == [True, False]
        assert "saving after this iteration" in capfd.readouterr().err
        assert interrupt.name == ""
    assert signal.getsignal(number) == before


# Memory


def test_available_memory_is_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:   1000 kB\n")
    assert available_memory(tmp_path / "meminfo", tmp_path / "none") == 1000 * 1024


def test_available_memory_respects_the_container(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:   1000 kB\n")
    (tmp_path / "memory.max").write_text("500000\n")
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 200000\nactive_file 40000\ninactive_file 60000\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == 300000


def test_a_container_without_a_limit_has_none(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:   1000 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("300000\n")
    assert available_memory(tmp_path / "meminfo", tmp_path) == 1000 * 1024


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(read_cfg(write_cfg(tmp_path)), training=True, device="numpy")


def test_memory_that_suffices_is_counted(network: Network) -> None:
    needed = network.memory_plan(2).total
    assert check_memory(network, network.options, needed + 100, beside=100) == needed + 100
    assert check_memory(network, network.options, None) == needed


def test_too_little_memory_names_what_fits(network: Network) -> None:
    fits = network.memory_plan(1).total
    with pytest.raises(OutOfMemory, match=r"batch=4 subdivisions=2 at 32x32 needs .* subdivisions=4 would fit") as caught:
        check_memory(network, network.options, fits)
    assert re.fullmatch(r".*tiny\.cfg:3", caught.value.problems[0].where)


def test_the_fewest_subdivisions_that_fit_are_named(network: Network) -> None:
    options = replace(network.options, batch=12, subdivisions=1)
    with pytest.raises(OutOfMemory, match="subdivisions=3 would fit"):
        check_memory(network, options, network.memory_plan(4).total)


def test_too_little_memory_even_for_one_picture(network: Network) -> None:
    with pytest.raises(OutOfMemory, match="even one picture at a time needs .*; make width and height smaller"):
        check_memory(network, network.options, 1000)


# Run folders


def test_run_folders_are_numbered(tmp_path: Path) -> None:
    first, second = (RunFolder.create("shapes", runs=tmp_path / "runs") for _ in range(2))
    assert [first.path.name, second.path.name] == ["shapes-1", "shapes-2"]
    (tmp_path / "runs" / "shapes-9").mkdir()
    (tmp_path / "runs" / "shapes-old-30").mkdir()
    assert RunFolder.create("shapes", runs=tmp_path / "runs").path.name == "shapes-10"


def test_a_named_run_folder_must_be_empty(tmp_path: Path) -> None:
    assert RunFolder.create("x", tmp_path / "mine").path == tmp_path / "mine"
    (tmp_path / "mine" / "results.csv").touch()
    with pytest.raises(InputError, match="mine  is not empty"):
        RunFolder.create("x", tmp_path / "mine")


def test_a_run_folder_cannot_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file  cannot be the run folder"):
        RunFolder.create("x", tmp_path / "file")


# Problems


def test_problems_are_shown_up_to_ten_and_all_written(tmp_path: Path) -> None:
    stream = io.StringIO()
    log = ProblemLog(tmp_path / "problems.txt", ProgressLines(stream))
    log.conclude()
    assert stream.getvalue() == ""
    log.add_all(Problem(f"list.txt:{number}", "no such picture") for number in range(12))
    log.conclude()
    assert len((tmp_path / "problems.txt").read_text().splitlines()) == 12
    assert stream.getvalue().count("no such picture") == 10
    assert "12 problems with pictures and labels" in stream.getvalue()


def test_problems_of_an_earlier_part_are_not_told_again(tmp_path: Path) -> None:
    ProblemLog(tmp_path / "problems.txt", Progress()).add(Problem("a.txt:1", "is bad"))
    stream = io.StringIO()
    log = ProblemLog(tmp_path / "problems.txt", ProgressLines(stream))
    log.add_all([Problem("a.txt:1", "is bad"), Problem("b.txt:2", "is bad")])
    log.conclude()
    assert (tmp_path / "problems.txt").read_text() == "a.txt:1  is bad\nb.txt:2  is bad\n"
    assert stream.getvalue().splitlines()[0] == "  b.txt:2  is bad"
    assert "2 problems" in stream.getvalue()


# Progress


def test_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    progress = create_progress(stream)
    progress.after_iteration(Course(), RECORD)  # type: ignore[arg-type]
    assert stream.getvalue() == (
        "  it 1,240/2,000  62 %  loss 1.84 avg 1.90 (box .61 obj .72 cls .51)  lr .0010  412 img/s  eta 1:16\n"
    )


def test_lines_keep_their_distance() -> None:
    stream = io.StringIO()
    progress = ProgressLines(stream, seconds=1000)
    for iteration in range(1995, 2001):
        progress.after_iteration(Course(), replace(RECORD, iteration=iteration))  # type: ignore[arg-type]
    shown = re.findall(r"it ([\d,]+)/", stream.getvalue())
    assert shown == ["1,995", "2,000"], "the first and the last"


def test_losses_without_parts() -> None:
    assert losses(replace(RECORD, box=None)) == "1.84 avg 1.90"
    assert losses(RECORD, with_parts=False) == "1.84 avg 1.90"


def test_quiet_is_quiet() -> None:
    stream = io.StringIO()
    progress = create_progress(stream, quiet=True)
    assert type(progress) is Progress
    progress.message("x")
    progress.after_iteration(Course(), RECORD)  # type: ignore[arg-type]
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_can_go_on_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bar = create_progress(stream)
    for iteration in (1240, 600):  # taken back in between
        bar.start(Course())  # type: ignore[arg-type]
        bar.after_iteration(Course(), replace(RECORD, iteration=iteration))  # type: ignore[arg-type]
        bar.finish(Course(), Outcome.FAILED)  # type: ignore[arg-type]
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert shown.index("it 1,240/2,000") < shown.index("it 600/2,000")


@pytest.mark.parametrize("columns, has_parts", [(140, True), (100, False)])
def test_a_bar_on_a_terminal(columns: int, has_parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    progress = create_progress(stream)
    assert isinstance(progress, ProgressBar)
    progress.start(Course())  # type: ignore[arg-type]
    progress.after_iteration(Course(), RECORD)  # type: ignore[arg-type]
    progress.message("it 1,200  mAP@50 87.2 [x]")
    progress.evaluating(3, 4)
    progress.evaluating(4, 4)
    progress.finish(Course(), Outcome.FINISHED)  # type: ignore[arg-type]
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "\n  it 1,200  mAP@50 87.2 [x]\n" in shown.replace("\r", "\n")
    last = shown.rstrip().splitlines()[-1]
    assert "it 1,240/2,000" in last
    assert " 62 % " in last
    assert re.search("━[╸╺]", last), "the bar ends where the training is"
    assert "412 img/s  eta 1:16" in last
    assert ("box .61" in last) is has_parts
