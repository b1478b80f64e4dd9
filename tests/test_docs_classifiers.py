"""The page on classifiers: every command on it works, and its code runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from darkpy import resources
from darkpy.cli.main import cli
from tests.pages import DOCS, code_blocks, commands
from tests.tiny_classes import NAMES, write_cfg, write_folders

FLOWERS = dict(zip(NAMES, ("rose", "tulip", "daisy")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page names; the digits are trained for two iterations."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "flowers")
    for colour, name in FLOWERS.items():
        for split in ("train", "val"):
            (tmp_path / "flowers" / split / colour).rename(tmp_path / "flowers" / split / name)
    write_cfg(tmp_path, "flowers.cfg")
    digits = resources.find("cfg", "digits.cfg").read_text()
    (tmp_path / "cfg").mkdir()
    (tmp_path / "cfg/digits.cfg").write_text(digits.replace("max_batches=400", "max_batches=2").replace("batch=64", "batch=8"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/digits.yaml").write_text("format: digits\ndigits:\n  val: 20\n")
    shutil.copytree("flowers/val/rose", "holiday-pictures")
    cv2.imwrite("picture.jpg", cv2.imread("flowers/val/rose/0.png"))
    write_cfg(tmp_path, "x.cfg", filters=2)
    (tmp_path / "labels.list").write_text("rose\ntulip\n")
    (tmp_path / "x.names").write_text("Rose\nTulip\n")
    for split, listed in (("train", "train"), ("val", "valid")):
        pictures = sorted(path for name in ("rose", "tulip") for path in Path("flowers", split, name).iterdir())
        (tmp_path / f"{listed}.list").write_text("".join(f"{path}\n" for path in pictures))
    return tmp_path


def blocks(language: str) -> list[str]:
    """What stands between fences of a language."""
    parts = (DOCS / "classifiers.md").read_text(encoding="utf-8").split("```")[1::2]
    return [part.partition("\n")[2] for part in parts if part.partition("\n")[0] == language]


def test_commands_and_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn.datasets")
    (folder / "x.data").write_text(blocks("")[1])
    lines = commands("classifiers.md")
    assert len(lines) == 11
    for arguments in lines:
        if "--resume" in arguments:  # the run is done: give it more to do
            write_cfg(folder / "runs/flowers-1", "flowers.cfg", max_batches=8)
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, f"{arguments}\n{result.output}\n{result.exception!r}"
    assert json.loads(Path("report.json").read_text())["pictures"] == 6
    assert {"top_1", "top_2", "mistakes"} <= set(json.loads(Path("report.json").read_text()))
    assert len(json.loads(Path("classes.json").read_text())) == 2
    assert Path("confusion.png").exists()
    assert Path("runs/x-1/x.names").read_text() == "Rose\nTulip\n"
    capsys.readouterr()
    [code] = code_blocks("classifiers.md")
    exec(code, {})
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(FLOWERS.values())


def test_the_yaml_on_the_page(folder: Path) -> None:
    from darkpy.data.classification import open_classification

    (folder / "flowers.yaml").write_text(blocks("yaml")[0])
    dataset = open_classification("flowers.yaml", "val")
    assert (dataset.names, dataset.counts().tolist()) == (["rose", "tulip", "daisy"], [2, 2, 2])
    text = blocks("yaml")[0]
    (folder / "flowers.yaml").write_text(text[: text.index("names")] + "format: folders\n")
    assert open_classification("flowers.yaml", "val").names == ["daisy", "rose", "tulip"]
