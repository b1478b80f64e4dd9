"""Write docs/cfg-reference.md from the declarations in the code: python scripts/make_docs.py [--check]."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from darkpy.builder import REFUSED_SECTIONS
from darkpy.config.net import NetOptions
from darkpy.config.options import CommonOptions, Options, describe, ineffective_keys, refused_keys
from darkpy.layers.base import Layer, registered

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "cfg-reference.md"

HEADER = """\
# The cfg file

<!-- Written by scripts/make_docs.py from the code; changes made here are lost. -->

A cfg is a text file. `[net]` comes first and says what goes in and how to train; every other section is one layer, and
layers are counted from 0 in the order of the file. Each line is `key=value`; `#` or `;` begins a comment, which may
follow a value; blanks do not matter. A list is written with commas: `1,2,3`.

A section or a key that is not listed here is an error, with the nearest known word. Of a key that is given twice the
first value counts, as in Darknet. `darkpy net check FILE.cfg` reports everything that is wrong with a file at once;
`darkpy net help SECTION` prints the table of one section.
"""


def reference() -> str:
    """The whole page."""
    layers = sorted(set(registered().values()), key=lambda layer: layer.names)
    parts = [HEADER, contents(layers)]
    parts.append(section("net", ("net", "network"), NetOptions.__doc__, NetOptions))
    parts.append(section("Keys of every layer", (), CommonOptions.__doc__, CommonOptions))
    parts += [section(layer.names[0], layer.names, layer.__doc__, layer.Options) for layer in layers]
    return "\n".join(parts)


def contents(layers: list[type[Layer]]) -> str:
    """Links to all sections."""
    links = [f"[{name}](#{name.lower()})" for name in ["net", *(layer.names[0] for layer in layers)]]
    listed = "Sections:\n" + ",\n".join(links) + ".\nAnd the [keys of every layer](#keys-of-every-layer).\n"
    refused = {f"[{name}]": reason for name, reason in REFUSED_SECTIONS.items()}
    return listed + "\n" + remarks("Known to a Darknet, but refused:", refused)


def section(heading: str, names: tuple[str, ...], text: str | None, options: type[Options]) -> str:
    """One section: heading, explanation, table of its own keys, and the keys that do nothing."""
    parts = [f"## {heading}\n"]
    if len(names) > 1:
        aliases = " or ".join(f"`[{name}]`" for name in names[1:])
        parts.append(f"`[{names[0]}]`, also written {aliases}.\n")
    if text:
        # What follows "Attributes:" is for readers of the code.
        parts.append(inspect.cleandoc(text).split("\n\nAttributes:")[0].replace("``", "`") + "\n")
    parts.append(table(options))
    parts.append(remarks("Known, but without effect:", ineffective_keys(options)))
    parts.append(remarks("Refused unless 0:", refused_keys(options)))
    return "\n".join(part for part in parts if part)


def table(options: type[Options]) -> str:
    """Keys, types, defaults; the keys of every layer only under their own heading."""
    is_layer = issubclass(options, CommonOptions) and options is not CommonOptions
    common = {row.name for row in describe(CommonOptions)} if is_layer else set()
    rows = [row for row in describe(options) if row.name not in common]
    if not rows:
        return "No keys of its own.\n"
    lines = ["| key | value | default | allowed | meaning |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join([f"`{row.name}`", *map(cell, row[1:])]) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Text that cannot break a table."""
    return text.replace("|", "\\|").replace("*", "\\*")


def remarks(title: str, reasons: dict[str, str]) -> str:
    """A list of keys with reasons, or nothing."""
    if not reasons:
        return ""
    return "\n".join([title, "", *(f"- `{key}`: {reason}" for key, reason in sorted(reasons.items()))]) + "\n"


def main(arguments: list[str]) -> int:
    page = reference()
    if "--check" in arguments:
        current = REFERENCE.read_text(encoding="utf-8") if REFERENCE.is_file() else ""
        if current != page:
            print(f"{REFERENCE} is out of date; run python scripts/make_docs.py", file=sys.stderr)
            return 1
        return 0
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(page, encoding="utf-8")
    print(REFERENCE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
