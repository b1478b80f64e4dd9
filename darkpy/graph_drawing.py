"""A network as a picture: an SVG with a box for every layer and a line for everything a layer reads.

Layers stand one below the other, in as many columns as fill a sheet of paper. What is read from the layer before is a
short straight line; every other branch leaves its layer on the right, runs along a lane of the gap between two columns,
and ends where it is read. All branches of a layer share its lanes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from darkpy import builder, resources
from darkpy.backends.numpy import NumpyBackend
from darkpy.config.cfg import read_cfg
from darkpy.files import atomic_write
from darkpy.layers.base import NETWORK_INPUT, Layer, Shape
from darkpy.summary import LayerRow, layer_rows
from darkpy.text import plural, quantity

COLOURS = {
    "input": ("#ffffff", "#444444"),
    "filters": ("#dce9fb", "#3b6fb5"),
    "size": ("#fdebcf", "#c07a12"),
    "branches": ("#dcf2dc", "#3a8a3d"),
    "memory": ("#e9e0f7", "#7350ad"),
    "head": ("#fadcd9", "#b93a2f"),
    "other": ("#eeeeee", "#777777"),
}
"""Kinds of layers, in the order of the legend: colours of a box and of its edge."""

SECTIONS = {
    "filters": ("convolutional", "deconvolutional", "local", "connected", "implicit", "implicit_mul"),
    "size": ("maxpool", "avgpool", "local_avgpool", "upsample", "reorg", "reorg3d", "crop"),
    "branches": ("route", "shortcut", "sam", "scale_channels", "shift_channels", "control_channels"),
    "memory": ("rnn", "gru", "lstm", "crnn", "conv_lstm"),
}
"""The sections of a kind. Heads are told by what they do; any other section is of the kind other."""

BRANCH_COLOURS = ("#d1495b", "#00798c", "#9a6b00", "#5c5fc4", "#2e8b57", "#a03e99", "#666666")
LINE_COLOUR = "#444444"
PAPER = math.sqrt(2)
"""Width over height of the sheet that is filled: A4 or A3 on its side."""
MOST_COLUMNS = 24

BOX_HEIGHT, PITCH, LANE, MARGIN, TOP = 30.0, 40.0, 7.0, 16.0, 74.0
OUT, IN = 0.68, 0.32
"""Where in a box's height branches leave and arrive."""
SKY = -1.0
"""The row above all others, in which branches cross columns."""
FONT, SMALL_FONT = 11.0, 9.5
BOLD, PLAIN = 0.64, 0.56
"""Mean width of a letter as a part of its size."""


@dataclass(frozen=True)
class Box:
    """A layer, or the network's input, as text: its place in the order, and what to write where."""

    index: int
    kind: str
    title: str
    geometry: str
    shape: str
    parameters: str
    hint: str
    sources: tuple[int, ...]

    @property
    def width(self) -> float:
        """How much room its text takes."""
        first = FONT * BOLD * len(self.title) + SMALL_FONT * PLAIN * (len(self.geometry) + 1)
        second = SMALL_FONT * PLAIN * (len(self.shape) + len(self.parameters) + 2)
        return max(first, second) + 14


def draw(cfg: str | Path, out: str | Path, *, columns: int | None = None) -> int:
    """Write the graph of a cfg to an SVG file; returns the number of layers.

    columns: into how many the layers are divided; by default so many that a sheet of A4 on its side is filled.

    Raises :class:`~darkpy.errors.ConfigError` with every problem of the cfg.
    """
    config = read_cfg(resources.find("cfg", cfg))
    blueprint = builder.build(config, NumpyBackend())
    text = graph(Path(config.path).name, blueprint.layers, blueprint.graph.input_shape, columns)
    with atomic_write(out, "w") as file:
        file.write(text)
    return len(blueprint.layers)


def graph(name: str, layers: Sequence[Layer], input_shape: Shape, columns: int | None = None) -> str:
    """The SVG of some layers; ``name`` is its title."""
    rows = layer_rows(layers, input_shape)
    first = Box(NETWORK_INPUT, "input", "input", "", shape_text(input_shape), "", "the network's input", ())
    boxes = [first, *(_box(layer, row) for layer, row in zip(layers, rows))]
    parameters, operations = sum(row.parameters for row in rows), sum(row.operations for row in rows)
    about = f"{plural(len(layers), 'layer')}, {parameters / 1e6:.2f} M parameters, {operations / 1e9:.2f} BFLOPs"
    layouts = [_Layout(boxes, count) for count in ([columns] if columns else range(1, MOST_COLUMNS + 1))]
    best = min(layouts, key=lambda layout: abs(math.log(layout.width / layout.height / PAPER)))
    return _svg(best, name, about)


def shape_text(shape: Shape) -> str:
    """Width x height x channels, as Darknet prints it."""
    channels, height, width = shape
    return f"{width}x{height}x{channels}"


def _box(layer: Layer, row: LayerRow) -> Box:
    activation = getattr(layer.options, "activation", "linear")
    shown = "" if activation == "linear" else f" {activation}"
    parameters = quantity(row.parameters, "").strip() if row.parameters else ""
    numbers = f"{row.parameters:,} parameters, {row.operations / 1e9:.3f} BFLOPs, sees {row.receptive_field} pixels"
    return Box(
        index=row.index,
        kind=_kind(layer),
        title=f"{row.index} {row.type}",
        geometry=row.geometry,
        shape=shape_text(row.output) + shown,
        parameters=parameters,
        hint=f"line {layer.section.line} [{row.type}] {row.geometry}{shown}\n{numbers}",
        sources=tuple(dict.fromkeys(row.sources)),
    )


def _kind(layer: Layer) -> str:
    if layer.is_head:
        return "head"
    return next((kind for kind, names in SECTIONS.items() if layer.name in names), "other")


class _Lanes:
    """Parallel tracks for stretches that must not touch; all that belongs to one owner has one track."""

    def __init__(self) -> None:
        self.stretches: dict[int, list[float]] = defaultdict(list)
        self.track: dict[int, int] = {}

    def add(self, owner: int, start: float, stop: float) -> None:
        """Ask for a stretch."""
        self.stretches[owner] += [start, stop]

    def assign(self) -> None:
        """Give out the tracks: the inner ones to short stretches, so that these do not cross the long ones."""
        spans = {owner: (min(places), max(places)) for owner, places in self.stretches.items()}
        tracks: list[list[tuple[float, float]]] = []
        for owner, (low, high) in sorted(spans.items(), key=lambda item: (item[1][1] - item[1][0], item[0])):
            free = (i for i, taken in enumerate(tracks) if all(high < a or b < low for a, b in taken))
            track = next(free, len(tracks))
            if track == len(tracks):
                tracks.append([])
            tracks[track].append((low, high))
            self.track[owner] = track

    @property
    def room(self) -> float:
        """What all tracks need beside each other."""
        return LANE * (max(self.track.values(), default=-1) + 2)


class _Layout:
    """Where everything is, in pixels, if the boxes stand in so many columns."""

    def __init__(self, boxes: Sequence[Box], columns: int) -> None:
        self.boxes = boxes
        self.per_column = -(-len(boxes) // columns)
        self.columns = -(-len(boxes) // self.per_column)
        self.box_width = max(box.width for box in boxes)
        self.branches = [
            (source, box.index) for box in boxes for source in box.sources if not self._is_straight(source, box.index)
        ]
        self._assign_lanes()
        self.top = TOP + (self.sky.room if self.sky.track else 0.0)
        self.lefts = [MARGIN]
        for lanes in self.gaps:
            self.lefts.append(self.lefts[-1] + self.box_width + max(lanes.room, 2 * LANE))
        self.width = self.lefts[-1] + MARGIN
        self.height = self.top + self.per_column * PITCH - (PITCH - BOX_HEIGHT) + MARGIN

    def place(self, index: int) -> tuple[int, int]:
        """Column and row of a layer; the input stands before layer 0."""
        return divmod(index + 1, self.per_column)

    def corner(self, index: int) -> tuple[float, float]:
        """Left and top of a box."""
        column, row = self.place(index)
        return self.lefts[column], self.top + row * PITCH

    def _is_straight(self, source: int, target: int) -> bool:
        return source == target - 1 and self.place(source)[0] == self.place(target)[0]

    def _assign_lanes(self) -> None:
        self.gaps = [_Lanes() for _ in range(self.columns)]
        self.sky = _Lanes()
        for source, target in self.branches:
            (start, row), (stop, target_row) = self.place(source), self.place(target)
            if stop <= start + 1:
                self.gaps[start].add(source, row + OUT, target_row + IN)
                continue
            self.gaps[start].add(source, row + OUT, SKY)
            self.sky.add(source, start, stop - 1)
            self.gaps[stop - 1].add(source, SKY, target_row + IN)
        for lanes in (*self.gaps, self.sky):
            lanes.assign()

    def corners(self, source: int, target: int) -> list[tuple[float, float]]:
        """Where a branch begins, turns and ends."""
        (start, _), (stop, _) = self.place(source), self.place(target)
        (left, top), (target_left, target_top) = self.corner(source), self.corner(target)
        right, y_out, y_in = left + self.box_width, top + OUT * BOX_HEIGHT, target_top + IN * BOX_HEIGHT
        end = right if start == stop else target_left
        first = self._lane(start, source)
        if stop <= start + 1:
            return [(right, y_out), (first, y_out), (first, y_in), (end, y_in)]
        above, last = TOP + LANE * (self.sky.track[source] + 1), self._lane(stop - 1, source)
        return [(right, y_out), (first, y_out), (first, above), (last, above), (last, y_in), (end, y_in)]

    def _lane(self, column: int, owner: int) -> float:
        return self.lefts[column] + self.box_width + LANE * (self.gaps[column].track[owner] + 1)


def _svg(layout: _Layout, name: str, about: str) -> str:
    kinds = [kind for kind in COLOURS if any(box.kind == kind for box in layout.boxes)]
    heading = max(15 * len(name), 10 * max(len(about), sum(len(kind) + 5 for kind in kinds)))
    width, height = max(layout.width, 2 * MARGIN + PLAIN * heading), layout.height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        _text(MARGIN, 26, name, 15, "bold"),
        _text(MARGIN, 43, about, 10),
        *_legend(kinds),
        *(_branch(layout, source, target) for source, target in layout.branches),
        *(part for box in layout.boxes for part in _drawn(layout, box)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(kinds: Iterable[str]) -> Iterator[str]:
    x = MARGIN
    for kind in kinds:
        fill, edge = COLOURS[kind]
        yield f'<rect x="{x:.1f}" y="53" width="10" height="10" rx="2" fill="{fill}" stroke="{edge}"/>'
        yield _text(x + 14, 61.5, kind, 10)
        x += 10 * PLAIN * len(kind) + 28


def _branch(layout: _Layout, source: int, target: int) -> str:
    colour = BRANCH_COLOURS[(source + 1) % len(BRANCH_COLOURS)]
    corners = layout.corners(source, target)
    points_left = corners[-1][0] < corners[-2][0]
    return _line(_rounded(corners), colour) + _arrow(*corners[-1], "left" if points_left else "right", colour)


def _drawn(layout: _Layout, box: Box) -> Iterator[str]:
    left, top = layout.corner(box.index)
    right, middle = left + layout.box_width, left + layout.box_width / 2
    if box.index - 1 in box.sources and layout.corner(box.index - 1)[0] == left:
        yield _line(f"M{middle:.1f} {top - PITCH + BOX_HEIGHT:.1f}V{top:.1f}", LINE_COLOUR)
        yield _arrow(middle, top, "down", LINE_COLOUR)
    fill, edge = COLOURS[box.kind]
    yield f"<g><title>{escape(box.hint)}</title>"
    yield (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{layout.box_width:.1f}" height="{BOX_HEIGHT:.0f}" rx="4" '
        f'fill="{fill}" stroke="{edge}"/>'
    )
    geometry = f'<tspan font-size="{SMALL_FONT:g}" font-weight="normal"> {escape(box.geometry)}</tspan>'
    yield _text(left + 7, top + 13, box.title, FONT, "bold", more=geometry)
    yield _text(left + 7, top + 25, box.shape, SMALL_FONT)
    if box.parameters:
        yield _text(right - 7, top + 25, box.parameters, SMALL_FONT, anchor="end")
    yield "</g>"


def _text(
    x: float, y: float, text: str, size: float, weight: str = "normal", anchor: str = "start", more: str = ""
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="#111111">{escape(text)}{more}</text>'
    )


def _line(path: str, colour: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>'


def _arrow(x: float, y: float, towards: str, colour: str) -> str:
    ax, ay, bx, by = {"left": (5, -3, 5, 3), "right": (-5, -3, -5, 3), "down": (-3, -5, 3, -5)}[towards]
    return f'<path d="M{x:.1f} {y:.1f}l{ax} {ay}l{bx - ax} {by - ay}z" fill="{colour}"/>'


def _rounded(corners: Sequence[tuple[float, float]]) -> str:
    """A path along the corners that turns in curves."""
    path = "M{:.1f} {:.1f}".format(*corners[0])
    for before, corner, after in zip(corners, corners[1:], corners[2:]):
        radius = min(7.0, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        enter, leave = _towards(corner, before, radius), _towards(corner, after, radius)
        path += "L{:.1f} {:.1f}Q{:.1f} {:.1f} {:.1f} {:.1f}".format(*enter, *corner, *leave)
    return path + "L{:.1f} {:.1f}".format(*corners[-1])


def _towards(start: tuple[float, float], stop: tuple[float, float], distance: float) -> tuple[float, float]:
    share = distance / (math.dist(start, stop) or 1.0)
    return start[0] + share * (stop[0] - start[0]), start[1] + share * (stop[1] - start[1])
