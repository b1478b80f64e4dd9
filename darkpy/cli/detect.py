"""``darkpy detect``: find objects in pictures. ``darkpy detector test`` is the same in Darknet's order."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.arguments import Files, sort_files
from darkpy.cli.command import Command, Function, without_effect
from darkpy.errors import DataError, InputError, Problem

if TYPE_CHECKING:
    import numpy as np

    from darkpy.detection import Detection
    from darkpy.network import Network

FRACTION = click.FloatRange(0, 1)
PREDICTIONS = Path("predictions")
STANDARD_OUTPUT = "-"


def device_options(function: Function) -> Function:
    """The flags that say what to compute on."""
    decorators: list[Callable[[Any], Any]] = [
        click.option("--device", default="cpu", show_default=True, help="What to compute on: cpu, numba or numpy."),
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
        click.option(
            "--thresh", type=FRACTION, default=0.25, show_default=True, help="Show what is more probable than this."
        ),
        click.option(
            "--nms", type=FRACTION, default=0.45, show_default=True, help="Overlap that makes two boxes one object."
        ),
        click.option("--letter-box", is_flag=True, help="Pad pictures to the network's shape, do not stretch them."),
        click.option(
            "--json", "json_file", metavar="FILE", help="Write detections to a json file as Darknet does; - prints them."
        ),
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


@dataclass
class Job:
    """What to do with the pictures."""

    network: Network
    thresh: float
    nms: float
    letter_box: bool
    out: Path | None
    json_file: str | None
    save_labels: bool
    frames: list[dict[str, Any]] = field(default_factory=list)
    kept_labels: int = 0
    written: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    @property
    def prints(self) -> bool:
        """Whether standard output is for people: not if it is for json."""
        return self.json_file != STANDARD_OUTPUT

    def say(self, text: str) -> None:
        """Print a line for people."""
        if self.prints:
            click.echo(text)

    def look_at(self, path: Path, target: Path | None) -> None:
        """Detect on one picture and write what is wanted; a picture that cannot be used is a problem for later."""
        from darkpy.data.pictures import read_picture

        self.count += 1
        try:
            image = read_picture(path)[..., ::-1]  # RGB; detection and drawing take OpenCV's BGR
        except DataError as error:
            self.problems += error.problems
            return
        began = time.perf_counter()
        found = self.network.detect(image, self.thresh, self.nms, self.letter_box)
        self._report(path, image, found, time.perf_counter() - began)
        self._keep(path, image, found, target)

    def _report(self, path: Path, image: np.ndarray, found: list[Detection], seconds: float) -> None:
        if not self.prints:
            return
        from darkpy.cli.output import print_table
        from darkpy.detection import detection_table
        from darkpy.training.text import plural

        height, width = image.shape[:2]
        shown = [detection for detection in found if not detection.hidden]
        click.echo(f"{path}   {width}x{height}   {1000 * seconds:.0f} ms   {plural(len(shown), 'object')}")
        if shown:
            print_table(detection_table(shown))

    def _keep(self, path: Path, image: np.ndarray, found: list[Detection], target: Path | None) -> None:
        from darkpy.detection import json_frame

        height, width = image.shape[:2]
        if self.json_file is not None:
            self.frames.append(json_frame(found, width, height, len(self.frames) + 1, path))
        if self.save_labels:
            self._save_labels(path, found, width, height)
        if target is not None:
            target = self._unused(target)
            write_picture(target, image, found)

    def _save_labels(self, path: Path, found: list[Detection], width: int, height: int) -> None:
        """Beside the picture, where a training looks for them. Labels that are there may be somebody's work."""
        from darkpy.data.labels import label_path
        from darkpy.detection import save_labels

        labels = label_path(path)
        if labels.exists():
            self.kept_labels += 1
        else:
            save_labels(labels, found, width, height)

    def _unused(self, target: Path) -> Path:
        """Pictures of one name from several folders do not overwrite each other."""
        number = 1
        chosen = target
        while chosen in self.written:
            number += 1
            chosen = target.with_stem(f"{target.stem}-{number}")
        self.written.add(chosen)
        return chosen

    def finish(self) -> None:
        """Write the json file and say where everything is; exit status 2 if a picture could not be used."""
        self._write_json()
        if self.kept_labels:
            self.say(f"{self.kept_labels} label files were there already and are left as they are")
        if self.written:
            single = next(iter(self.written)) if len(self.written) == 1 else self.out
            self.say(f"{'picture' if len(self.written) == 1 else 'pictures'}: {single}")
        if self.problems:
            for problem in self.problems:
                click.echo(str(problem), err=True)
            click.echo(f"{len(self.problems)} of {self.count} pictures could not be used", err=True)
            click.get_current_context().exit(InputError.exit_code)

    def _write_json(self) -> None:
        from darkpy.detection import to_json
        from darkpy.files import atomic_write

        if self.json_file == STANDARD_OUTPUT:
            click.echo(to_json(self.frames), nl=False)
        elif self.json_file is not None:
            with atomic_write(self.json_file, "w") as file:
                file.write(to_json(self.frames))
            click.echo(f"json: {self.json_file}")


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


def target_name(place: Path) -> Path:
    """The name of the drawn picture: the same, as .jpg where OpenCV may not be able to write the format."""
    keeps = (".jpg", ".jpeg", ".png", ".bmp")
    return place if place.suffix.lower() in keeps else place.with_suffix(".jpg")


@click.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@detection_options
@click.option("--out", metavar="FOLDER", default=str(PREDICTIONS), show_default=True, help="Where pictures go.")
def detect(
    paths: tuple[str, ...],
    cfg: str | None,
    weights: str | None,
    data: str | None,
    names: str | None,
    thresh: float,
    nms: float,
    letter_box: bool,
    json_file: str | None,
    save_labels: bool,
    device: str,
    out: str,
) -> None:
    """Find objects in pictures and folders of pictures.

    Draws them into copies of the pictures and prints a table. The .cfg and .weights files may stand among the paths;
    without any, a small detector of shapes, digits and letters that comes with darkpy is used.
    """
    files = sort_files(paths, pictures=True)
    override(files, cfg=cfg, weights=weights, data=data, names=names)
    if not files.pictures:
        raise click.UsageError("no picture is named")
    if out.lower().endswith(".json"):  # Darknet's -out is the json file
        out, json_file = str(PREDICTIONS), json_file or out
    chosen = existing(pictures_in(files.pictures))
    job = start(files, thresh, nms, letter_box, Path(out), json_file, save_labels, device)
    for path, place in chosen:
        job.look_at(path, Path(out) / target_name(place))
    job.finish()


def override(files: Files, **options: str | None) -> None:
    """Files named by an option; naming one twice is a mistake."""
    for kind, path in options.items():
        if path is None:
            continue
        given = getattr(files, kind)
        if given is not None and given != path:
            raise InputError(f"two {kind} files: {given} and {path}")
        setattr(files, kind, path)


def start(
    files: Files,
    thresh: float,
    nms: float,
    letter_box: bool,
    out: Path | None,
    json_file: str | None,
    save_labels: bool,
    device: str,
) -> Job:
    """Load the detector and say what it is."""
    from darkpy.cli.loading import load_detector

    detector = load_detector(files, device=device)
    job = Job(detector.network, thresh, nms, letter_box, out, json_file, save_labels)
    job.say(detector.description)
    return job


def paths_from_input() -> Iterator[str]:
    """Picture names from standard input, one a line, as ``darknet detector test`` takes them."""
    if sys.stdin.isatty():
        click.echo("names of pictures, one a line; an empty line ends", err=True)
    for line in sys.stdin:
        name = line.strip()
        if not name:
            return
        yield name
