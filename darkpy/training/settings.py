"""What to train, on what, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from darkpy import resources
from darkpy.errors import DataError
from darkpy.training.evaluator import EPOCHS

ON_NAN = ("stop", "rollback")

CHANGEABLE = ("workers", "device", "patience", "time_limit", "on_nan", "tensorboard", "keep_every", "report")
"""Settings that may be changed when a run is resumed: they do not touch what is learned."""


@dataclass(frozen=True)
class TrainingSettings:
    """What to train, on what, and how.

    cfg: the network; looked up in the working folder first, then among those of darkpy.
    data: the data set, anything :func:`darkpy.data.opening.open_dataset` takes; by default
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
    freeze: so many layers at the beginning stay as they are.
    patience: evaluations in a row without a better result after which training ends; None for never.
    time_limit: seconds after which training stops, to be resumed; None for no limit.
    precision: one of :data:`darkpy.backends.precision.PRECISIONS`; others than fp32 need a GPU.
    on_nan: what to do about a loss that is not finite: ``stop``, or ``rollback`` to what was saved last and go on with
        half the learning rate.
    subdivisions: in place of the cfg's. auto_subdivisions: the fewest whose mini-batch fits into memory.
    tensorboard: write event files for TensorBoard.
    report: write ``report.html`` when the run is finished.
    """

    cfg: str | Path
    data: str | Path | None = None
    weights: str | Path | None = None
    clear: bool = False
    out: str | Path | None = None
    seed: int = 0
    workers: int | None = None
    device: str = "auto"
    precision: str = "fp32"
    measure: bool | None = None
    every: int | None = None
    epochs: int = EPOCHS
    thresh: float = 0.25
    iou_thresh: float = 0.5
    points: int = 0
    keep_every: int = 0
    freeze: int = 0
    patience: int | None = None
    time_limit: float | None = None
    on_nan: str = "stop"
    subdivisions: int | None = None
    auto_subdivisions: bool = False
    tensorboard: bool = False
    report: bool = True


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
