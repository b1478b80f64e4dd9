"""Random changes of pictures and their boxes that keep what is on them.

What happens and with which chances is Darknet's (data.c, load_data_detection; image_opencv.cpp,
image_data_augmentation): the borders of a picture are moved at random, the part between them is resized to the input of
the network in one step, mirrored perhaps, its colours are changed in HSV, it is blurred, and noise is added. Two such
pictures are blended (mixup) or four joined (mosaic). Beyond Darknet, pictures can be turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.data.regions import Region, View, look, move_boxes, with_channels

Picture = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""A picture, uint8 (h, w, channels), and its boxes (n, 5): rows (class, cx, cy, w, h) relative to it."""

MOST_PICTURES = 4
"""Pictures that one sample can be made of: those of a mosaic."""

# Which of its random numbers decide what about a picture.
_JITTER, _ZOOM, _FLIP, _COLOURS = slice(0, 4), slice(4, 6), 6, slice(7, 12)
_BLUR, _NOISE, _TURN, _CORNER = 12, 13, 14, 15
_PER_PICTURE = 16

_BACKGROUND_BLUR = 17  # side of the window that blurs the background (Darknet)
_LEAST_PER_BLUR = 8  # the smallest object is at least so many times larger than the window of a blur
_QUARTER_MARGIN = 0.2  # the pictures of a mosaic meet at least this part of its size away from its border


@dataclass(frozen=True)
class Chances:
    """The random numbers, each in 0..1, that decide how a sample is made: the same numbers, the same decisions.

    ``pictures`` (4, 16) has a row for each picture it may be made of, ``meeting`` (2,) says where those of a mosaic
    meet.
    """

    pictures: NDArray[np.float64]
    meeting: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Chances:
        """New ones; always as many, so that options do not disturb each other."""
        return cls(rng.random((MOST_PICTURES, _PER_PICTURE)), rng.random(2))

    def like(self, other: Chances, *, jitter_and_flip: bool, colours: bool) -> Chances:
        """The same, but with the other's jitter and flip, and the other's colours."""
        pictures = self.pictures.copy()
        if jitter_and_flip:
            pictures[:, _JITTER] = other.pictures[:, _JITTER]
            pictures[:, _FLIP] = other.pictures[:, _FLIP]
        if colours:
            pictures[:, _COLOURS] = other.pictures[:, _COLOURS]
        return Chances(pictures, self.meeting)


@dataclass(frozen=True)
class Augmentation:
    """How pictures are changed; the names are those of the cfg.

    Attributes:
        jitter: each border moves by up to this part of the picture's size, in or out.
        resize: each border moves further by a common zoom between 1 / ``resize`` and ``resize``; below 1, only out.
        flip: mirror every second picture left to right.
        hue: the hue turns by up to this part of the full circle, either way.
        saturation: saturation is multiplied or divided by up to this.
        exposure: brightness is multiplied or divided by up to this.
        letter_box: widen the part to the aspect ratio of the input, so that objects keep theirs.
        max: largest number of boxes on a sample; more are left out at random.
        blur: side of the window by which a third of the pictures is blurred, while another third has sharp objects on
            a blurred background; with 1 that is done to both thirds.
        gaussian_noise: standard deviation of the noise on every second picture, of 255.
        angle: a picture is turned by up to this, in degrees, either way.
        mosaic_bound: cut the boxes of a mosaic where their picture ends, and not only at the border of the sample.
        not_applied: what the cfg asks for beyond that, and does not get.
    """

    jitter: float = 0.0
    resize: float = 1.0
    flip: bool = False
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    letter_box: bool = False
    max: int | None = None
    blur: int = 0
    gaussian_noise: int = 0
    angle: float = 0.0
    mosaic_bound: bool = False
    not_applied: tuple[str, ...] = ()

    @classmethod
    def from_options(cls, net_options: Any, head_options: Any) -> Augmentation:
        """From the options of ``[net]`` and of the last head, whose ``jitter``, ``resize`` and ``max`` count."""
        return cls(
            jitter=head_options.jitter,
            resize=getattr(head_options, "resize", 1.0),  # older heads have neither resize nor max
            flip=bool(net_options.flip),
            hue=net_options.hue,
            saturation=net_options.saturation,
            exposure=net_options.exposure,
            letter_box=bool(net_options.letter_box),
            max=getattr(head_options, "max", None),
            blur=net_options.blur,
            gaussian_noise=net_options.gaussian_noise,
            angle=net_options.angle if net_options.rotate_boxes else 0.0,
            mosaic_bound=bool(net_options.mosaic_bound),
            not_applied=("cutmix",) if net_options.mixing in (2, 4) else (),
        )

    @classmethod
    def none(cls, letter_box: bool = False) -> Augmentation:
        """Only resize, so that a sample is the picture as it is."""
        return cls(letter_box=letter_box)

    def augment(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.float32],
        width: int,
        height: int,
        rng: np.random.Generator,
    ) -> Picture:
        """Make one sample of one picture, as :meth:`combine` does."""
        return self.combine([(image, boxes)], width, height, Chances.draw(rng), rng)

    def combine(
        self,
        pictures: Sequence[Picture],
        width: int,
        height: int,
        chances: Chances,
        rng: np.random.Generator,
    ) -> Picture:
        """Make one sample: of one picture, of two that are blended, or of four that are joined.

        Args:
            pictures: uint8 (h, w, channels), RGB for three channels, and float32 (n, 5), rows (class, cx, cy, w, h)
                relative to the picture; further columns are kept. Neither is changed.
            width: width of the sample.
            height: height of the sample.
            chances: decide over everything but the two things that
            rng: decides over, the order of the boxes and the noise of every pixel.

        Returns:
            uint8 (channels, height, width), a view that need not be contiguous, and float32 (m, 5): the boxes where
            they are now, in random order, cut at the border, without those under one pixel.
        """
        size = (width, height)
        if len(pictures) == MOST_PICTURES:
            places = quarters(width, height, chances.meeting)
        else:
            places = [Region(0, 0, width, height)] * len(pictures)
        made = [
            self._change(picture, place, size, numbers, rng)
            for picture, place, numbers in zip(pictures, places, chances.pictures)
        ]
        boxes = np.concatenate([found for _, found in made])[: self.max]
        return _joined([sample for sample, _ in made], places, size).transpose(2, 0, 1), boxes

    def _change(
        self,
        picture: Picture,
        place: Region,
        size: tuple[int, int],
        chances: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> Picture:
        """What one picture contributes to a sample of ``size`` at ``place``: uint8 (h, w, c), and its boxes there."""
        image, boxes = picture
        order = rng.permutation(len(boxes))[: self.max]
        view = self.view(image.shape[1], image.shape[0], place, size, chances)
        sample = look(image, view, place.width, place.height)
        sample = self._change_colours(sample, chances[_COLOURS])
        moved = move_boxes(boxes[order], view, image.shape[1], image.shape[0], place, size, self.mosaic_bound)
        moved = drop_small_boxes(moved, *size)
        if self.blur:
            sample = self._blur(sample, moved, place, size, chances[_BLUR])
        if self.gaussian_noise and chances[_NOISE] < 0.5:
            noise = rng.standard_normal(sample.shape, dtype=np.float32)
            noise *= self.gaussian_noise
            sample = with_channels(cv2.add(sample, noise, dtype=cv2.CV_8U))
        return sample, moved

    # Where ----------------------------------------------------------------------------------------------------

    def view(
        self,
        picture_width: int,
        picture_height: int,
        place: Region,
        size: tuple[int, int],
        chances: NDArray[np.float64],
    ) -> View:
        """How a picture is looked at. Rounding towards zero at each step, as Darknet."""
        flip = bool(self.flip and chances[_FLIP] < 0.5)
        left, right, top, bottom = self._margins(picture_width, picture_height, *size, chances)
        is_quarter = (place.width, place.height) != size
        if is_quarter and chances[_CORNER] < 0.5:
            # In the corner of the sample is the corner of the picture, so that more of it is seen.
            left, right = (left + right, 0) if (place.left > 0) != flip else (0, left + right)
            top, bottom = (top + bottom, 0) if place.top > 0 else (0, top + bottom)
        region = Region(left, top, picture_width - left - right, picture_height - top - bottom)
        # With much jitter the borders can pass each other or the other side: then all of the picture is taken.
        across = max(left, right, left + right) < picture_width
        down = max(top, bottom, top + bottom) < picture_height
        if not (across and down):
            region = Region(0, 0, picture_width, picture_height)
        part = _part(region, picture_width, picture_height, place, size, flip) if is_quarter else region
        return View(region, part, flip, _between(-self.angle, self.angle, chances[_TURN]))

    def _margins(
        self, picture_width: int, picture_height: int, width: int, height: int, chances: NDArray[np.float64]
    ) -> tuple[int, int, int, int]:
        """How far the borders left, right, top, bottom move inwards, in pixels of the picture."""
        jitter, zoom = chances[_JITTER], chances[_ZOOM]
        left, right = self._margins_along(picture_width, jitter[:2], zoom)
        top, bottom = self._margins_along(picture_height, jitter[2:], zoom)
        if self.letter_box:
            # Half of what the narrow side lacks to the input's aspect ratio goes to either end of it.
            if picture_width * height > picture_height * width:
                extra = (picture_width * height / width - picture_height) / 2
                top, bottom = int(top - extra), int(bottom - extra)
            else:
                extra = (picture_height * width / height - picture_width) / 2
                left, right = int(left - extra), int(right - extra)
        return left, right, top, bottom

    def _margins_along(
        self, side: int, jitter: NDArray[np.float64], zoom: NDArray[np.float64]
    ) -> tuple[int, int]:
        """How far both borders move inwards, in pixels, along a side of the picture."""
        limit = int(side * self.jitter)
        smaller, larger = min(self.resize, 1 / self.resize), max(self.resize, 1 / self.resize)
        outwards = int(side * (1 - 1 / smaller) / 2)
        inwards = 0 if self.resize < 1 else int(side * (1 - 1 / larger) / 2)
        first, second = (
            int(int(_between(-limit, limit, moved)) + _between(outwards, inwards, zoomed))
            for moved, zoomed in zip(jitter, zoom)
        )
        return first, second

    # How it looks ---------------------------------------------------------------------------------------------

    def _change_colours(self, sample: NDArray[np.uint8], chances: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Turn the hue, scale saturation and brightness; where there are not three channels, brightness only."""
        hue = _between(-self.hue, self.hue, chances[0])
        saturation = _scale(self.saturation, chances[1], chances[2])
        exposure = _scale(self.exposure, chances[3], chances[4])
        if hue == 0 and saturation == 1 and exposure == 1:
            return sample
        if sample.shape[2] != 3:
            return with_channels(cv2.convertScaleAbs(sample, alpha=exposure))
        hues, saturations, values = cv2.split(cv2.cvtColor(sample, cv2.COLOR_RGB2HSV))
        # 8-bit HSV counts the hue from 0 to 179. It is an angle and goes round; Darknet stops it at 0.
        turned = (np.rint(np.arange(256) + 179 * hue) % 180).astype(np.uint8)
        planes = (
            cv2.LUT(hues, turned),
            cv2.convertScaleAbs(saturations, alpha=saturation),
            cv2.convertScaleAbs(values, alpha=exposure),
        )
        return np.asarray(cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2RGB), dtype=np.uint8)

    def _blur(
        self, sample: NDArray[np.uint8], boxes: NDArray[np.float32], place: Region, size: tuple[int, int], chance: float
    ) -> NDArray[np.uint8]:
        """Blur what is at a place, or all of it but the objects; or leave it."""
        window = (0, 1, self.blur)[int(3 * chance)]
        if window > 1:
            # So strong a blur would leave nothing of a small object.
            smallest = (boxes[:, 3:5] * size).min() if len(boxes) else 0.0
            window = min(window, int(smallest / _LEAST_PER_BLUR))
        if window == 0:
            return sample
        side = window // 2 * 2 + 1 if window > 1 else _BACKGROUND_BLUR
        blurred = with_channels(cv2.GaussianBlur(sample, (side, side), 0))
        if window == 1:
            for (left, top), (right, bottom) in zip(*_edges_in_pixels(boxes, place, size)):
                blurred[top:bottom, left:right] = sample[top:bottom, left:right]
        return blurred


def _between(low: float, high: float, chance: float) -> float:
    """The number at ``chance`` (0..1) of the way from ``low`` to ``high``."""
    return float(low + (high - low) * chance)


def _scale(limit: float, chance: float, coin: float) -> float:
    """A factor between 1 and ``limit``, or its inverse (Darknet, rand_scale)."""
    factor = _between(1, limit, chance)
    return factor if coin < 0.5 else 1 / factor


def _joined(samples: Sequence[NDArray[np.uint8]], places: Sequence[Region], size: tuple[int, int]) -> NDArray[np.uint8]:
    """One picture as it is, two blended, four at their places."""
    if len(samples) == 1:
        return samples[0]
    if len(samples) == 2:
        return with_channels(cv2.addWeighted(samples[0], 0.5, samples[1], 0.5, 0))
    joined = np.empty((size[1], size[0], samples[0].shape[2]), np.uint8)
    for sample, place in zip(samples, places):
        joined[place.top : place.top + place.height, place.left : place.left + place.width] = sample
    return joined


def quarters(width: int, height: int, meeting: NDArray[np.float64]) -> list[Region]:
    """The four parts of a mosaic, row by row. ``meeting``, (2,) in 0..1, moves the point where they meet."""
    x, y = (
        int(_between(int(side * _QUARTER_MARGIN), int(side * (1 - _QUARTER_MARGIN)) + 1 - 1e-9, chance))
        for side, chance in zip((width, height), meeting)
    )
    rows, columns = ((0, y), (y, height - y)), ((0, x), (x, width - x))
    return [Region(left, top, across, down) for top, down in rows for left, across in columns]


def _part(
    region: Region, picture_width: int, picture_height: int, place: Region, size: tuple[int, int], flip: bool
) -> Region:
    """Of a region, as large as the sample when resized to it, what is seen in a quarter of the sample.

    That is the end next to the other pictures, so that the four ends meet. What the region has there beyond the border
    of the picture is skipped as far as there is more of it on the other side.
    """
    at_left = max(0, -region.left)
    at_right = max(0, region.left + region.width - picture_width)
    beyond = at_right if (place.left == 0) != flip else at_left
    left, width = _along(region.left, region.width, place.left, place.width, size[0], beyond, flip)
    at_top = max(0, -region.top)
    at_bottom = max(0, region.top + region.height - picture_height)
    beyond = at_bottom if place.top == 0 else at_top
    top, height = _along(region.top, region.height, place.top, place.height, size[1], beyond, False)
    return Region(left, top, width, height)


def _along(
    start: int, length: int, place: int, extent: int, side: int, beyond: int, flip: bool
) -> tuple[int, int]:
    """Along one side: start and length of the part that is seen, in pixels of the picture."""
    skipped = min(side - extent, int(beyond * side / length))
    first = skipped if place > 0 else side - extent - skipped
    if flip:
        first = side - extent - first
    begin = start + round(first * length / side)
    return begin, max(1, start + round((first + extent) * length / side) - begin)


def _edges_in_pixels(
    boxes: NDArray[np.float32], place: Region, size: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last but one pixel, each (n, 2), of boxes relative to a sample, counted from a place in it."""
    corner, extent = (place.left, place.top), (place.width, place.height)
    low = np.floor((boxes[:, 1:3] - boxes[:, 3:5] / 2) * size - corner).clip(0, extent)
    high = np.ceil((boxes[:, 1:3] + boxes[:, 3:5] / 2) * size - corner).clip(0, extent)
    return low.astype(np.intp), high.astype(np.intp)


def drop_small_boxes(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """The boxes (n, 5) that are at least one pixel wide and high in a sample of this size."""
    return boxes[(boxes[:, 3] >= 1 / width) & (boxes[:, 4] >= 1 / height)]
