"""Draw the pictures of docs/convolution-kernels.md: python scripts/draw_kernels.py [FOLDER].

Each picture comes twice, for a light page and for a dark one: NAME.svg and NAME-dark.svg in docs/kernels/. What they
show of memory follows the formulas of kernels/convolution_operands.cuh, and checked: no two of the accesses drawn
as free of conflicts may meet in a bank.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "kernels"

STEP_BYTES = 64
STAGES = 4
BLOCK_M, BLOCK_N, WARPS_M, WARPS_N = 128, 128, 2, 2  # Tile128x128


@dataclass(frozen=True)
class Theme:
    """Colours of a page."""

    suffix: str
    ink: str
    faint: str
    line: str
    blue: str
    orange: str
    green: str
    purple: str
    red: str


LIGHT = Theme("", "#1f2328", "#59636e", "#c8d1da", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e")
DARK = Theme("-dark", "#f0f6fc", "#9198a1", "#3d444d", "#4493f8", "#f0883e", "#3fb950", "#ab7df8", "#f85149")


class Canvas:
    """Axes without axes, y downwards, in the colours of a theme."""

    def __init__(self, theme: Theme, width: float, height: float, across: float, down: float) -> None:
        self.theme = theme
        self.figure = plt.figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, across)
        self.axes.set_ylim(down, 0)
        self.axes.axis("off")

    def box(self, x: float, y: float, w: float, h: float, color: str = "", fill: float = 0.0, **options: Any) -> None:
        """A rectangle; fill is the opacity of its inside."""
        color = color or self.theme.line
        options = {"linewidth": 1.0, **options}
        if fill:
            self.axes.add_patch(Rectangle((x, y), w, h, facecolor=color, alpha=fill, edgecolor="none"))
        self.axes.add_patch(Rectangle((x, y), w, h, facecolor="none", edgecolor=color, **options))

    def grid(self, x: float, y: float, columns: int, rows: int, w: float, h: float | None = None) -> None:
        """Faint cells."""
        h = w if h is None else h
        for row in range(rows):
            for column in range(columns):
                self.box(x + column * w, y + row * h, w, h, linewidth=0.6)

    def text(self, x: float, y: float, words: str, color: str = "", size: float = 9, **options: Any) -> None:
        """Words, in the middle of a place unless told otherwise."""
        options = {"ha": "center", "va": "center", **options}
        self.axes.text(x, y, words, color=color or self.theme.ink, fontsize=size, **options)

    def note(self, x: float, y: float, words: str, columns: int = 0, **options: Any) -> None:
        """Faint words, from a place on, in lines of so many characters."""
        text = fill(words, columns) if columns else words
        options = {"color": self.theme.faint, "size": 8, "ha": "left", "va": "top", "linespacing": 1.35, **options}
        self.text(x, y, text, **options)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], color: str = "", **options: Any) -> None:
        """From one place to another."""
        options = {"arrowstyle": "-|>", "mutation_scale": 10, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0, **options}
        self.axes.add_patch(FancyArrowPatch(start, end, color=color or self.theme.faint, **options))

    def line(self, start: tuple[float, float], end: tuple[float, float], color: str = "", **options: Any) -> None:
        """A straight line."""
        options = {"linewidth": 0.8, **options}
        self.axes.plot((start[0], end[0]), (start[1], end[1]), color=color or self.theme.faint, **options)


# The pictures ----------------------------------------------------------------------------------------------------


def implicit_gemm(theme: Theme) -> Canvas:
    """One row of A is the patch of a picture under the kernel at one position."""
    c = Canvas(theme, 9, 4.1, 90, 41)
    t = theme
    c.text(12, 2.2, "picture x, 5 x 5, padding 1", weight="bold")
    side, left, top = 2.8, 2.0, 7.0
    patch = {(tap // 3, 2 + tap % 3): tap for tap in range(9)}  # at row 0, column 2 of the output, counted with padding
    for row in range(7):
        for column in range(7):
            x, y = left + column * side, top + row * side
            inside = 0 < row < 6 and 0 < column < 6
            tap = patch.get((row, column))
            c.box(x, y, side, side, t.faint if inside else t.line, fill=0.12 if inside else 0, linewidth=0.6)
            if tap is not None:
                c.box(x, y, side, side, t.blue, fill=0.3)
                c.text(x + side / 2, y + side / 2, str(tap), t.blue, 8, weight="bold")
            elif not inside:
                c.text(x + side / 2, y + side / 2, "0", t.faint, 7)
    words = (
        "The 3 x 3 taps at row 0, column 2 of the output. A pixel is C channels, neighbours in memory; outside, zeros."
    )
    c.note(left, top + 7 * side + 0.9, words, columns=42)
    w, h, a_top = 2.5, 2.45, 7.0
    a_left = 30.0
    c.text(a_left + 4.5 * w, 2.2, "A: positions x (taps · C)", weight="bold")
    c.text(a_left + 4.5 * w, 5.3, "K → taps 0 … 8, C channels each", t.faint, 8)
    c.grid(a_left, a_top, 9, 8, w, h)
    for tap in range(9):
        outside = tap < 3
        c.box(a_left + tap * w, a_top + 2 * h, w, h, t.blue, fill=0.12 if outside else 0.4)
        c.text(a_left + (tap + 0.5) * w, a_top + 2.5 * h, "0" if outside else str(tap), t.blue, 8, weight="bold")
    c.text(a_left - 1.1, a_top + 5.8 * h, "positions ↓ M", t.faint, 8, rotation=90)
    bend = {"connectionstyle": "arc3,rad=-0.12"}
    c.arrow((left + 5 * side + 0.4, top + 1.5 * side), (a_left - 0.4, a_top + 2.5 * h), t.blue, **bend)
    c.note(a_left, a_top + 8 * h + 0.9, "Never made: a block finds the\npixels of its part where they lie.")
    b_left = a_left + 9 * w + 4.0
    c.text(b_left + 3 * w, 2.2, "B: weights", weight="bold")
    c.text(b_left + 3 * w, 5.3, "N → filters", t.faint, 8)
    c.grid(b_left, a_top, 6, 9, w, h * 8 / 9)
    c.box(b_left + 2 * w, a_top, w, 8 * h, t.orange, fill=0.3)
    c.text(b_left - 2, a_top + 4 * h, "×", size=15)
    c.note(b_left, a_top + 8 * h + 0.9, "A column is a filter,\nas it lies in memory.")
    o_left, o_w = b_left + 6 * w + 4.0, 2.0
    c.text(o_left + 3 * o_w, 2.2, "output", weight="bold")
    c.text(o_left + 3 * o_w, 5.3, "N → filters", t.faint, 8)
    c.text(o_left - 2, a_top + 4 * h, "=", size=15)
    c.grid(o_left, a_top, 6, 8, o_w, h)
    c.box(o_left + 2 * o_w, a_top + 2 * h, o_w, h, t.green, fill=0.5)
    c.note(o_left, a_top + 8 * h + 0.9, "Row m, column n: the\nfilter n at position m.")
    names = (
        "M = pictures · rows · columns of the output",
        "N = filters",
        "K = size · size · C",
        "2 · M · N · K operations",
    )
    c.text(45, 38.3, ",   ".join(names))
    return c


def tiling(theme: Theme) -> Canvas:
    """From the output to a lane's registers."""
    c = Canvas(theme, 9, 4.2, 90, 42)
    t = theme
    top, size = 8.0, 20.0
    c.text(11, 2.5, "the output, M x N", weight="bold")
    c.text(11, 5.4, "a block for each 128 x 128", t.faint, 8)
    c.grid(4, top, 3, 4, 5, 5)
    c.box(9, top + 5, 5, 5, t.blue, fill=0.45)
    c.text(2.8, top + 10, "M", t.faint, 8)
    c.text(11.5, top + 21.2, "N", t.faint, 8)
    block = 26.0
    c.text(block + 10, 2.5, "a block: 4 warps", weight="bold")
    c.text(block + 10, 5.4, "a warp for each 64 x 64", t.faint, 8)
    c.box(block, top, size, size, t.blue, linewidth=1.4)
    side = size / WARPS_M
    for warp in range(WARPS_M * WARPS_N):
        x, y = block + warp % WARPS_N * side, top + warp // WARPS_N * side
        c.box(x, y, side, side, t.blue, fill=0.45 if warp == 1 else 0.08)
        c.text(x + side / 2, y + side / 2, f"warp {warp}", t.ink, 8)
    c.line((14, top + 5), (block, top), t.blue, linestyle=":")
    c.line((14, top + 10), (block, top + size), t.blue, linestyle=":")
    warp_left, w = 52.0, 1.75
    c.text(warp_left + 7, 2.5, "a warp: 4 x 8 mma", weight="bold")
    c.text(warp_left + 7, 5.4, "of 16 rows x 8 columns", t.faint, 8)
    c.grid(warp_left, top, BLOCK_N // WARPS_N // 8, BLOCK_M // WARPS_M // 16, w, 5)
    c.box(warp_left, top, 14, size, t.purple, linewidth=1.4)
    c.box(warp_left + 3 * w, top + 5, w, 5, t.purple, fill=0.5)
    c.line((block + size, top), (warp_left, top), t.blue, linestyle=":")
    c.line((block + size, top + 10), (warp_left, top + size), t.blue, linestyle=":")
    left, w, h = 72.0, 4.0, 1.25
    c.text(left + 2 * w, 2.5, "an mma: 32 lanes", weight="bold")
    c.text(left + 2 * w, 5.4, "4 sums in each, in registers", t.faint, 8)
    colors = (t.blue, t.orange, t.green, t.purple)
    for row in range(16):
        for pair in range(4):
            lane = row % 8 * 4 + pair
            x, y, shown = left + pair * w, top + row * h, lane == 5
            c.box(x, y, w, h, colors[pair], fill=0.55 if shown else 0.13, linewidth=0.5)
            c.text(x + w / 2, y + h / 2, str(lane), t.ink, 5.5, weight="bold" if shown else "normal")
    c.line((warp_left + 4 * 1.75, top + 5), (left, top), t.purple, linestyle=":")
    c.line((warp_left + 4 * 1.75, top + 10), (left, top + 16 * h), t.purple, linestyle=":")
    c.note(
        left - 1,
        top + 16 * h + 0.9,
        "Lane 5 (g = 1, t = 1): c[0],\nc[1] of row 1, c[2], c[3] of\nrow 9; two columns each.",
    )
    words = (
        "Along K a block goes in steps of 64 bytes: 32 elements of 16 bits, or 16 floats. Of each step it brings 128 "
        "rows of A and 128 columns of B to shared memory; a warp reads its 64 and 64 of them into registers and "
        "multiplies each with each. What comes from global memory is used 128 times, what is read from shared memory "
        "64 times, and a fragment in registers 8 times (of A) or 4 times (of B)."
    )
    c.note(3, top + size + 2.9, words, columns=92)
    return c


def pipeline(theme: Theme) -> Canvas:
    """Steps along K over time: copies on their way while others are read."""
    c = Canvas(theme, 9, 3.7, 90, 37)
    t = theme
    left, top, w, h = 9.5, 6.5, 9.4, 4.4
    c.text(45, 2.3, "four stages of shared memory while a block goes along K", weight="bold")
    ahead = STAGES - 1
    columns = ahead + 5
    right = left + columns * w
    for stage in range(STAGES):
        c.text(left - 0.8, top + (stage + 0.5) * h, f"stage {stage}", t.ink, 8.5, ha="right")
    for step in range(columns):
        y, begin, read = top + step % STAGES * h, left + step * w, step + ahead
        end = left + min(read, columns) * w
        c.box(begin, y + 0.5, end - begin, h - 1, t.orange, fill=0.18, linewidth=0.8)
        c.text(begin + w / 2, y + h / 2, f"step {step} on its way", t.orange, 7)
        if read < columns:
            c.box(end, y + 0.5, w, h - 1, t.blue, fill=0.45, linewidth=0.8)
            c.text(end + w / 2, y + h / 2, f"read {step}", t.ink, 8, weight="bold", zorder=5)
    for column in range(ahead, columns + 1):
        x = left + column * w
        c.line((x, top - 0.9), (x, top + STAGES * h + 0.9), t.red, linewidth=1.3, alpha=0.75)
    base = top + STAGES * h + 2.2
    c.arrow((left, base), (right, base), t.faint)
    c.text(left + ahead * w / 2, base + 1.7, "before the loop: three steps asked for", t.orange, 8)
    c.text(left + (ahead + 2.5) * w, base + 1.7, "the loop, a step in each turn → time", t.blue, 8)
    words = (
        "Red: wait_for_copies<2> (the copies this thread has asked for have come, but for the last two groups), then a "
        "barrier (so have all threads', and nobody reads the stage before any more). Step s + 3 goes where step s - 1 "
        "was, so one barrier for each step is enough. It comes when the second half of the step is in registers, "
        "before that is multiplied: tensor cores have work while others arrive."
    )
    c.note(2, base + 3.9, words, columns=140, size=7.6)
    return c


def place_along_k(row: int, chunk: int, swizzled: bool = True) -> int:
    """Byte at which a chunk of 16 bytes lies, of a tile along K: Share::place."""
    return row * STEP_BYTES + ((chunk ^ (row // 2 % 4 if swizzled else 0)) << 4)


def place_across(row: int, chunk: int, side: int, itemsize: int) -> int:
    """The same for a tile that lies across."""
    return row * side * itemsize + ((chunk ^ (row % 4 * 2 if itemsize == 4 else row % 8)) << 4)


def conflicts(addresses: list[int], nbytes: int) -> int:
    """How many of these accesses, of so many bytes each, meet in the bank that most of them use."""
    banks = Counter((address + offset) // 4 % 32 for address in addresses for offset in range(0, nbytes, 4))
    return max(banks.values())


def check_memory() -> None:
    """What the text says of banks."""
    eight = range(8)
    for chunk in range(4):
        assert conflicts([place_along_k(row, chunk, False) for row in eight], 16) == 4
        assert conflicts([place_along_k(row, chunk) for row in eight], 16) == 1
    # cp.async: eight neighbouring threads bring two rows of four chunks.
    assert conflicts([place_along_k(thread // 4, thread % 4) for thread in eight], 16) == 1
    for side in (64, 128, 256):
        for chunk in range(side // 8):
            assert conflicts([place_across(row, chunk, side, 2) for row in eight], 16) == 1
        for column in range(0, side, 8):
            lanes = [(column + lane // 4, lane % 4) for lane in range(32)]
            assert conflicts([place_across(k, m // 4, side, 4) + m % 4 * 4 for m, k in lanes], 4) == 1
    check_exact_reads()


def check_exact_reads() -> None:
    """What exact_convolution.cuh says of them: half a warp's rows, or columns, lie in different banks."""
    for half in (range(16), range(16, 32)):
        rows, columns = {lane >> 1 & 1 | lane >> 3 & 2 for lane in half}, {lane & 1 | lane >> 1 & 6 for lane in half}
        for lanes, abreast in ((rows, 4), (columns, 8)):
            for number in range(8):
                for chunk in range(4):
                    places = [place_along_k(lane + number * abreast, chunk) for lane in lanes]
                    assert conflicts(places, 16) == 1
            for side in (32, 64, 128):
                for group in range(32 // 4 // abreast):
                    for k in range(16):
                        assert conflicts([place_across(k, lane + group * abreast, side, 4) for lane in lanes], 16) == 1


def banks(theme: Theme) -> Canvas:
    """The eight rows that one ldmatrix reads, without and with the exclusive-or."""
    check_memory()
    c = Canvas(theme, 9, 4.3, 90, 43)
    t = theme
    w, h, top = 4.3, 3.9, 11.5
    for left, swizzled, title in (
        (6.0, False, "rows as they come"),
        (50.0, True, "chunk c of row r at c ^ (r / 2 % 4)"),
    ):
        color = t.green if swizzled else t.red
        c.text(left + 4 * w, 2.5, title, weight="bold")
        for group in range(8):
            c.text(left + (group + 0.5) * w, top - 1.2, f"{4 * group}-{4 * group + 3}", t.faint, 7)
        c.text(left + 4 * w, top - 3.4, "banks", t.faint, 8)
        hits = Counter()
        for row in range(8):
            for chunk in range(4):
                address = place_along_k(row, chunk, swizzled)
                x, y = left + address % 128 // 16 * w, top + address // 128 * h
                wanted = chunk == 1
                c.box(
                    x, y, w, h, color if wanted else t.line, fill=0.4 if wanted else 0, linewidth=1.2 if wanted else 0.6
                )
                c.text(
                    x + w / 2,
                    y + h / 2,
                    f"{row}:{chunk}",
                    t.ink if wanted else t.faint,
                    8,
                    weight="bold" if wanted else "normal",
                )
                hits[address % 128 // 16] += wanted
        for group in range(8):
            c.text(
                left + (group + 0.5) * w,
                top + 4 * h + 1.5,
                f"{hits[group]}x",
                color if hits[group] else t.faint,
                8.5,
                weight="bold",
            )
        for line in range(4):
            c.text(left - 0.8, top + (line + 0.5) * h, f"{128 * line}", t.faint, 7, ha="right")
        words = "four rows in the same banks: four passes" if not swizzled else "every bank once: one pass"
        c.text(left + 4 * w, top + 4 * h + 4.2, words, color, 8.5)
    words = (
        "Eight rows (places along M) of a tile in shared memory, each 64 bytes. r:c is chunk c of row r: 16 bytes, "
        "four banks. Coloured: what lanes 0 to 7 address when ldmatrix reads an 8 x 8 matrix, chunk 1 of every row. A "
        "bank gives 4 bytes at a time; what meets in one must wait. It is written with the same exclusive-or: cp.async "
        "of eight neighbouring threads fills one line of 128 bytes, every bank once."
    )
    c.note(3, 34.2, words, columns=140, size=7.6)
    return c


def split_k(theme: Theme) -> Canvas:
    """A weight gradient: a long sum for few results, divided among blocks."""
    c = Canvas(theme, 9, 3.1, 90, 31)
    t = theme
    colors = (t.blue, t.orange, t.green, t.purple)
    c.text(20, 2.3, "A: gradient (filters x positions)", weight="bold")
    c.text(20, 4.7, "K → positions: 64 pictures of 52 x 52 are 173,056", t.faint, 8)
    left, top = 4.0, 6.3
    for split, color in enumerate(colors):
        x = left + split * 8
        c.box(x, top, 8, 4.2, color, fill=0.3)
        c.text(x + 4, top + 2.1, f"split {split}", t.ink, 8)
        c.box(x + 1.75, top + 6, 4.5, 6.5, color, fill=0.3)
        c.text(x + 4, top + 9.25, "×", t.ink, 11)
        c.arrow((x + 4, top + 4.4), (x + 4, top + 5.8))
    c.text(left - 1, top + 2.1, "M", t.faint, 8, ha="right")
    c.text(left - 0.3, top + 9.25, "B", t.faint, 8, ha="right")
    c.note(
        left,
        top + 13.6,
        "M x N are few results: 128 filters x 64 channels of a 1 x 1 kernel are one tile, on a GPU that could work at "
        "hundreds of them at a time.",
        columns=54,
    )
    shares = 47.0
    c.text(shares + 6, 2.3, "shares", weight="bold")
    for split, color in enumerate(colors):
        y = 5.0 + split * 4.8
        c.box(shares + 6, y, 5, 3.8, color, fill=0.3)
        c.text(shares + 5, y + 1.9, f"blocks of split {split}", t.faint, 8, ha="right")
        c.arrow((shares + 11.5, y + 1.9), (shares + 19.5, 14.1), color)
    c.text(shares + 26, 2.3, "grad_weights", weight="bold")
    c.box(shares + 20, 12, 5, 4.2, t.ink, fill=0.15)
    c.note(shares + 26, 11.6, "+= the shares in their\norder: add_shares")
    c.note(
        shares - 3,
        25.2,
        "Every share of a result is written and read once, 8 bytes: no more splits than occupy the device, and none of "
        "fewer than 256 positions.",
        columns=74,
    )
    return c


def epilogue(theme: Theme) -> Canvas:
    """From fragments to rows of the output."""
    c = Canvas(theme, 9, 3.0, 90, 30)
    t = theme
    top = 7.2
    colors = (t.blue, t.orange, t.green, t.purple)
    c.text(12, 2.4, "registers", weight="bold")
    c.text(12, 5.2, "as mma leaves them", t.faint, 8)
    w, h = 4.4, 1.9
    for row in range(8):
        for pair in range(4):
            c.box(3.2 + pair * w, top + row * h, w, h, colors[pair], fill=0.25, linewidth=0.5)
            c.text(3.2 + (pair + 0.5) * w, top + (row + 0.5) * h, str(row * 4 + pair), t.ink, 6.5)
    c.note(
        2.5,
        top + 8 * h + 0.9,
        "A lane holds pairs of neighbours: 8 bytes\nhere, 8 bytes there (rows 8 to 15 likewise).",
    )
    c.arrow((21.5, top + 4 * h), (29, top + 4 * h))
    c.text(25.2, top + 4 * h - 1.6, "float2", t.faint, 7.5)
    left = 30.0
    c.text(left + 9, 2.4, "shared memory", weight="bold")
    c.text(left + 9, 5.2, "16 rows at a time, each warp its own", t.faint, 8)
    for row in range(8):
        c.box(left, top + row * h, 18, h, t.line)
        c.box(left + 18, top + row * h, 1.6, h, t.red, fill=0.2, linewidth=0.5)
    c.note(left, top + 8 * h + 0.9, "Rows of 64 floats and 8 more (red), so that\nrows begin in different banks.")
    c.arrow((left + 20, top + 4 * h), (left + 27, top + 4 * h))
    c.text(left + 23.4, top + 4 * h - 1.6, "float4", t.faint, 7.5)
    right = 58.5
    c.text(right + 14, 2.4, "registers, then the output", weight="bold")
    c.text(right + 14, 5.2, "a lane: 16 bytes of neighbouring filters", t.faint, 8)
    for row in range(4):
        for part in range(8):
            lane = row * 8 + part
            c.box(right + part * 3.5, top + row * h, 3.5, h, colors[part % 4], fill=0.25, linewidth=0.5)
            c.text(right + (part + 0.5) * 3.5, top + (row + 0.5) * h, str(lane), t.ink, 6.5)
    c.text(right + 14, top + 4 * h + 2.3, "· scale[f] + bias[f],  activation", t.ink, 8.5)
    c.text(right + 14, top + 4 * h + 4.6, "+ residual,  activation", t.ink, 8.5)
    c.text(right + 14, top + 4 * h + 6.9, "mean and squares for batch normalisation", t.ink, 8.5)
    c.note(
        right - 0.5,
        top + 8 * h + 0.9,
        "Eight lanes write 128 bytes of a row of 16-bit\nelements at once. Bare sums never leave the chip.",
    )
    return c


def phases(theme: Theme) -> Canvas:
    """Which taps meet which pixels under a stride of 2."""
    c = Canvas(theme, 9, 3.4, 90, 34)
    t = theme
    colors = (t.blue, t.orange, t.green, t.purple)
    c.text(15, 2.3, "grad_x: pixels by phase", weight="bold")
    side, left, top = 3.1, 3.5, 5.5
    for row in range(8):
        for column in range(8):
            phase = row % 2 * 2 + column % 2
            c.box(left + column * side, top + row * side, side, side, colors[phase], fill=0.3, linewidth=0.6)
    c.text(left + 4 * side, top + 8 * side + 1.8, "phase = (row % 2, column % 2)", t.faint, 8)
    # Padding 1, size 3: a pixel y is met by tap with (y + 1 - tap) % 2 == 0.
    x0 = 36.0
    c.text(x0 + 24, 2.3, "the taps of a 3 x 3 kernel, stride 2, padding 1, that meet each phase", weight="bold")
    for phase, color in enumerate(colors):
        x, y = x0 + phase * 13, 6.0
        met = [tap for tap in range(9) if (phase // 2 + 1 - tap // 3) % 2 == 0 and (phase % 2 + 1 - tap % 3) % 2 == 0]
        for tap in range(9):
            is_met = tap in met
            c.box(
                x + tap % 3 * side,
                y + tap // 3 * side,
                side,
                side,
                color if is_met else t.line,
                fill=0.45 if is_met else 0,
                linewidth=0.8,
            )
            c.text(x + (tap % 3 + 0.5) * side, y + (tap // 3 + 0.5) * side, str(tap), t.ink if is_met else t.faint, 8)
        c.text(x + 1.5 * side, y + 3 * side + 1.8, f"({phase // 2}, {phase % 2}): K = {len(met)} · filters", color, 8.5)
    words = (
        "Each phase is a product of its own, with its own taps: 1 + 2 + 2 + 4 of them instead of four times 9. Nothing "
        "is multiplied with zeros put between the positions of the gradient. blockIdx.z says the phase."
    )
    c.note(x0, 20.2, words, columns=80)
    return c


PICTURES: dict[str, Callable[[Theme], Canvas]] = {
    "implicit-gemm": implicit_gemm,
    "tiling": tiling,
    "pipeline": pipeline,
    "banks": banks,
    "split-k": split_k,
    "epilogue": epilogue,
    "phases": phases,
}


STYLE = {"svg.hashsalt": "darkpy", "svg.fonttype": "none", "font.family": "DejaVu Sans", "savefig.transparent": True}


def draw(folder: Path) -> list[Path]:
    """All pictures in both themes; the same bytes every time from the same Matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        for name, picture in PICTURES.items():
            for theme in (LIGHT, DARK):
                canvas = picture(theme)
                path = folder / f"{name}{theme.suffix}.svg"
                canvas.figure.savefig(path, metadata={"Date": None})
                plt.close(canvas.figure)
                # Letters of the same widths are on most systems, under one of these names.
                svg = path.read_text(encoding="utf-8").replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
                path.write_text(svg, encoding="utf-8")
                written.append(path)
    return written


if __name__ == "__main__":
    matplotlib.use("Agg")
    for path in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(path)
