"""Finding the files darkpy comes with: network files, names and descriptions of data, kernels.

The user's own files come first: a name is looked up as given, then in the folder of its kind (``cfg/``), both from the
working folder, and only then among those of the package.
"""

from __future__ import annotations

from pathlib import Path

from darkpy.errors import ConfigError, suggestion

KINDS = ("cfg", "data", "kernels")

_PACKAGE = Path(__file__).resolve().parent


def folder(kind: str) -> Path:
    """The package's folder of one kind: inside an installed package, or at the root of a source checkout."""
    if kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
    installed = _PACKAGE / "share" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def find(kind: str, name: str | Path) -> Path:
    """The file called ``name``: ``find("cfg", "yolov3-tiny.cfg")``, or ``"cfg/yolov3-tiny.cfg"`` from anywhere.

    Raises ConfigError that names the nearest file there is.
    """
    given = Path(name)
    own = folder(kind)
    # "cfg/x.cfg" is how one names a file of the checkout; it means the same where only the package is installed.
    inside = Path(*given.parts[1:]) if given.parts[:1] == (kind,) else given
    for candidate in (given, Path(kind) / given, own / inside):
        if _is_file(candidate):
            return candidate
    hint = suggestion(given.name, {*available(kind), *_files_in(Path(kind)), *_files_in(given.parent)})
    raise ConfigError(f"no such file here, in {kind}/ or in darkpy{hint}", where=str(name))


def available(kind: str) -> list[str]:
    """Names of the package's files of one kind, sorted."""
    return _files_in(folder(kind))


def _files_in(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return sorted(file.name for file in path.iterdir() if file.is_file() and not file.name.startswith(("_", ".")))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows
        return False
