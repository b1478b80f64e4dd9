"""Anchors: box shapes that between them come near to every object of a data set."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpy.data.dataset import Dataset
from darkpy.data.pictures import Placement, picture_size
from darkpy.data.workers import ANCHORS, generator, in_background, thread_count
from darkpy.errors import DataError, InputError

Floats = NDArray[np.float64]

RESTARTS = 10
"""Times the search begins anew; the best result counts."""

_MOST_ROUNDS = 300
_MOST_BOXES = 20_000  # shapes the search looks at; of more, a sample


def box_shapes(
    dataset: Dataset,
    width: int,
    height: int,
    letter_box: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """Width and height (n, 2) of all objects in pixels of a network's input of ``width`` x ``height``.

    Difficult objects, from which nothing is learned, are left out. With ``letter_box`` pictures are padded to the
    input's shape, for which their sizes must be read.

    Raises:
        DataError: there is no object.
    """
    parts: list[Floats] = []
    with ThreadPoolExecutor(thread_count()) as pool:
        shapes = in_background(pool, _ShapesOf(dataset, width, height, letter_box), range(len(dataset)), ahead=32)
        for index, found in enumerate(shapes):
            parts.append(found)
            if progress is not None:
                progress(index + 1, len(dataset))
    shapes_of_all = np.concatenate([np.empty((0, 2)), *parts])
    if not len(shapes_of_all):
        raise DataError("has no objects: there is nothing to fit anchors to", where=dataset.name)
    return shapes_of_all


@dataclass(frozen=True)
class _ShapesOf:
    """The shapes in one picture."""

    dataset: Dataset
    width: int
    height: int
    letter_box: bool

    def __call__(self, index: int) -> Floats:
        labels = self.dataset.labels(index)
        boxes = labels.boxes[~labels.difficult, 1:]
        size = None
        if self.letter_box and len(boxes):
            size = self.dataset.declared_size(index) or _picture_size(self.dataset.pictures[index])
            if size is None:
                return np.empty((0, 2))  # a picture that cannot be read teaches nothing
        return input_shapes(boxes, self.width, self.height, size)


def _picture_size(path: Path) -> tuple[int, int] | None:
    try:
        return picture_size(path)
    except DataError:
        return None


def input_shapes(boxes: NDArray[np.float32], width: int, height: int, padded: tuple[int, int] | None) -> Floats:
    """Width and height (n, 2), in pixels of a network's input, of boxes (n, 4) relative to a picture.

    padded: the picture's size where it is padded to the input's shape; None where it is stretched.
    """
    if padded is not None:
        boxes = np.asarray(Placement.fit(*padded, width, height, True).to_input(boxes), np.float32)
    return boxes[:, 2:].astype(np.float64) * [width, height]


def overlaps(shapes: Floats, anchors: Floats) -> Floats:
    """(n, k): IoU of every shape (n, 2) with every anchor (k, 2) where both have the same centre."""
    common = np.minimum(shapes[:, None], anchors[None]).prod(axis=2)
    return common / (shapes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - common)


@dataclass(frozen=True)
class Coverage:
    """How near anchors come to the objects.

    mean_iou: of each object with its best anchor, on the average. covered: share of the objects with an IoU of at
    least one half. shares: of the objects, those each anchor is the best for.
    """

    mean_iou: float
    covered: float
    shares: tuple[float, ...]

    def text(self) -> str:
        """One line, with the word of Darknet's calc_anchors."""
        return f"avg IoU = {100 * self.mean_iou:.2f} %   {100 * self.covered:.1f} % of the objects above 50 %"


def coverage(shapes: Floats, anchors: Floats) -> Coverage:
    """How near the anchors (k, 2) come to the shapes (n, 2) of the objects."""
    overlap = overlaps(shapes, anchors)
    best = overlap.max(axis=1)
    counts = np.bincount(overlap.argmax(axis=1), minlength=len(anchors))
    return Coverage(float(best.mean()), float((best >= 0.5).mean()), tuple((counts / len(shapes)).tolist()))


def find_anchors(shapes: Floats, count: int, seed: int = 0, restarts: int = RESTARTS) -> Floats:
    """Anchors (count, 2) with the greatest mean IoU found, from the smallest to the largest area.

    k-means with the distance 1 - IoU (J. Redmon, A. Farhadi, "YOLO9000", 2016), begun ``restarts`` times from centres
    far from each other (D. Arthur, S. Vassilvitskii, "k-means++", 2007); a centre is the median of its shapes, which
    fits better than their mean, the one Darknet takes. The same seed gives the same anchors.

    Raises:
        InputError: there are fewer different shapes than anchors.
    """
    if count < 1:
        raise InputError(f"{count} anchors: at least 1 is needed")
    different = len(np.unique(shapes, axis=0))
    if different < count:
        raise InputError(f"the objects have {different} different shapes, too few for {count} anchors")
    found: list[tuple[float, Floats]] = []
    for restart in range(restarts):
        random = generator(seed, ANCHORS, restart)
        sample = shapes if len(shapes) <= _MOST_BOXES else random.choice(shapes, _MOST_BOXES, replace=False)
        anchors = _k_means(sample, _far_apart(sample, count, random))
        found.append((coverage(shapes, anchors).mean_iou, anchors))
    _, best = max(found, key=lambda pair: pair[0])
    return best[np.argsort(best.prod(axis=1), kind="stable")]


def _far_apart(shapes: Floats, count: int, random: np.random.Generator) -> Floats:
    """Shapes to begin with, each the likelier the farther it is from those before it."""
    centres = shapes[random.integers(len(shapes), size=1)]
    for _ in range(count - 1):
        distance = (1 - overlaps(shapes, centres).max(axis=1)) ** 2
        total = distance.sum()
        place = random.choice(len(shapes), p=distance / total) if total > 0 else random.integers(len(shapes))
        centres = np.append(centres, shapes[place, None], axis=0)
    return centres


def _k_means(shapes: Floats, centres: Floats) -> Floats:
    belongs: NDArray[np.intp] | None = None
    for _ in range(_MOST_ROUNDS):
        overlap = overlaps(shapes, centres)
        nearest = overlap.argmax(axis=1)
        if belongs is not None and (nearest == belongs).all():
            break
        belongs = nearest
        # A centre that nothing is near to takes the shape that is farthest from all.
        lonely = shapes[overlap.max(axis=1).argmin()]
        centres = np.array(
            [np.median(shapes[nearest == k], axis=0) if (nearest == k).any() else lonely for k in range(len(centres))]
        )
    return centres


def anchors_text(anchors: Floats, decimals: int = 0) -> str:
    """Anchors as a cfg has them: ``10,14, 23,27``."""
    return ", ".join(f"{width:.{decimals}f},{height:.{decimals}f}" for width, height in anchors)


def draw_anchors(shapes: Floats, anchors: Floats, width: int, height: int, title: str, path: str | Path) -> None:
    """Draw the shapes of the objects, and the anchors over them, into a png file."""
    from darkpy.data.figures import finish, new_figure

    figure = new_figure(title, 7.5, 7.5)
    axes = figure.add_subplot()
    draw_shapes(axes, shapes, anchors, width, height)
    finish(figure, path)


def draw_shapes(axes: Any, shapes: Floats, anchors: Floats | None, width: int, height: int) -> None:
    """A dot for each object, a rectangle for each anchor; both axes are logarithmic, as sizes are compared."""
    from darkpy.data.figures import INK, MAIN, SECOND, style

    opacity = float(np.clip(500 / max(len(shapes), 1), 0.1, 0.5))
    axes.scatter(shapes[:, 0], shapes[:, 1], s=7, color=MAIN, alpha=opacity, linewidths=0)
    if anchors is not None:
        axes.scatter(anchors[:, 0], anchors[:, 1], s=60, marker="s", color=SECOND, edgecolors="white", zorder=3)
        for w, h in anchors:
            axes.annotate(f"{w:.0f}x{h:.0f}", (w, h), xytext=(6, 5), textcoords="offset points", fontsize=8, color=INK)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    least = max(0.5, 0.8 * float(np.min(shapes)) if len(shapes) else 1)
    axes.set_xlim(least, 1.15 * width)
    axes.set_ylim(least, 1.15 * height)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"width in pixels, of {width}", color=INK)
    axes.set_ylabel(f"height in pixels, of {height}", color=INK)
    style(axes)
    axes.grid(visible=True, which="major", color="#d9d9d9", linewidth=0.6)
