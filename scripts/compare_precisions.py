"""Does mixed precision end where float32 does? python scripts/compare_precisions.py [CFG]

Trains the same job with the same seeds in every precision, by darkpy's own trainer, and prints a line for each run as
it ends. No GPU is needed: the precisions are emulated on the CPU (darkpy/backends/emulated/), which computes the
numbers a GPU would, but for the order of sums, and says nothing of its speed. The score is the mAP@50 of a detector,
the accuracy of a classifier (--task classifier, for cfg/digits.cfg), of the final weights, measured in the same
precision.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click

from darkpy.backends.precision import PRECISIONS
from darkpy.training import TrainingResult, TrainingSettings, train
from darkpy.training.classifier_job import ClassifierSettings, train_classifier

COLUMNS = ("precision", "seed", "score", "best", "left out", "loss scale", "loss", "seconds")


@click.command()
@click.argument("cfg", default="shapes.cfg")
@click.option("--data", help="Data set. [that of the cfg's name]")
@click.option("--task", type=click.Choice(("detector", "classifier")), default="detector", show_default=True)
@click.option("--precisions", default=",".join(PRECISIONS), show_default=True, help="Which, in their order.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Which; all precisions with the first one first.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the run folders. [a temporary one]")
def main(cfg: str, data: str | None, task: str, precisions: str, seeds: str, out: Path | None) -> None:
    """Train CFG in several precisions and print what comes of it."""
    click.echo("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as temporary:
        for seed in map(int, seeds.split(",")):
            for precision in precisions.split(","):
                folder = (out or Path(temporary)) / f"{Path(cfg).stem}-{precision}-{seed}"
                result = run(cfg, data, task, precision, seed, folder)
                if result.signal is not None:
                    sys.exit(128 + result.signal)
                click.echo(line(precision, seed, result))


def run(cfg: str, data: str | None, task: str, precision: str, seed: int, folder: Path) -> TrainingResult:
    """One whole training."""
    device = "cpu" if precision == "fp32" else "emulated"
    settings = {"cfg": cfg, "data": data, "out": folder, "seed": seed, "device": device, "precision": precision}
    if task == "classifier":
        return train_classifier(ClassifierSettings(**settings, report=False))
    return train(TrainingSettings(**settings, report=False))


def line(precision: str, seed: int, result: TrainingResult) -> str:
    """A line of the table."""
    last = json.loads((result.folder / "log.jsonl").read_text().splitlines()[-1])
    score = 0.0 if result.evaluation is None else next(iter(result.evaluation.scores.values()))
    found: list[object] = [precision, seed, f"{score:.4f}", f"{result.best or 0:.4f}"]
    found += [last["skipped"], f"{last['loss_scale']:,.0f}"] if "loss_scale" in last else ["", ""]
    found += [f"{result.average_loss:.3f}", f"{result.seconds:.0f}"]
    return "| " + " | ".join(map(str, found)) + " |"


if __name__ == "__main__":
    main()
