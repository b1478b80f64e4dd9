"""Writing files so that a crash never leaves half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; on success it is flushed to disk and renamed to ``path``.

    On any error the temporary file is removed and whatever stood at ``path`` before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    descriptor, name = tempfile.mkstemp(prefix=path.name + ".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a saved result has the permissions any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def keep_copy(path: Path, copy: Path) -> None:
    """Let ``copy`` be the file that ``path`` is now, whatever is written to ``path`` later by :func:`atomic_write`."""
    name = copy.with_name(copy.name + ".tmp")
    name.unlink(missing_ok=True)
    try:
        name.hardlink_to(path)  # at once, and without room
    except OSError:  # not every file system can
        shutil.copyfile(path, name)
    name.replace(copy)
