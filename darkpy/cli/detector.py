"""``darkpy detector train`` and ``test``: Darknet's commands, in its order of arguments or any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from darkpy.cli.arguments import sort_files
from darkpy.cli.command import Command, Group, without_effect
from darkpy.cli.detect import (
    FRACTION,
    DetectOptions,
    Job,
    check_originals,
    detection_options,
    existing,
    named_files,
    override,
    paths_from_input,
    pictures_in,
)
from darkpy.cli.device import device_options_of_long_work
from darkpy.cli.training import changes, exit_after, run_options
from darkpy.sources import CAMERA, is_video

COUNT: dict[str, Any] = {"type": click.IntRange(min=0), "metavar": "N", "show_default": True}
POSITIVE: dict[str, Any] = {"type": click.IntRange(min=1), "metavar": "N", "show_default": True}
SPLITS = ("val", "train", "test")
POINTS = "Recall points: 0 (area under the curve), 11 (VOC 2007) or 101 (COCO)."


@click.group(cls=Group)
def detector() -> None:
    """Train a detector, measure it, try it."""


@detector.command(cls=Command)
@click.argument("files", nargs=-1, metavar="[DATA] CFG [WEIGHTS]")
@click.option("--data", metavar="DATA", help="The data set: .data, .yaml, list or folder. [data/<cfg's name>.yaml]")
@click.option("--weights", metavar="FILE", help="Where to start or go on from.")
@click.option("--clear", is_flag=True, help="Start at iteration 0 whatever the weights say.")
@click.option("--out", metavar="FOLDER", help="The run folder. [runs/<cfg's name>-N]")
@click.option("--seed", default=0, help="Source of everything random.", **COUNT)
@click.option("--workers", help="Threads that load pictures. [as many as processors]", **COUNT)
@click.option("--map/--no-map", "measure", default=None, help="Measure mAP on the validation set. [if there is one]")
@click.option("--map-every", "every", help="Iterations between two, instead of --map-epochs.", **POSITIVE)
@click.option("--map-epochs", "epochs", default=4, help="Times through the data between two.", **POSITIVE)
@click.option("--thresh", default=0.25, help="Probability for precision and recall.", **FRACTION)
@click.option("--iou-thresh", default=0.5, help="Overlap that counts as found.", **FRACTION)
@click.option("--points", default=0, help=POINTS, **COUNT)
@click.option("--save-every", "keep_every", default=0, help="Also keep weights every N iterations.", **COUNT)
@run_options
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@device_options_of_long_work
@without_effect("--dont-show", because="no window is opened")
@without_effect("--show-imgs", because="darkpy data preview shows augmented pictures")
@without_effect("--mjpeg-port", because="there is no video server; see chart.png in the run folder", value=True)
@without_effect("--chart", because="each run draws a chart of its own", value=True)
@without_effect("--cuda-debug-sync", because="errors of kernels are always reported")
def train(
    files: tuple[str, ...], data: str | None, weights: str | None, run: str | None, quiet: bool, **settings: Any
) -> None:
    """Train a detector; Ctrl-C or SIGTERM saves and stops, SIGHUP or SIGUSR1 saves and goes on.

    Needs a .cfg file. The data set may stand beside it, in Darknet's order (x.data x.cfg x.weights) or any other. All
    results are in a new folder below runs/: last, best and final weights, results.csv, chart.png. With --resume RUN
    and nothing else, a run that was stopped or killed goes on as if it had not been.
    """
    named = sort_files(files)
    override(named, data=data, weights=weights)
    if named.cfg is None and run is None:
        raise click.UsageError("no .cfg file is named")

    from darkpy.training import TrainingSettings, resume
    from darkpy.training import train as run_training
    from darkpy.training.progress import create_progress

    progress = create_progress(quiet=quiet)
    if run is not None:
        result = resume(run, progress, **changes(named, settings))
    else:
        chosen = TrainingSettings(cfg=named.cfg or "", data=named.data, weights=named.weights, **settings)
        result = run_training(chosen, progress)
    exit_after(result)


@detector.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="[DATA] CFG WEIGHTS [PICTURE]...")
@detection_options
@click.option("--out", metavar="FILE", help="Write detections to a json file, the same as --json.")
def test(files: tuple[str, ...], out: str | None, **given: Any) -> None:
    """Try a detector on pictures, as Darknet does.

    The picture with its boxes is written to predictions.jpg; of several, the last. Without a picture, names are read
    from standard input, one a line.
    """
    given["json_file"] = given["json_file"] or out
    options = DetectOptions(**given)
    named = named_files(files, options)
    if named.cfg is None or named.weights is None:
        raise click.UsageError("a .cfg and a .weights file are needed")
    pictures = [path for path, _ in existing(pictures_in(named.pictures))]
    if films := [str(path) for path in pictures if is_video(str(path))]:
        raise click.UsageError(f"{films[0]} is a video: see darkpy detect, or darkpy detector demo")
    target = Path("predictions.jpg")
    check_originals(pictures, [target])
    job = Job(named, options)
    if pictures:
        job.look_at(((path, target) for path in pictures), options.batch, len(pictures))
    else:
        # One at a time: whoever types the names waits for each answer.
        job.look_at(((Path(name), target) for name in paths_from_input()), 1)
    job.finish(str(target))


@detector.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="[DATA] CFG WEIGHTS [VIDEO]")
@detection_options
@click.option("-c", "camera", default=0, help="Without a video: the camera.", **COUNT)
@click.option("-s", "--skip", "skip", default=0, help="Frames to leave out after each one.", **COUNT)
@click.option("--out-filename", metavar="FILE", help="Write the video with its boxes.")
@click.option("--json-file-output", metavar="FILE", help="The same as --json.")
@click.option("--time-limit-sec", type=click.FloatRange(0), metavar="N", help="End after so many seconds.")
@without_effect("--avgframes", because="each frame is looked at by itself", value=True)
@without_effect("--mjpeg-port", because="there is no video server; --out-filename writes a file", value=True)
@without_effect("--json-port", because="there is no server; --json-lines - prints as it goes", value=True)
@without_effect("--benchmark", because="the rate is always printed")
def demo(
    files: tuple[str, ...],
    camera: int,
    skip: int,
    out_filename: str | None,
    json_file_output: str | None,
    time_limit_sec: float | None,
    **given: Any,
) -> None:
    """Watch a video, or a camera, as Darknet does: in a window where there is a display.

    Without --out-filename nothing is written. Esc or q in the window ends it, and Ctrl-C.
    """
    given["json_file"] = given["json_file"] or json_file_output
    given["show"] = given["show"] is not False
    options = DetectOptions(**given)
    named = named_files(files, options)
    if named.cfg is None or named.weights is None:
        raise click.UsageError("a .cfg and a .weights file are needed")
    if out_filename is not None:
        check_originals(map(Path, named.pictures), [Path(out_filename)])
    job = Job(named, options)
    if not job.window.is_open and not any((out_filename, options.json_file, options.json_lines, options.crops)):
        click.echo("nothing is shown or written but the counts; --out-filename FILE writes the video", err=True)
    for name in named.pictures or [f"{CAMERA}{camera}"]:
        if not job.was_interrupted:
            job.play(name, None if out_filename is None else Path(out_filename), skip=skip, seconds=time_limit_sec)
    job.finish(None)
