"""``darkpy detector map``, ``recall`` and ``valid``: measure a detector, or write down all it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.arguments import Files, sort_files
from darkpy.cli.command import Command, Function, without_effect
from darkpy.cli.detect import FRACTION, override
from darkpy.cli.detector import COUNT, POINTS, POSITIVE, SPLITS
from darkpy.cli.device import device_options_of_long_work, precision_option
from darkpy.config.data_files import EVALUATIONS

if TYPE_CHECKING:
    from darkpy.data.dataset import Dataset
    from darkpy.errors import Problem
    from darkpy.network import Network

OVERLAP = "Overlap that makes two boxes one object."


def sweep_options(function: Function) -> Function:
    """The arguments and flags of every command that runs a detector over a data set."""
    decorators: list[Callable[[Any], Any]] = [
        click.argument("files", nargs=-1, required=True, metavar="[DATA] CFG WEIGHTS"),
        click.option("--data", metavar="DATA", help="The data set. [data/<cfg's name>.yaml]"),
        click.option("--weights", metavar="FILE", help="The trained weights."),
        click.option("--split", type=click.Choice(SPLITS), default="val", show_default=True, help="Which pictures."),
        click.option("--letter-box", is_flag=True, help="Pad pictures to the network's shape, do not stretch them."),
        click.option("--tta", is_flag=True, help="Look at the mirror image of each picture too."),
        click.option("--batch", default=8, help="Pictures at a time; makes no difference.", **POSITIVE),
        precision_option("--half", "On a GPU: outputs of layers have 16 bits, or tf32."),
        click.option("--quiet", is_flag=True, help="Show no progress."),
        device_options_of_long_work,
        without_effect("--dont-show", because="no window is opened"),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@dataclass
class Job:
    """A detector and the data set it is to run over."""

    named: Files
    split: str
    dataset: Dataset
    network: Network
    quiet: bool

    @property
    def title(self) -> str:
        """Weights and pictures in a few words."""
        return f"{self.named.weights}   {self.named.data} {self.split}"

    def run(self, what: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a function with the network, the data set and the progress."""
        from darkpy.cli.output import shown_progress

        with shown_progress(what, shown=not self.quiet) as progress:
            return function(self.network, self.dataset, *arguments, progress=progress, **options)

    def report(self, skipped: Iterable[Problem]) -> None:
        """Say what was wrong with pictures and labels."""
        for problem in (*self.dataset.problems, *skipped):
            click.echo(str(problem), err=True)


def prepare(
    files: tuple[str, ...],
    data: str | None,
    weights: str | None,
    split: str,
    device: str,
    batch: int,
    quiet: bool,
    precision: str,
) -> Job:
    """Find the files, open the data set, build the network, and say what they are."""
    named = sort_files(files)
    override(named, data=data, weights=weights)
    if named.cfg is None or named.weights is None:
        raise click.UsageError("a .cfg and a .weights file are needed")

    from darkpy.cli.loading import load_detector
    from darkpy.data.opening import open_dataset
    from darkpy.training import default_data

    named.data = named.data or str(default_data(named.cfg))
    # First what is known at once: data may take a while to be read or drawn.
    detector = load_detector(named, device=device, batch=batch, precision=precision)
    dataset = open_dataset(named.data, split, notify=lambda line: click.echo(line, err=True))
    click.echo(detector.description)
    click.echo(f"{named.data}   {split} {len(dataset):,} pictures")
    return Job(named, split, dataset, detector.network, quiet)


def write_numbers(path: str | None, numbers: dict[str, Any]) -> None:
    """Write a json file and say so; nothing without a path."""
    import json

    from darkpy.files import atomic_write

    if path is not None:
        with atomic_write(path, "w") as file:
            json.dump(numbers, file, indent=1, ensure_ascii=False)
        click.echo(f"json: {path}")


@click.command("map", cls=Command)
@sweep_options
@click.option("--thresh", default=0.25, help="Probability for precision and recall.", **FRACTION)
@click.option("--iou-thresh", default=0.5, help="Overlap that counts as found.", **FRACTION)
@click.option("--points", default=0, help=POINTS, **COUNT)
@click.option("--nms", default=0.45, help=OVERLAP, **FRACTION)
@click.option("--json", "json_file", metavar="FILE", help="Write all numbers to a json file.")
@click.option("--plots", metavar="FOLDER", help="Draw curves and confusion matrix into a folder.")
def measure_map(json_file: str | None, plots: str | None, **given: Any) -> None:
    """Measure a detector: average precision, recall, F1, average IoU.

    Darknet's numbers per class and their mean, then COCO's twelve.
    """
    job, options = _prepared(given)

    from darkpy.cli.output import print_table
    from darkpy.evaluation import evaluate

    evaluation = job.run("measuring", evaluate, **options)
    print_table(evaluation.table())
    mean = evaluation.mean_average_precision
    click.echo(f"mean average precision (mAP@{evaluation.iou_thresh:.2f}) = {mean:.6f}, or {100 * mean:.2f} %\n")
    print_table(evaluation.coco.table())
    job.report(evaluation.skipped)
    write_numbers(json_file, evaluation.to_dict())
    if plots is not None:
        from darkpy.evaluation.plots import write_plots

        click.echo(f"plots: {', '.join(map(str, write_plots(evaluation, plots, job.title)))}")


@click.command("recall", cls=Command)
@sweep_options
@click.option("--thresh", default=0.001, help="Least objectness of a box.", **FRACTION)
@click.option("--iou-thresh", default=0.5, help="Overlap that counts as found.", **FRACTION)
@click.option("--nms", default=0.4, help=OVERLAP, **FRACTION)
@click.option("--json", "json_file", metavar="FILE", help="Write all numbers to a json file.")
def recall(json_file: str | None, **given: Any) -> None:
    """Count the objects that some box covers, whatever class it is given.

    RPs/Img are the boxes per picture, IOU the mean overlap of the best box with each object.
    """
    job, options = _prepared(given)

    from darkpy.evaluation import measure_recall

    found = job.run("measuring", measure_recall, **options)
    click.echo(found.text())
    job.report(found.skipped)
    write_numbers(json_file, found.to_dict())


@click.command("valid", cls=Command)
@sweep_options
@click.option("--thresh", default=0.001, help="Least probability.", **FRACTION)
@click.option("--nms", default=0.6, help=OVERLAP, **FRACTION)
@click.option(
    "--format", "form", type=click.Choice(EVALUATIONS), help="Form of the files. [eval= of the data set; coco for json]"
)
@click.option("--results", metavar="FOLDER", help="Where to write. [results= of the .data file, or results]")
@click.option("--out", metavar="NAME", help="Name of the file, without ending. [as Darknet's]")
def valid(form: str | None, results: str | None, out: str | None, **given: Any) -> None:
    """Write down all detections in a data set, for other programs to judge.

    Formats: voc (a text file per class), coco and bdd (json), kitti (a text file per picture), imagenet (text).
    """
    job, options = _prepared(given)

    from darkpy.evaluation import write_results
    from darkpy.evaluation.results import described, described_classes
    from darkpy.text import plural

    folder, usual = described(job.dataset, str(job.named.data))
    told = described_classes(job.dataset, str(job.named.data))
    written = job.run("looking", write_results, results or folder, form or usual, name=out, told=told, **options)
    job.report(written.skipped)
    places = [str(path) for path in written.paths]
    shown = places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"
    click.echo(f"{plural(written.detections, 'detection')} in {plural(written.pictures, 'picture')}: {shown}")


def _prepared(given: dict[str, Any]) -> tuple[Job, dict[str, Any]]:
    """The job of the shared flags, and the options that are left for the work itself."""
    names = ("files", "data", "weights", "split", "device", "quiet", "precision")
    shared = {name: given.pop(name) for name in names}
    return prepare(**shared, batch=given["batch"]), given


COMMANDS = (measure_map, recall, valid)
