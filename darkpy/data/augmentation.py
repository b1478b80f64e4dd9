"""Random changes of a picture and its boxes that keep what is on it.

What happens and with which chances is Darknet's (data.c, load_data_detection; image_opencv.cpp,
image_data_augmentation): the borders of the picture are moved at random, the part between them is resized to the
input of the network in one step, mirrored perhaps, and its colours are changed in HSV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_CHANCES = 12  # random numbers one picture takes, always all of them, so that options do not disturb each other
_NOT_APPLIED = ("mosaic", "mixup", "cutmix", "blur", "gaussian_noise", "contrastive", "track")


@dataclass(frozen=True)
class Region:
    """A part of a picture in pixels; it may reach outside, where there is the mean colour of the picture."""

    left: int
    top: int
    width: int
    height: int


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
        max: largest number of boxes on a picture; more are left out at random.
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
            not_applied=tuple(key for key in _NOT_APPLIED if getattr(net_options, key, 0)),
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
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Make one sample of a picture.

        Args:
            image: uint8 (h, w, channels), RGB or grey; not changed.
            boxes: float32 (n, 5), rows (class, cx, cy, w, h) relative to the picture; not changed.
            width: width of the sample.
            height: height of the sample.
            rng: where the random numbers come from; as many are taken whatever the options are.

        Returns:
            uint8 (channels, height, width), a view that need not be contiguous, and float32 (m, 5): the boxes where
            they are now, in random order, cut at the border, without those under one pixel.
        """
        chances = rng.random(_CHANCES)
        order = rng.permutation(len(boxes))[: self.max]
        region = self._region(image.shape[1], image.shape[0], width, height, chances[:6])
        flip = self.flip and chances[6] < 0.5
        sample = cut_and_resize(image, region, width, height)
        if flip:
            sample = np.asarray(cv2.flip(sample, 1), dtype=np.uint8)
        sample = self._change_colours(sample, chances[7:])
        moved = move_boxes(boxes[order], region, image.shape[1], image.shape[0], flip)
        return sample.reshape(height, width, -1).transpose(2, 0, 1), drop_small_boxes(moved, width, height)

    def _region(
        self, picture_width: int, picture_height: int, width: int, height: int, chances: NDArray[np.float64]
    ) -> Region:
        """The part of the picture that becomes the sample. Rounding towards zero at each step, as Darknet."""
        left, right = self._margins(picture_width, chances[[0, 1, 4, 5]])
        top, bottom = self._margins(picture_height, chances[[2, 3, 4, 5]])
        if self.letter_box:
            # Half of what the narrow side lacks to the input's aspect ratio goes to either end of it.
            if picture_width * height > picture_height * width:
                extra = (picture_width * height / width - picture_height) / 2
                top, bottom = int(top - extra), int(bottom - extra)
            else:
                extra = (picture_height * width / height - picture_width) / 2
                left, right = int(left - extra), int(right - extra)
        # With much jitter the borders can pass each other or the other side: then all of the picture is taken.
        across = max(left, right, left + right) < picture_width
        down = max(top, bottom, top + bottom) < picture_height
        if not (across and down):
            return Region(0, 0, picture_width, picture_height)
        return Region(left, top, picture_width - left - right, picture_height - top - bottom)

    def _margins(self, side: int, chances: NDArray[np.float64]) -> tuple[int, int]:
        """How far both borders move inwards, in pixels, along a side of the picture."""
        limit = int(side * self.jitter)
        smaller, larger = min(self.resize, 1 / self.resize), max(self.resize, 1 / self.resize)
        outwards = int(side * (1 - 1 / smaller) / 2)
        inwards = 0 if self.resize < 1 else int(side * (1 - 1 / larger) / 2)
        first, second = (
            int(int(_between(-limit, limit, jitter)) + _between(outwards, inwards, zoom))
            for jitter, zoom in zip(chances[:2], chances[2:])
        )
        return first, second

    def _change_colours(self, sample: NDArray[np.uint8], chances: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Turn the hue, scale saturation and brightness; of a grey picture, brightness only."""
        hue = _between(-self.hue, self.hue, chances[0])
        saturation = _scale(self.saturation, chances[1], chances[2])
        exposure = _scale(self.exposure, chances[3], chances[4])
        if hue == 0 and saturation == 1 and exposure == 1:
            return sample
        levels = np.arange(256, dtype=np.float32)
        if sample.ndim == 2:
            return np.asarray(cv2.LUT(sample, _levels(levels * exposure)), dtype=np.uint8)
        # 8-bit HSV counts the hue from 0 to 179. It is an angle and goes round; Darknet stops it at 0.
        turned = np.rint(levels + 179 * hue) % 180
        table = np.stack([_levels(turned), _levels(levels * saturation), _levels(levels * exposure)], axis=-1)
        hsv = cv2.cvtColor(sample, cv2.COLOR_RGB2HSV)
        return np.asarray(cv2.cvtColor(cv2.LUT(hsv, table[np.newaxis]), cv2.COLOR_HSV2RGB), dtype=np.uint8)


def _between(low: float, high: float, chance: float) -> float:
    """The number at ``chance`` (0..1) of the way from ``low`` to ``high``."""
    return float(low + (high - low) * chance)


def _scale(limit: float, chance: float, coin: float) -> float:
    """A factor between 1 and ``limit``, or its inverse (Darknet, rand_scale)."""
    factor = _between(1, limit, chance)
    return factor if coin < 0.5 else 1 / factor


def _levels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def cut_and_resize(image: NDArray[np.uint8], region: Region, width: int, height: int) -> NDArray[np.uint8]:
    """Cut a region out of uint8 (h, w, c) and resize it to (height, width, c), (height, width) for one channel.

    Bilinear as OpenCV's ``resize``. What lies outside the picture has its mean colour.
    """
    rows, columns = image.shape[:2]
    right, bottom = region.left + region.width, region.top + region.height
    part = image[max(region.top, 0) : min(bottom, rows), max(region.left, 0) : min(right, columns)]
    margins = (max(-region.top, 0), max(bottom - rows, 0), max(-region.left, 0), max(right - columns, 0))
    if any(margins):
        mean = cv2.mean(image)
        part = np.asarray(cv2.copyMakeBorder(part, *margins, cv2.BORDER_CONSTANT, value=mean), dtype=np.uint8)
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def move_boxes(
    boxes: NDArray[np.float32], region: Region, picture_width: int, picture_height: int, flip: bool
) -> NDArray[np.float32]:
    """Boxes (n, 5) relative to a picture, made relative to a region of it, mirrored, and cut at its border."""
    size = np.array([region.width / picture_width, region.height / picture_height])
    corner = np.array([region.left / picture_width, region.top / picture_height])
    low = (boxes[:, 1:3] - boxes[:, 3:5] / 2 - corner) / size
    high = (boxes[:, 1:3] + boxes[:, 3:5] / 2 - corner) / size
    if flip:
        low[:, 0], high[:, 0] = 1 - high[:, 0], 1 - low[:, 0]
    low, high = low.clip(0, 1), high.clip(0, 1)
    moved = np.empty_like(boxes)
    moved[:, 0] = boxes[:, 0]
    moved[:, 1:3] = (low + high) / 2
    moved[:, 3:5] = high - low
    return moved


def drop_small_boxes(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """The boxes (n, 5) that are at least one pixel wide and high in a sample of this size."""
    return boxes[(boxes[:, 3] >= 1 / width) & (boxes[:, 4] >= 1 / height)]
