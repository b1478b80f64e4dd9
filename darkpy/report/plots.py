"""Line charts as SVG within the page: they follow its colours, light and dark, and are sharp at any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpy.report.markup import Markup, element

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 22, 40
"""Room around the lines, for the numbers and words."""

MARGIN = 3
"""A line at the edge is drawn in its full width."""

Formatter = Callable[[float], str]
Placing = Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """One line: x and y (n,), a class of the style sheet, and where it has a colour of its own that and its dashes."""

    x: NDArray[np.float64] | Sequence[float]
    y: NDArray[np.float64] | Sequence[float]
    kind: str
    name: str = ""
    style: str | None = None
    dots: bool = False


@dataclass(frozen=True)
class Mark:
    """A point worth a dot, and a word if there is room for it."""

    x: float
    y: float
    text: str
    kind: str


@dataclass(frozen=True)
class Axis:
    """From where to where, what it counts, and how its numbers are written."""

    low: float
    high: float
    title: str
    write: Formatter = "{:g}".format

    def ticks(self) -> list[float]:
        """Round values, about five."""
        rough = (self.high - self.low) / 5 or 1.0
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.999 * rough)
        first = math.ceil(self.low / step - 1e-9)
        return [step * number for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_chart(
    description: str, x: Axis, y: Axis, lines: Sequence[Line], marks: Sequence[Mark] = (), rule: Mark | None = None
) -> Markup:
    """A chart; ``description`` is for those who cannot see it. ``rule`` is a dotted line at its x, over all heights."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(value: float) -> float:
        return round(width * (value - x.low) / (x.high - x.low or 1), 1)

    def down(value: float) -> float:
        return round(height * (1 - (value - y.low) / (y.high - y.low or 1)), 1)

    grid = [
        *(_horizontal(down(tick), width, y.write(tick)) for tick in y.ticks()),
        *(_below(across(tick), height, x.write(tick)) for tick in x.ticks()),
    ]
    words = [
        element("text", x.title, x=width, y=height + 34, class_="title end"),
        element("text", y.title, x=0, y=-9, class_="title"),
    ]
    ruled = [] if rule is None else [
        element("line", x1=across(rule.x), x2=across(rule.x), y1=0, y2=height, class_="rule"),
        element("text", rule.text, x=across(rule.x) + (4 if rule.x < 0.75 else -4), y=12, class_=_beside(rule)),
    ]  # fmt: skip
    # What lies outside the axes is cut off by the inner picture's edge.
    drawn = element(
        "svg",
        (_drawn(line, across, down) for line in lines),
        x=-MARGIN,
        y=-MARGIN,
        width=width + 2 * MARGIN,
        height=height + 2 * MARGIN,
        viewBox=f"{-MARGIN} {-MARGIN} {width + 2 * MARGIN} {height + 2 * MARGIN}",
    )
    noted = [_marked(mark, across(mark.x), down(mark.y), width) for mark in marks]
    inside = element("g", grid, words, ruled, drawn, noted, transform=f"translate({LEFT} {TOP})")
    return element(
        "svg", inside, class_="plot", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=description
    )


def _beside(rule: Mark) -> str:
    """On the right of its line, at the top, where few lines of the chart are; on the left where there is no room."""
    return "over begin" if rule.x < 0.75 else "over end"


def swatch(kind: str, style: str | None = None) -> Markup:
    """A piece of a line, for a legend."""
    line = element("line", x1=0, x2=22, y1=5, y2=5, class_=f"line {kind}", style=style)
    return element("svg", line, class_="swatch", viewBox="0 0 22 10", aria_hidden="true")


def thinned(values: Sequence[float], most: int) -> NDArray[np.float64]:
    """Every n-th of the values, so that there are no more than ``most``; the last is kept."""
    found = np.asarray(values, np.float64)
    step = -(-len(found) // most) or 1
    return found[::-1][::step][::-1]


def _horizontal(place: float, width: float, words: str) -> Markup:
    line = element("line", x1=0, x2=width, y1=place, y2=place, class_="grid")
    return element("g", line, element("text", words, x=-7, y=place + 4, class_="end"))


def _below(place: float, height: float, words: str) -> Markup:
    return element("text", words, x=place, y=height + 17, class_="middle")


def _drawn(line: Line, across: Placing, down: Placing) -> Markup:
    places = [(across(px), down(py)) for px, py in zip(line.x, line.y) if math.isfinite(py)]
    path = element(
        "polyline",
        points=" ".join(f"{px:g},{py:g}" for px, py in places),
        class_=f"line {line.kind}",
        style=line.style,
    )
    dots = [element("circle", cx=px, cy=py, r=2.6, class_=f"dot {line.kind}") for px, py in places if line.dots]
    return element("g", element("title", line.name) if line.name else None, path, dots)


def _marked(mark: Mark, px: float, py: float, width: float) -> Markup:
    side = "end" if px > 0.85 * width else "begin" if px < 0.15 * width else "middle"
    above = py > 24
    words = element("text", mark.text, x=px, y=py - 9 if above else py + 19, class_=f"mark {mark.kind} {side}")
    dot = element("circle", cx=px, cy=py, r=4, class_=f"dot {mark.kind}")
    return element("g", dot, words if mark.text else None)
