"""The picture of a check: classes, sizes, shapes and places of the objects."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from darkpy.data.anchors import draw_shapes
from darkpy.data.check import SIZES, Report
from darkpy.data.figures import FAINT, INK, finish, new_figure, plain, style

_COLORS = ("#2a6f97", "#c8553d", "#8a9a5b")  # of train, val and test
_MOST_CLASSES = 40


def draw_report(report: Report, title: str, path: str | Path) -> None:
    """Draw classes, box sizes, box shapes and where objects are into a png file."""
    figure = new_figure(title, 12, 10)
    axes = figure.subplots(2, 2)
    _draw_classes(axes[0, 0], report)
    _draw_sizes(axes[0, 1], report)
    draw_shapes(axes[1, 0], report.shapes, report.target.anchors, report.target.width, report.target.height)
    style(axes[1, 0], "box shapes" + (", anchors in red" if report.target.anchors is not None else ""))
    _draw_places(axes[1, 1], report)
    finish(figure, path)


def _draw_classes(axes: Any, report: Report) -> None:
    counts = np.array([part.objects() for part in report.splits.values()])
    order = np.argsort(-counts.sum(axis=0), kind="stable")[:_MOST_CLASSES]
    shown = len(order)
    left = np.zeros(shown)
    for color, name, row in zip(_COLORS, report.splits, counts):
        axes.barh(range(shown), row[order], left=left, color=color, label=name)
        left += row[order]
    axes.set_yticks(range(shown), [plain(report.names[place]) for place in order], fontsize=10 if shown < 25 else 7)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    of = f", the first {shown} of {len(report.names)}" if shown < len(report.names) else ""
    style(axes, f"objects of each class{of}")


def _draw_sizes(axes: Any, report: Report) -> None:
    bottom = np.zeros(len(SIZES) - 1)
    for color, part in zip(_COLORS, report.splits.values()):
        counts = part.size_counts()
        axes.bar(range(len(counts)), counts, bottom=bottom, color=color, width=0.9)
        bottom += counts
    axes.set_xticks(range(len(bottom)), size_names(), fontsize=8)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_xlabel("root of the area in pixels", color=INK)
    style(axes, f"box sizes at {report.target.width}x{report.target.height}")


def _draw_places(axes: Any, report: Report) -> None:
    boxes = np.concatenate([part.boxes for part in report.splits.values()])
    counts, _, _ = np.histogram2d(boxes[:, 2], boxes[:, 1], bins=32, range=[[0, 1], [0, 1]])
    axes.imshow(counts, cmap="Blues", extent=(0, 1, 1, 0), aspect="auto", interpolation="nearest")
    axes.set_xticks([0, 0.5, 1], ["left", "", "right"])
    axes.set_yticks([0, 0.5, 1], ["top", "", "bottom"])
    style(axes, "where the centres of objects are")


def size_names() -> list[str]:
    """What to call the steps of the histogram of sizes: ``0-1``, ``1-8`` .. ``512+``."""
    return [f"{low:g}-{high:g}" for low, high in pairwise(SIZES[:-1])] + [f"{SIZES[-2]:g}+"]
