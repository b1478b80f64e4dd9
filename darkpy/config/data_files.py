"""Files that describe a data set: Darknet's ``.data`` and ``.names``, and YAML.

Both kinds become one :class:`DataDescription`. Whether the pictures are there is the loader's question; here only the
description itself is read, and the class names with it.

A YAML description::

    path: ../pictures          # folder the others are relative to; itself relative to this file; may be left out
    train: train.txt           # list of pictures, or a folder with pictures
    val: val.txt
    names: [red, green]        # or {0: red, 1: green}, or the name of a names file
    format: voc                # labels are Pascal VOC xml files; left out: Darknet's .txt files
                               # coco: train and val are json files of COCO's form; then names may be left out
                               # folders: for classifiers, a folder for each class; then names may be left out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from darkpy.config.cfg import Entry, Section, decode, parse_entry
from darkpy.config.options import Options, option, parse_options
from darkpy.errors import ConfigError, Problem, suggestion

FORMATS = ("darknet", "voc", "coco", "shapes", "folders", "digits")
DESCRIPTION_ENDINGS = (".data", ".yaml", ".yml")
EVALUATIONS = ("voc", "coco", "bdd", "kitti", "imagenet")


@dataclass(frozen=True)
class DataDescription:
    """A data set: where its lists are and what its classes are called.

    ``train``, ``val`` and ``test`` are list files or folders of pictures; paths in them that are relative are so to
    the working folder or to ``root``. ``kind`` says what the labels are: ``"darknet"`` (one .txt beside each picture),
    ``"voc"`` (xml), ``"coco"`` (the lists are json files), ``"shapes"`` (drawn by darkpy as ``extra`` says),
    ``"folders"`` (for classifiers: a folder for each class) or ``"digits"`` (such folders, written by darkpy as
    ``extra`` says). For a ``.data`` file ``extra`` holds the keys that have no field of their own (``results``,
    ``labels``, ``top``...). ``lines`` has the line of each field.
    """

    path: Path
    root: Path
    names: tuple[str, ...]
    train: Path | None = None
    val: Path | None = None
    test: Path | None = None
    backup: Path | None = None
    eval: str = "voc"
    difficult: Path | None = None
    kind: str = "darknet"
    extra: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    def where(self, key: str) -> str:
        """``file:line`` of the entry a field came from, for messages; the file where it was not given."""
        line = self.lines.get(key)
        return f"{self.path}:{line}" if line else str(self.path)


def read_data(path: str | Path) -> DataDescription:
    """Read a description of either kind, told apart by its ending (``.yaml``, ``.yml``; all others are ``.data``)."""
    return read_yaml(path) if Path(path).suffix.lower() in (".yaml", ".yml") else read_data_file(path)


def read_names(path: str | Path) -> tuple[str, ...]:
    """Read class names, one a line. ConfigError for an empty file and for an empty line between names."""
    lines = [line.strip() for line in _read_text(Path(path)).rstrip().splitlines()]
    if not lines:
        raise ConfigError("has no names; write one class name on each line", where=str(path))
    problems = [
        Problem(f"{path}:{number}", "is empty; each line is the name of one class")
        for number, line in enumerate(lines, start=1)
        if not line
    ]
    if problems:
        raise ConfigError(problems=problems)
    return tuple(lines)


@dataclass(frozen=True)
class DataFileOptions(Options):
    """The keys of a ``.data`` file, with Darknet's names (detector.c, classifier.c)."""

    classes: int = option(0, minimum=1, help="number of classes; must be that of the names")
    train: str = option("", help="list of the pictures to train with")
    valid: str = option(same_as="train", help="list of the pictures to evaluate on")
    test: str = option("", help="list of pictures to predict (classifiers)")
    names: str = option("", help="names of the classes, one a line")
    backup: str = option("", help="folder for weights")
    results: str = option("results", help="folder for the files that valid writes")
    eval: str = option("voc", choices=EVALUATIONS, help="format of the files that valid writes")
    difficult: str = option("", help="list of pictures whose boxes are not counted against a detector")
    map: str = option("", help="file that maps classes to those of another data set")
    saveweights: int = option(0, minimum=0, help="iterations between numbered weights files; 0 lets darkpy choose")
    savelast: int = option(100, minimum=1, help="iterations between weights files named _last")
    labels: str = option("", help="words that name the class in a picture's file name (classifiers)")
    top: int = option(1, minimum=1, help="how many best classes count (classifiers)")
    leaves: str = option("", help="file with the leaves of the tree (classifiers)")
    tree: str = option("", help="file with a tree of classes")


def read_data_file(path: str | Path) -> DataDescription:
    """Read a ``.data`` file.

    Relative paths are relative to the working folder, as in Darknet; what is not found there is looked for beside the
    file. Raises ConfigError with every problem in one go.
    """
    path = Path(path)
    problems: list[Problem] = []
    warnings: list[Problem] = []
    section = _read_entries(path, problems)
    options = parse_options(DataFileOptions, section, problems, warnings)
    if options is None or problems:
        raise ConfigError(problems=problems)
    names = _names_of_data_file(options, section, path)
    extra: dict[str, Any] = {
        key: _find(getattr(options, key), path.parent)
        for key in ("map", "labels", "leaves", "tree")
        if getattr(options, key)
    }
    extra.update(results=options.results, saveweights=options.saveweights, savelast=options.savelast, top=options.top)
    return DataDescription(
        path=path,
        root=path.parent,
        names=names,
        train=_find(options.train, path.parent),
        val=_find(options.valid, path.parent),
        test=_find(options.test, path.parent),
        backup=Path(options.backup) if options.backup else None,
        eval=options.eval,
        difficult=_find(options.difficult, path.parent),
        extra=MappingProxyType(extra),
        lines={"val" if entry.key == "valid" else entry.key: entry.line for entry in reversed(section.entries)},
        warnings=tuple(warnings),
    )


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return decode(data, str(path))


def _read_entries(path: Path, problems: list[Problem]) -> Section:
    """All ``key=value`` lines. Only whole lines are comments here: a path may well contain a '#'."""
    entries = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        content = line.strip()
        if content and content[0] not in "#;":
            entry = parse_entry(content, number, f"{path}:{number}", problems)
            if entry is not None:
                entries.append(entry)
    return Section("", 1, tuple(entries), str(path))


def _names_of_data_file(options: DataFileOptions, section: Section, path: Path) -> tuple[str, ...]:
    key = "names" if options.names else "labels"
    entry = section.get(key)
    if entry is None:
        if not options.classes:
            raise ConfigError("needs names= (a file with one class name a line) or classes=", where=str(path))
        return tuple(str(number) for number in range(options.classes))
    names = _read_names_from(entry, path)
    if options.labels and options.classes:
        names = names[: options.classes]  # of a classifier the first ones count (Darknet, imagenet1k.data)
    if options.classes and len(names) != options.classes:
        raise ConfigError(
            f"classes={options.classes}, but {_plural(len(names), 'name')} in {entry.value}",
            where=section.where_of("classes"),
        )
    return names


def _read_names_from(entry: Entry, path: Path) -> tuple[str, ...]:
    found = _find(entry.value, path.parent)
    if found is None or not _exists(found):
        looked = "" if Path(entry.value).is_absolute() else f" in {Path.cwd()} or {path.parent.resolve()}"
        raise ConfigError(f"{entry.key}={entry.value}: no such file{looked}", where=f"{path}:{entry.line}")
    return read_names(found)


def _find(value: str, beside: Path) -> Path | None:
    """The path as given if it is there, else relative to ``beside`` if it is there, else as given."""
    if not value:
        return None
    given, fallback = Path(value), beside / value
    return fallback if not _exists(given) and _exists(fallback) else given


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than a file system allows, a folder that may not be read
        return False


def _expand_user(text: str) -> Path:
    """The path with a leading ~ replaced by the home folder; as it is where there is none."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_YAML_KEYS = (
    "path", "train", "val", "test", "names", "nc", "format", "shapes", "digits", "backup", "eval", "difficult",
)  # fmt: skip
_NAMED_ELSEWHERE = ("coco", "folders", "digits")

# Written by the tools that export data sets in this form; nothing in them concerns training a detector.
_YAML_IGNORED = (
    "author", "channels", "date", "description", "download", "flip_idx", "kpt_shape", "license", "minival", "roboflow",
    "task", "url", "version",
)  # fmt: skip


def read_yaml(path: str | Path) -> DataDescription:
    """Read a YAML description (see the module's text). Raises ConfigError with every problem in one go."""
    path = Path(path)
    return _YamlReader(path).description()


class _YamlReader:
    """Reads the nodes of a YAML file, which know their lines, and collects problems."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.nodes: dict[str, Any] = {}
        self.lines: dict[str, int] = {}

    def description(self) -> DataDescription:
        """The whole file, or ConfigError."""
        self._read_nodes()
        root = self._root()
        kind = self._choice("format", FORMATS)
        description = DataDescription(
            path=self.path,
            root=root,
            names=() if "names" not in self.nodes and kind in _NAMED_ELSEWHERE else self._names(),
            train=self._path("train", root),
            val=self._path("val", root),
            test=self._path("test", root),
            backup=self._path("backup", root),
            eval=self._choice("eval", EVALUATIONS),
            difficult=self._path("difficult", root),
            kind=kind,
            extra=MappingProxyType(self._free_keys("digits" if kind == "digits" else "shapes")),
            lines=self.lines,
            warnings=tuple(self.warnings),
        )
        if self.problems:
            raise ConfigError(problems=self.problems)
        return description

    def _read_nodes(self) -> None:
        import yaml

        try:
            top = yaml.compose(_read_text(self.path), Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
            raise ConfigError(f"is not YAML: {error.problem}", where=f"{self.path}{line}") from None
        except (yaml.YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"is not YAML: {reason}", where=str(self.path)) from None
        if not isinstance(top, yaml.MappingNode):
            raise ConfigError("needs lines such as 'train: train.txt' and 'names: [cat, dog]'", where=str(self.path))
        for key_node, value in top.value:
            self._add(str(key_node.value), value, key_node.start_mark.line + 1)

    def _add(self, key: str, node: Any, line: int) -> None:
        where = f"{self.path}:{line}"
        if key in self.nodes:
            self.problems.append(Problem(where, f"{key!r} is given twice, first on line {self.lines[key]}"))
        elif key in _YAML_KEYS:
            self.nodes[key], self.lines[key] = node, line
        elif key in _YAML_IGNORED:
            self.warnings.append(Problem(where, f"{key} has no effect"))
        else:
            self.problems.append(Problem(where, f"a data set has no key {key!r}{suggestion(key, _YAML_KEYS)}"))

    def _problem(self, key: str, message: str, node: Any = None) -> None:
        line = self.lines[key] if node is None else node.start_mark.line + 1
        self.problems.append(Problem(f"{self.path}:{line}", f"{key}: {message}"))

    def _text(self, key: str) -> str:
        """A key's plain text; empty if it is not given."""
        import yaml

        node = self.nodes.get(key)
        if node is None or (node.tag == "tag:yaml.org,2002:null" and not node.value):
            return ""
        if not isinstance(node, yaml.ScalarNode):
            self._problem(key, "expected one text, not a list or a map")
            return ""
        return str(node.value)

    def _choice(self, key: str, choices: tuple[str, ...]) -> str:
        text = self._text(key)
        if text and text not in choices:
            self._problem(key, f"{text!r}: expected one of {', '.join(choices)}{suggestion(text, choices)}")
        return text or choices[0]

    def _root(self) -> Path:
        return self.path.parent / _expand_user(self._text("path"))

    def _path(self, key: str, root: Path) -> Path | None:
        """A path relative to the root. Some tools write '../' too many: then the one without it, if it is there."""
        text = self._text(key)
        if not text:
            return None
        given, shorter = root / _expand_user(text), root / text.removeprefix("../")
        return shorter if not _exists(given) and _exists(shorter) else given

    def _names(self) -> tuple[str, ...]:
        import yaml

        node = self.nodes.get("names")
        if node is None:
            self.problems.append(Problem(str(self.path), "needs names: a list of the classes, such as [cat, dog]"))
            return ()
        if isinstance(node, yaml.SequenceNode):
            names = tuple(self._name(item) for item in node.value)
        elif isinstance(node, yaml.MappingNode):
            names = self._names_of_map(node)
        else:
            names = self._names_of_file()
        if not names and not self.problems:
            self._problem("names", "is empty; a data set needs at least one class")
        self._check_count(names)
        return names

    def _name(self, node: Any) -> str:
        import yaml

        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self._problem("names", "each name is one text", node)
            return ""
        return str(node.value)

    def _names_of_map(self, node: Any) -> tuple[str, ...]:
        """Names by number; the numbers must be 0, 1, 2... in any order."""
        found: dict[int, str] = {}
        for key_node, value in node.value:
            text = str(key_node.value)
            if not text.isdecimal() or int(text) >= len(node.value) or int(text) in found:
                count = len(node.value)
                self._problem("names", f"{text!r}: expected each number from 0 to {count - 1} once", key_node)
                return ()
            found[int(text)] = self._name(value)
        return tuple(found[number] for number in range(len(found)))

    def _names_of_file(self) -> tuple[str, ...]:
        text = self._text("names")
        if not text:
            return ()
        file = _find(text, self.path.parent)
        if file is None or not _exists(file):
            self._problem("names", f"{text!r}: no such file; names are a list such as [cat, dog], or a names file")
            return ()
        return read_names(file)

    def _check_count(self, names: tuple[str, ...]) -> None:
        text = self._text("nc")
        if text and not text.isdecimal():
            self._problem("nc", f"{text!r}: expected the number of classes")
        elif text and names and int(text) != len(names):
            self._problem("nc", f"{text} classes, but {_plural(len(names), 'name')}")

    def _free_keys(self, key: str) -> dict[str, Any]:
        """Whatever is written under a key."""
        import yaml

        node = self.nodes.get(key)
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._problem(key, "expected lines such as 'seed: 1' below it")
            return {}
        try:
            return dict(yaml.SafeLoader("").construct_document(node))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            self._problem(key, " ".join(str(error).split()))
            return {}
