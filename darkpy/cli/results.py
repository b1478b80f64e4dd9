"""What becomes of detections: json, crops, drawn pictures and videos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import click

from darkpy.errors import ConfigError, InputError, suggestion

if TYPE_CHECKING:
    import numpy as np

    from darkpy.detection import Detection
    from darkpy.sources import Video

STANDARD_OUTPUT = "-"
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
LARGEST = 1280, 800
"""Pixels of a window at most when it is opened; then it can be made larger."""
LOOK = 100
"""Milliseconds after which a window that waits for a key looks whether it has been closed."""
_UNSAFE = str.maketrans(dict.fromkeys('/\\:*?"<>|', "_"))


@dataclass(frozen=True)
class Wanted:
    """What is to be written of each detection.

    json_file: Darknet's json, written at the end; json_lines: an object a line, as found; ``-`` is standard output.
    crops: a folder for what is inside the boxes. classes: the class numbers that count, None for all.
    """

    json_file: str | None = None
    json_lines: str | None = None
    crops: Path | None = None
    classes: frozenset[int] | None = None

    @property
    def speaks(self) -> bool:
        """Whether standard output is for people."""
        return STANDARD_OUTPUT not in (self.json_file, self.json_lines)


def chosen_classes(text: str | None, names: Sequence[str]) -> frozenset[int] | None:
    """Class numbers of a list such as ``dog,cat,7``; None for None.

    Raises :class:`~darkpy.errors.ConfigError` for a class that there is not.
    """
    if text is None:
        return None
    numbers = []
    for word in (part.strip() for part in text.split(",")):
        if word in names:
            numbers.append(names.index(word))
        elif word.isdecimal() and int(word) < len(names):
            numbers.append(int(word))
        else:
            raise ConfigError(f"--classes: there is no class {word!r}{suggestion(word, names)}")
    return frozenset(numbers)


class Results:
    """Writes detections down as they are found; ``finish`` completes the files and says where they are."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.counts: Counter[str] = Counter()
        self._frames: list[dict[str, Any]] = []
        self._number = 0
        self._crops = 0
        self._lines: IO[str] | None = None
        for path in (wanted.json_file, wanted.json_lines):
            if path is not None and Path(path).is_dir():
                raise InputError("is a folder; name a file in it", where=path)
        if wanted.json_lines not in (None, STANDARD_OUTPUT):
            Path(wanted.json_lines).parent.mkdir(parents=True, exist_ok=True)
            self._lines = Path(wanted.json_lines).open("w", encoding="utf-8")  # noqa: SIM115  # until finish

    def chosen(self, found: list[Detection]) -> list[Detection]:
        """Those of the classes that count."""
        classes = self.wanted.classes
        return found if classes is None else [one for one in found if one.class_id in classes]

    def keep(self, name: str, image: np.ndarray, found: list[Detection]) -> None:
        """Write down what was found in a picture or frame."""
        self._number += 1
        self.counts.update(one.name for one in found if not one.hidden)
        if self.wanted.json_file is not None or self.wanted.json_lines is not None:
            self._keep_json(name, image, found)
        if self.wanted.crops is not None:
            self._keep_crops(self.wanted.crops, name, image, found)

    def _keep_json(self, name: str, image: np.ndarray, found: list[Detection]) -> None:
        import json

        from darkpy.detection import json_frame

        frame = json_frame(found, image.shape[1], image.shape[0], self._number, name)
        if self.wanted.json_file is not None:
            self._frames.append(frame)
        line = json.dumps(frame, ensure_ascii=False)
        if self.wanted.json_lines == STANDARD_OUTPUT:
            print(line, flush=True)  # on a terminal, the bar of the progress makes room for it
        elif self._lines is not None:
            self._lines.write(f"{line}\n")
            self._lines.flush()

    def _keep_crops(self, folder: Path, name: str, image: np.ndarray, found: list[Detection]) -> None:
        import numpy as np

        height, width = image.shape[:2]
        for one in found:
            inside = np.clip(np.nan_to_num(one.corners), 0, (width, height, width, height))
            left, top, right, bottom = inside.round().astype(int)
            part = image[top:bottom, left:right]
            if part.size and not one.hidden:
                self._crops += 1
                place = folder / one.name.translate(_UNSAFE) / f"{Path(name).stem}-{self._crops}.jpg"
                write_picture(place, part)

    def finish(self) -> list[str]:
        """Write what is written at the end; lines that say where everything is."""
        from darkpy.detection import to_json
        from darkpy.files import atomic_write

        said = []
        if self._lines is not None:
            self._lines.close()
            said.append(f"json lines: {self.wanted.json_lines}")
        path = self.wanted.json_file
        if path == STANDARD_OUTPUT:
            click.echo(to_json(self._frames), nl=False)
        elif path is not None:
            with atomic_write(path, "w") as file:
                file.write(to_json(self._frames))
            said.append(f"json: {path}")
        if self._crops:
            said.append(f"crops: {self._crops:,} in {self.wanted.crops}")
        return said


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a BGR or grey picture; the ending says the format. Folders that are missing are made."""
    import cv2

    from darkpy.files import atomic_write

    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise InputError("cannot be written in this format; use .jpg or .png", where=str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(data.tobytes())


class VideoFile:
    """A video being written: under another name until it is complete. Use as a context manager.

    What was written before an interruption is kept.
    """

    def __init__(self, path: Path, video: Video) -> None:
        """Write frames of the size and rate of ``video``; the ending of the path says the format."""
        import cv2

        path.parent.mkdir(parents=True, exist_ok=True)
        codec = CODECS.get(path.suffix.lower())
        if codec is None:
            raise InputError(f"videos are written as {', '.join(CODECS)}", where=str(path))
        self.path = path
        self._unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        size = video.width, video.height
        self._writer = cv2.VideoWriter(str(self._unfinished), cv2.VideoWriter.fourcc(*codec), video.rate, size)
        if not self._writer.isOpened():
            raise InputError("this video cannot be written; try a name that ends in .avi", where=str(path))

    def write(self, frame: np.ndarray) -> None:
        """Add a frame (h, w, 3) BGR."""
        self._writer.write(frame)

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.release()
        self._unfinished.replace(self.path)


class Window:
    """A window that shows pictures, where there is a display to show them on; a line says so where there is none."""

    def __init__(self, title: str, wanted: bool) -> None:
        self.title = title
        self._is_sized = False
        self.is_open = wanted and self._can_open()
        if wanted and not self.is_open:
            click.echo("no window is opened: there is no display here, or OpenCV was built without windows", err=True)

    def _can_open(self) -> bool:
        import sys

        import cv2

        # Without a display Qt ends the whole program instead of raising an error.
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            return False
        # Qt, which is in OpenCV's packages, comes without the fonts it asks for, and complains of each.
        if not Path(os.environ.get("QT_QPA_FONTDIR", "")).is_dir():
            from darkpy.drawing import font_folder

            os.environ["QT_QPA_FONTDIR"] = str(font_folder())
        try:
            cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error:
            return False
        return True

    def show(self, image: np.ndarray, wait: int = 1) -> bool:
        """Show a picture for ``wait`` ms, 0 until a key is pressed.

        Returns whether to go on: Esc and q say no, and whoever closes the window.
        """
        if not self.is_open:
            return True
        import cv2

        if not self._is_sized:
            self._is_sized = True
            cv2.resizeWindow(self.title, *_fitting(image.shape[1], image.shape[0]))
        cv2.imshow(self.title, image)
        key = cv2.waitKey(wait or LOOK)
        while not wait and key < 0 and self._is_there():
            key = cv2.waitKey(LOOK)
        return key & 0xFF not in (27, ord("q")) and self._is_there()

    def _is_there(self) -> bool:
        """Whether the window has not been closed."""
        import cv2

        try:
            return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) != 0
        except cv2.error:  # Qt knows nothing of it any more
            return False


def _fitting(width: int, height: int) -> tuple[int, int]:
    """The size of a picture, or what of its shape fits on most screens."""
    scale = min(1.0, LARGEST[0] / width, LARGEST[1] / height)
    return round(scale * width), round(scale * height)
