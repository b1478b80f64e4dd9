"""Running a detector over a data set and comparing it with the truth."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from darkpy.data.pictures import network_input, read_picture
from darkpy.detection import check_detector, find_boxes
from darkpy.errors import ConfigError, DataError, InputError, Problem
from darkpy.evaluation.matching import Predictions, Truths
from darkpy.evaluation.report import Evaluation, assess, check_options

if TYPE_CHECKING:
    from darkpy.data.dataset import Dataset, Labels
    from darkpy.network import Network

RANKING_THRESH = 0.005
"""Probability from which detections are ranked for the average precision, as in Darknet."""

MOST_PER_PICTURE = 10_000
"""Detections ranked per picture. A trained network is far below; an untrained one would fill the memory."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Sample:
    """A picture ready for the network, or what is wrong with it."""

    index: int
    labels: Labels
    pixels: NDArray[np.float32] | None = None
    width: int = 0
    height: int = 0
    problem: Problem | None = None


def evaluate(
    network: Network,
    dataset: Dataset,
    *,
    thresh: float = 0.25,
    iou_thresh: float = 0.5,
    points: int = 0,
    letter_box: bool = False,
    nms: float = 0.45,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Detect on every picture of a data set and measure how well that fits the truth (Darknet's ``detector map``).

    thresh: probability over which detections count for precision, recall, F1 and average IoU. The average precision
    ranks all those over 0.005.
    iou_thresh: a detection has found an object of its class if their IoU is greater.
    points: see :func:`~darkpy.evaluation.average_precision.average_precision`.
    letter_box: pad pictures instead of stretching them; also where the cfg says so.
    nms: overlap for non-maximum suppression, 0 for none.
    batch: pictures per forward pass, the network's by default. It does not change the result.
    progress: called with (pictures done, pictures in all).

    Pictures are decoded in background threads. One that cannot be read, or whose labels cannot, is left out, and the
    result's ``skipped`` says why. Raises :class:`~darkpy.errors.InputError` for options, a network or a data set that
    cannot be used.

    The numbers are Darknet's, but for these defects of validate_detector_map: its ``-letter_box`` flag has no effect,
    only the cfg's key has; a detection of a difficult object counts as wrong at ``thresh``, although the ranking
    leaves it out; among several detections of one object, the one that counts at ``thresh`` is not the most probable
    but the first in an order left over from sorting by other classes, even if it is below ``thresh``, so that a right
    one may count as wrong, and the average IoU takes another one's; without any detection it reads outside its arrays.
    """
    check_options(thresh, iou_thresh, points)
    check_detector(network)
    if dataset.classes != network.classes:
        raise ConfigError(
            f"the data set has {dataset.classes} classes and the network {network.classes}: "
            f"set classes= of its heads (and filters= before them), or take another data set"
        )
    size = network.batch if batch is None else batch
    if size < 1:
        raise InputError(f"batch={size}: needs at least one picture")
    letter_box = letter_box or network.options.letter_box
    claims: list[Predictions] = []
    used: list[_Sample] = []
    skipped: list[Problem] = []
    total = len(dataset)
    load = partial(_load, dataset, network, letter_box)
    threads = min(os.cpu_count() or 1, 8)
    with ThreadPoolExecutor(threads, thread_name_prefix="darkpy-decode") as pool:
        loaded = _in_background(pool, load, range(total), ahead=size + threads)
        while samples := list(islice(loaded, size)):
            readable = [sample for sample in samples if sample.pixels is not None]
            claims += _detect(network, readable, nms, letter_box)
            used += [replace(sample, pixels=None) for sample in readable]
            skipped += [sample.problem for sample in samples if sample.problem is not None]
            if progress is not None:
                progress(len(used) + len(skipped), total)
    return assess(
        Predictions.concatenate(claims),
        Truths.concatenate(
            [sample.index for sample in used],
            [sample.labels.boxes for sample in used],
            [sample.labels.difficult for sample in used],
        ),
        dataset.names,
        pictures=len(used),
        thresh=thresh,
        iou_thresh=iou_thresh,
        points=points,
        skipped=skipped,
    )


def _load(dataset: Dataset, network: Network, letter_box: bool, index: int) -> _Sample:
    labels = dataset.labels(index)
    if not labels.usable:
        return _Sample(index, labels, problem=labels.problems[-1])
    try:
        image = read_picture(dataset.pictures[index], network.channels)
    except DataError as error:
        return _Sample(index, labels, problem=error.problems[0])
    pixels = network_input(image, network.width, network.height, letter_box)
    return _Sample(index, labels, pixels, image.shape[1], image.shape[0])


def _detect(network: Network, samples: Sequence[_Sample], nms: float, letter_box: bool) -> list[Predictions]:
    if not samples:
        return []
    network.forward(np.concatenate([sample.pixels for sample in samples if sample.pixels is not None]))
    claims = []
    for place, sample in enumerate(samples):
        size = sample.width, sample.height
        boxes, probabilities = find_boxes(network, place, *size, RANKING_THRESH, nms, letter_box)
        claims.append(Predictions.of_picture(sample.index, boxes, probabilities, MOST_PER_PICTURE))
    return claims


def _in_background(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """Results in the order of the items, up to ``ahead`` of them computed before they are asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
