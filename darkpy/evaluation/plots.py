"""Pictures of an evaluation: curves and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy.evaluation.confusion import draw_confusion
from darkpy.evaluation.curves import NOTHING, THRESHOLDS, Curve, class_line, confusion, curves
from darkpy.files import atomic_write

if TYPE_CHECKING:
    from darkpy.evaluation.report import Evaluation

INK, FAINT, MAIN = "#333333", "#d9d9d9", "#2a6f97"

RECALLS = np.linspace(0, 1, 1001)

MOST_NAMED = 12
"""Classes up to which each has a colour and its name; of more only the outlines are seen."""


def write_plots(evaluation: Evaluation, folder: str | Path, title: str) -> list[Path]:
    """Write ``precision-recall.png``, ``f1.png`` and ``confusion.png`` into a folder; returns their paths.

    title: what was measured, for a line above each.
    """
    together, by_class = curves(evaluation)
    names = [*(result.name for result in evaluation.classes), NOTHING]
    paths = [Path(folder, name) for name in ("precision-recall.png", "f1.png", "confusion.png")]
    draw_precision_recall(together, by_class, evaluation.iou_thresh, title, paths[0])
    draw_f1(together, by_class, evaluation.thresh, title, paths[1])
    shown = f"{title}\nprobability over {evaluation.thresh:g}, overlap over {evaluation.iou_thresh:g}"
    draw_confusion(confusion(evaluation), names, shown, paths[2])
    return paths


def draw_precision_recall(
    together: Curve, by_class: Sequence[Curve], iou_thresh: float, title: str, path: str | Path
) -> None:
    """Draw precision over recall into a png file; the area under a class's line is its average precision."""
    figure, axes = _figure()
    ranked = sorted(by_class, key=lambda curve: -curve.average_precision)
    for curve in ranked:
        label = f"{curve.name}  {100 * curve.average_precision:.1f}"
        axes.plot(RECALLS, curve.precision_at(RECALLS), **_line(curve.class_id, len(ranked), label))
    mean = 100 * together.average_precision
    if len(ranked) > 1:
        average = np.mean([curve.precision_at(RECALLS) for curve in ranked], axis=0)
        axes.plot(RECALLS, average, color=INK, linewidth=2.6, label=f"mean  {mean:.1f}")
    axes.set_xlabel("recall: share of the objects that are found", color=INK)
    axes.set_ylabel("precision: share of the detections that are right", color=INK)
    axes.set_title(f"{title}\nmAP@{100 * iou_thresh:.0f} {mean:.1f} %", loc="left", color=INK, fontsize=12)
    _finish(figure, axes, "average precision, %", path)


def draw_f1(together: Curve, by_class: Sequence[Curve], thresh: float, title: str, path: str | Path) -> None:
    """Draw the F1 score over the probability threshold into a png file, with the best threshold and the one used."""
    figure, axes = _figure()
    ranked = sorted(by_class, key=lambda curve: -curve.best_threshold()[1])
    for curve in ranked:
        best, score = curve.best_threshold()
        label = f"{curve.name}  {score:.2f} at {best:.2f}"
        axes.plot(THRESHOLDS, curve.f1(), **_line(curve.class_id, len(ranked), label))
    best, score = together.best_threshold()
    if len(ranked) != 1:
        axes.plot(THRESHOLDS, together.f1(), color=INK, linewidth=2.6, label=f"all  {score:.2f} at {best:.2f}")
    axes.plot([best], [score], marker="o", color=INK, markersize=7)
    axes.axvline(thresh, color=INK, linewidth=1, linestyle=":")
    # At the top: below it the lines of many classes cross.
    axes.annotate(
        f" used: {thresh:g} ", (thresh, 0.98), color=INK, fontsize=9, ha="left" if thresh < 0.8 else "right", va="top"
    )
    axes.set_xlabel("probability threshold", color=INK)
    axes.set_ylabel("F1 score: harmonic mean of precision and recall", color=INK)
    axes.set_title(f"{title}\nbest F1 {score:.2f} at {best:.2f}", loc="left", color=INK, fontsize=12)
    _finish(figure, axes, "best F1", path)


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.2), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _line(class_id: int, count: int, label: str) -> dict[str, Any]:
    """The style of one class's line: the same in each picture, or a thin blue one where there are too many."""
    if count > MOST_NAMED:
        return {"color": MAIN, "linewidth": 0.8, "alpha": 0.35}
    line = class_line(class_id)
    dashes = (0, tuple(part / 1.6 for part in line.dashes)) if line.dashes else "-"  # in widths of the line
    return {"color": line.on_white, "linestyle": dashes, "linewidth": 1.6, "label": label.replace("$", r"\$")}


def _finish(figure: Any, axes: Any, legend: str, path: str | Path) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right upper", title=legend, frameon=False, labelcolor=INK, fontsize=10)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
