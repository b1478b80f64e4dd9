"""The page on runs: every command on it works, and it names what is really there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from darkpy.cli.main import cli
from darkpy.network import Network
from tests.pages import DOCS, code_blocks, commands
from tests.tiny_job import write_cfg, write_job


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page names."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    write_cfg(tmp_path, "cells.cfg", max_batches=3)
    Path("data/tiny.yaml").rename("data/cells.yaml")
    Path("cells.yaml").write_text("path: data\ntrain: train.txt\nval: val.txt\nnames: [bright, dark]\n")
    Network.from_cfg("cells.cfg", device="numpy").save_weights("start.weights")
    return tmp_path


def test_commands_and_code(folder: Path) -> None:
    pytest.importorskip("tensorboardX")
    lines = commands("training.md")
    assert len(lines) == 15
    for arguments in lines:
        if "--amp" in arguments:  # what it does on a GPU is tested with the trainings on one
            refused = CliRunner().invoke(cli, [*arguments, "--device", "numpy"])
            assert refused.exit_code == 2
            assert "needs a GPU" in refused.output
            continue
        if "--resume" in arguments:  # the run is done: give it more to do
            write_cfg(folder / "runs/cells-1", "cells.cfg", max_batches=4)
        result = CliRunner().invoke(cli, arguments)
        if "--amp" in arguments and result.exit_code == 2:
            assert "needs a GPU" in result.output
            continue
        assert result.exit_code == 0, f"{arguments}\n{result.output}\n{result.exception!r}"
    assert Path("both.png").exists()
    assert Path("cells.html").exists()
    [code] = code_blocks("training.md")
    found: dict[str, list[tuple[int, float]]] = {}
    exec(code, found)
    assert [iteration for iteration, _ in found["measured"]] == [3, 4]


def test_every_file_of_a_run_is_on_the_page(folder: Path) -> None:
    arguments = ["detector", "train", "cells.cfg", "--data", "cells.yaml", "--tensorboard", "--save-every", "2"]
    pytest.importorskip("tensorboardX")
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([^`]+)`", page[: page.index("## Stopping")]))
    for path in Path("runs/cells-1").iterdir():
        name = "1000.weights" if path.name == "2.weights" else path.name + ("/" if path.is_dir() else "")
        assert name in listed, name
