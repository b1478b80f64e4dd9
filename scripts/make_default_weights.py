"""Make data/shapes.weights, the small detector that `darkpy detect` uses when no network is named.

Trains cfg/shapes.cfg as it stands but for a longer schedule, and keeps the best weights:

    python scripts/make_default_weights.py [--times 4] [--seed 0]
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import click

from darkpy.config.cfg import Config, Entry, Section, read_cfg, write_cfg
from darkpy.files import atomic_write
from darkpy.training import Outcome, TrainingSettings, train
from darkpy.training.progress import create_progress

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "data" / "shapes.weights"


def lengthened(config: Config, times: int) -> Config:
    """The same cfg with ``times`` as many iterations; the steps of the rate move along."""

    def stretch(entry: Entry) -> Entry:
        if entry.key not in ("max_batches", "steps"):
            return entry
        return replace(entry, value=",".join(str(int(value) * times) for value in entry.value.split(",")))

    net: Section = replace(config.net, entries=tuple(stretch(entry) for entry in config.net.entries))
    return replace(config, net=net)


@click.command()
@click.option("--times", default=4, show_default=True, help="How many times the iterations of cfg/shapes.cfg.")
@click.option("--seed", default=0, show_default=True, help="Source of everything random.")
def main(times: int, seed: int) -> None:
    """Train longer, keep the best weights as data/shapes.weights."""
    longer = ROOT / "runs" / "shapes-longer.cfg"
    longer.parent.mkdir(exist_ok=True)
    write_cfg(lengthened(read_cfg(ROOT / "cfg" / "shapes.cfg"), times), longer)
    result = train(TrainingSettings(cfg=longer, data=ROOT / "data" / "shapes.yaml", seed=seed), create_progress())
    if result.outcome is not Outcome.FINISHED:
        sys.exit(130)
    with atomic_write(WEIGHTS) as target, (result.folder / "best.weights").open("rb") as source:
        shutil.copyfileobj(source, target)
    click.echo(f"{WEIGHTS.relative_to(ROOT)}: {WEIGHTS.stat().st_size / 1e6:.2f} MB, mAP {result.best}")


if __name__ == "__main__":
    main()
