"""``darkpy detect``: find objects in pictures. ``darkpy detector test`` is the same in Darknet's order."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.arguments import Files, sort_files
from darkpy.cli.command import Command, Function, without_effect
from darkpy.errors import DataError, InputError, Problem

if TYPE_CHECKING:
    import numpy as np

    from darkpy.detection import Detection

FRACTION: dict[str, Any] = {"type": click.FloatRange(0, 1), "metavar": "P", "show_default": True}
PREDICTIONS = "predictions"
WRITABLE = (".jpg", ".jpeg", ".png", ".bmp")
STANDARD_OUTPUT = "-"


def device_options(function: Function) -> Function:
    """The flags that say what to compute on."""
    decorators: list[Callable[[Any], Any]] = [
        click.option("--device", metavar="NAME", default="cpu", show_default=True, help="cpu, numba or numpy."),
        click.option("--nogpu", is_flag=True, expose_value=False, hidden=True),
        without_effect("-i", "--gpu-index", because="this computes on the CPU", value=True),
        without_effect("--gpus", because="this computes on the CPU", value=True),
        without_effect("--benchmark-layers", because="layers are not timed one by one"),
    ]
    return _decorated(function, decorators)


def detection_options(function: Function) -> Function:
    """The flags of every command that looks at pictures."""
    decorators: list[Callable[[Any], Any]] = [
        click.option("--cfg", metavar="CFG", help="The network."),
        click.option("--weights", metavar="FILE", help="Its trained weights."),
        click.option("--data", metavar="DATA", help="A data set whose class names to use."),
        click.option("--names", metavar="FILE", help="Class names, one a line."),
        click.option("--thresh", default=0.25, help="Show what is more probable than this.", **FRACTION),
        click.option("--nms", default=0.45, help="Overlap that makes two boxes one object.", **FRACTION),
        click.option("--letter-box", is_flag=True, help="Pad pictures to the network's shape, do not stretch them."),
        click.option("--json", "json_file", metavar="FILE", help="Write detections as Darknet's json; - prints them."),
        click.option("--save-labels", is_flag=True, help="Write a label file for each picture that has none yet."),
        click.option("--ext-output", is_flag=True, expose_value=False, hidden=True),  # the table always has the boxes
        click.option("--dont-show", is_flag=True, expose_value=False, hidden=True),  # windows are never opened
        without_effect("--hier", because="there are no class trees", value=True),
    ]
    return device_options(_decorated(function, decorators))


def _decorated(function: Function, decorators: Iterable[Callable[[Any], Any]]) -> Function:
    for decorator in reversed(list(decorators)):
        function = decorator(function)
    return function


@dataclass(frozen=True)
class DetectOptions:
    """The values of :func:`detection_options`."""

    cfg: str | None
    weights: str | None
    data: str | None
    names: str | None
    thresh: float
    nms: float
    letter_box: bool
    json_file: str | None
    save_labels: bool
    device: str


class Job:
    """Looks at pictures one after the other, printing and writing what the options ask for."""

    def __init__(self, files: Files, options: DetectOptions) -> None:
        """Load the detector and say what it is."""
        from darkpy.cli.loading import load_detector

        detector = load_detector(files, device=options.device)
        self.network = detector.network
        self.options = options
        self.frames: list[dict[str, Any]] = []
        self.problems: list[Problem] = []
        self.looked_at = 0
        self.kept_labels = 0
        self.say(detector.description)

    @property
    def written(self) -> int:
        """How many pictures could be used."""
        return self.looked_at - len(self.problems)

    def say(self, text: str) -> None:
        """Print a line for people; not where standard output is for json."""
        if self.options.json_file != STANDARD_OUTPUT:
            click.echo(text)

    def look_at(self, path: Path, target: Path) -> None:
        """Detect on one picture and draw it into ``target``; a picture that cannot be used is a problem for later."""
        from darkpy.data.pictures import read_picture

        self.looked_at += 1
        try:
            image = read_picture(path)[..., ::-1]  # RGB; detection and drawing take OpenCV's BGR
        except DataError as error:
            self.problems += error.problems
            return
        options = self.options
        began = time.perf_counter()
        found = self.network.detect(image, options.thresh, options.nms, options.letter_box)
        self._report(path, image, found, time.perf_counter() - began)
        self._keep(path, image, found)
        write_picture(target, image, found)

    def _report(self, path: Path, image: np.ndarray, found: list[Detection], seconds: float) -> None:
        from darkpy.cli.output import print_table
        from darkpy.detection import detection_table
        from darkpy.training.text import plural

        height, width = image.shape[:2]
        shown = [detection for detection in found if not detection.hidden]
        self.say(f"{path}   {width}x{height}   {1000 * seconds:.0f} ms   {plural(len(shown), 'object')}")
        if shown and self.options.json_file != STANDARD_OUTPUT:
            print_table(detection_table(shown))

    def _keep(self, path: Path, image: np.ndarray, found: list[Detection]) -> None:
        from darkpy.data.labels import label_path
        from darkpy.detection import json_frame, save_labels

        height, width = image.shape[:2]
        if self.options.json_file is not None:
            self.frames.append(json_frame(found, width, height, len(self.frames) + 1, path))
        if self.options.save_labels:
            # Where a training looks for them. Labels that are there may be somebody's work.
            labels = label_path(path)
            if labels.exists():
                self.kept_labels += 1
            else:
                save_labels(labels, found, width, height)

    def finish(self, drawn: str) -> None:
        """Write the json file and say where everything is; exit status 2 if a picture could not be used.

        drawn: where the drawn pictures are.
        """
        self._write_json()
        if self.kept_labels:
            self.say(f"{self.kept_labels} label files were there already and are left as they are")
        if self.written:
            self.say(f"drawn: {drawn}")
        if self.problems:
            for problem in self.problems:
                click.echo(str(problem), err=True)
            click.echo(f"{len(self.problems)} of {self.looked_at} pictures could not be used", err=True)
            click.get_current_context().exit(InputError.exit_code)

    def _write_json(self) -> None:
        from darkpy.detection import to_json
        from darkpy.files import atomic_write

        path = self.options.json_file
        if path == STANDARD_OUTPUT:
            click.echo(to_json(self.frames), nl=False)
        elif path is not None:
            with atomic_write(path, "w") as file:
                file.write(to_json(self.frames))
            click.echo(f"json: {path}")


def write_picture(path: Path, image: np.ndarray, found: list[Detection]) -> None:
    """Draw the detections and write the picture; the ending says the format."""
    import cv2

    from darkpy.drawing import draw
    from darkpy.files import atomic_write

    done, data = cv2.imencode(path.suffix, draw(image, found))
    if not done:
        raise InputError("cannot be written in this format; use .jpg or .png", where=str(path))
    with atomic_write(path) as file:
        file.write(data.tobytes())


def pictures_in(paths: Iterable[str]) -> Iterator[tuple[Path, Path]]:
    """Pictures of files and folders: their paths, and their places below the folder that was named."""
    from darkpy.data.pictures import SUFFIXES

    for name in paths:
        path = Path(name)
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not found:
            raise DataError("is a folder without pictures", where=name)
        for file in found:
            yield file, file.relative_to(path)


def existing(paths: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """All pictures at once, so that a wrong name among many is found before the work begins."""
    chosen = list(paths)
    problems = [Problem(str(path), "no such picture") for path, _ in chosen if not path.is_file()]
    if problems:
        raise DataError(problems=problems)
    return chosen


def targets(places: Iterable[Path], out: Path) -> list[Path]:
    """Where to draw each picture: its place below ``out``, numbered where several have the same.

    The format stays where every OpenCV can write it, otherwise it is jpg.
    """
    taken: dict[Path, None] = {}  # a set that keeps the order
    for place in places:
        target = wanted = out / (place if place.suffix.lower() in WRITABLE else place.with_suffix(".jpg"))
        number = 1
        while target in taken:
            number += 1
            target = wanted.with_stem(f"{wanted.stem}-{number}")
        taken[target] = None
    return list(taken)


@click.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@detection_options
@click.option("--out", metavar="FOLDER", default=PREDICTIONS, show_default=True, help="Where the drawn pictures go.")
def detect(paths: tuple[str, ...], out: str, **given: Any) -> None:
    """Find objects in pictures and folders of pictures.

    Draws them into copies of the pictures and prints a table. The .cfg and .weights files may stand among the paths;
    without any, a small detector of shapes, digits and letters that comes with darkpy is used.
    """
    if out.lower().endswith(".json"):  # Darknet's -out is the json file
        given["json_file"] = given["json_file"] or out
        out = PREDICTIONS
    options = DetectOptions(**given)
    files = named_files(paths, options)
    if not files.pictures:
        raise click.UsageError("no picture is named")
    chosen = existing(pictures_in(files.pictures))
    drawn = targets([place for _, place in chosen], Path(out))
    job = Job(files, options)
    for (path, _), target in zip(chosen, drawn):
        job.look_at(path, target)
    job.finish(str(drawn[0]) if len(drawn) == 1 else out)


def named_files(paths: Iterable[str], options: DetectOptions) -> Files:
    """The files among the arguments and those named by options."""
    files = sort_files(paths, pictures=True)
    override(files, cfg=options.cfg, weights=options.weights, data=options.data, names=options.names)
    return files


def override(files: Files, **options: str | None) -> None:
    """Add files named by options; naming two of a kind is a mistake."""
    for kind, path in options.items():
        given = getattr(files, kind)
        if path is not None and given not in (None, path):
            raise InputError(f"two {kind} files: {given} and {path}")
        setattr(files, kind, path or given)


def paths_from_input() -> Iterator[str]:
    """Picture names from standard input, one a line, as ``darknet detector test`` takes them."""
    if sys.stdin.isatty():
        click.echo("names of pictures, one a line; an empty line ends", err=True)
    for line in sys.stdin:
        name = line.strip()
        if not name:
            return
        yield name
