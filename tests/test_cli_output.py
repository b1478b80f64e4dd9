"""Progress and tables, on a terminal and in a file."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.table import Table

from darkpy.cli import output
from darkpy.cli.output import print_table, shown_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard output and standard error in one; not a fixture, since pytest puts its own streams there after these."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_bar_tells_how_far_it_is_and_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    now = iter([0.0, 10.0])
    monkeypatch.setattr("darkpy.cli.output.time.monotonic", lambda: next(now, 10.0))
    with shown_progress("measuring") as progress:
        assert progress is not None
        progress(1200, 5000)
    assert " 24 %  1,200/5,000  120/s  eta 0:32" in plain(terminal.getvalue())


def test_lines_and_tables_stay_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    table = Table("class", box=None, pad_edge=False)
    table.add_row("circle")
    with shown_progress("pictures") as progress:
        assert progress is not None
        progress(1, 9)
        print("a line")
        print_table(table)
    # Each is written where the bar stood, which is then drawn anew below it.
    shown = plain(terminal.getvalue()).replace("\r", "\n")
    assert re.search(r"\na line *\n  pictures .*\nclass *\ncircle *\n  pictures ", shown)


def test_what_goes_into_a_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    with shown_progress("pictures") as progress:
        assert progress is not None
        progress(1, 9)
        print("a line")
    assert file.getvalue() == "a line\n"


def test_without_a_terminal_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("darkpy.cli.output.time.monotonic", lambda: now)
    with shown_progress("measuring") as progress, shown_progress("frames") as frames:
        assert progress is not None
        assert frames is not None
        for now in range(1, 26):  # the clock
            progress(4 * now, 200)
        frames(5, 0)
    assert capsys.readouterr().err == (
        "  measuring   20 %  40/200  4.0/s  eta 0:40\n"
        "  measuring   40 %  80/200  4.0/s  eta 0:30\n"
        "  frames  5  0.2/s\n"
    )  # fmt: skip


def test_nothing_is_shown_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with shown_progress("measuring", shown=False) as progress:
        assert progress is None
    assert terminal.getvalue() == ""
    assert output._numbers(0, 5, 0.0) == "  0 %  0/5  0.0/s  eta -:--"
