"""What stands in a page of docs/: its commands and its code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def commands(page: str) -> list[list[str]]:
    """The arguments of every indented line of a page that begins with ``darkpy``, without its comment."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("    darkpy ")]


def code_blocks(page: str) -> list[str]:
    """The Python code between fences."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
