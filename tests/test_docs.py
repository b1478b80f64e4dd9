from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from darkpy.layers.base import registered

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def make_docs():
    return runpy.run_path(str(ROOT / "scripts" / "make_docs.py"))


def test_the_cfg_reference_is_current(make_docs):
    committed = (ROOT / "docs" / "cfg-reference.md").read_text(encoding="utf-8")
    assert committed == make_docs["reference"](), "run: python scripts/make_docs.py"


def test_every_section_has_its_place_once(make_docs):
    page = make_docs["reference"]()
    for layer in registered().values():
        assert page.count(f"\n## {layer.names[0]}\n") == 1
        assert page.count(f"(#{layer.names[0].lower()})") == 1


def test_every_key_is_explained(make_docs):
    rows = [line for line in make_docs["reference"]().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    for row in rows:
        key, value, default, _allowed, meaning = (part.strip() for part in row.replace("\\|", "").split("|")[1:-1])
        assert key and value and default and meaning, row


def test_cells_cannot_break_the_table(make_docs):
    assert make_docs["cell"]("|x| * 2") == r"\|x\| \* 2"
