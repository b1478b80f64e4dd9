"""What to train, on what, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from darkpy import resources
from darkpy.errors import DataError
from darkpy.training.evaluator import EPOCHS


@dataclass(frozen=True)
class TrainingSettings:
    """What to train, on what, and how.

    cfg: the network; looked up in the working folder first, then among those of darkpy.
    data: the data set, anything :func:`darkpy.data.dataset.open_dataset` takes; by default
        ``data/<name of the cfg>.yaml`` or ``.data``, see :func:`default_data`.
    weights: where to start from, all layers or the first ones; training goes on at the iteration stored there.
    clear: start at iteration 0 whatever the weights say.
    out: the run folder, new or empty; by default ``runs/<name of the cfg>-N``.
    seed: the source of everything random. workers: threads of the loader, None for a number that suits the machine.
    measure: whether to evaluate on the validation set; None does so if there is one.
    every: iterations from one evaluation to the next; None for ``epochs`` times through the data, at least 100
        iterations, not before the end of burn_in. Whatever it is, the last iteration is evaluated.
    thresh, iou_thresh, points: of the evaluation, see :func:`darkpy.evaluation.evaluate`.
    keep_every: also keep the weights of every so many iterations; 0 for none, unless a .data file says saveweights.
    """

    cfg: str | Path
    data: str | Path | None = None
    weights: str | Path | None = None
    clear: bool = False
    out: str | Path | None = None
    seed: int = 0
    workers: int | None = None
    device: str = "cpu"
    measure: bool | None = None
    every: int | None = None
    epochs: int = EPOCHS
    thresh: float = 0.25
    iou_thresh: float = 0.5
    points: int = 0
    keep_every: int = 0


def default_data(cfg: str | Path) -> Path:
    """The data set that goes with a cfg by its name: ``data/<name>.yaml`` or ``.data``, here or in darkpy."""
    names = [Path(cfg).stem + ending for ending in (".yaml", ".data")]
    for name in names:
        if Path("data", name).is_file():
            return Path("data", name)
    for name in names:
        if name in resources.available("data"):
            return resources.find("data", name)
    raise DataError(
        f"no data set is named, and there is no data/{names[0]} or data/{names[1]}; name one with --data",
        where=str(cfg),
    )
