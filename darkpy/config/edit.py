"""Changing values in the text of a cfg and leaving everything else as it is: order, comments, empty lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from darkpy.config.cfg import Config, Section, decode, parse_cfg
from darkpy.errors import ConfigError
from darkpy.files import atomic_write

_LINE_END = re.compile("\r\n|\r|\n")


class CfgText:
    """The text of a cfg, to change values in.

    Attributes:
        config: its sections as they are now.
    """

    def __init__(self, text: str, name: str = "<cfg>") -> None:
        """Take a text; ``name`` stands for the file in messages. Raises ConfigError if it is no cfg."""
        self.name = name
        self._line_end = "\r\n" if "\r\n" in text else "\n"
        self._lines = _LINE_END.split(text.removeprefix("\ufeff"))
        self.config: Config
        self._read_again()

    @classmethod
    def read(cls, path: str | Path) -> CfgText:
        """Take the text of a file. Raises ConfigError if it cannot be read or is no cfg."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
        return cls(decode(data, str(path)), str(path))

    @property
    def text(self) -> str:
        """The whole text as it is now, with the line ends it came with."""
        return self._line_end.join(self._lines)

    def write(self, path: str | Path) -> None:
        """Write the text to a file; a crash never leaves half of it."""
        with atomic_write(path) as file:
            file.write(self.text.encode())

    def set_net(self, key: str, value: object) -> None:
        """Give a key of [net] a value; see :meth:`set_layer`."""
        self._set(self.config.net, key, value)

    def set_layer(self, index: int, key: str, value: object) -> None:
        """Give a key of a layer a value. A comment behind the old value stays; a new key goes to the section's end."""
        self._set(self.config.layers[index], key, value)

    def set_header(self, lines: Sequence[str]) -> None:
        """Put a comment of these lines in the place of everything before the first section."""
        self._lines[: self.config.net.line - 1] = [*(f"# {line}".rstrip() for line in lines), ""]
        self._read_again()

    def _set(self, section: Section, key: str, value: object) -> None:
        entry = section.get(key)
        if entry is None:
            last = max((other.line for other in section.entries), default=section.line)
            self._lines.insert(last, f"{key}={value}")
        else:
            before, equals, old = self._lines[entry.line - 1].partition("=")
            blanks = old[: len(old) - len(old.lstrip())]
            self._lines[entry.line - 1] = f"{before}{equals}{blanks}{value}{_comment(old)}"
        self._read_again()

    def _read_again(self) -> None:
        self.config = parse_cfg("\n".join(self._lines), self.name)


def _comment(text: str) -> str:
    """What follows the value in the text behind an equals sign: blanks and a comment, or nothing."""
    value = re.split("[#;]", text, maxsplit=1)[0].rstrip()
    rest = text[len(value) :]
    return rest if rest.strip() else ""
