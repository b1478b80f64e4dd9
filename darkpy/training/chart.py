"""``chart.png``: loss and what was measured over the iterations."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.files import atomic_write
from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.json_log import read_log
from darkpy.training.run_folder import writing

if TYPE_CHECKING:
    from darkpy.training.trainer import Trainer

LOSS, SCORE, INK, FAINT = "#2a6f97", "#c8553d", "#333333", "#d9d9d9"
SECONDS = 30.0
"""The least time between two drawings ..."""
SHARE = 150
"""... and so many times as long as the last drawing took, to keep the cost below one percent."""
MOST_POINTS = 4000
"""Iterations drawn; of more, every n-th."""
MOST_MEDIANS = 6
"""The loss axis reaches to so many times the median at most."""


@dataclass
class Curves:
    """What a chart shows. ``scores`` has pairs (iteration, value 0..1) by name; the first of them is the main one."""

    title: str
    last_iteration: int
    top_loss: float
    iterations: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    averages: list[float] = field(default_factory=list)
    scores: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, iteration: int, loss: float, average: float, scores: Mapping[str, float] | None = None) -> None:
        """One iteration more."""
        self.iterations.append(iteration)
        self.losses.append(loss)
        self.averages.append(average)
        for name, score in (scores or {}).items():
            self.scores.setdefault(name, []).append((iteration, score))

    def extend(self, log: Iterable[Mapping[str, Any]], last: int) -> None:
        """The iterations of a log (see :func:`~darkpy.training.json_log.read_log`) up to ``last``."""
        for line in log:
            if line["iteration"] > last:
                return
            self.add(line["iteration"], line["loss"], line["average_loss"], line.get("scores"))

    def snapshot(self) -> Curves:
        """A copy that does not change while it is drawn."""
        lists = {name: list(getattr(self, name)) for name in ("iterations", "losses", "averages")}
        scores = {name: list(points) for name, points in self.scores.items()}
        return Curves(**{**vars(self), **lists, "scores": scores})


class Chart(Callback):
    """Draws the chart in a thread of its own now and then, and once more at the end.

    log: the log of the run, from which the curves of a run that goes on are taken up; None for a new one.
    """

    def __init__(self, path: Path, title: str, log: Path | None = None) -> None:
        self.path = path
        self.title = title
        self.log = log
        self.curves: Curves
        self._thread: threading.Thread | None = None
        self._due = 0.0
        self._cost = 0.0

    def start(self, trainer: Trainer) -> None:
        """Begin with the curves there are."""
        self.curves = Curves(self.title, trainer.last_iteration, trainer.network.options.max_chart_loss)
        if self.log is not None and self.log.exists():
            self.curves.extend(read_log(self.log), trainer.told)
        self._due = time.monotonic() + SECONDS

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Never: points may come a little late."""
        return False

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Note the numbers; draw if the last drawing is old enough."""
        curves = self.curves
        scores = record.evaluation.scores if record.evaluation is not None else None
        curves.add(record.iteration, record.loss, record.average, scores)
        if time.monotonic() >= self._due and (self._thread is None or not self._thread.is_alive()):
            draw = self._draw_if_possible
            self._thread = threading.Thread(target=draw, args=(curves.snapshot(),), name="darkpy-chart")
            self._thread.start()
            self._due = time.monotonic() + max(SECONDS, SHARE * self._cost)

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Draw the whole course."""
        if self._thread is not None:
            self._thread.join()
        if self.curves.iterations:
            with writing(self.path):
                self._draw(self.curves)

    def _draw_if_possible(self, curves: Curves) -> None:
        # Where the disk is full, the next checkpoint will say so; a picture is not worth ending a training.
        with suppress(OSError):
            self._draw(curves)

    def _draw(self, curves: Curves) -> None:
        began = time.monotonic()
        draw_chart(curves, self.path)
        self._cost = time.monotonic() - began


def draw_chart(curves: Curves, path: Path) -> None:
    """Draw curves into a png file of 1100 x 620 pixels, at once or not at all."""
    # Figures made so need no display and share nothing with other threads, unlike pyplot's.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.2), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes = figure.add_subplot()
    _draw_losses(loss_axes, curves)
    loss_axes.set_title(curves.title, loc="left", color=INK, fontsize=13)
    if curves.scores:
        _draw_scores(loss_axes.twinx(), curves)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _draw_losses(axes: Any, curves: Curves) -> None:
    step = -(-len(curves.iterations) // MOST_POINTS)
    iterations = curves.iterations[::step]
    axes.plot(iterations, curves.losses[::step], color=LOSS, alpha=0.25, linewidth=0.8)
    axes.plot(iterations, curves.averages[::step], color=LOSS, linewidth=2)
    axes.set_xlim(0, max(curves.last_iteration, 1))
    axes.set_ylim(0, _top(curves))
    axes.set_xlabel("iteration", color=INK)
    axes.set_ylabel(f"loss (running average {curves.averages[-1]:.3g})", color=LOSS)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    _style(axes, LOSS)


def loss_top(averages: Sequence[float]) -> float:
    """Top of the axis for running averages of a loss: a little above those after the first ones.

    Where the loss explodes, what was before is still to be seen.
    """
    settled = np.asarray(averages[len(averages) // 20 :], np.float64)
    settled = settled[np.isfinite(settled)]
    if not settled.size:
        return 1.0
    return float(min(1.2 * np.percentile(settled, 97), MOST_MEDIANS * np.median(settled))) or 1.0


def _top(curves: Curves) -> float:
    """Top of the loss axis; the cfg's max_chart_loss lowers it where most of the curve is still seen then."""
    top = loss_top(curves.averages)
    settled = curves.averages[len(curves.averages) // 20 :]
    return curves.top_loss if float(np.median(settled)) < curves.top_loss < top else top


def _draw_scores(axes: Any, curves: Curves) -> None:
    """The main score with its best and its last value, the others as thin lines behind it."""
    (name, points), *others = curves.scores.items()
    iterations, values = zip(*((iteration, 100 * value) for iteration, value in points))
    best = int(np.argmax(values))
    for _, more in others:
        places, heights = zip(*more)
        axes.plot(places, [100 * height for height in heights], color=SCORE, alpha=0.5, linewidth=1.2, linestyle="--")
    axes.plot(iterations, values, color=SCORE, linewidth=2, marker="o", markersize=4)
    axes.set_xlim(0, max(curves.last_iteration, 1))
    axes.set_ylim(0, 100)
    dashed = "".join(f"   dashed: {other}" for other, _ in others)
    axes.set_ylabel(f"{name} %  (best {values[best]:.1f}){dashed}", color=SCORE)
    shown = {best, len(values) - 1}
    for place in shown:
        axes.annotate(
            f"{values[place]:.1f}",
            (iterations[place], values[place]),
            xytext=(0, 8 if values[place] < 92 else -16),
            textcoords="offset points",
            ha="right" if iterations[place] > 0.95 * curves.last_iteration else "center",
            color=SCORE,
            fontweight="bold",
        )
    _style(axes, SCORE)


def _style(axes: Any, color: str) -> None:
    axes.tick_params(axis="y", colors=color, length=0)
    axes.tick_params(axis="x", colors=INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
