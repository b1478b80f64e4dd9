"""The pictures of the convolution kernels, and the page around them: they show what the code does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import draw_kernels  # noqa: E402

PAGE = (ROOT / "docs" / "convolution-kernels.md").read_text()
FILES = ("convolution_operands", "convolution_tiles", "tensor_convolution")
TENSOR = "".join((ROOT / "kernels" / f"{name}.cuh").read_text() for name in FILES)


def test_every_picture_is_there_for_both_themes_and_on_the_page() -> None:
    shown = re.findall(r'(?:srcset|src)="kernels/([^"]+)"', PAGE)
    expected = {f"{name}{suffix}.svg" for name in draw_kernels.PICTURES for suffix in ("", "-dark")}
    assert sorted(shown) == sorted(expected)
    assert {path.name for path in (ROOT / "docs" / "kernels").iterdir()} == expected


def test_a_picture_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_kernels, "PICTURES", {"banks": draw_kernels.banks})
    light, dark = draw_kernels.draw(tmp_path)
    assert "<svg" in light.read_text()
    assert draw_kernels.LIGHT.green in light.read_text()
    assert draw_kernels.DARK.green in dark.read_text()


def test_numbers_are_the_kernels() -> None:
    assert f"STEP_BYTES = {draw_kernels.STEP_BYTES};" in TENSOR
    assert f"int STAGES = __CUDA_ARCH__ >= 800 ? {draw_kernels.STAGES} : 2;" in TENSOR
    tile = (draw_kernels.BLOCK_M, draw_kernels.BLOCK_N, draw_kernels.WARPS_M, draw_kernels.WARPS_N)
    assert f"using Tile128x128 = Tile<{', '.join(map(str, tile))}, STAGES>;" in TENSOR
    assert "row * STEP_BYTES + ((chunk ^ (row / 2 % 4)) << 4)" in TENSOR
    assert "((chunk ^ (IS_FLOAT ? row % 4 * 2 : row % 8)) << 4)" in TENSOR
    exact = (ROOT / "kernels" / "exact_convolution.cuh").read_text()
    assert "lane_m() { return threadIdx.x >> 1 & 1 | threadIdx.x >> 3 & 2; }" in exact
    assert "lane_n() { return threadIdx.x & 1 | threadIdx.x >> 1 & 6; }" in exact


def test_a_conflict_is_found() -> None:
    assert draw_kernels.conflicts([0, 128, 256, 4], 4) == 3
    assert draw_kernels.conflicts([0, 16, 32], 16) == 1
    draw_kernels.check_memory()


def test_what_the_page_names_is_there() -> None:
    sources = "".join(path.read_text() for folder in ("kernels", "darkpy/backends/cuda") for path in (ROOT / folder).iterdir()
                      if path.suffix in (".cu", ".cuh", ".py"))  # fmt: skip
    names = set(re.findall(r"`([A-Za-z_]+(?:::\w+)?)(?:\(\))?`", PAGE))
    missing = {name for name in names if name.rpartition("::")[2] not in sources}
    # What the exercise adds, and instructions by their short names.
    assert missing <= {"_any", "tune"}
    for path in re.findall(r"`((?:kernels|scripts|darkpy|tests)/[\w/.]+\.\w+)`", PAGE):
        assert (ROOT / path).is_file(), path
    # The exercise begins with a tile that is not there.
    assert "Tile256x64" not in sources
