"""Running a detector over all pictures of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpy.boxes import Kept, Suppression, keep
from darkpy.data.dataset import Labels
from darkpy.data.pictures import Placement, network_input, read_picture
from darkpy.data.workers import in_background, thread_count
from darkpy.detection import check_detector, detection_heads, find_kept, raw_detections, suppression_kind
from darkpy.errors import ConfigError, DataError, InputError, Problem

if TYPE_CHECKING:
    from darkpy.data.dataset import Dataset
    from darkpy.network import Network


class Found(NamedTuple):
    """All boxes of a picture before suppression.

    boxes: (k, 4) x y w h, relative. objectness: (k,). probabilities: (k, classes), 0 where not over the threshold.
    """

    boxes: NDArray[np.float32]
    objectness: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    def in_picture(self, place: Placement) -> Found:
        """Boxes relative to the input, made relative to the picture in it."""
        return self._replace(boxes=place.to_picture(self.boxes))


@dataclass(frozen=True, eq=False)
class Looked:
    """A picture of a data set and what is found in it.

    index: of the picture in the data set. width, height: its size in pixels. found: all boxes, or kept: what remains
    after suppression, whichever was asked for, relative to the picture; None if the picture or its labels could not be
    read, and ``problem`` says why.
    """

    index: int
    labels: Labels
    width: int = 0
    height: int = 0
    found: Found | None = None
    kept: Kept | None = None
    problem: Problem | None = None


@dataclass(frozen=True, eq=False)
class _Sample:
    """A picture ready for the network, float32 (1, channels, height, width), or uint8 (h, w, channels) as it is."""

    picture: Looked
    pixels: NDArray[np.float32] | NDArray[np.uint8] | None = None


def sweep(
    network: Network,
    dataset: Dataset,
    *,
    thresh: float,
    nms: float | None = None,
    batch: int | None = None,
    letter_box: bool = False,
    tta: bool = False,
    labelled: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Looked]:
    """What a detector finds in each picture of a data set, in their order.

    thresh: least objectness and probability.
    nms: overlap for non-maximum suppression, 0 for none, which gives ``kept``; None leaves all boxes in ``found``.
    batch: pictures per forward pass, the network's by default. It does not change the result.
    letter_box: pad pictures instead of stretching them; also where the cfg says so.
    tta: look at the mirror image of each picture too, and take the mean of what each cell and anchor says.
    labelled: read the labels too; a picture whose labels cannot be read has a problem then.
    progress: called with (pictures done, pictures in all) after each batch.

    Pictures are decoded in background threads. Raises :class:`~darkpy.errors.InputError` for a network or a batch
    that cannot be used.
    """
    check(network, dataset, batch)
    letter_box = letter_box or network.options.letter_box
    # A recurrent network takes the pictures for the frames of a film, as Darknet's validate_detector_map does.
    is_film = bool(network.memories())
    if is_film and tta:
        raise InputError("a recurrent network remembers what it saw before; it cannot look at mirror images in between")
    size = 1 if is_film else batch or network.batch
    network.reset_state()
    # The device resizes pictures if it can, but not for mirror images.
    load = partial(_load, dataset, network, letter_box, labelled, network.fits_pictures and not tta)
    threads = thread_count()
    done = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="darkpy-decode") as pool:
        loaded = in_background(pool, load, range(len(dataset)), ahead=size + threads)
        while samples := list(islice(loaded, size)):
            yield from _look(network, samples, thresh, nms, letter_box, tta)
            done += len(samples)
            if progress is not None:
                progress(done, len(dataset))


def check(network: Network, dataset: Dataset, batch: int | None) -> None:
    """Raise :class:`~darkpy.errors.InputError` unless the network is a detector for the classes of the data set."""
    check_detector(network)
    if dataset.classes != network.classes:
        raise ConfigError(
            f"the data set has {dataset.classes} classes and the network {network.classes}: "
            f"set classes= of its heads (and filters= before them), or take another data set"
        )
    if batch is not None and batch < 1:
        raise InputError(f"batch={batch}: needs at least one picture")


_UNKNOWN = Labels(np.empty((0, 5), np.float32), np.empty(0, np.bool_))


def _load(
    dataset: Dataset, network: Network, letter_box: bool, labelled: bool, as_it_is: bool, index: int
) -> _Sample:
    labels = dataset.labels(index) if labelled else _UNKNOWN
    if not labels.usable:
        return _Sample(Looked(index, labels, problem=labels.problems[-1]))
    try:
        image = read_picture(dataset.pictures[index], network.channels)
    except DataError as error:
        return _Sample(Looked(index, labels, problem=error.problems[0]))
    pixels = image if as_it_is else network_input(image, network.width, network.height, letter_box)
    return _Sample(Looked(index, labels, image.shape[1], image.shape[0]), pixels)


def _look(
    network: Network, samples: Sequence[_Sample], thresh: float, nms: float | None, letter_box: bool, tta: bool
) -> Iterator[Looked]:
    """The pictures of the samples, in their order, with what is found in those that could be read."""
    usable = [sample for sample in samples if sample.pixels is not None]
    sizes = [(sample.picture.width, sample.picture.height) for sample in usable]
    places = [Placement.fit(*size, network.width, network.height, letter_box) for size in sizes]
    inputs = [sample.pixels for sample in usable if sample.pixels is not None]
    if not usable:
        looked: list[Looked] = []
    elif nms is None or tta:
        all_boxes = _detect_twice(network, inputs, thresh) if tta else _detect(network, inputs, thresh, letter_box)
        found = [one.in_picture(place) for one, place in zip(all_boxes, places)]
        looked = [replace(sample.picture, found=one) for sample, one in zip(usable, found)]
        if nms is not None:
            looked = [_suppressed(network, one, nms) for one in looked]
    else:
        _forward(network, inputs, letter_box)
        kept = find_kept(network, places, thresh, nms)
        looked = [replace(sample.picture, kept=one) for sample, one in zip(usable, kept)]
    following = iter(looked)
    return (sample.picture if sample.pixels is None else next(following) for sample in samples)


def _suppressed(network: Network, looked: Looked, nms: float) -> Looked:
    """The picture with what remains of all that was found."""
    assert looked.found is not None
    suppression = Suppression(nms, *suppression_kind(network))
    return replace(looked, found=None, kept=keep(looked.found.boxes, looked.found.probabilities, suppression))


def _forward(network: Network, pixels: Sequence[NDArray[Any]], letter_box: bool) -> None:
    if network.fits_pictures:
        network.look_at(pixels, letter_box)
    else:
        network.run(np.concatenate(pixels))


def _detect(network: Network, pixels: Sequence[NDArray[Any]], thresh: float, letter_box: bool) -> list[Found]:
    """What is found in each picture; boxes are relative to the input."""
    _forward(network, pixels, letter_box)
    return _found(network, len(pixels), thresh)


def _detect_twice(network: Network, pixels: Sequence[NDArray[Any]], thresh: float) -> list[Found]:
    """The same of inputs and their mirror images."""
    inputs = np.concatenate(pixels)
    everything = -1.0  # as a threshold: what one of the two does not see counts too
    network.run(inputs)
    found = _found(network, len(inputs), everything)
    network.run(np.ascontiguousarray(inputs[..., ::-1]))
    mirrored = _found(network, len(inputs), everything)
    order = _mirrored_cells(network)
    return [_mean(one, other, order, thresh) for one, other in zip(found, mirrored)]


def _found(network: Network, count: int, thresh: float) -> list[Found]:
    return [Found(*raw_detections(network, place, thresh)) for place in range(count)]


def _mirrored_cells(network: Network) -> NDArray[np.intp]:
    """For each box of all heads the one of the cell that is in its place in the mirror image."""
    parts: list[NDArray[np.intp]] = []
    for head in detection_heads(network):
        rows, columns = head.grid
        count = len(head.boxes(0, -1.0)[0])
        cells = sum(map(len, parts)) + np.arange(count).reshape(rows, columns, -1)
        parts.append(cells[:, ::-1].reshape(-1))
    return np.concatenate(parts)


def _mean(found: Found, mirrored: Found, order: NDArray[np.intp], thresh: float) -> Found:
    """What both say on the average, over the threshold (Darknet's first version, avg_flipped_yolo, averages too)."""
    boxes = mirrored.boxes.copy()
    boxes[:, 0] = 1 - boxes[:, 0]
    half = np.float32(0.5)
    boxes = half * (found.boxes + boxes[order])
    objectness = half * (found.objectness + mirrored.objectness[order])
    probabilities = half * (found.probabilities + mirrored.probabilities[order])
    probabilities[probabilities <= thresh] = 0
    kept = objectness > thresh
    return Found(boxes[kept], objectness[kept], probabilities[kept])
