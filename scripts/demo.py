"""The built-in job from nothing: draw the pictures, train, measure, detect. ``make demo`` runs this.

Each step is what the command printed above it does; try them with pictures of your own.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from darkpy.cli.main import cli
from darkpy.data.opening import open_dataset
from darkpy.text import duration
from darkpy.training import Outcome, TrainingSettings, default_data, train
from darkpy.training.progress import create_progress

CFG = "cfg/shapes.cfg"
PICTURES = 6
EPOCHS = 8  # between two evaluations: they take time from a job that is to be short


def show(*command: str) -> None:
    print(f"\n$ darkpy {' '.join(command)}", flush=True)


def run(*command: str) -> None:
    """Run a darkpy command in this process."""
    show(*command)
    cli.main(list(command), prog_name="darkpy", standalone_mode=False)


def main() -> int:
    began = time.perf_counter()
    show("detector", "train", CFG)
    result = train(TrainingSettings(cfg=CFG, epochs=EPOCHS), create_progress())
    if result.outcome is not Outcome.FINISHED:
        return 130
    # The run folder's copy: the network that was trained, whatever becomes of the file.
    cfg, weights = str(result.folder / Path(CFG).name), str(result.folder / "best.weights")
    run("detector", "map", cfg, weights)
    drawn = result.folder / "predictions"
    pictures = open_dataset(default_data(CFG), "val").pictures[:PICTURES]
    run("detect", *map(str, pictures), "--cfg", cfg, "--weights", weights, "--out", str(drawn))
    print()
    print(f"pictures  {drawn}/")
    print(f"chart     {result.folder / 'chart.png'}")
    print(f"time      {duration(time.perf_counter() - began)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
