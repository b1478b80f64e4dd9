"""Which classes are taken for which: the confusion matrix as a picture, as a table, as a list of its worst cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpy.files import atomic_write

if TYPE_CHECKING:
    from rich.table import Table

MOST_IN_TABLE = 16
"""Classes up to which the whole matrix fits on a terminal."""

MOST_NUMBERED = 30
"""Classes up to which there is room for numbers in the cells of the picture."""

MOST_NAMED = 80
"""Classes up to which there is room for all names beside the picture."""

LETTERS = 36
"""Letters there is room for below the picture where names are not turned."""

SHORT = 5
"""Letters of a name that may stand over a column of the table; longer ones are replaced by the numbers."""

INK, PAPER = "#333333", "#ffffff"
RIGHT, WRONG = ("#ffffff", "#cfe1ee", "#2a6f97"), ("#ffffff", "#f6d5cc", "#c8553d")


def confusion_table(confusion: NDArray[np.int64], names: Sequence[str]) -> Table:
    """The matrix (classes, classes), a row for what is shown, a column for what it was taken for; a dot for 0."""
    from rich.markup import escape
    from rich.table import Table

    are_short = all(len(name) <= SHORT for name in names)
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="bold", overflow="fold")
    for number, name in enumerate(names):
        table.add_column(escape(name) if are_short else str(number), justify="right")
    for number, (name, row) in enumerate(zip(names, confusion.tolist())):
        title = escape(name if are_short else f"{number} {name}")
        table.add_row(title, *(_cell(count, number == column) for column, count in enumerate(row)))
    return table


def _cell(count: int, is_right: bool) -> str:
    if not count:
        return "·"
    return f"[bold]{count}[/]" if is_right else f"[red]{count}[/]"


def mistakes_table(confusion: NDArray[np.int64], names: Sequence[str], most: int = 10) -> Table | None:
    """The most frequent confusions, or None if there are none."""
    from rich.markup import escape
    from rich.table import Table

    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    cells = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(cells[wrong.flat[cells] > 0], wrong.shape)
    if not len(rows):
        return None
    table = Table(box=None, pad_edge=False)
    table.add_column("what it is", overflow="fold")
    table.add_column("taken for", overflow="fold")
    table.add_column("times", justify="right")
    table.add_column("of", justify="right")
    for row, column in zip(rows.tolist(), columns.tolist()):
        counts = f"{wrong[row, column]:,}", f"{confusion[row].sum():,}"
        table.add_row(escape(names[row]), escape(names[column]), *counts)
    return table


def draw_confusion(confusion: NDArray[np.int64], names: Sequence[str], title: str, path: str | Path) -> None:
    """Draw the matrix into a png file: what is right in blue, what is wrong in red, each as a share of its row.

    confusion: int (classes, classes), a row for what is shown, a column for what it was taken for. title: one or two
    lines.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    side = min(max(4.5 + 0.42 * len(names), 6.5), 14)
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=(side, side), dpi=100, facecolor=PAPER, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=INK, fontsize=12, pad=12)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(_colors(shares), interpolation="nearest")
    if len(names) <= MOST_NUMBERED:
        _write_numbers(axes, confusion, shares)
    _name_axes(axes, names)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _colors(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours (classes, classes, 4). Mistakes are rare: a tenth of them already has half of the full colour."""
    from matplotlib.colors import LinearSegmentedColormap

    right = LinearSegmentedColormap.from_list("right", RIGHT)
    wrong = LinearSegmentedColormap.from_list("wrong", WRONG)
    colors = np.asarray(wrong(np.cbrt(shares)))
    diagonal = np.arange(len(shares))
    colors[diagonal, diagonal] = right(shares[diagonal, diagonal])
    return colors


def _write_numbers(axes: Any, confusion: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = float(np.clip(190 / len(confusion), 6, 11))
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            is_right = row == column
            is_dark = shares[row, column] > (0.6 if is_right else 0.3)
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", fontsize=size,
                color=PAPER if is_dark else INK, fontweight="bold" if is_right else "normal",
            )  # fmt: skip


def _name_axes(axes: Any, names: Sequence[str]) -> None:
    count = len(names)
    step = -(-count // MOST_NAMED)
    places = range(0, count, step)
    size = float(np.clip(320 / count, 5.5, 11))
    shown = [_shortened(names[place]) for place in places]
    turn = 0 if max(map(len, shown)) * count <= LETTERS else 90
    axes.set_xticks(places, shown, rotation=turn, fontsize=size, color=INK)
    axes.set_yticks(places, shown, fontsize=size, color=INK)
    axes.set_xlabel("taken for", color=INK, fontsize=11, labelpad=8)
    axes.set_ylabel("what it is", color=INK, fontsize=11, labelpad=8)
    axes.tick_params(length=0)
    if count <= MOST_NAMED:
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#e6e6e6", linewidth=0.8)
        axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _shortened(name: str, most: int = 24) -> str:
    # A dollar sign would begin a formula.
    text = name if len(name) <= most else name[: most - 1] + "…"
    return text.replace("$", r"\$")
