"""What a training shows its network: a sheet of augmented pictures with their boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy import resources
from darkpy.config.cfg import read_cfg
from darkpy.data.loader import Loader
from darkpy.detection import Detection
from darkpy.drawing import draw
from darkpy.errors import InputError
from darkpy.files import atomic_write
from darkpy.network import Network
from darkpy.training.preparation import Prepared, found_data
from darkpy.training.settings import TrainingSettings, default_data

_GAP = 6  # pixels between the pictures of a sheet
_GROUND = 255  # what shows there
_LEAST_SIDE = 400  # pixels


def preview(
    settings: TrainingSettings, count: int = 16, iteration: int = 0, notify: Callable[[str], None] = lambda line: None
) -> NDArray[np.uint8]:
    """A sheet of samples, pixel by pixel as the trainer will see them with these settings.

    Each row shows the first samples of an iteration, since mixing and the size of the input change with it. Of small
    samples every pixel is shown as a square of several, so that there is room for the names on the boxes.

    Args:
        settings: of the training; nothing is trained, and no memory is taken for it.
        count: how many samples.
        iteration: that of the first row.
        notify: hears of what takes a while and of pictures that cannot be used.

    Returns:
        uint8 (height, width, 3), BGR. Of pictures with other than one or three channels the first one is shown.

    Raises:
        InputError: the cfg or the data set cannot be used.
    """
    config = read_cfg(resources.find("cfg", settings.cfg))
    data = found_data(settings.data) if settings.data is not None else default_data(config.path)
    dataset = Prepared.open(data, "train", None, notify)
    network = Network(config, training=True, plan_only=True)
    Prepared.check(network, dataset.classes, str(data))
    network.seen = iteration * network.options.batch
    job = Prepared(replace(settings, workers=0), config, data, dataset, None, network, None, 0, None, [])
    columns = min(math.ceil(math.sqrt(count)), network.options.batch)
    with job.loader(lambda problem: notify(str(problem))) as loader:
        places = [(iteration + number // columns, number % columns) for number in range(count)]
        pictures = [_drawn(loader, place, dataset.names) for place in places]
    return sheet(pictures, columns)


def _drawn(loader: Loader, place: tuple[int, int], names: Sequence[str]) -> NDArray[np.uint8]:
    """A sample with its boxes, uint8 (h, w, 3) BGR."""
    pixels, truth, _ = loader.sample(*place)
    _, height, width = pixels.shape
    shown = pixels[::-1] if len(pixels) == 3 else pixels[:1]
    image = np.rint(shown.transpose(1, 2, 0) * np.float32(255)).astype(np.uint8)
    times = math.ceil(_LEAST_SIDE / max(height, width))
    image, height, width = image.repeat(times, 0).repeat(times, 1), times * height, times * width
    objects = [
        Detection(int(kind), names[int(kind)], 1.0, x * width, y * height, w * width, h * height)
        for kind, x, y, w, h in truth[:, :5].tolist()
    ]
    return draw(image, objects, probabilities=False)


def sheet(pictures: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Pictures, uint8 (h, w, 3) of any size, side by side in rows of so many: uint8 (height, width, 3)."""
    rows = [pictures[first : first + columns] for first in range(0, len(pictures), columns)]
    width = max(sum(picture.shape[1] + _GAP for picture in row) for row in rows) + _GAP
    height = sum(max(picture.shape[0] for picture in row) + _GAP for row in rows) + _GAP
    page = np.full((height, width, 3), _GROUND, np.uint8)
    top = _GAP
    for row in rows:
        left = _GAP
        for picture in row:
            page[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            left += picture.shape[1] + _GAP
        top += max(picture.shape[0] for picture in row) + _GAP
    return page


def write(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a picture, uint8 (h, w, 3) BGR; the ending of the name says the format. Raises InputError if it cannot."""
    try:
        _, data = cv2.imencode(path.suffix, picture)
    except cv2.error:
        raise InputError("cannot be written in this format; use .jpg or .png", where=str(path)) from None
    try:
        with atomic_write(path) as file:
            file.write(data.tobytes())
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(path)) from error
