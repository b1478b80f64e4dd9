"""``darkpy detector train``, ``map`` and ``test``: Darknet's commands, in its order of arguments or any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from darkpy.cli.arguments import sort_files
from darkpy.cli.command import INTERRUPTED, Command, Group, without_effect
from darkpy.cli.detect import (
    FRACTION,
    DetectOptions,
    Job,
    detection_options,
    device_options,
    existing,
    named_files,
    override,
    paths_from_input,
    pictures_in,
)

COUNT: dict[str, Any] = {"type": click.IntRange(min=0), "metavar": "N", "show_default": True}
POSITIVE: dict[str, Any] = {"type": click.IntRange(min=1), "metavar": "N", "show_default": True}
SPLITS = ("val", "train", "test")
POINTS = "Recall points: 0 (area under the curve), 11 (VOC 2007) or 101 (COCO)."


@click.group(cls=Group)
def detector() -> None:
    """Train a detector, measure it, try it."""


@detector.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="[DATA] CFG [WEIGHTS]")
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
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@device_options
@without_effect("--dont-show", because="no window is opened")
@without_effect("--show-imgs", because="augmented pictures are not saved")
@without_effect("--mjpeg-port", because="there is no video server; see chart.png in the run folder", value=True)
@without_effect("--chart", because="each run draws a chart of its own", value=True)
@without_effect("--cuda-debug-sync", because="this computes on the CPU")
def train(files: tuple[str, ...], data: str | None, weights: str | None, quiet: bool, **settings: Any) -> None:
    """Train a detector; Ctrl-C saves and stops (exit status 130).

    Needs a .cfg file. The data set may stand beside it, in Darknet's order (x.data x.cfg x.weights) or any other. All
    results are in a new folder below runs/: last, best and final weights, results.csv, chart.png.
    """
    named = sort_files(files)
    override(named, data=data, weights=weights)
    if named.cfg is None:
        raise click.UsageError("no .cfg file is named")

    from darkpy.training import Outcome, TrainingSettings
    from darkpy.training import train as run_training
    from darkpy.training.progress import create_progress

    chosen = TrainingSettings(cfg=named.cfg, data=named.data, weights=named.weights, **settings)
    result = run_training(chosen, create_progress(quiet=quiet))
    if result.outcome is Outcome.STOPPED:
        click.get_current_context().exit(INTERRUPTED)


@detector.command("map", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="[DATA] CFG WEIGHTS")
@click.option("--data", metavar="DATA", help="The data set. [data/<cfg's name>.yaml]")
@click.option("--weights", metavar="FILE", help="The weights to measure.")
@click.option("--split", type=click.Choice(SPLITS), default="val", show_default=True, help="Which pictures.")
@click.option("--thresh", default=0.25, help="Probability for precision and recall.", **FRACTION)
@click.option("--iou-thresh", default=0.5, help="Overlap that counts as found.", **FRACTION)
@click.option("--points", default=0, help=POINTS, **COUNT)
@click.option("--nms", default=0.45, help="Overlap that makes two boxes one object.", **FRACTION)
@click.option("--letter-box", is_flag=True, help="Pad pictures to the network's shape, do not stretch them.")
@click.option("--batch", default=8, help="Pictures at a time.", **POSITIVE)
@click.option("--json", "json_file", metavar="FILE", help="Write all numbers to a json file.")
@device_options
@without_effect("--dont-show", because="no window is opened")
def measure_map(
    files: tuple[str, ...],
    data: str | None,
    weights: str | None,
    split: str,
    json_file: str | None,
    device: str,
    batch: int,
    **options: Any,
) -> None:
    """Measure a detector: average precision per class, mAP, precision, recall, F1 and average IoU."""
    named = sort_files(files)
    override(named, data=data, weights=weights)
    if named.cfg is None or named.weights is None:
        raise click.UsageError("a .cfg and a .weights file are needed")

    from darkpy.cli.loading import load_detector
    from darkpy.cli.output import print_table, progress_on_terminal
    from darkpy.data.dataset import open_dataset
    from darkpy.evaluation import evaluate
    from darkpy.training import default_data

    named.data = named.data or str(default_data(named.cfg))
    dataset = open_dataset(named.data, split, notify=lambda line: click.echo(line, err=True))
    detector = load_detector(named, device=device, batch=batch)
    click.echo(detector.description)
    click.echo(f"{named.data}   {split} {len(dataset):,} pictures")
    with progress_on_terminal("measuring") as progress:
        evaluation = evaluate(detector.network, dataset, batch=batch, progress=progress, **options)
    print_table(evaluation.table())
    mean = evaluation.mean_average_precision
    click.echo(f"mean average precision (mAP@{evaluation.iou_thresh:.2f}) = {mean:.6f}, or {100 * mean:.2f} %")
    for problem in (*dataset.problems, *evaluation.skipped):
        click.echo(str(problem), err=True)
    if json_file is not None:
        _write_json(json_file, evaluation.to_dict())


def _write_json(path: str, numbers: dict[str, object]) -> None:
    import json

    from darkpy.files import atomic_write

    with atomic_write(path, "w") as file:
        json.dump(numbers, file, indent=1, ensure_ascii=False)
    click.echo(f"json: {path}")


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
    job = Job(named, options)
    for path in pictures or map(Path, paths_from_input()):
        job.look_at(path, Path("predictions.jpg"))
    job.finish("predictions.jpg")
