"""The folder in which a training leaves everything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkpy import plugins
from darkpy.errors import InputError, TrainingError
from darkpy.files import atomic_write

if TYPE_CHECKING:
    from darkpy.network import Network

RUNS = Path("runs")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Failures to write in this context, such as a full disk, become a TrainingError that names the file."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path}  cannot be written: {error.strerror or error}") from error


class RunFolder:
    """``runs/<name of the cfg>-N``, a new one for each run: cfg, arguments, logs, chart, state and weights.

    ``backups``, if set, is where weights are saved a second time: ``<folder>/<name of the cfg>_last.weights`` and so
    on, as Darknet names them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backups: tuple[Path, str] | None = None

    @classmethod
    def create(cls, name: str, out: str | Path | None = None, runs: Path = RUNS) -> RunFolder:
        """Make the folder: ``out``, which must be new or empty, or the next free number for ``name``."""
        if out is None:
            return cls(_numbered(name, runs))
        path = Path(out)
        try:
            path.mkdir(parents=True, exist_ok=True)
            taken = any(path.iterdir())
        except OSError as error:
            raise InputError(f"cannot be the run folder: {error.strerror}", where=str(path)) from None
        if taken:
            raise InputError("is not empty; name another folder, or leave out --out to get a new one", where=str(path))
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The folder of a run that was started before."""
        folder = cls(Path(path))
        if not folder.arguments.is_file():
            if not folder.path.is_dir():
                raise InputError("no such run folder", where=str(path))
            what = "is no run folder: it has no args.yaml; if a training was killed here before it began, start it anew"
            raise InputError(what, where=str(path))
        return folder

    @property
    def arguments(self) -> Path:
        """Everything it takes to repeat the run."""
        return self.path / "args.yaml"

    @property
    def state(self) -> Path:
        """What it takes to go on with the run."""
        return self.path / "state.npz"

    @property
    def state_before(self) -> Path:
        """The state before that, if a rollback may need it."""
        return self.path / "state-before.npz"

    @property
    def status(self) -> Path:
        """How far it is."""
        return self.path / "status.json"

    @property
    def results(self) -> Path:
        """The log, one line per iteration."""
        return self.path / "results.csv"

    @property
    def log(self) -> Path:
        """The same with more details, for programs."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def chart(self) -> Path:
        """The picture of loss and mAP."""
        return self.path / "chart.png"

    @property
    def report(self) -> Path:
        """The page about the run, for people."""
        return self.path / "report.html"

    @property
    def problems(self) -> Path:
        """Pictures and labels that were skipped; there only if there were any."""
        return self.path / "problems.txt"

    def weights(self, name: str | int) -> Path:
        """``last``, ``best``, ``final``, ``ema``, or the number of an iteration."""
        return self.path / f"{name}.weights"

    def save_weights(self, network: Network, name: str | int) -> None:
        """Write ``<name>.weights``, and the backup if there is to be one."""
        paths = [self.weights(name)]
        if self.backups is not None:
            folder, base = self.backups
            paths.append(folder / f"{base}_{name}.weights")
        for path in paths:
            with writing(path):
                network.save_weights(path)

    def keep_cfg(self, path: str | Path) -> None:
        """Copy the cfg, byte by byte."""
        self._keep(Path(path), self.path / Path(path).name)

    def keep_plugins(self, files: Iterable[Path]) -> dict[str, str]:
        """Copy files with layers of one's own; the names of the copies, and where each is from."""
        kept: dict[str, str] = {}
        for file in files:
            name, number = file.name, 1
            while name in kept:
                number += 1
                name = f"{file.stem}-{number}{file.suffix}"
            self._keep(file, self.path / name)
            kept[name] = str(file)
        return kept

    def load_plugins(self) -> None:
        """Load the copies of such files, but for those that are loaded already from where they were."""
        there = plugins.loaded()
        for name, file in (self.read_arguments().get("plugins") or {}).items():
            copy = self.path / name
            if Path(file) not in there and not any(same_content(copy, other) for other in there):
                plugins.load(copy)

    def _keep(self, file: Path, copy: Path) -> None:
        with writing(copy), atomic_write(copy) as target:
            target.write(file.read_bytes())

    def keep_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Write ``args.yaml``."""
        import yaml

        with writing(self.arguments), atomic_write(self.arguments, "w") as file:
            yaml.safe_dump(dict(arguments), file, sort_keys=False, allow_unicode=True)

    def read_arguments(self) -> dict[str, Any]:
        """What :meth:`keep_arguments` wrote; raises InputError if it cannot be read any more."""
        import yaml

        try:
            found = yaml.safe_load(self.arguments.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"cannot be read: {' '.join(str(error).split())}", where=str(self.arguments)) from None
        if not isinstance(found, dict):
            raise InputError("has no arguments", where=str(self.arguments))
        return found

    def remove_leftovers(self) -> None:
        """Delete what a process that was killed while it saved has left."""
        for path in self.path.glob("*.tmp"):
            with suppress(OSError):
                path.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder for this process; raises InputError if another one is training in it.

        The system gives it free when the process ends, however it ends. Where the file system knows no locks nothing
        is kept.
        """
        descriptor = _lock(self.path)
        if descriptor == BUSY:
            raise InputError("is in use: a training is running in it", where=str(self.path))
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def is_locked(self) -> bool | None:
        """Whether a process is training in it now; None where that cannot be known."""
        descriptor = _lock(self.path)
        if descriptor is None or descriptor == BUSY:
            return None if descriptor is None else True
        os.close(descriptor)
        return False


def same_content(one: Path, other: Path) -> bool:
    """Whether two files are there and the same."""
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


BUSY = -1


def _lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock, BUSY if another one does, None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return BUSY
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _numbered(name: str, runs: Path) -> Path:
    """Make and return the first folder ``name-N`` whose number is higher than all there are."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        matches = (re.fullmatch(re.escape(name) + r"-(\d+)", path.name) for path in runs.iterdir())
        number = max((int(match[1]) for match in matches if match), default=0) + 1
        while True:
            path = runs / f"{name}-{number}"
            try:
                path.mkdir()
                return path
            except FileExistsError:  # another run has just taken it
                number += 1
    except OSError as error:
        raise InputError(f"cannot make a folder for this run: {error.strerror}", where=str(runs)) from None
