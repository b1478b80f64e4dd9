"""The page on finding objects: every command on it works, and writes what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from darkpy.cli.main import cli
from darkpy.network import Network
from tests.pages import code_blocks, commands
from tests.test_sources import write_video
from tests.tiny_job import write_job

PAGE = "detecting.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page names."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path).rename("my.cfg")
    Path("data/tiny.yaml").rename("data/my.yaml")
    Path("my.data").write_text("classes=2\ntrain=data/train.txt\nvalid=data/val.txt\nnames=data/my.names\n")
    Path("data/my.names").write_text("bright\ndark\n")
    Path("holiday").mkdir()
    for name in ("picture.png", "holiday/1.png", "holiday/2.png"):
        shutil.copy("pictures/0.png", name)
    Path("list.txt").write_text("pictures/1.png\npictures/2.png\n")
    write_video(Path("street.avi"))
    Network.from_cfg("my.cfg", device="numpy").save_weights("my.weights")
    return tmp_path


def test_commands(folder: Path) -> None:
    lines = commands(PAGE)
    assert len(lines) == 8
    for arguments in lines:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, f"{arguments}\n{result.output}\n{result.exception!r}"
        if arguments[arguments.index("my.weights") + 1 :] == ["picture.png", "--json-lines", "-", "--quiet"]:
            assert json.loads(result.stdout)["filename"] == "picture.png"
    found = {str(path.relative_to("found")) for path in Path("found").rglob("*.*")}
    assert found == {"1.png", "2.png", "1-2.png", "2-2.png", "street.avi"}
    assert len(json.loads(Path("all.json").read_text())) == 2 + 9 == len(Path("each.jsonl").read_text().splitlines())
    assert Path("boxes.avi").exists()


def test_python(folder: Path) -> None:
    for block in code_blocks(PAGE):
        exec(block, {})
    assert Path("boxes.png").exists()
