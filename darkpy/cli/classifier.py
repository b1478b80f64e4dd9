"""``darkpy classifier train``, ``valid`` and ``predict``: Darknet's commands, in its order of arguments or another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.arguments import sort_files
from darkpy.cli.command import Command, Function, Group, without_effect
from darkpy.cli.detect import existing, override, paths_from_input
from darkpy.cli.detector import COUNT, POSITIVE
from darkpy.cli.device import device_options, device_options_of_long_work, precision_option
from darkpy.cli.results import STANDARD_OUTPUT
from darkpy.cli.training import changes, exit_after, run_options
from darkpy.errors import InputError
from darkpy.sources import pictures_in

if TYPE_CHECKING:
    from darkpy.cli.classifier_loading import Classifier
    from darkpy.evaluation.classifier import ClassifierEvaluation
    from darkpy.views import View

SPLITS = ("val", "train", "test", "all")
SHOWN = 5
"""Classes shown of a picture where nobody says how many."""
SHOWN_OF_MANY = 3
"""... and of each of several pictures."""
TOP = "-t", "--top"


DARKNET_COMMANDS = {
    "valid10": ("valid", "--crops", "10"),
    "validmulti": ("valid", "--scales", "224,288,320,352,384"),
    "validcrop": ("valid", "--stretch"),
}
"""What Darknet has commands of their own for (classifier.c, run_classifier)."""


class ClassifierGroup(Group):
    """The commands, and Darknet's words for some of them with options."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        return super().resolve_command(ctx, [*DARKNET_COMMANDS.get(args[0], args[:1]), *args[1:]])


class Scales(click.ParamType):
    """Lengths in pixels, such as ``224,288``."""

    name = "lengths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """``224,288`` to numbers."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in value.split(",")]
        if not all(word.isdecimal() for word in words):
            self.fail(f"{value!r}: expected lengths in pixels such as 224,288", param, ctx)
        return tuple(map(int, words))


def view_options(command: Function) -> Function:
    """The flags that say what of a picture is looked at."""
    options = (
        click.option("--crops", type=click.Choice(("1", "10")), default="1", help="10: corners, middle, all mirrored."),
        click.option("--scales", type=Scales(), default=(), metavar="N,N...", help="All of it, at these sizes."),
        click.option("--stretch", is_flag=True, help="All of it, stretched to the input."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def chosen_view(crops: str, scales: tuple[int, ...], stretch: bool) -> View:
    """What the flags ask for; raises InputError for two at a time."""
    from darkpy.views import View

    return View(int(crops), scales, stretch)


@click.group(cls=ClassifierGroup)
def classifier() -> None:
    """Train a classifier, measure it, use it.

    A classifier tells which class a picture shows. Its pictures lie in a folder for each class, or in lists as
    Darknet has them.
    """


@classifier.command(cls=Command)
@click.argument("files", nargs=-1, metavar="[DATA] CFG [WEIGHTS]")
@click.option("--data", metavar="DATA", help="The data set: a folder, .yaml or .data. [data/<cfg's name>.yaml]")
@click.option("--weights", metavar="FILE", help="Where to start or go on from.")
@click.option("--clear", is_flag=True, help="Start at iteration 0 whatever the weights say.")
@click.option("--out", metavar="FOLDER", help="The run folder. [runs/<cfg's name>-N]")
@click.option("--seed", default=0, help="Source of everything random.", **COUNT)
@click.option("--workers", help="Threads that load pictures. [as many as processors]", **COUNT)
@click.option(*TOP, help="Best guesses that count for the second accuracy. [the data set's, or 5]", **POSITIVE)
@click.option("--topk/--no-topk", "measure", default=None, help="Measure on the validation set. [if there is one]")
@click.option("--every", help="Iterations between two measurements, instead of --epochs.", **POSITIVE)
@click.option("--epochs", default=2, help="Times through the data between two.", **POSITIVE)
@click.option("--save-every", "keep_every", default=0, help="Also keep weights every N iterations.", **COUNT)
@run_options
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@device_options_of_long_work
@without_effect("--dont-show", because="no window is opened")
@without_effect("--show-imgs", because="augmented pictures are not saved")
@without_effect("--mjpeg-port", because="there is no video server; see chart.png in the run folder", value=True)
@without_effect("--chart", because="each run draws a chart of its own", value=True)
@without_effect("--dontuse-opencv", because="pictures are always read with OpenCV")
def train(
    files: tuple[str, ...], data: str | None, weights: str | None, run: str | None, quiet: bool, **settings: Any
) -> None:
    """Train a classifier; Ctrl-C or SIGTERM saves and stops, SIGHUP or SIGUSR1 saves and goes on.

    Needs a .cfg file. The data set may stand beside it, in Darknet's order (x.data x.cfg x.weights) or any other. All
    results are in a new folder below runs/: last, best and final weights, results.csv, chart.png, confusion.png. With
    --resume RUN and nothing else, a run that was stopped or killed goes on as if it had not been.
    """
    named = sort_files(files)
    override(named, data=data, weights=weights)
    if named.cfg is None and run is None:
        raise click.UsageError("no .cfg file is named")

    from darkpy.training import resume
    from darkpy.training.classifier_job import ClassifierSettings, PreparedClassifier, train_classifier
    from darkpy.training.progress import create_progress

    progress = create_progress(quiet=quiet)
    if run is not None:
        result = resume(run, progress, PreparedClassifier, **changes(named, settings))
    else:
        chosen = ClassifierSettings(cfg=named.cfg or "", data=named.data, weights=named.weights, **settings)
        result = train_classifier(chosen, progress)
    exit_after(result)


@classifier.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="[DATA] CFG WEIGHTS")
@click.option("--data", metavar="DATA", help="The data set. [data/<cfg's name>.yaml]")
@click.option("--weights", metavar="FILE", help="The weights to measure.")
@click.option("--split", type=click.Choice(SPLITS), default="val", show_default=True, help="Which pictures.")
@click.option(*TOP, help="Best guesses that count for the second accuracy. [the data set's, or 5]", **POSITIVE)
@view_options
@click.option("--batch", default=16, help="Pictures at a time.", **POSITIVE)
@click.option("--json", "json_file", metavar="FILE", help="Write all numbers to a json file; - prints only them.")
@click.option("--confusion", metavar="FILE", help="Draw the confusion matrix into a .png file.")
@precision_option("--half", "On a GPU: outputs of layers have 16 bits, or tf32.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@device_options_of_long_work
@without_effect("--dont-show", because="no window is opened")
def valid(
    files: tuple[str, ...],
    data: str | None,
    weights: str | None,
    split: str,
    top: int | None,
    batch: int,
    json_file: str | None,
    confusion: str | None,
    quiet: bool,
    device: str,
    precision: str,
    **looks: Any,
) -> None:
    """Measure a classifier: accuracy, precision, recall and F1 per class, and which classes it takes for which."""
    named = sort_files(files)
    override(named, data=data, weights=weights)
    if named.cfg is None or named.weights is None:
        raise click.UsageError("a .cfg and a .weights file are needed")
    if confusion is not None and not confusion.lower().endswith(".png"):
        raise click.UsageError(f"{confusion}: the confusion matrix is drawn into a .png file")

    view = chosen_view(**looks)

    from darkpy.cli.classifier_loading import load_classifier
    from darkpy.cli.output import shown_progress
    from darkpy.data.classification import open_classification
    from darkpy.evaluation.classifier import evaluate_classifier
    from darkpy.training import default_data

    named.data = named.data or str(default_data(named.cfg))
    dataset = open_classification(named.data, split, notify=lambda line: click.echo(line, err=True))
    loaded = load_classifier(named, device=device, batch=batch, precision=precision)
    is_told = json_file != STANDARD_OUTPUT and not quiet
    if is_told:
        click.echo(loaded.description)
        click.echo(f"{named.data}   {split} {len(dataset):,} pictures")
    with shown_progress("measuring", shown=not quiet) as progress:
        found = evaluate_classifier(loaded.network, dataset, top=top, batch=batch, view=view, progress=progress)
    if is_told:
        _report(found)
    for message in (*(() if quiet else dataset.notes), *dataset.problems, *found.skipped):
        click.echo(str(message), err=True)
    written = []
    if json_file is not None:
        _write_json(json_file, {**found.to_dict(), "mistakes": _mistakes(found, dataset.pictures)})
        written.append(f"json: {json_file}")
    if confusion is not None:
        from darkpy.evaluation.confusion import draw_confusion

        draw_confusion(found.confusion(), found.names, f"{named.weights}\n{found.summary()}", confusion)
        written.append(f"confusion matrix: {confusion}")
    if is_told and written:
        click.echo("\n".join(written))


def _report(found: ClassifierEvaluation) -> None:
    from darkpy.cli.output import print_table
    from darkpy.evaluation.confusion import MOST_IN_TABLE, confusion_table, mistakes_table

    print_table(found.table())
    mistakes = mistakes_table(found.confusion(), found.names)
    if len(found.names) <= MOST_IN_TABLE:
        click.echo("\nwhat a picture shows (rows) and what it was taken for (columns):")
        print_table(confusion_table(found.confusion(), found.names))
    elif mistakes is not None:
        click.echo("\nmost frequent mistakes:")
        print_table(mistakes)
    click.echo()
    for line in (*found.notes(), found.summary()):
        click.echo(line)


def _mistakes(found: ClassifierEvaluation, pictures: Sequence[Path]) -> list[dict[str, Any]]:
    """The pictures whose best guess is wrong, the surest first."""
    wrong = [place for place in range(found.pictures) if 0 <= found.guesses[place, 0] != found.class_ids[place]]
    return [
        {
            "picture": str(pictures[found.indices[place]]),
            "class": found.names[found.class_ids[place]],
            "guess": found.names[found.guesses[place, 0]],
            "probability": float(found.confidence[place]),
        }
        for place in sorted(wrong, key=lambda place: -float(found.confidence[place]))
    ]


def _write_json(path: str, numbers: Any) -> None:
    import json

    from darkpy.files import atomic_write

    written = json.dumps(numbers, indent=1, ensure_ascii=False) + "\n"
    if path == STANDARD_OUTPUT:
        click.echo(written, nl=False)
        return
    with atomic_write(path, "w") as file:
        file.write(written)


@classifier.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="[DATA] CFG WEIGHTS [PICTURE]...")
@click.option("--cfg", metavar="CFG", help="The network.")
@click.option("--weights", metavar="FILE", help="Its trained weights.")
@click.option("--data", metavar="DATA", help="A data set whose class names to use.")
@click.option("--names", metavar="FILE", help="Class names, one a line. [those beside the weights]")
@click.option(*TOP, help="Classes to show. [the data set's top, or 5; of each of several pictures 3]", **POSITIVE)
@view_options
@click.option("--batch", default=16, help="Pictures at a time.", **POSITIVE)
@click.option("--json", "json_file", metavar="FILE", help="Write the classes to a json file; - prints only them.")
@precision_option("--half", "On a GPU: outputs of layers have 16 bits, or tf32.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@device_options
@without_effect("--dont-show", because="no window is opened")
def predict(
    paths: tuple[str, ...],
    top: int | None,
    batch: int,
    json_file: str | None,
    quiet: bool,
    device: str,
    precision: str,
    crops: str,
    scales: tuple[int, ...],
    stretch: bool,
    **named: str | None,
) -> None:
    """Tell what pictures show.

    Pictures may be files, folders, patterns such as 'holiday/*.jpg' and lists (.txt). Without any, names are read from
    standard input, one a line, as Darknet does.
    """
    files = sort_files(paths, pictures=True)
    override(files, **named)
    if files.cfg is None or files.weights is None:
        raise click.UsageError("a .cfg and a .weights file are needed")

    view = chosen_view(crops, scales, stretch)

    from darkpy.cli.classifier_loading import load_classifier

    chosen = [path for path, _ in existing(pictures_in(files.pictures))]
    loaded = load_classifier(files, device=device, batch=batch, precision=precision)
    job = _Prediction(loaded, view, top, json_file, quiet)
    if chosen:
        job.look_at(chosen, batch)
    else:
        for name in paths_from_input():
            job.look_at([Path(name)], 1)
    job.finish()


@classifier.command(cls=Command, hidden=True)
@click.argument("files", nargs=-1, required=True, metavar="DATA CFG WEIGHTS")
@click.option("--batch", default=16, help="Pictures at a time.", **POSITIVE)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@device_options
def label(files: tuple[str, ...], batch: int, quiet: bool, device: str) -> None:
    """Tell the best class of each picture in the list test= of a .data file, as Darknet does."""
    named = sort_files(files)
    if None in (named.data, named.cfg, named.weights):
        raise click.UsageError("a data set, a .cfg and a .weights file are needed")

    from darkpy.cli.classifier_loading import load_classifier
    from darkpy.config.data_files import read_data
    from darkpy.data.paths import bases, find_below, read_lines
    from darkpy.resources import find

    description = read_data(find("data", named.data or ""))
    if description.test is None:
        raise InputError("has no test=, a list of pictures", where=str(description.path))
    folders = bases(description.test, description.root)
    pictures = [find_below(folders, line) or Path(line) for _, line in read_lines(description.test)]
    job = _Prediction(load_classifier(named, device=device, batch=batch), chosen_view("1", (), False), 1, None, quiet)
    job.look_at(pictures, batch)
    job.finish()


class _Prediction:
    """Classifies pictures, printing and writing what the options ask for."""

    def __init__(self, loaded: Classifier, view: View, top: int | None, json_file: str | None, quiet: bool) -> None:
        self.network = loaded.network
        self.view = view
        self.wanted = top or loaded.top
        self.json_file = json_file
        self.frames: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.looked_at = 0
        self.quiet = quiet
        self.is_told = json_file != STANDARD_OUTPUT and not quiet
        if self.is_told:
            click.echo(loaded.description)

    def look_at(self, pictures: Sequence[Path], batch: int) -> None:
        """Classify pictures and print a table; one that cannot be used is a problem for later."""
        from darkpy.classification import best_classes, class_table, json_frame, picture_table, score_pictures
        from darkpy.cli.output import print_table, shown_progress

        shown = min(self.wanted or (SHOWN if len(pictures) == 1 else SHOWN_OF_MANY), len(self.network.names))
        rows = []
        with shown_progress("classifying", shown=not self.quiet) as progress:
            for picture in score_pictures(self.network, pictures, batch, view=self.view):
                path = pictures[picture.index]
                try:
                    if picture.problem is not None:
                        raise InputError(problems=[picture.problem])
                    assert picture.scores is not None
                    found = best_classes(self.network, picture.scores, shown)
                except InputError as error:
                    self.problems += [f"{path}  {problem.message}" for problem in error.problems]
                    continue
                finally:
                    self.looked_at += 1
                    if progress is not None:
                        progress(picture.index + 1, len(pictures))
                rows.append((str(path), found))
                self.frames.append(json_frame(path, picture.width, picture.height, found))
        if not self.is_told or not rows:
            return
        if len(pictures) == 1:
            click.echo(rows[0][0])
        print_table(class_table(rows[0][1]) if len(pictures) == 1 else picture_table(rows, shown))

    def finish(self) -> None:
        """Write the json file; exit status 2 if a picture could not be used."""
        from darkpy.classification import to_json
        from darkpy.files import atomic_write

        if self.json_file == STANDARD_OUTPUT:
            click.echo(to_json(self.frames), nl=False)
        elif self.json_file is not None:
            with atomic_write(self.json_file, "w") as file:
                file.write(to_json(self.frames))
            if self.is_told:
                click.echo(f"json: {self.json_file}")
        if self.problems:
            for problem in self.problems:
                click.echo(problem, err=True)
            click.echo(f"{len(self.problems)} of {self.looked_at} pictures could not be used", err=True)
            click.get_current_context().exit(InputError.exit_code)
