"""How a classifier looks at a picture: its middle, ten parts of it, all of it, at one size or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpy.data.pictures import network_input
from darkpy.errors import InputError

LONGEST_STRIP = 8
"""Of a picture so many times longer than wide only the middle is looked at, to save memory."""

CROPS = (1, 10)
CROP_MARGIN = 8 / 7
"""The square that ten crops are cut from is so much larger than each: 256 pixels for 224."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """What of a picture goes through the network; the scores are the mean of all it sees.

    By default it is the square in the middle. Otherwise one of:

    - ``crops=10``: the corners and the middle of a square that is larger by :data:`CROP_MARGIN`, each mirrored too
      (A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012);
    - ``scales``: all of the picture, its shorter side resized to each of these lengths in pixels, mirrored too; the
      network changes its size with the picture;
    - ``stretch``: all of the picture, stretched to the input.

    Darknet's ``valid10``, ``validmulti`` and ``validcrop`` look so. Its ten crops reach 32 pixels beyond the picture;
    these stay in it.
    """

    crops: int = 1
    scales: tuple[int, ...] = ()
    stretch: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for what makes no sense."""
        if self.crops not in CROPS:
            raise InputError(f"crops={self.crops}: 1, or 10 for corners and middle, mirrored too")
        if any(scale < 1 for scale in self.scales):
            raise InputError(f"scales={', '.join(map(str, self.scales))}: each is a length in pixels")
        if (self.crops > 1) + bool(self.scales) + self.stretch > 1:
            raise InputError("of crops, scales and stretch there can be only one")

    @property
    def count(self) -> int:
        """How many times a picture goes through the network."""
        return 2 * len(self.scales) or self.crops

    def inputs(self, image: NDArray[np.uint8], width: int, height: int) -> list[Pixels]:
        """What goes through a network of this input size, float32 (n, channels, h, w) each, values in 0..1.

        image: uint8 (h, w, channels), as :func:`~darkpy.data.pictures.read_picture` returns it. Only ``scales`` give
        several arrays, and others than of the input's size.
        """
        if self.stretch:
            return [network_input(image, width, height)]
        if self.scales:
            return [_with_mirror_image(_whole(image, scale, scale)) for scale in self.scales]
        if self.crops == 1:
            return [centre_input(image, width, height)]
        larger = centre_input(image, round(CROP_MARGIN * width), round(CROP_MARGIN * height))
        return [_with_mirror_image(np.concatenate(_corners_and_middle(larger, width, height)))]


MIDDLE = View()


def centre_input(image: NDArray[np.uint8], width: int, height: int) -> Pixels:
    """A network's input of the middle of a picture, float32 (1, channels, height, width), values in 0..1.

    The picture is resized so that its shorter side fits, and what is too long is cut off at both ends: number for
    number Darknet's (classifier.c, predict_classifier) where the input is a square. Where it is not, the square in the
    middle is stretched to it, as in training; Darknet cuts another part there.

    image: uint8 (h, w, channels), as :func:`~darkpy.data.pictures.read_picture` returns it.
    """
    resized = _whole(image, width, height)
    return resized[:, :, _middle(resized.shape[2], height), _middle(resized.shape[3], width)]


def _whole(image: NDArray[np.uint8], width: int, height: int) -> Pixels:
    """A picture resized so that the square in its middle becomes width x height."""
    side = min(image.shape[:2])
    rows, columns = (_middle(length, LONGEST_STRIP * side) for length in image.shape[:2])
    image = image[rows, columns]
    return network_input(image, image.shape[1] * width // side, image.shape[0] * height // side)


def _middle(length: int, most: int) -> slice:
    start = max(length - most, 0) // 2
    return slice(start, start + min(length, most))


def _corners_and_middle(pixels: Pixels, width: int, height: int) -> Sequence[Pixels]:
    down, across = pixels.shape[2] - height, pixels.shape[3] - width
    places = ((0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2))
    return [pixels[:, :, top : top + height, left : left + width] for top, left in places]


def _with_mirror_image(pixels: Pixels) -> Pixels:
    return np.concatenate([pixels, pixels[..., ::-1]])
