"""``darkpy detect``: find objects in pictures and videos. ``darkpy detector test`` is the same in Darknet's order."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.arguments import Files, sort_files
from darkpy.cli.command import INTERRUPTED, Command, Function, without_effect
from darkpy.cli.device import device_options, precision_option
from darkpy.cli.results import (
    CODECS,
    STANDARD_OUTPUT,
    Results,
    VideoFile,
    Wanted,
    Window,
    chosen_classes,
    write_picture,
)
from darkpy.errors import DataError, InputError, Problem
from darkpy.sources import Picture, Video, is_live, is_video, pictures_in, read_ahead

if TYPE_CHECKING:
    import numpy as np

    from darkpy.detection import Detection

FRACTION: dict[str, Any] = {"type": click.FloatRange(0, 1), "metavar": "P", "show_default": True}
PREDICTIONS = "predictions"
WRITABLE = (".jpg", ".jpeg", ".png", ".bmp")


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
        click.option("--classes", metavar="NAMES", help="Only these classes: names or numbers, dog,cat,7."),
        click.option("--json", "json_file", metavar="FILE", help="Write detections as Darknet's json; - prints them."),
        click.option("--json-lines", metavar="FILE", help="Write a json object a line, as found; - prints them."),
        click.option("--crops", metavar="FOLDER", help="Write what is inside each box as a picture of its own."),
        click.option("--save-labels", is_flag=True, help="Write a label file for each picture that has none yet."),
        click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Pictures at a time."),
        precision_option("--half", "On a GPU: outputs of layers have 16 bits, or tf32."),
        click.option("--show/--dont-show", default=None, help="A window that shows them; Esc ends."),
        click.option("--quiet", is_flag=True, help="Print nothing but errors."),
        click.option("--ext-output", is_flag=True, expose_value=False, hidden=True),  # the table always has the boxes
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
    classes: str | None
    json_file: str | None
    json_lines: str | None
    crops: str | None
    save_labels: bool
    batch: int
    show: bool | None
    quiet: bool
    device: str
    precision: str


class Job:
    """Looks at pictures and videos, printing and writing what the options ask for."""

    def __init__(self, files: Files, options: DetectOptions) -> None:
        """Load the detector and say what it is."""
        from darkpy.cli.loading import load_detector

        detector = load_detector(files, device=options.device, precision=options.precision)
        self.network = detector.network
        self.options = options
        crops = None if options.crops is None else Path(options.crops)
        classes = chosen_classes(options.classes, self.network.names)
        self.results = Results(Wanted(options.json_file, options.json_lines, crops, classes))
        self.window = Window("darkpy", bool(options.show))
        self.problems: list[Problem] = []
        self.looked_at = 0
        self.kept_labels = 0
        self.was_interrupted = False
        self.say(detector.description)

    @property
    def written(self) -> int:
        """How many pictures and videos could be used."""
        return self.looked_at - len(self.problems)

    def say(self, text: str) -> None:
        """Print a line for people; not where standard output is for json."""
        if self.results.wanted.speaks and not self.options.quiet:
            print(text, flush=True)  # on a terminal, the bar of the progress makes room for it

    def look_at(self, chosen: Iterable[tuple[Path, Path]], batch: int, total: int = 0) -> None:
        """Detect on pictures and draw each into its target, ``batch`` at a time, the next ones being decoded meanwhile.

        One that cannot be used is a problem for later. total: how many there are, if that is known; Ctrl-C ends the
        work, and what is there is kept.
        """
        from darkpy.cli.output import shown_progress

        before = self.results.counts.copy()
        began = time.perf_counter()
        with shown_progress("pictures", shown=total > batch and not self.options.quiet) as progress:
            try:
                for done in self._batches(chosen, batch):
                    if progress is not None:
                        progress(done, total)
            except KeyboardInterrupt:
                self._interrupt()
        if self.looked_at > 1:
            self._summary(self.written, "picture", time.perf_counter() - began, self.results.counts - before)

    def _interrupt(self) -> None:
        self.was_interrupted = True
        print("stopped; what was done is kept", file=sys.stderr)

    def _batches(self, chosen: Iterable[tuple[Path, Path]], batch: int) -> Iterator[int]:
        """Batch by batch; yields how many pictures are done."""
        waiting: list[Path] = []

        def paths() -> Iterator[Path]:
            for path, target in chosen:
                waiting.append(target)
                yield path

        # One at a time: whoever types the names waits for each answer.
        pictures = read_ahead(paths(), self.network.channels, ahead=2 * batch if batch > 1 else 0)
        while group := list(islice(pictures, batch)):
            targets, waiting[: len(group)] = waiting[: len(group)], []
            is_first = not self.looked_at
            self.looked_at += len(group)
            if not self._look_at_some(list(zip(group, targets)), is_first=is_first):
                return
            yield self.looked_at

    def _look_at_some(self, group: list[tuple[Picture, Path]], *, is_first: bool) -> bool:
        self.problems += [picture.problem for picture, _ in group if picture.problem is not None]
        usable = [(picture.path, picture.image, target) for picture, target in group if picture.image is not None]
        if not usable:
            return True
        began = time.perf_counter()
        found = self._detect([image for _, image, _ in usable])
        took = f"{1000 * (time.perf_counter() - began) / len(usable):.0f} ms"
        if is_first:  # which loads what is loaded when it is needed
            took += " with the start"
        go_on = True
        for (path, image, target), objects in zip(usable, found):
            self._report(path, image, objects, took)
            self.results.keep(str(path), image, objects)
            self._keep_labels(path, image, objects)
            drawn = self._drawn(image, objects)
            write_picture(target, drawn)
            go_on = go_on and self.window.show(drawn, wait=0)
        return go_on

    def _detect(self, images: list[np.ndarray]) -> list[list[Detection]]:
        from darkpy.detection import detect_all

        options = self.options
        found = detect_all(self.network, images, options.thresh, options.nms, options.letter_box)
        return [self.results.chosen(objects) for objects in found]

    def _drawn(self, image: np.ndarray, found: list[Detection]) -> np.ndarray:
        from darkpy.drawing import draw

        return draw(image, found)

    def _report(self, path: Path, image: np.ndarray, found: list[Detection], took: str) -> None:
        from darkpy.cli.output import print_table
        from darkpy.detection import detection_table
        from darkpy.text import plural

        height, width = image.shape[:2]
        shown = [detection for detection in found if not detection.hidden]
        self.say(f"{path}   {width}x{height}   {took}   {plural(len(shown), 'object')}")
        if shown and self.results.wanted.speaks and not self.options.quiet:
            print_table(detection_table(shown))

    def _keep_labels(self, path: Path, image: np.ndarray, found: list[Detection]) -> None:
        from darkpy.data.labels import label_path
        from darkpy.detection import save_labels

        if not self.options.save_labels:
            return
        # Where a training looks for them. Labels that are there may be somebody's work.
        labels = label_path(path)
        if labels.exists():
            self.kept_labels += 1
        else:
            save_labels(labels, found, image.shape[1], image.shape[0])

    def play(self, name: str, target: Path | None, *, skip: int = 0, seconds: float | None = None) -> None:
        """Detect on a video or camera and write it with its boxes; Ctrl-C ends it, and what is there is kept.

        skip: frames to leave out after each one. seconds: when to end.
        """
        from darkpy.text import plural

        self.looked_at += 1
        try:
            video = Video(name, skip=skip)
        except DataError as error:
            self.problems += error.problems
            return
        length = f"   {plural(video.frames, 'frame')}" if video.frames else ""
        self.say(f"{name}   {video.width}x{video.height}   {video.rate:.4g} frames/s{length}")
        before = self.results.counts.copy()
        began = time.perf_counter()
        done = self._play(video, target, began, seconds)
        self._summary(done, "frame", time.perf_counter() - began, self.results.counts - before)
        if target is not None:
            self.say(f"video: {target}")

    def _play(self, video: Video, target: Path | None, began: float, seconds: float | None) -> int:
        from darkpy.cli.output import shown_progress

        batch = 1 if video.is_live or self.window.is_open else self.options.batch
        done = 0
        with ExitStack() as stack:
            stack.enter_context(video)
            file = None if target is None else stack.enter_context(VideoFile(target, video))
            progress = stack.enter_context(shown_progress("frames", shown=not self.options.quiet))
            frames = iter(video)
            try:
                while group := list(islice(frames, batch)):
                    for frame, found in zip(group, self._detect(group)):
                        self.results.keep(video.name, frame, found)
                        drawn = self._drawn(frame, found)
                        if file is not None:
                            file.write(drawn)
                        done += 1
                        if not self.window.show(drawn):
                            return done
                    if progress is not None:
                        progress(done, max(done, video.frames) if video.frames else 0)
                    if seconds is not None and time.perf_counter() - began > seconds:
                        return done
            except KeyboardInterrupt:
                self._interrupt()
        return done

    def _summary(self, count: int, noun: str, seconds: float, counts: dict[str, int]) -> None:
        from darkpy.text import duration, plural

        rate = f"{count / seconds:.1f} {noun}s/s" if seconds else ""
        objects = ", ".join(f"{name} {times:,}" for name, times in sorted(counts.items(), key=lambda item: -item[1]))
        self.say(f"{plural(count, noun)} in {duration(seconds)}   {rate}   {objects or 'no objects'}")

    def finish(self, drawn: str | None) -> None:
        """Complete the files and say where everything is; exit status 2 if a picture could not be used.

        drawn: where the drawn pictures are.
        """
        for line in self.results.finish():
            self.say(line)
        if self.kept_labels:
            self.say(f"{self.kept_labels} label files were there already and are left as they are")
        if drawn is not None and self.written:
            self.say(f"drawn: {drawn}")
        if self.problems:
            for problem in self.problems:
                click.echo(str(problem), err=True)
            what = "pictures" if self.looked_at > 1 or not is_video(self.problems[0].where or "") else "videos"
            click.echo(f"{len(self.problems)} of {self.looked_at} {what} could not be used", err=True)
        if self.was_interrupted or self.problems:
            click.get_current_context().exit(INTERRUPTED if self.was_interrupted else InputError.exit_code)


def existing(paths: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """All pictures and videos at once, so that a wrong name among many is found before the work begins."""
    chosen = list(paths)
    problems = [
        Problem(str(path), "no such video" if is_video(str(path)) else "no such picture or folder")
        for path, _ in chosen
        if not path.is_file()
    ]
    if problems:
        raise DataError(problems=problems)
    return chosen


def targets(chosen: Iterable[tuple[Path, Path]], out: Path) -> list[Path]:
    """Where to draw each picture and write each video: its place below ``out``, numbered where several have the same.

    The format stays where every OpenCV can write it, otherwise it is jpg, or mp4. Raises InputError where that would be
    over one of the originals.
    """
    chosen = list(chosen)
    taken: dict[Path, None] = {}  # a set that keeps the order
    for _, place in chosen:
        target = wanted = out / _writable(place)
        number = 1
        while target in taken:
            number += 1
            target = wanted.with_stem(f"{wanted.stem}-{number}")
        taken[target] = None
    check_originals([path for path, _ in chosen], taken)
    return list(taken)


def check_originals(paths: Iterable[Path], chosen: Iterable[Path]) -> None:
    """Raise InputError if one of the chosen targets is one of the files that are looked at."""
    originals = {path.resolve() for path in paths}
    for target in chosen:
        if target.resolve() in originals:
            raise InputError("would be written over; choose another place with --out", where=str(target))


def _writable(place: Path) -> Path:
    if is_video(str(place)):
        return place if place.suffix.lower() in CODECS else place.with_suffix(".mp4")
    return place if place.suffix.lower() in WRITABLE else place.with_suffix(".jpg")


def live_target(name: str, out: Path) -> Path:
    """Where to write what a camera or a stream shows."""
    return out / f"{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}.mp4"


@click.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@detection_options
@click.option("--out", metavar="FOLDER", default=PREDICTIONS, show_default=True, help="Where drawn pictures go.")
def detect(paths: tuple[str, ...], out: str, **given: Any) -> None:
    """Find objects in pictures, folders, patterns, lists (.txt; - for standard input), videos and cameras (camera:0).

    Draws them into copies of the pictures and prints a table. The .cfg and .weights files may stand among the paths;
    without any, a small detector of shapes, digits and letters that comes with darkpy is used.
    """
    if out.lower().endswith(".json"):  # Darknet's -out is the json file
        given["json_file"] = given["json_file"] or out
        out = PREDICTIONS
    options = DetectOptions(**given)
    files = named_files([path for path in paths if path != STANDARD_OUTPUT], options)
    names = [*files.pictures, *(paths_from_input() if STANDARD_OUTPUT in paths else ())]
    if not names:
        raise click.UsageError("no picture is named")
    found = existing(pictures_in((name for name in names if not is_live(name)), videos=True))
    pairs = [(path, target) for (path, _), target in zip(found, targets(found, Path(out)))]
    pictures = [(path, target) for path, target in pairs if not is_video(str(path))]
    videos = [(str(path), target) for path, target in pairs if is_video(str(path))]
    videos += [(name, live_target(name, Path(out))) for name in names if is_live(name)]
    job = Job(files, options)
    if pictures:
        job.look_at(pictures, options.batch, len(pictures))
    for name, target in videos:
        if not job.was_interrupted:
            job.play(name, target)
    job.finish((str(pictures[0][1]) if len(pictures) == 1 else out) if pictures else None)


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
