"""The pages on weights files and on looking inside a network: every command on them works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from darkpy.cli.main import cli
from darkpy.network import Network
from tests.pages import commands
from tests.test_cli_weights import CLASSIFIER
from tests.tiny_job import write_job


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path).rename("my.cfg")
    Path("data/tiny.yaml").rename("data/my.yaml")
    Path("my.yaml").write_text(Path("data/my.yaml").read_text().replace("train.txt", "data/train.txt").replace("val.txt", "data/val.txt"))
    shutil.copy("pictures/0.png", "picture.png")
    Path("classifier.cfg").write_text(CLASSIFIER)
    for seed, (cfg, name) in enumerate([("my", "my"), ("my", "other"), ("classifier", "classifier")]):
        Network.from_cfg(f"{cfg}.cfg", device="numpy", seed=seed).save_weights(f"{name}.weights")
    return tmp_path


@pytest.mark.parametrize("page, count", [("weights.md", 11), ("looking-inside.md", 6)])
def test_commands(folder: Path, page: str, count: int) -> None:
    lines = commands(page)
    assert len(lines) == count
    for arguments in lines:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, f"{arguments}\n{result.output}\n{result.exception!r}"
    if page == "weights.md":
        assert Path("back.weights").read_bytes() == Path("my.weights").read_bytes()
        assert Path("runs/my-1/final.weights").exists()
    else:
        assert Path("narrow.svg").exists()
        assert Path("head.png").exists()
