"""Random changes of a classifier's pictures, and what they make of the truth.

What happens and with which chances is Darknet's (data.c, load_data_augment; image.c, random_augment_image): a square is
cut from the picture, which is turned, stretched and scaled before, mirrored perhaps and changed in its colours; then
it may be blended with others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.data.augmentation import Augmentation

_NO_BOXES = np.zeros((0, 5), np.float32)
_BLUR = 15  # side of the blur that blur=1 means
_CHANCE_OF_BLUR = 0.25
_CHANCE_OF_BLEND = 0.5
_SMALLEST_CUT, _LARGEST_CUT = 0.3, 0.8  # of each side of a sample, for cutmix
_NEAREST_CUT = 0.2  # of a mosaic's cut to the border, as a part of the side


class Blend(IntEnum):
    """What a sample is made of; the numbers are those of the cfg's ``mixup``."""

    NONE = 0
    MIXUP = 1
    """The mean of two pictures."""
    CUTMIX = 2
    """A picture with a rectangle of another one."""
    MOSAIC = 3
    """The quarters of four pictures around a random point."""

    @property
    def pictures(self) -> int:
        """How many it takes."""
        return (1, 2, 2, 4)[self]


@dataclass(frozen=True)
class ClassifierAugmentation:
    """How pictures are changed; the names are those of the cfg.

    Attributes:
        min_crop: least length of the picture's shorter side when the square is cut from it.
        max_crop: greatest length of it.
        angle: pictures turn by up to so many degrees, either way.
        aspect: width and height are stretched against each other by up to this factor or its inverse.
        flip: mirror every second picture left to right.
        hue: the hue turns by up to this part of the full circle, either way.
        saturation: saturation is multiplied or divided by up to this.
        exposure: brightness is multiplied or divided by up to this.
        blur: every fourth sample is blurred with a kernel of this size; 1 means 15.
        mixup: every second sample is a :class:`Blend` of this kind; 4 means cutmix or mosaic.
        label_smooth_eps: part of the truth that is shared out among the wrong classes.
    """

    min_crop: int
    max_crop: int
    angle: float = 0.0
    aspect: float = 1.0
    flip: bool = False
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    blur: int = 0
    mixup: int = 0
    label_smooth_eps: float = 0.0
    not_applied: tuple[str, ...] = ()

    @classmethod
    def from_options(cls, options: Any) -> ClassifierAugmentation:
        """From the options of ``[net]``."""
        return cls(
            min_crop=options.min_crop,
            max_crop=options.max_crop,
            angle=options.angle,
            aspect=options.aspect,
            flip=options.flip,
            hue=options.hue,
            saturation=options.saturation,
            exposure=options.exposure,
            blur=options.blur,
            mixup=options.mixing,
            label_smooth_eps=options.label_smooth_eps,
        )

    def augment(
        self, image: NDArray[np.uint8], width: int, height: int, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Make one sample, uint8 (channels, height, width), of a picture, uint8 (h, w, channels), not changed.

        As many random numbers are taken from ``rng`` whatever the options are.
        """
        square = self._cut(image, max(width, height), rng)
        colours = Augmentation(flip=self.flip, hue=self.hue, saturation=self.saturation, exposure=self.exposure)
        sample, _ = colours.augment(square, _NO_BOXES, width, height, rng)
        return sample

    def _cut(self, image: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A square of the scaled and turned picture, uint8 (size, size, channels); black where there is no picture."""
        factor, coin, length, turn, across, down = rng.random(6)
        aspect = 1 + (self.aspect - 1) * factor
        aspect = aspect if coin < 0.5 else 1 / aspect
        shorter = self.min_crop + int(length * (self.max_crop - self.min_crop + 1))
        rows, columns = image.shape[:2]
        # Darknet takes columns * aspect here although it divides by the aspect below, so that the shorter side can
        # become less than min_crop.
        scale = shorter / min(rows, columns / aspect)
        wide, high = columns * scale / aspect, rows * scale
        centre = (size - 1) / 2
        dx = max(wide - size, 0) / 2 * (2 * across - 1) - centre
        dy = max(high - size, 0) / 2 * (2 * down - 1) - centre
        # From the pixels of the square to those of the picture, corner on corner as in the resizing for inference, so
        # that a picture that is neither turned nor stretched looks the same to training and evaluation.
        step_x, step_y = (columns - 1) / max(wide - 1, 1), (rows - 1) / max(high - 1, 1)
        angle = np.deg2rad(self.angle * (2 * turn - 1))
        linear = np.array([[np.cos(angle) * step_x, -np.sin(angle) * step_y],
                           [np.sin(angle) * step_x, np.cos(angle) * step_y]])  # fmt: skip
        offset = linear @ [dx, dy] + [(columns - 1) / 2, (rows - 1) / 2]
        square = cv2.warpAffine(
            image, np.column_stack([linear, offset]), (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        return np.asarray(square, np.uint8).reshape(size, size, image.shape[2])

    def choose_blend(self, rng: np.random.Generator) -> Blend:
        """What the next sample is to be made of."""
        coin, other = rng.random(2)
        if not self.mixup or coin >= _CHANCE_OF_BLEND:
            return Blend.NONE
        if self.mixup == 4:
            return Blend.CUTMIX if other < 0.5 else Blend.MOSAIC
        return Blend(self.mixup)

    def maybe_blur(self, sample: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Blur a finished sample (channels, h, w), in place, or leave it."""
        if rng.random() >= _CHANCE_OF_BLUR or not self.blur:
            return
        side = (_BLUR if self.blur == 1 else self.blur) // 2 * 2 + 1
        for plane in sample:
            plane[...] = cv2.GaussianBlur(plane, (side, side), 0)


def smooth_truth(class_id: int, classes: int, eps: float = 0.0) -> NDArray[np.float32]:
    """Float32 (classes,), sum 1: 1 - ``eps`` for the class, the rest evenly for the others (fill_truth_smooth)."""
    if classes == 1:
        return np.ones(1, np.float32)
    truth = np.full(classes, eps / (classes - 1), np.float32)
    truth[class_id] = 1 - eps
    return truth


def blend(
    kind: Blend,
    pictures: Sequence[NDArray[np.uint8]],
    truths: Sequence[NDArray[np.float32]],
    out: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Write a sample to ``out`` (channels, h, w), values 0..1; returns its truth (classes,), blended by area.

    pictures: as many as the kind takes, uint8 (channels, h, w). truths: one float32 (classes,) for each.
    """
    np.divide(pictures[0], np.float32(255), out=out)
    if kind is Blend.NONE:
        return truths[0]
    if kind is Blend.MIXUP:
        out += pictures[1] / np.float32(255)
        out /= 2
        return np.asarray((truths[0] + truths[1]) / 2, np.float32)
    height, width = out.shape[1:]
    parts = _rectangle(width, height, rng) if kind is Blend.CUTMIX else _quarters(width, height, rng)
    truth = np.zeros_like(truths[0])
    left = height * width
    for (rows, columns), picture, other in zip(parts, pictures[1:], truths[1:]):
        np.divide(picture[:, rows, columns], np.float32(255), out=out[:, rows, columns])
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        left -= area
        truth += other * np.float32(area / (height * width))
    return truth + truths[0] * np.float32(left / (height * width))


def _rectangle(width: int, height: int, rng: np.random.Generator) -> list[tuple[slice, slice]]:
    """Rows and columns of the rectangle that cutmix takes from the second picture."""
    columns, rows = (_between(side, _SMALLEST_CUT, _LARGEST_CUT, rng) for side in (width, height))
    left, top = int(rng.integers(width - columns + 1)), int(rng.integers(height - rows + 1))
    return [(slice(top, top + rows), slice(left, left + columns))]


def _between(side: int, low: float, high: float, rng: np.random.Generator) -> int:
    """A number of pixels between two parts of a side."""
    return int(rng.integers(int(side * low), int(side * high), endpoint=True))


def _quarters(width: int, height: int, rng: np.random.Generator) -> list[tuple[slice, slice]]:
    """Rows and columns of a mosaic's second, third and fourth quarter: upper right, lower left, lower right."""
    x, y = (_between(side, _NEAREST_CUT, 1 - _NEAREST_CUT, rng) for side in (width, height))
    upper, lower, left, right = slice(0, y), slice(y, height), slice(0, x), slice(x, width)
    return [(upper, right), (lower, left), (lower, right)]
