"""From a picture to the classes it may show, and these to json and a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpy.backends.base_heads import ClassTree, class_tree
from darkpy.errors import ConfigError, DataError, InputError, Problem
from darkpy.views import MIDDLE, View, centre_input

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.layers.base import Layer
    from darkpy.network import Network

BAR = 20
"""Columns of the bar that shows a probability of 1."""


@dataclass(frozen=True)
class ClassProbability:
    """A class that a picture may show, and how probable that is. ``parent`` is the class above in a hierarchy."""

    class_id: int
    name: str
    probability: float
    parent: str | None = None


@dataclass(frozen=True)
class ScoredPicture:
    """A picture of a list, its size in pixels, and the scores (classes,) it got; or what is wrong with it."""

    index: int
    width: int = 0
    height: int = 0
    scores: NDArray[np.float32] | None = None
    problem: Problem | None = None


def classify(network: Network, image_bgr: np.ndarray, top: int = 5) -> list[ClassProbability]:
    """The ``top`` classes a picture may show, the most probable first.

    image_bgr: uint8 (h, w, 3) as from ``cv2.imread``, or grey (h, w). Looked at is the square in its middle, see
    :func:`~darkpy.views.centre_input`. Raises :class:`~darkpy.errors.InputError` for a picture or a network that cannot
    be used so.
    """
    from darkpy.detection import picture_planes

    check_classifier(network)
    pixels = picture_planes(image_bgr, network.channels)
    network.run(centre_input(pixels, network.width, network.height))
    return best_classes(network, class_scores(network)[0], top)


def output_layer(network: Network) -> Layer:
    """The layer whose output has a value for each class: the last one but [cost], which has none of its own."""
    return next((layer for layer in reversed(network.layers) if layer.name != "cost"), network.layers[-1])


def check_classifier(network: Network) -> None:
    """Raise :class:`~darkpy.errors.InputError` for a network that cannot classify, or not now."""
    detecting = next((head for head in network.heads if hasattr(head, "boxes")), None)
    if detecting is not None:
        raise ConfigError(
            f"has [{detecting.name}]: it is a detector; see darkpy detector and darkpy detect",
            where=network.config.path,
        )
    if network.training:
        raise InputError("the network was built for training; build it without training=True to classify or evaluate")


def check_classes(network: Network, classes: int, data: str) -> None:
    """Raise :class:`~darkpy.errors.ConfigError` if the network does not tell so many classes apart."""
    layer = output_layer(network)
    if layer.outputs == classes:
        return
    channels, height, width = layer.output_shape or (0, 0, 0)
    if channels == classes:
        hint = f"it gives {height}x{width} values for each; put an [avgpool] before it"
    else:
        hint = f"the network tells {layer.outputs:,} apart; change filters= (or output=) of the last layer with weights"
    raise ConfigError(f"[{layer.section.name}] {data} has {classes:,} classes, {hint}", where=layer.where())


def hierarchy(network: Network) -> ClassTree:
    """The tree of the network's classes; one without any where they exclude each other."""
    return getattr(output_layer(network), "tree", class_tree())


def class_scores(network: Network) -> NDArray[np.float32]:
    """Scores (n, classes) of the last forward pass: probabilities, if the last layer makes such.

    In a hierarchy a class is as probable as its parent times its share of it (Darknet, hierarchy_predictions).
    """
    output = np.asarray(network.backend.to_host(network.output), np.float32)
    scores = output.reshape(len(output), -1).copy()
    for class_id, parent in enumerate(hierarchy(network).parents):
        if parent >= 0:
            scores[:, class_id] *= scores[:, parent]
    return scores


def only_leaves(network: Network, scores: NDArray[np.float32], leaves: Sequence[int] | None = None) -> None:
    """Set the scores (n, classes) of classes that are no final answer to -1: in a hierarchy, those with others below.

    ``leaves``: the classes that are, if it is not those at the bottom (Darknet, change_leaves).
    """
    parents = hierarchy(network).parents
    if leaves is None and not len(parents):
        return
    above = np.ones(scores.shape[1], np.bool_)
    above[np.setdiff1d(np.arange(scores.shape[1]), parents) if leaves is None else list(leaves)] = False
    scores[:, above] = -1


def ranking(scores: NDArray[np.float32], top: int) -> NDArray[np.int64]:
    """The ``top`` classes (n, top) with the highest scores (n, classes), the first of equals first, NaN last."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :top]


def best_classes(network: Network, scores: NDArray[np.float32], top: int) -> list[ClassProbability]:
    """The ``top`` classes of one picture's scores (classes,), the most probable first.

    Raises :class:`~darkpy.errors.DataError` if they are not all numbers.
    """
    if not np.isfinite(scores).all():
        raise DataError("the network's output is not a number; are these the right weights?")
    parents = hierarchy(network).parents
    found = []
    for class_id in ranking(scores[np.newaxis], top)[0].tolist():
        above = int(parents[class_id]) if len(parents) else -1
        parent = network.names[above] if above >= 0 else None
        found.append(ClassProbability(class_id, network.names[class_id], float(scores[class_id]), parent))
    return found


def score_pictures(
    network: Network, pictures: Sequence[Path], batch: int, threads: int | None = None, view: View = MIDDLE
) -> Iterator[ScoredPicture]:
    """The scores of pictures, in their order, computed ``batch`` at a time; view: what of them is looked at.

    They are decoded by background threads (by default as many as suit the machine) ahead of the network. One that
    cannot be read has a problem instead of scores. Raises :class:`~darkpy.errors.ConfigError` for a network that
    cannot take other sizes, if it has to.
    """
    from darkpy.data.workers import in_background, thread_count

    threads = threads or thread_count()
    numbered = list(enumerate(pictures))
    with ThreadPoolExecutor(threads, thread_name_prefix="darkpy-decode") as pool:
        # The network's size may change while pictures are being decoded.
        load = partial(_load, network.channels, network.width, network.height, view)
        loaded = in_background(pool, load, numbered, ahead=batch + threads)
        while samples := list(islice(loaded, max(batch // view.count, 1))):
            readable = [pixels for _, pixels in samples if pixels is not None]
            scores = iter(_scores_of_sizes(network, readable) if view.scales else _scores_of_views(network, readable))
            for sample, pixels in samples:
                found = None if pixels is None else next(scores)
                yield ScoredPicture(sample.index, sample.width, sample.height, found, sample.problem)


def _load(
    channels: int, width: int, height: int, view: View, numbered: tuple[int, Path]
) -> tuple[ScoredPicture, list[NDArray[np.float32]] | None]:
    from darkpy.data.pictures import read_picture

    index, path = numbered
    try:
        image = read_picture(path, channels)
    except DataError as error:
        return ScoredPicture(index, problem=error.problems[0]), None
    return ScoredPicture(index, image.shape[1], image.shape[0]), view.inputs(image, width, height)


def _scores_of_views(network: Network, readable: Sequence[list[NDArray[np.float32]]]) -> NDArray[np.float32]:
    """The mean scores (n, classes) of pictures that are each one array (views, channels, height, width)."""
    if not readable:
        return np.zeros((0, output_layer(network).outputs), np.float32)
    scores = _forward(network, np.concatenate([pixels for (pixels,) in readable]))
    return scores.reshape(len(readable), -1, scores.shape[1]).mean(axis=1)


def _scores_of_sizes(network: Network, readable: Sequence[list[NDArray[np.float32]]]) -> Iterator[NDArray[np.float32]]:
    """The mean scores (classes,) of each picture, whose arrays have sizes of their own; the network keeps its size."""
    width, height = network.width, network.height
    try:
        for arrays in readable:
            scores = []
            for pixels in arrays:
                network.resize(pixels.shape[3], pixels.shape[2])
                scores.append(_forward(network, pixels))
            yield np.concatenate(scores).mean(axis=0)
    finally:
        network.resize(width, height)


def _forward(network: Network, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    # Untrained or broken weights are told by what comes out, not by warnings on the way.
    with np.errstate(all="ignore"):
        network.run(pixels)
    return class_scores(network)


# What is shown and written -----------------------------------------------------------------------------------------


def class_table(found: Iterable[ClassProbability]) -> Table:
    """The classes of one picture with their probabilities in per cent, and bars."""
    from rich.markup import escape
    from rich.table import Table

    found = list(found)
    in_hierarchy = any(one.parent is not None for one in found)
    table = Table(box=None, pad_edge=False, show_header=in_hierarchy)
    table.add_column("%", justify="right")
    table.add_column("class", style="bold", overflow="fold")
    if in_hierarchy:
        table.add_column("is a kind of")
    table.add_column("")
    for one in found:
        parent = [escape(one.parent or "")] if in_hierarchy else []
        table.add_row(f"{100 * one.probability:.2f} %", escape(one.name), *parent, _bar(one.probability))
    return table


def _bar(share: float) -> str:
    return "━" * round(BAR * min(max(share, 0.0), 1.0))


def picture_table(rows: Iterable[tuple[str, Sequence[ClassProbability]]], top: int) -> Table:
    """A row for each of several pictures: its best classes, each with its probability in per cent."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("picture", overflow="fold")
    for place in range(top):
        table.add_column("class" if place == 0 else "", style="bold" if place == 0 else "", overflow="fold")
        table.add_column("%", justify="right")
    for path, found in rows:
        cells = ((escape(one.name), f"{100 * one.probability:.2f}") for one in found)
        table.add_row(escape(path), *(cell for pair in cells for cell in pair))
    return table


def json_frame(path: Path, width: int, height: int, found: Iterable[ClassProbability]) -> dict[str, Any]:
    """One picture for :func:`to_json`."""
    classes = [{key: value for key, value in asdict(one).items() if value is not None} for one in found]
    return {"filename": str(path), "width": width, "height": height, "classes": classes}


def to_json(frames: Iterable[dict[str, Any]]) -> str:
    """All pictures as json, one a line."""
    lines = (json.dumps(frame, ensure_ascii=False) for frame in frames)
    return "[\n" + ",\n".join(lines) + "\n]\n"
