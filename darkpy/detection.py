"""From a picture to detections, and detections to label files, json and a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpy.boxes import DIOU_EXPONENT, Kept, NmsKind, Suppression, clip, keep
from darkpy.errors import DataError, InputError
from darkpy.files import atomic_write

if TYPE_CHECKING:
    from rich.table import Table

    from darkpy.data.pictures import Placement
    from darkpy.network import Network

HIDDEN = "dont_show"
"""Darknet's mark: a class whose name begins so is found but neither drawn nor listed."""


@dataclass(frozen=True)
class Detection:
    """An object found in a picture: its class, how probable it is, its box around the centre x, y in pixels."""

    class_id: int
    name: str
    probability: float
    x: float
    y: float
    w: float
    h: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels; parts may lie outside the picture."""
        return self.x - self.w / 2, self.y - self.h / 2, self.x + self.w / 2, self.y + self.h / 2

    @property
    def hidden(self) -> bool:
        """Whether the class's name says that it is not to be shown."""
        return self.name.startswith(HIDDEN)


def detect(
    network: Network, image_bgr: np.ndarray, thresh: float = 0.25, nms: float = 0.45, letter_box: bool = False
) -> list[Detection]:
    """Find objects in one picture, the most probable first.

    image_bgr: uint8 (h, w, 3) as from ``cv2.imread``, or grey (h, w).
    thresh: a detection has a greater probability, and its box a greater objectness.
    nms: overlap over which the less probable of two boxes of a class is dropped; 0 keeps all.
    letter_box: pad the picture to the network's shape instead of stretching it; also where the cfg says so.

    A box may be reported for several classes. Raises :class:`~darkpy.errors.InputError` for a picture or a network
    that cannot be used so.
    """
    return detect_all(network, [image_bgr], thresh, nms, letter_box)[0]


def detect_all(
    network: Network,
    images_bgr: Sequence[np.ndarray],
    thresh: float = 0.25,
    nms: float = 0.45,
    letter_box: bool = False,
) -> list[list[Detection]]:
    """Find objects in several pictures, of any sizes, with one forward pass; otherwise as :func:`detect`."""
    from darkpy.data.pictures import Placement

    check_detector(network)
    letter_box = letter_box or network.options.letter_box
    planes = [picture_planes(image, network.channels) for image in images_bgr]
    network.look_at(planes, letter_box)
    sizes = [(pixels.shape[1], pixels.shape[0]) for pixels in planes]
    places = [Placement.fit(*size, network.width, network.height, letter_box) for size in sizes]
    kept = find_kept(network, places, thresh, nms)
    return [detections(found, network.names, *size) for found, size in zip(kept, sizes)]


def check_detector(network: Network) -> None:
    """Raise :class:`~darkpy.errors.InputError` for a network that cannot detect, or not now."""
    if not detection_heads(network):
        raise InputError("the network has no detection head such as [yolo]; it finds no boxes; see darkpy classifier")
    if network.training:
        raise InputError("the network was built for training; build it without training=True to detect or evaluate")


def picture_planes(image_bgr: np.ndarray, channels: int) -> NDArray[np.uint8]:
    """A picture from OpenCV, (h, w), (h, w, 1), (h, w, 3) BGR or (h, w, 4) BGRA, as uint8 (h, w, 3) RGB or (h, w, 1).

    ``channels`` are the network's. For 3 or 1, alpha is dropped, grey becomes colour and colour grey as needed; with
    any other number the picture must have as many, and stays as it is.
    """
    import cv2

    image = np.asarray(image_bgr)
    given = 1 if image.ndim == 2 else image.shape[-1]
    if channels not in (1, 3) and image.dtype == np.uint8 and image.ndim == 3 and given == channels and image.size:
        return image
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0 or given not in (1, 3, 4):
        shape = f"{image.dtype} {tuple(image.shape)}"
        raise DataError(f"a picture is a uint8 array (height, width, 3) as cv2.imread gives it; this is {shape}")
    if channels not in (1, 3):
        raise DataError(f"the network takes {channels} channels; this picture has {given}")
    codes = {
        (1, 3): cv2.COLOR_GRAY2RGB,
        (3, 3): cv2.COLOR_BGR2RGB,
        (4, 3): cv2.COLOR_BGRA2RGB,
        (3, 1): cv2.COLOR_BGR2GRAY,
        (4, 1): cv2.COLOR_BGRA2GRAY,
    }
    code = codes.get((given, channels))
    pixels = image if code is None else cv2.cvtColor(image, code)
    return np.asarray(pixels, np.uint8).reshape(*image.shape[:2], channels)


def raw_detections(
    network: Network, image_index: int, thresh: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What the heads found in one picture of the last forward pass, before non-maximum suppression.

    Head by head, cell by cell, anchor by anchor: boxes (k, 4) relative to the network's input, objectness (k,),
    probabilities (k, classes), 0 where not over ``thresh`` (Darknet, get_network_boxes).
    """
    parts = [head.boxes(image_index, thresh) for head in detection_heads(network)]
    boxes, objectness, probabilities = (np.concatenate(column) for column in zip(*parts))
    return boxes, objectness, probabilities


def find_kept(network: Network, places: Sequence[Placement], thresh: float, nms: float) -> list[Kept]:
    """What remains after suppression in each picture of the last forward pass, which lie in the input as told.

    The kind of suppression is the last head's. The backend does it all where it can decode all heads.
    """
    heads = detection_heads(network)
    suppression = Suppression(nms, *suppression_kind(network))
    decodings = [head.decoding() for head in heads]
    if None not in decodings and len({decoding.classes for decoding in decodings}) == 1:
        shares = np.array([place.shares for place in places])
        with network.backend.running():
            outputs = [head.output for head in heads]
            return network.backend.detections(outputs, decodings, shares, thresh, suppression)
    kept = []
    for index, place in enumerate(places):
        boxes, _, probabilities = raw_detections(network, index, thresh)
        kept.append(keep(place.to_picture(boxes), probabilities, suppression))
    return kept


def detections(kept: Kept, names: Sequence[str], width: int, height: int) -> list[Detection]:
    """What remains of a picture of width x height as detections in pixels, the most probable first."""
    boxes = kept.boxes * np.array([width, height, width, height], np.float64)
    order = np.argsort(-kept.probabilities, kind="stable")
    return [
        Detection(int(c), names[c] if c < len(names) else str(c), float(p), *map(float, box))
        for c, p, box in zip(kept.class_ids[order], kept.probabilities[order], boxes[order])
    ]


def detection_heads(network: Network) -> list[Any]:
    """The heads that find boxes, in order."""
    return [head for head in network.heads if hasattr(head, "boxes")]


def suppression_kind(network: Network) -> tuple[NmsKind, float]:
    """The kind of overlap by which boxes suppress each other, and its exponent: the last head's."""
    options = detection_heads(network)[-1].options
    return getattr(options, "nms_kind", "default"), getattr(options, "beta_nms", DIOU_EXPONENT)


# Writing them down ---------------------------------------------------------------------------------------------


def save_labels(path: str | Path, found: Iterable[Detection], width: int, height: int) -> None:
    """Write a Darknet label file: a line ``class x y w h``, relative to the picture, for each box.

    A box found for several classes gets its most probable one. Boxes that no label file may hold, since they reach
    too far out of the picture, are cut at its edge, and left out if nothing remains.
    """
    best: dict[tuple[float, ...], Detection] = {}
    for detection in sorted(found, key=lambda d: -d.probability):
        best.setdefault((detection.x, detection.y, detection.w, detection.h), detection)
    scale = np.array([width, height, width, height], np.float64)
    with atomic_write(path, "w") as file:
        for box, detection in best.items():
            relative: NDArray[np.floating] = np.array(box) / scale
            if relative.min() <= 0 or relative.max() > 1:
                relative = clip(relative)
            if relative.min() > 0:
                file.write(f"{detection.class_id} " + " ".join(f"{value:.6f}" for value in relative) + "\n")


def json_frame(
    found: Iterable[Detection], width: int, height: int, frame_id: int, filename: str | Path | None = None
) -> dict[str, Any]:
    """One picture's entry in the structure of Darknet's ``-out`` file; coordinates relative to the picture."""
    entry: dict[str, Any] = {"frame_id": frame_id}
    if filename is not None:
        entry["filename"] = str(filename)
    entry["objects"] = [
        {
            "class_id": detection.class_id,
            "name": detection.name,
            "relative_coordinates": {
                "center_x": round(detection.x / width, 6),
                "center_y": round(detection.y / height, 6),
                "width": round(detection.w / width, 6),
                "height": round(detection.h / height, 6),
            },
            "confidence": round(detection.probability, 6),
        }
        for detection in found
        if not detection.hidden
    ]
    return entry


def to_json(frames: Sequence[dict[str, Any]]) -> str:
    """Entries of :func:`json_frame` as the text of a json file, one object a line as Darknet writes them."""
    texts = []
    for frame in frames:
        head = json.dumps({key: value for key, value in frame.items() if key != "objects"}, ensure_ascii=False)
        objects = ",\n".join("  " + json.dumps(found, ensure_ascii=False) for found in frame["objects"])
        texts.append(f'{head[:-1]}, "objects": [\n{objects}\n]}}' if objects else f'{head[:-1]}, "objects": []}}')
    return "[\n" + ",\n".join(texts) + "\n]\n"


def detection_table(found: Iterable[Detection], title: str | None = None) -> Table:
    """Detections as a table for the console: class, probability, and the box's left, top, width, height in pixels."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title and escape(title), title_justify="left", box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    for header in ("probability", "left", "top", "width", "height"):
        table.add_column(header, justify="right")
    for detection in found:
        if not detection.hidden:
            left, top, _, _ = detection.corners
            box = (f"{value:.0f}" for value in (left, top, detection.w, detection.h))
            table.add_row(escape(detection.name), f"{100 * detection.probability:.1f} %", *box)
    return table
