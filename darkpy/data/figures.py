"""What the pictures of the data tools have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darkpy.files import atomic_write

INK, FAINT, MAIN, SECOND = "#333333", "#d9d9d9", "#2a6f97", "#c8553d"


def new_figure(title: str, width: float, height: float) -> Any:
    """A white figure of so many inches, 100 pixels each, with a title on the left."""
    # Figures made so need no display and share nothing with other threads, unlike pyplot's.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(plain(title), x=0.01, ha="left", color=INK, fontsize=13)
    return figure


def style(axes: Any, title: str = "") -> None:
    """No frame, no ticks, faint lines."""
    if title:
        axes.set_title(plain(title), loc="left", color=INK, fontsize=11)
    axes.tick_params(colors=INK, length=0, which="both")
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def plain(text: str) -> str:
    """Text in which a dollar sign is a dollar sign and does not begin a formula."""
    return text.replace("$", r"\$")


def finish(figure: Any, path: str | Path) -> None:
    """Write the figure into a png file."""
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
