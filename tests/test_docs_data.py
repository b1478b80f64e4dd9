"""The pages on data and on measuring: every command on them works, and leaves what they say."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from darkpy.cli.main import cli
from darkpy.data.opening import open_splits
from darkpy.network import Network
from tests.pages import code_blocks, commands
from tests.tiny_job import write_cfg, write_pictures


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name: a data set of ten pictures, a small cfg, weights."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    monkeypatch.chdir(tmp_path)
    pictures = write_pictures(tmp_path / "cells", 10)
    for number, path in enumerate(pictures):  # anchors need objects of several sizes
        class_id, x, y, width, height = map(float, path.with_suffix(".txt").read_text().split())
        shape = f"{width * (1 - number / 20):.6f} {height * (1 - number / 30):.6f}"
        path.with_suffix(".txt").write_text(f"{class_id:.0f} {x:.6f} {y:.6f} {shape}\n")
    for split, chosen in (("train", pictures[:7]), ("val", pictures[7:])):
        Path(f"{split}.txt").write_text("".join(f"cells/{path.name}\n" for path in chosen))
    Path("cells.yaml").write_text("train: train.txt\nval: val.txt\nnames: [bright, dark]\n")
    Path("cells.names").write_text("bright\ndark\n")
    Path("cells.data").write_text("classes=2\ntrain=train.txt\nvalid=val.txt\nnames=cells.names\n")
    write_cfg(tmp_path, "cells.cfg", max_batches=3)
    Network.from_cfg("cells.cfg", device="numpy").save_weights("cells.weights")
    return tmp_path


def run(arguments: list[str]) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, f"{arguments}\n{result.output}\n{result.exception!r}"
    return result.stdout


def test_the_page_on_data(folder: Path) -> None:
    labels = {path: path.read_text() for path in Path("cells").glob("*.txt")}
    lines = commands("data.md")
    assert len(lines) == 13
    for arguments in lines:
        run(arguments)
    assert {path: path.read_text() for path in Path("cells").glob("*.txt")} == labels
    for written in ("check.png", "check.json", "clean/cells-clean.yaml", "parts/test.txt", "anchors/anchors.png",
                    "anchors/counters_per_class.txt", "cells-yolo/data.data", "preview.jpg"):  # fmt: skip
        assert Path(written).is_file(), written
    assert [len(part) for part in open_splits("parts/cells-split.yaml").values()] == [7, 2, 1]
    assert (Network.from_cfg("cells-new.cfg", device="numpy").width, Path("cells-yolo/train/0.png").is_symlink()) == (416, True)


def test_the_description_on_the_page_is_one(folder: Path) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    begin = page.index("    path: cells")
    text = page[begin : page.index("\n\n", begin)]
    for split, picture in (("train", "0.png"), ("val", "1.png")):
        (folder / "cells" / f"{split}.txt").write_text(f"{picture}\n")
    Path("described.yaml").write_text(textwrap.dedent(text).replace("format: voc", "#"))
    splits = open_splits("described.yaml")
    assert list(splits) == ["train", "val"] and splits["train"].names == ["bright", "dark"]
    Path("described.yaml").write_text(textwrap.dedent(text))
    assert open_splits("described.yaml")["train"].kind == "voc"


def test_the_page_on_measuring(folder: Path) -> None:
    lines = commands("evaluation.md")
    assert len(lines) == 8
    for arguments in lines:
        run(arguments)
    for written in ("plots/f1.png", "plots/confusion.png", "map.json", "results/comp4_det_test_dark.txt", "results/mine.json",
                    "results/coco_results.json"):  # fmt: skip
        assert Path(written).is_file(), written
    for block in code_blocks("evaluation.md"):
        exec(block, {})


def test_blood_cells_are_a_data_set_as_they_are(shared: Path) -> None:
    result = CliRunner().invoke(cli, ["data", "check", str(shared / "datasets" / "bccd"), "--quiet"])
    assert result.exit_code == 2
    assert "BloodImage_00338.xml:158  the box has no area: xmin, ymin, xmax, ymax = 504, 337, 504, 337\n" in result.stderr
    assert "2 problems; 2 of 364 pictures affected\n" in result.stderr
