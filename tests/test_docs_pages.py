"""The pages for those who come from elsewhere, and for those whose training fails: every command on them works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from darkpy.cli.main import cli
from darkpy.network import Network
from tests.pages import code_blocks, commands
from tests.tiny_job import write_job


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path).rename("my.cfg")
    Path("data/tiny.yaml").rename("data/my.yaml")
    lists = Path("data/my.yaml").read_text()
    Path("my.yaml").write_text(lists.replace("train.txt", "data/train.txt").replace("val.txt", "data/val.txt"))
    Path("my.data").write_text("classes=2\ntrain=data/train.txt\nvalid=data/val.txt\nnames=data/my.names\n")
    Path("data/my.names").write_text("bright\ndark\n")
    shutil.copy("pictures/0.png", "picture.png")
    for number, labels in enumerate(sorted(Path("pictures").glob("*.txt"))):  # anchors need objects of several sizes
        class_id, x, y, width, height = map(float, labels.read_text().split())
        labels.write_text(f"{class_id:.0f} {x} {y} {width * (1 - number / 20)} {height * (1 - number / 30)}\n")
    Network.from_cfg("my.cfg", device="numpy").save_weights("my.weights")
    return tmp_path


@pytest.mark.parametrize("page, count", [("it-does-not-learn.md", 5), ("coming-from-ultralytics.md", 5), ("coming-from-darknet.md", 8)])
def test_commands(folder: Path, page: str, count: int) -> None:
    lines = commands(page)
    assert len(lines) == count
    tiny = Path("my.cfg").read_text()
    for arguments in lines:
        if arguments[0] == "init":
            arguments = [*arguments, "--force"]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, f"{arguments}\n{result.output}\n{result.exception!r}"
        if arguments[0] == "init":
            assert "[net]" in Path("my.cfg").read_text() != tiny
            Path("my.cfg").write_text(tiny)  # trained in a second
    for block in code_blocks(page):
        exec(block, {})
