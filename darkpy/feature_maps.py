"""What a layer makes of a picture: its output channels as a sheet of small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.data.pictures import network_input, read_picture
from darkpy.drawing import write
from darkpy.errors import InputError
from darkpy.files import atomic_write
from darkpy.network import Network

SHEET_WIDTH = 1600
"""About how wide a sheet is, in pixels."""
SMALLEST, LARGEST = 24, 320
"""Sides of a tile in pixels; between them, what fills the sheet."""
GAP, CAPTION, TITLE = 4, 16, 32
LETTERS, TITLE_LETTERS = 11, 15
"""Heights of the writing in pixels."""
READABLE = 90
"""Side of a tile that is wide enough for a caption."""
PAPER, CONSTANT = (255, 255, 255), (200, 200, 200)


@dataclass(frozen=True)
class Drawn:
    """What was drawn: the layer in words, how many maps, and how many of them have the same value everywhere."""

    title: str
    maps: int
    constant: int


def draw(
    cfg: str | Path,
    weights: str | Path,
    picture: str | Path,
    layer: int,
    out: str | Path,
    *,
    letter_box: bool = False,
    names: Sequence[str] | None = None,
    device: str = "cpu",
    precision: str = "fp32",
) -> Drawn:
    """Write the sheet of a layer, for a picture file, as a PNG file.

    names: of the classes, for the channels of a head; by default their numbers. A negative ``layer`` counts back from
    the last one. Raises :class:`~darkpy.errors.InputError` for a layer that is not there, and for files that cannot be
    used.
    """
    network = Network.from_cfg(cfg, weights, keep_outputs=True, device=device, precision=precision)
    image = read_picture(picture, network.channels)
    x = network_input(image, network.width, network.height, letter_box or network.options.letter_box)
    maps = feature_maps(network, x, layer)
    chosen = network.layers[layer]
    channels, height, width = maps.shape
    title = f"layer {chosen.index} {chosen.name} {chosen.describe()}  {width}x{height}x{channels}"
    captions = chosen.channel_names(names or [f"class {number}" for number in range(network.classes)])
    with atomic_write(out) as file:
        file.write(cv2.imencode(".png", sheet(maps, x[0], title, captions))[1].tobytes())
    return Drawn(title, channels, _constant(maps))


def feature_maps(network: Network, x: NDArray[np.float32], layer: int) -> NDArray[np.float32]:
    """The output (channels, height, width) of a layer for a picture as it goes in, (1, channels, height, width).

    The network must keep the outputs of all layers (``keep_outputs``).
    """
    count = len(network.layers)
    if not -count <= layer < count:
        raise InputError(f"layer {layer}: {network.config.path} has the layers 0 to {count - 1}, or -{count} to -1")
    network.forward(x)
    return np.array(network.backend.to_host(network.layers[layer].output)[0], np.float32)


def sheet(
    maps: NDArray[np.float32], picture: NDArray[np.float32], title: str, captions: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """A BGR picture of all maps (n, h, w), the picture itself (1 or 3, h, w; RGB in 0..1) before them, a title above.

    Each map has colours of its own from its smallest value, dark, to its largest, bright, which are written below it
    where there is room; maps of one value each are coloured by a common scale. A constant map is grey. captions: what
    each map stands for, for a line of its own.
    """
    columns = math.ceil(math.sqrt(len(maps) + 1))
    side = max(SMALLEST, min(LARGEST, SHEET_WIDTH // columns - GAP))
    height, width = maps.shape[1:]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    caption = (CAPTION * (2 if captions else 1)) if side >= READABLE else 0
    step_x, step_y = size[0] + GAP, size[1] + GAP + caption
    rows = -(-(len(maps) + 1) // columns)
    canvas = np.full((TITLE + rows * step_y + GAP, max(columns * step_x + GAP, 9 * len(title)), 3), PAPER, np.uint8)
    write(canvas, title, GAP, (TITLE - TITLE_LETTERS) // 2 - 1, TITLE_LETTERS)
    tiles = [(_resized(_bgr(picture), size), "picture"), *_tiles(maps, size)]
    for number, (tile, text) in enumerate(tiles):
        top, left = TITLE + number // columns * step_y, GAP + number % columns * step_x
        canvas[top : top + size[1], left : left + size[0]] = tile
        if caption:
            named = [captions[number - 1]] if captions and number else []
            for line, words in enumerate((*named, text)):
                write(canvas[:, : left + size[0]], words, left, top + size[1] + 1 + line * CAPTION, LETTERS)
    return canvas


def _tiles(maps: NDArray[np.float32], size: tuple[int, int]) -> Sequence[tuple[NDArray[np.uint8], str]]:
    single = maps[0].size == 1
    common = float(maps.min()), float(maps.max())
    tiles = []
    for number, values in enumerate(maps):
        low, high = common if single else (float(values.min()), float(values.max()))
        if low == high or not math.isfinite(high - low):
            text = f"{number}: {low:.3g}" if low == high else f"{number}: not finite"
            tiles.append((np.full((size[1], size[0], 3), CONSTANT, np.uint8), text))
            continue
        grey = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
        text = f"{number}: {float(values.ravel()[0]):.3g}" if single else f"{number}: {low:.2g} to {high:.2g}"
        tiles.append((_resized(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), size), text))
    return tiles


def _constant(maps: NDArray[np.float32]) -> int:
    """How many maps have the same value everywhere; of maps of one value each that says nothing, and it is 0."""
    return 0 if maps[0].size == 1 else int(np.sum(np.ptp(maps, axis=(1, 2)) == 0))


def _bgr(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    colours = np.broadcast_to(picture, (3, *picture.shape[1:]))[::-1].transpose(1, 2, 0)
    return np.ascontiguousarray(np.rint(255 * colours).astype(np.uint8))


def _resized(tile: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Enlarged so that single values can be seen, or made smaller by averaging."""
    grows = size[0] >= tile.shape[1]
    return np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_NEAREST if grows else cv2.INTER_AREA), np.uint8)
