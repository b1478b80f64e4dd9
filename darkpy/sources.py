"""What a detector looks at: pictures by path, folder, pattern or list, videos and cameras, decoded ahead of it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from darkpy.errors import DataError, InputError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".flv"})
"""Endings of the files that are played as videos, in lower case."""

LIST_SUFFIX = ".txt"
CAMERA = "camera:"
STREAMS = ("rtsp://", "rtmp://", "http://", "https://")
_UNKNOWN_RATE = 25.0  # frames per second of a video or a camera that does not say


@dataclass(frozen=True)
class Picture:
    """A picture that was read, or the problem with it.

    image: uint8 (h, w, 3) BGR, or as many channels as the network takes where that is neither 1 nor 3.
    """

    path: Path
    image: NDArray[np.uint8] | None
    problem: Problem | None = None


def is_video(name: str) -> bool:
    """Whether a name is that of a video file, a stream's address, or a camera such as ``camera:0``."""
    return is_live(name) or Path(name).suffix.lower() in VIDEO_SUFFIXES


def is_live(name: str) -> bool:
    """Whether a name is that of a camera or a stream's address."""
    return name.startswith((CAMERA, *STREAMS))


def pictures_in(names: Iterable[str], *, videos: bool = False) -> Iterator[tuple[Path, Path]]:
    """Pictures of files, folders, patterns and lists: their paths, and their places below what was named.

    A folder is searched through all its folders, a pattern such as ``holiday/**/*.jpg`` is matched, a ``.txt`` file
    is a list with a path in each line, as Darknet's. videos: whether those in folders and of patterns count too. Raises
    :class:`~darkpy.errors.DataError` where there are none.
    """
    from darkpy.data.pictures import SUFFIXES

    known = SUFFIXES | VIDEO_SUFFIXES if videos else SUFFIXES
    what = "pictures and videos" if videos else "pictures"
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
            if not found:
                raise DataError(f"is a folder without {what}", where=name)
            yield from ((file, file.relative_to(path)) for file in found)
        elif has_magic(name) and not path.exists():
            matching = sorted(Path(match) for match in glob(name, recursive=True))  # noqa: PTH207  # may be absolute
            found = [file for file in matching if file.suffix.lower() in known and file.is_file()]
            if not found:
                raise DataError(f"matches no {what}", where=name)
            yield from ((file, Path(file.name)) for file in found)
        elif path.suffix.lower() == LIST_SUFFIX and path.is_file():
            lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
            yield from ((Path(line), Path(Path(line).name)) for line in lines if line)
        else:
            yield path, Path(path.name)


def read(path: Path, channels: int) -> Picture:
    """Read a picture for a network with so many input channels; a problem with it is returned, not raised."""
    from darkpy.data.pictures import read_picture

    colors = 3 if channels in (1, 3) else channels
    try:
        image = read_picture(path, colors)
    except DataError as error:
        return Picture(path, None, error.problems[0])
    return Picture(path, image[..., ::-1] if colors == 3 else image)


def read_ahead(paths: Iterable[Path], channels: int, ahead: int) -> Iterator[Picture]:
    """Pictures in their order, up to ``ahead`` of them decoded before they are asked for."""
    from darkpy.data.workers import in_background, thread_count

    with ThreadPoolExecutor(thread_count(), thread_name_prefix="darkpy-decode") as pool:
        yield from in_background(pool, partial(read, channels=channels), paths, ahead)


class Video:
    """A video file, a stream or a camera: its frames, decoded ahead in a thread of its own.

    Use as a context manager. A file waits for whoever takes its frames; of a camera only the newest frames are kept,
    so that what is shown does not fall behind.

    Attributes:
        width, height: of the frames, in pixels.
        rate: frames per second.
        frames: how many there are; 0 where that is not known, as of a camera.
    """

    def __init__(self, name: str, *, skip: int = 0, ahead: int = 8) -> None:
        """Open it; of each ``skip + 1`` frames the first is given.

        Raises :class:`~darkpy.errors.InputError` where that is not possible.
        """
        import cv2

        self.name = name
        self.is_live = is_live(name)
        if not self.is_live and not Path(name).is_file():
            raise DataError("no such video", where=name)
        with _quiet_opencv():
            self._capture = cv2.VideoCapture(_camera_number(name) if name.startswith(CAMERA) else name)
        if not self._capture.isOpened():
            advice = "is it connected, and free?" if self.is_live else "is it damaged, or of a kind OpenCV cannot play?"
            raise DataError(f"cannot be opened; {advice}", where=name)
        self._skip = skip
        # Not what it says of itself: a stream may not know yet, and a film may be turned.
        self._first = self._next()
        if self._first is None:
            self._capture.release()
            raise DataError("has no frame that can be read", where=name)
        self.height, self.width = self._first.shape[:2]
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = (rate if 0 < rate < 1000 else _UNKNOWN_RATE) / (skip + 1)
        count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        if name.startswith("http") and count:
            self.is_live = False  # a recording, which waits
        count = 0 if self.is_live else count
        self.frames = -(-count // (skip + 1))
        self._decoded: queue.Queue[NDArray[np.uint8] | None] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._decode, name="darkpy-video", daemon=True)

    def __enter__(self) -> Video:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._capture.release()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """The frames, uint8 (h, w, 3) BGR."""
        while (frame := self._decoded.get()) is not None:
            yield frame

    def _decode(self) -> None:
        frame, self._first = self._first, None
        while frame is not None and not self._stopped.is_set():
            self._hand_over(frame)
            frame = self._next()
        self._hand_over(None)

    def _next(self) -> NDArray[np.uint8] | None:
        read, frame = self._capture.read()
        for _ in range(self._skip):
            self._capture.grab()
        return frame if read else None  # type: ignore[return-value]

    def _hand_over(self, frame: NDArray[np.uint8] | None) -> None:
        while not self._stopped.is_set():
            try:
                self._decoded.put(frame, timeout=0.1)
                return
            except queue.Full:
                if self.is_live and frame is not None:
                    self._forget_one()

    def _forget_one(self) -> None:
        try:
            self._decoded.get_nowait()
        except queue.Empty:
            return  # just taken by the reader


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Without OpenCV's own words on a video that it cannot open."""
    import cv2

    # FFmpeg within OpenCV asks the environment, when it is used for the first time.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _camera_number(name: str) -> int:
    number = name.removeprefix(CAMERA)
    if not number.isdecimal():
        raise InputError(f"{name!r} is no camera; write {CAMERA}0 for the first one")
    return int(number)
