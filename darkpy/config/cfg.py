"""Darknet's cfg files: an ordered list of sections, each with its options and the lines they stand on.

This module knows the form of a cfg, not its meaning: what a section may contain is declared by the layers
(:mod:`darkpy.layers`) and by :mod:`darkpy.config.net`. Form, as Darknet reads it (parser.c, read_cfg)::

    # a comment, to the end of the line; also after a value. ';' does the same
    [net]
    width = 416          # blanks anywhere, or none

    [convolutional]
    filters=32

The first section is ``[net]`` or ``[network]``; every other is one layer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from darkpy.errors import ConfigError, Problem, suggestion

NET_NAMES = ("net", "network")

_QUOTED = 60  # characters of a value that a message repeats
_LINE_END = re.compile("\r\n|\r|\n")
_COMMENT = re.compile("[#;]")
_HEADER = re.compile(r"\[([^\[\]]*)\](.*)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One ``key=value`` and its line (from 1). The value is as written, without comment and outer blanks."""

    key: str
    value: str
    line: int


@dataclass(frozen=True)
class Section:
    """One ``[name]`` with its entries in order; ``file`` is named in messages.

    A file without sections (``.data``) is one section without a name.
    """

    name: str
    line: int
    entries: tuple[Entry, ...]
    file: str

    @property
    def where(self) -> str:
        """``file:line`` of the section's bracket."""
        return f"{self.file}:{self.line}" if self.name else self.file

    @property
    def title(self) -> str:
        """The section as the subject of a message."""
        return f"[{self.name}]" if self.name else "a data file"

    def show(self, entry: Entry) -> str:
        """An entry as a message quotes it."""
        value = entry.value if len(entry.value) <= _QUOTED else entry.value[: _QUOTED - 3] + "..."
        text = f"{entry.key}={value}"
        return f"[{self.name}] {text}" if self.name else text

    def get(self, key: str) -> Entry | None:
        """The entry that counts for ``key`` (the first one, as in Darknet), or None."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def where_of(self, *keys: str) -> str:
        """``file:line`` of the first of these keys that is given, else of the section."""
        entry = next((found for found in map(self.get, keys) if found is not None), None)
        return self.where if entry is None else f"{self.file}:{entry.line}"


@dataclass(frozen=True)
class Config:
    """A whole cfg: ``net`` is the first section, ``layers`` are all others in order (``layers[i]`` is layer i)."""

    path: str
    net: Section
    layers: tuple[Section, ...]

    def with_net(self, **values: object) -> Config:
        """The same network with other values of these keys of [net], each in its place or at the end."""
        written = {entry.key for entry in self.net.entries}
        entries = [
            replace(entry, value=str(values[entry.key])) if entry.key in values else entry
            for entry in self.net.entries
        ]
        entries += [Entry(key, str(value), self.net.line) for key, value in values.items() if key not in written]
        return replace(self, net=replace(self.net, entries=tuple(entries)))


def read_cfg(path: str | Path) -> Config:
    """Read a cfg file. Raises ConfigError with every malformed line in one go."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return parse_cfg(decode(data, str(path)), str(path))


def parse_cfg(text: str, name: str = "<cfg>") -> Config:
    """Read a cfg from text; ``name`` stands for the file in messages."""
    problems: list[Problem] = []
    sections = _sections(text, name, problems)
    _check_order(sections, name, problems)
    if problems:
        raise ConfigError(problems=sorted(problems, key=_line))
    return Config(name, sections[0], tuple(sections[1:]))


def format_cfg(config: Config) -> str:
    """The text of a cfg, which :func:`parse_cfg` reads back to the same sections and entries (lines apart)."""
    blocks = []
    for section in (config.net, *config.layers):
        lines = [f"[{section.name}]", *(f"{entry.key}={entry.value}" for entry in section.entries)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def write_cfg(config: Config, path: str | Path) -> None:
    """Write :func:`format_cfg` to a file; a crash never leaves half of it."""
    from darkpy.files import atomic_write

    with atomic_write(path, "w") as file:
        file.write(format_cfg(config))


def decode(data: bytes, name: str) -> str:
    """Text of a UTF-8 file, with or without a byte order mark; ConfigError with the line of the first bad byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"byte 0x{data[error.start]:02x} is not UTF-8 text; save the file as UTF-8", where=f"{name}:{line}"
        ) from None


def _line(problem: Problem) -> int:
    number = problem.where.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


def parse_entry(content: str, number: int, where: str, problems: list[Problem]) -> Entry | None:
    """Read ``key=value``; None, and a problem at ``where``, if it is not of that form."""
    key, equals, value = (part.strip() for part in content.partition("="))
    if key and equals and value:
        return Entry(key, value, number)
    if not equals:
        problems.append(Problem(where, f"{content!r} has no '='; an option is written key=value"))
    elif not key:
        problems.append(Problem(where, f"{content!r} has no key before '='"))
    else:
        problems.append(Problem(where, f"{content!r} has no value after '='; leave the line out to get the default"))
    return None


def _sections(text: str, name: str, problems: list[Problem]) -> list[Section]:
    """All sections of a text, well formed or not; malformed lines go to ``problems``."""
    sections: list[Section] = []
    header: tuple[str, int] | None = None
    entries: list[Entry] = []
    stray = False
    for number, line in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), start=1):
        content = _COMMENT.split(line, maxsplit=1)[0].strip()
        if content.startswith("["):
            if header is not None:
                sections.append(Section(*header, tuple(entries), name))
            header, entries = (_section_name(content, f"{name}:{number}", problems), number), []
        elif content and header is not None:
            entry = parse_entry(content, number, f"{name}:{number}", problems)
            if entry is not None:
                entries.append(entry)
        elif content and not stray:
            problems.append(Problem(f"{name}:{number}", f"{content!r} before any section; a cfg begins with [net]"))
            stray = True
    if header is not None:
        sections.append(Section(*header, tuple(entries), name))
    return sections


def _section_name(content: str, where: str, problems: list[Problem]) -> str:
    match = _HEADER.fullmatch(content)
    if match is None:
        problems.append(Problem(where, f"{content!r} has no closing bracket; a section is written [name]"))
        return content.lstrip("[").strip()
    name, rest = match[1].strip(), match[2].strip()
    if not name:
        problems.append(Problem(where, f"{content!r} has no name between the brackets"))
    if rest:
        problems.append(Problem(where, f"[{name}] is followed by {rest!r}; options go on lines of their own"))
    return name


def _check_order(sections: list[Section], name: str, problems: list[Problem]) -> None:
    """[net] first, and only there."""
    if not sections:
        if not problems:
            problems.append(Problem(name, "no section; a cfg begins with [net]"))
        return
    first = sections[0]
    if first.name not in NET_NAMES:
        hint = suggestion(first.name, NET_NAMES)
        problems.append(Problem(first.where, f"[{first.name}] is the first section; a cfg begins with [net]{hint}"))
    for section in sections[1:]:
        if section.name in NET_NAMES:
            problems.append(Problem(section.where, f"a second [{section.name}]; a cfg has one, its first section"))
