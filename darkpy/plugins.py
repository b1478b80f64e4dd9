"""Layers of one's own: a Python file that registers sections, loaded before a cfg is read.

In Python ``import my_layer`` does the same; this is for the command line, ``--plugin my_layer.py``.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path

from darkpy.errors import InputError
from darkpy.layers.base import registered

_MODULE = "darkpy plugin "


def loaded() -> list[Path]:
    """The files that :func:`load` has run, whole paths, in the order it did."""
    return [Path(name.removeprefix(_MODULE)) for name in sys.modules if name.startswith(_MODULE)]


def load(path: str | Path) -> None:
    """Run a Python file once, so that what it registers with :func:`darkpy.layers.register` becomes known.

    Raises :class:`~darkpy.errors.InputError` with the line of the file at fault if it cannot be run.
    """
    file = Path(path).resolve()
    name = f"{_MODULE}{file}"
    if name in sys.modules:
        return
    registered()  # darkpy's own sections first, so that a name that is taken is the file's mistake
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise InputError("is no Python file: its name must end in .py", where=str(path))
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look up their module while it is being run.
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except OSError as error:
        del sys.modules[name]
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{type(error).__name__}: {error}", where=_place(path, file, error)) from error


def _place(path: str | Path, file: Path, error: Exception) -> str:
    """The file, and the last line of it that had a part in the error."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{path}:{lines[-1]}" if lines else str(path)
