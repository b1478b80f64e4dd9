"""Parts of pictures, perhaps turned or mirrored: their pixels, and where boxes are in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SCALAR = 4  # channels for which OpenCV takes the colour of a border


@dataclass(frozen=True)
class Region:
    """A part of a picture in pixels; it may reach outside, where there is the mean colour of the picture."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class View:
    """How a picture is looked at: turned clockwise by ``turn`` degrees about the middle of ``region``, mirrored with
    ``flip``, and of the region only ``part``, which is all of it but in a mosaic."""

    region: Region
    part: Region
    flip: bool = False
    turn: float = 0.0


def look(image: NDArray[np.uint8], view: View, width: int, height: int) -> NDArray[np.uint8]:
    """What is seen of uint8 (h, w, c), resized to uint8 (height, width, c). Outside the picture is its mean colour."""
    if view.turn:
        matrix = _matrix(view, width, height)
        sample = _by_fours(image, lambda planes: turn_and_resize(planes, matrix, width, height))
    else:
        sample = _by_fours(image, lambda planes: cut_and_resize(planes, view.part, width, height))
    return with_channels(cv2.flip(sample, 1)) if view.flip else sample


def _by_fours(
    image: NDArray[np.uint8], change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Change a picture with any number of channels four at a time, as many as a colour of OpenCV has."""
    channels = image.shape[2]
    if channels <= _SCALAR:
        return with_channels(change(image))
    parts = [change(image[:, :, first : first + _SCALAR]) for first in range(0, channels, _SCALAR)]
    return np.concatenate([with_channels(part) for part in parts], axis=2)


def cut_and_resize(image: NDArray[np.uint8], region: Region, width: int, height: int) -> NDArray[np.uint8]:
    """Cut a region out of uint8 (h, w, c) and resize it to (height, width, c), (height, width) for one channel.

    Bilinear as OpenCV's ``resize``. What lies outside the picture has its mean colour. At most four channels.
    """
    rows, columns = image.shape[:2]
    right, bottom = region.left + region.width, region.top + region.height
    part = image[max(region.top, 0) : max(min(bottom, rows), 0), max(region.left, 0) : max(min(right, columns), 0)]
    if not part.size:
        # A quarter of a mosaic may lie beside its picture.
        part = np.empty((height, width, image.shape[2]), np.uint8)
        part[:] = np.rint(cv2.mean(image)[: image.shape[2]])
        return part
    margins = (max(-region.top, 0), max(bottom - rows, 0), max(-region.left, 0), max(right - columns, 0))
    if any(margins):
        mean = cv2.mean(image)
        part = np.asarray(cv2.copyMakeBorder(part, *margins, cv2.BORDER_CONSTANT, value=mean), dtype=np.uint8)
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def turn_and_resize(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], width: int, height: int
) -> NDArray[np.uint8]:
    """Move every point of uint8 (h, w, c) by a matrix (2, 3), into (height, width, c), (height, width) for one channel.

    Points are counted from the corner of the first pixel, not from its middle. Bilinear; what lies outside the picture
    has its mean colour. At most four channels.
    """
    middle = matrix.copy()
    middle[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    mean = cv2.mean(image)
    turned = cv2.warpAffine(image, middle, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=mean)
    return np.asarray(turned, dtype=np.uint8)


def _matrix(view: View, width: int, height: int) -> NDArray[np.float64]:
    """Where a view, not yet mirrored, takes the points of a picture: (2, 3), from its pixels to those of the sample."""
    rotation, centre = _rotation(view)
    part = view.part
    scale = np.diag([width / part.width, height / part.height])
    shift = scale @ (centre - rotation @ centre - (part.left, part.top))
    return np.column_stack([scale @ rotation, shift])


def _rotation(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rotation (2, 2) of a view and the point (2,) it is about, in pixels of the picture."""
    region = view.region
    centre = np.array([region.left + region.width / 2, region.top + region.height / 2])
    cosine, sine = np.cos(np.deg2rad(view.turn)), np.sin(np.deg2rad(view.turn))
    return np.array([[cosine, -sine], [sine, cosine]]), centre


def with_channels(image: Any) -> NDArray[np.uint8]:
    """(h, w, channels): OpenCV leaves the last axis of a picture with one channel away."""
    return np.asarray(image, dtype=np.uint8).reshape(*image.shape[:2], -1)


def move_boxes(
    boxes: NDArray[np.float32],
    view: View,
    picture_width: int,
    picture_height: int,
    place: Region,
    size: tuple[int, int],
    bound: bool = False,
) -> NDArray[np.float32]:
    """Boxes (n, 5) relative to a picture, made relative to a sample of ``size`` that shows a view of it at ``place``.

    They are cut at the border of the view's region and of the sample, and with ``bound`` at that of the place. A turned
    box is that around its four turned corners.
    """
    # First the upper left corners, then the lower right ones: (2, n, 2), in pixels of the picture.
    half = boxes[:, 3:5] / 2
    corners = np.stack([boxes[:, 1:3] - half, boxes[:, 1:3] + half]) * (picture_width, picture_height)
    if view.turn:
        corners = _turned(corners, view)
    region, part = view.region, view.part
    corners = corners.clip((region.left, region.top), (region.left + region.width, region.top + region.height))
    corners = (corners - (part.left, part.top)) / (part.width, part.height)
    if view.flip:
        corners[:, :, 0] = 1 - corners[::-1, :, 0]
    first, extent = np.array([place.left, place.top]), np.array([place.width, place.height])
    limits = (first, first + extent) if bound else (0, size)
    low, high = (first + corners * extent).clip(*limits) / size
    moved = boxes.copy()
    moved[:, 1:3] = (low + high) / 2
    moved[:, 3:5] = high - low
    return moved


def _turned(corners: NDArray[np.float64], view: View) -> NDArray[np.float64]:
    """Corners (2, n, 2) of the boxes around turned boxes."""
    rotation, centre = _rotation(view)
    low, high = corners
    middle = ((low + high) / 2 - centre) @ rotation.T + centre
    reach = (high - low) / 2 @ np.abs(rotation).T
    return np.stack([middle - reach, middle + reach])
