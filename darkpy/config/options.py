"""Typed options of a cfg section, declared once.

A section's options are a frozen dataclass whose fields are made by :func:`option`. Parsing, checking, the defaults,
the reference in docs/ and the command ``darkpy net help`` all read that one declaration::

    @dataclass(frozen=True)
    class Options(CommonOptions):
        stride: int = option(1, minimum=1, help="step between windows")
        size: int = option(same_as="stride", minimum=1, help="side of a window")
        padding: int = option(lambda o: o.size - 1, default_text="size - 1", minimum=0, help="total padding")

The type is one of ``int``, ``float``, ``bool`` (0 or 1 in a cfg), ``str``, ``tuple[int, ...]``, ``tuple[float, ...]``.
A field named like a Python keyword ends in an underscore (``from_``); its key in the cfg does not.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, ClassVar, Final, NamedTuple, TypeVar, get_type_hints

from darkpy.config.cfg import Entry, Section
from darkpy.errors import Problem, suggestion


class _Marker:
    """A value no option can have."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


REQUIRED: Final[Any] = _Marker("REQUIRED")
_DERIVED: Final[Any] = _Marker("DERIVED")
_METADATA = "darkpy option"


@dataclass(frozen=True)
class _Rule:
    """What :func:`option` was told about one field."""

    derive: Callable[[Any], Any] | None
    default_text: str
    minimum: float | None
    maximum: float | None
    choices: tuple[Any, ...]
    help: str
    aliases: tuple[str, ...]


class OptionRow(NamedTuple):
    """One line of a section's reference: every part as text."""

    name: str
    type: str
    default: str
    range: str
    help: str


class _Type(NamedTuple):
    """How one option type is read from a cfg: its names, an element's pattern (None: any text) and its converter."""

    name: str
    expected: str
    pattern: re.Pattern[str] | None
    convert: Callable[[str], Any]
    is_list: bool


# Published files also write whole numbers as 16.0 or 1e3.
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}(\.0*)?([eE]\+?[0-9])?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


def _integer(text: str) -> int:
    return int(text) if text.lstrip("+-").isdigit() else int(float(text))


_TYPES: Final[dict[Any, _Type]] = {
    int: _Type("integer", "an integer", _INTEGER, _integer, False),
    float: _Type("number", "a number", _NUMBER, float, False),
    bool: _Type("0 or 1", "0 or 1", re.compile("[01]"), lambda text: text == "1", False),
    str: _Type("text", "text", None, str, False),
    tuple[int, ...]: _Type("integers", "integers separated by commas", _INTEGER, _integer, True),
    tuple[float, ...]: _Type("numbers", "numbers separated by commas", _NUMBER, float, True),
}


def option(
    default: Any = REQUIRED,
    *,
    same_as: str | None = None,
    default_text: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Iterable[Any] = (),
    help: str = "",
    aliases: Iterable[str] = (),
) -> Any:
    """Declare one option of a section; the right-hand side of a dataclass field.

    ``default`` is a value, or a function of the options known so far (all that were given, all constant defaults and
    the derived ones declared above), or left out: then the key must be given. ``same_as="stride"`` takes another
    option's value. ``default_text`` says a function's result in words for the reference. ``minimum``, ``maximum`` and
    ``choices`` hold for each element of a list; ``aliases`` are other spellings of the key.
    """
    derive: Callable[[Any], Any] | None = None
    if same_as is not None:
        other = same_as
        derive = lambda options: getattr(options, other)  # noqa: E731
        default_text = default_text or f"{same_as}"
    elif callable(default):
        derive = default
        default_text = default_text or "computed"
    rule = _Rule(derive, default_text, minimum, maximum, tuple(choices), help, tuple(aliases))
    metadata = {_METADATA: rule}
    if derive is not None:
        return field(default=_DERIVED, kw_only=True, metadata=metadata)
    if default is REQUIRED:
        return field(kw_only=True, metadata=metadata)
    return field(default=default, kw_only=True, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """Base of every section's options: fills in the derived defaults, so an instance is always complete.

    ``ineffective`` maps keys that Darknet or a published cfg knows, and that change nothing here, to the reason: one
    warning. ``refused`` maps keys that cannot be honoured to the reason: an error unless the value is 0. Both are
    inherited, and a subclass adds its own.
    """

    ineffective: ClassVar[Mapping[str, str]] = {}
    refused: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        known = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        namespace = SimpleNamespace(**{name: value for name, value in known.items() if value is not _DERIVED})
        for item in dataclasses.fields(self):
            if known[item.name] is _DERIVED:
                value = item.metadata[_METADATA].derive(namespace)
                setattr(namespace, item.name, value)
                object.__setattr__(self, item.name, value)


@dataclass(frozen=True)
class CommonOptions(Options):
    """Keys that every layer's section may have (Darknet, parse_network_cfg_custom)."""

    clip: float = option(0.0, minimum=0, help="limit the weights to [-clip, clip] after each update; 0 is no limit")
    onlyforward: bool = option(False, help="leave this layer out of the backward pass")
    dont_update: int = option(0, minimum=0, help="do not update this layer's parameters up to this iteration")
    burnin_update: int = option(
        0, minimum=0, help="do not update this layer's parameters before this many times burn_in iterations"
    )
    stopbackward: int = option(
        0, minimum=0, help="1 freezes all layers before this one; N > 1 does so up to iteration N"
    )
    train_only_bn: bool = option(False, help="of this and all earlier layers, train the batch normalisation only")
    dontload: bool = option(False, help="do not read this layer's parameters from a weights file")
    dontloadscales: bool = option(False, help="do not read this layer's batch normalisation from a weights file")
    learning_rate: float = option(1.0, minimum=0, help="factor on the learning rate for this layer")


class _Option(NamedTuple):
    """One declared option: its field's name, its key in a cfg, how it is read, and its rule."""

    name: str
    key: str
    type: _Type
    rule: _Rule
    default: Any
    required: bool


class _Schema(NamedTuple):
    """A section's declaration as the parser needs it."""

    options: tuple[_Option, ...]
    by_key: dict[str, _Option]
    ineffective: dict[str, str]
    refused: dict[str, str]

    @property
    def known(self) -> list[str]:
        return [*self.by_key, *self.ineffective, *self.refused]


def _schema(cls: type) -> _Schema:
    """The declaration of a class, read once. (Type checkers take no class of dataclasses for the cache's hashable.)"""
    return _read_declaration(cls)


@functools.cache
def _read_declaration(cls: Any) -> _Schema:
    hints = get_type_hints(cls)
    options = tuple(
        _Option(
            name=item.name,
            key=item.name.removesuffix("_"),
            type=_TYPES[hints[item.name]],
            rule=item.metadata[_METADATA],
            default=item.default,
            required=item.default is dataclasses.MISSING,
        )
        for item in dataclasses.fields(cls)
    )
    by_key = {key: option for option in options for key in (option.key, *option.rule.aliases)}
    return _Schema(options, by_key, _inherited(cls, "ineffective", by_key), _inherited(cls, "refused", by_key))


def _inherited(cls: type, attribute: str, options: Container[str]) -> dict[str, str]:
    """The keys of a class and its bases; the class's own reason wins, and so does an option it declares."""
    merged: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        merged.update(vars(base).get(attribute, {}))
    return {key: reason for key, reason in merged.items() if key not in options}


T = TypeVar("T", bound=Options)


def parse_options(cls: type[T], section: Section, problems: list[Problem], warnings: list[Problem]) -> T | None:
    """Read a section's entries into ``cls``; ``None`` if anything is wrong.

    Every problem is appended to ``problems``, with the file and line it stands on. ``warnings`` receives keys without
    effect (each key of a section once, however many sections have it) and repeated keys.
    """
    before = len(problems)
    schema = _schema(cls)
    _check_required(schema, section, problems)
    first: dict[str, Entry] = {}
    values: dict[str, Any] = {}
    for entry in section.entries:
        declared = schema.by_key.get(entry.key)
        if declared is None:
            _report_other_key(schema, entry, section, problems, warnings)
        elif declared.name in first:
            _warn_about_repetition(first[declared.name], entry, section, warnings)
        else:
            first[declared.name] = entry
            values[declared.name] = _value(declared, entry, section, problems, warnings)
    return cls(**values) if len(problems) == before else None


def describe(cls: type[Options]) -> Iterator[OptionRow]:
    """Rows of the reference of a section, in the order of declaration; the keys of every section come last."""
    common = {item.name for item in dataclasses.fields(CommonOptions)} if issubclass(cls, CommonOptions) else set()
    for declared in sorted(_schema(cls).options, key=lambda declared: declared.name in common):
        rule = declared.rule
        name = ", ".join([declared.key, *rule.aliases])
        yield OptionRow(name, declared.type.name, _default_text(declared), _range_text(rule), rule.help)


def known_keys(cls: type[Options]) -> list[str]:
    """Every key a section may have: options, their aliases, and keys that are known without having an effect."""
    return _schema(cls).known


def ineffective_keys(cls: type[Options]) -> dict[str, str]:
    """Keys that are read and change nothing, with the reason; a class's own and those it inherits."""
    return dict(_schema(cls).ineffective)


def refused_keys(cls: type[Options]) -> dict[str, str]:
    """Keys that are refused unless they are 0, with the reason; a class's own and those it inherits."""
    return dict(_schema(cls).refused)


def _check_required(schema: _Schema, section: Section, problems: list[Problem]) -> None:
    given = {schema.by_key[entry.key].name for entry in section.entries if entry.key in schema.by_key}
    for declared in schema.options:
        if declared.required and declared.name not in given:
            meaning = f" ({declared.rule.help})" if declared.rule.help else ""
            problems.append(Problem(section.where, f"{section.title} needs the option {declared.key!r}{meaning}"))


def _warn_about_repetition(first: Entry, entry: Entry, section: Section, warnings: list[Problem]) -> None:
    """The first value counts, as in Darknet (option_find); saying the same thing twice does no harm."""
    if entry.value != first.value:
        counts = f"{first.key}={first.value} on line {first.line} counts"
        message = f"{section.show(entry)} is ignored: given twice, and {counts}"
        warnings.append(Problem(f"{section.file}:{entry.line}", message))


def _report_other_key(
    schema: _Schema, entry: Entry, section: Section, problems: list[Problem], warnings: list[Problem]
) -> None:
    """A key that is no option: known to have no effect (one warning is enough), refused, or unknown."""
    key, where = entry.key, f"{section.file}:{entry.line}"
    if key in schema.ineffective:
        message = f"{section.title} {key}= has no effect: {schema.ineffective[key]}"
        if all(warning.message != message for warning in warnings):
            warnings.append(Problem(where, message))
    elif key in schema.refused:
        if not _is_zero(entry.value):
            message = f"{section.show(entry)} is not supported: {schema.refused[key]}"
            problems.append(Problem(where, message))
    else:
        problems.append(Problem(where, f"{section.title} has no option {key!r}{suggestion(key, schema.known)}"))


def _is_zero(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and float(text) == 0


def _value(
    declared: _Option, entry: Entry, section: Section, problems: list[Problem], warnings: list[Problem]
) -> Any:
    """The typed value of an entry, or None with a problem noted."""
    kind, rule = declared.type, declared.rule
    where = f"{section.file}:{entry.line}"
    elements = _elements(section, entry, warnings) if kind.is_list else [entry.value]
    converted: list[Any] = []
    for text in elements:
        value = _convert(kind, text)
        wrong = f"expected {kind.expected}" if value is None else _out_of_bounds(rule, value, text, kind.is_list)
        if wrong is not None:
            problems.append(Problem(where, f"{section.show(entry)}: {wrong}"))
            return None
        converted.append(value)
    return tuple(converted) if kind.is_list else converted[0]


def _elements(section: Section, entry: Entry, warnings: list[Problem]) -> list[str]:
    """The elements of a list; one comma at the end is no element more.

    A published cfg has blanks where a comma was meant. Darknet drops all blanks and so reads one larger number.
    """
    elements: list[str] = []
    for part in entry.value.removesuffix(",").split(","):
        words = part.split()
        if len(words) > 1:
            message = f"{section.show(entry)}: {' '.join(words)!r} is read as {len(words)} values; put commas between"
            warnings.append(Problem(f"{section.file}:{entry.line}", message))
        elements += words or [""]
    return elements


def _convert(kind: _Type, text: str) -> Any:
    if kind.pattern is not None and not kind.pattern.fullmatch(text):
        return None
    if kind.pattern is None and not text:
        return None
    value = kind.convert(text)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _out_of_bounds(rule: _Rule, value: Any, text: str, in_list: bool) -> str | None:
    element = f"{text} is" if in_list else "it is"
    if rule.choices and value not in rule.choices:
        choices = [str(choice) for choice in rule.choices]
        return f"expected one of {', '.join(choices)}{suggestion(text, choices)}"
    if rule.minimum is not None and value < rule.minimum:
        return f"{element} less than {_plain(rule.minimum)}, the smallest value allowed"
    if rule.maximum is not None and value > rule.maximum:
        return f"{element} greater than {_plain(rule.maximum)}, the largest value allowed"
    return None


def _plain(value: Any) -> str:
    """A value as one would write it in a cfg."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(_plain(element) for element in value)
    if isinstance(value, float):
        return "no limit" if math.isinf(value) else _decimal(value)
    return str(value)


def _decimal(value: float) -> str:
    """Without an exponent, and without a fraction that is 0."""
    digits = f"{Decimal(repr(value)):f}"
    return digits.removesuffix(".0")


def _default_text(declared: _Option) -> str:
    if declared.required:
        return "required"
    return declared.rule.default_text or ("none" if declared.default in ((), "") else _plain(declared.default))


def _range_text(rule: _Rule) -> str:
    if rule.choices:
        return ", ".join(_plain(choice) for choice in rule.choices)
    if rule.minimum is not None and rule.maximum is not None:
        return f"{_plain(rule.minimum)} to {_plain(rule.maximum)}"
    if rule.minimum is not None:
        return f"at least {_plain(rule.minimum)}"
    if rule.maximum is not None:
        return f"at most {_plain(rule.maximum)}"
    return ""
