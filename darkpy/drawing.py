"""Drawing detections on a picture: boxes in one colour per class, with labels that can be read."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpy.errors import InputError

if TYPE_CHECKING:
    from darkpy.detection import Detection

Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside

_GOLDEN_RATIO = 0.618034
_DARK_TEXT, _LIGHT_TEXT = (16, 16, 16), (255, 255, 255)


def draw(
    image_bgr: np.ndarray,
    detections: Iterable[Detection],
    font: str | Path | None = None,
    *,
    probabilities: bool = True,
) -> NDArray[np.uint8]:
    """A copy of the picture with a box and a label, such as "dog 87 %", for each detection.

    image_bgr: uint8 (h, w, 3) BGR, (h, w, 4) BGRA or grey (h, w); the result is (h, w, 3) BGR.
    font: a TrueType file for the labels; the default, DejaVu Sans Bold, knows the European, Greek, Cyrillic, Arabic
    and many other alphabets but no Chinese, Japanese or Korean.
    probabilities: whether the labels have them.

    Line width and text follow the picture's size. The most probable detections are on top and get the best places
    for their labels.
    """
    canvas = _color_copy(image_bgr)
    shown = sorted((d for d in detections if not d.hidden), key=lambda d: d.probability)
    height, width = canvas.shape[:2]
    line = max(1, round(math.sqrt(width * height) / 240))
    for detection in shown:
        _draw_box(canvas, _pixel_box(detection, width, height), class_color(detection.class_id), line)
    size = max(11, round(math.sqrt(width * height) / 40))
    taken = np.empty((len(shown), 4), np.int64)
    for number, detection in enumerate(reversed(shown)):
        text = f"{detection.name} {100 * detection.probability:.0f} %" if probabilities else detection.name
        color = class_color(detection.class_id)
        label = _label(text, color, size, width, None if font is None else str(font))
        box = _pixel_box(detection, width, height)
        place = _place(label.shape[1], label.shape[0], box, line, width, height, taken[:number])
        taken[number] = left, top, right, bottom = place
        canvas[top:bottom, left:right] = label[: bottom - top, : right - left]
    return canvas


@lru_cache(maxsize=1024)
def class_color(class_id: int) -> Color:
    """The BGR colour of a class: always the same, far from its neighbours', seen on dark and on light pictures."""
    angle = 2 * math.pi * (0.08 + class_id * _GOLDEN_RATIO)
    lightness, chroma = ((0.75, 0.18), (0.85, 0.11), (0.64, 0.21))[class_id // 7 % 3]
    return _oklab_color(lightness, chroma * math.cos(angle), chroma * math.sin(angle))


def _oklab_color(lightness: float, a: float, b: float) -> Color:
    """The BGR colour of a point of the Oklab space (Ottosson 2020), in which equal steps look equally far."""
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    return _byte(blue), _byte(green), _byte(red)


def _byte(linear: float) -> int:
    """A channel's light, 0..1, as an sRGB value 0..255."""
    linear = min(max(linear, 0.0), 1.0)
    return round(255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055))


def text_color(background: Color) -> Color:
    """Near black or white, whichever has the greater contrast to a BGR background (WCAG 2 relative luminance)."""
    return max(_DARK_TEXT, _LIGHT_TEXT, key=lambda color: contrast(color, background))


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio of two BGR colours, 1..21 (WCAG 2); text is easy to read from 4.5 on."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: Color) -> float:
    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    blue, green, red = (linear(value / 255) for value in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _color_copy(image: np.ndarray) -> NDArray[np.uint8]:
    import cv2

    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise InputError(f"a picture is a uint8 array (height, width, 3); this is {image.dtype} {tuple(image.shape)}")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(image[..., :3]).copy()


def _pixel_box(detection: Detection, width: int, height: int) -> Rectangle:
    """The part of the box inside the picture, in whole pixels."""
    left, top, right, bottom = (np.nan_to_num(edge, posinf=1e9, neginf=-1e9) for edge in detection.corners)
    return (
        int(np.clip(round(left), 0, width - 1)),
        int(np.clip(round(top), 0, height - 1)),
        int(np.clip(round(right), 1, width)),
        int(np.clip(round(bottom), 1, height)),
    )


def _draw_box(canvas: NDArray[np.uint8], box: Rectangle, color: Color, line: int) -> None:
    """A frame just inside the box, with a thin darker edge on either side that shows on every background."""
    edge = max(1, line // 3)
    _frame(canvas, box, line + 2 * edge, tuple(value // 4 for value in color), opacity=0.55)
    left, top, right, bottom = box
    _frame(canvas, (left + edge, top + edge, right - edge, bottom - edge), line, color, opacity=1)


def _frame(canvas: NDArray[np.uint8], box: Rectangle, line: int, color: Sequence[int], opacity: float) -> None:
    left, top, right, bottom = box
    across, down = min(line, right - left), min(line, bottom - top)
    if across < 1 or down < 1:
        return
    sides = (
        (slice(top, top + down), slice(left, right)),
        (slice(bottom - down, bottom), slice(left, right)),
        (slice(top + down, bottom - down), slice(left, left + across)),
        (slice(top + down, bottom - down), slice(right - across, right)),
    )
    for rows, columns in sides:
        part = canvas[rows, columns]
        part[...] = np.rint(part * (1 - opacity) + np.array(color) * opacity)


def _place(
    label_width: int,
    label_height: int,
    box: Rectangle,
    line: int,
    width: int,
    height: int,
    taken: NDArray[np.int64],
) -> Rectangle:
    """The first place for a label at its box that is free and in the picture, else the least covered one."""
    best: Rectangle | None = None
    least = math.inf
    for x, y in _candidates(label_width, label_height, box):
        left = max(0, min(x, width - label_width))
        top = max(0, min(y, height - label_height))
        place = (left, top, min(left + label_width, width), min(top + label_height, height))
        moved = abs(left - x) + abs(top - y)
        covered = _covered(place, taken) + moved * line
        if covered < least:
            best, least = place, covered
        if least == 0:
            break
    assert best is not None
    return best


def _candidates(label_width: int, label_height: int, box: Rectangle) -> Iterator[tuple[int, int]]:
    """Left top corners for a label: over the box, under it, inside it; left and right; then further down inside."""
    left, top, right, bottom = box
    for y in (top - label_height, top, bottom, bottom - label_height):
        yield left, y
        yield right - label_width, y
    for step in range(1, max((bottom - top) // label_height, 1)):
        yield left, top + step * label_height


def _covered(place: Rectangle, taken: NDArray[np.int64]) -> int:
    """How much of a place others, (n, 4), cover, in pixels, one above the other counted twice."""
    left, top, right, bottom = taken.T
    across = np.minimum(place[2], right) - np.maximum(place[0], left)
    down = np.minimum(place[3], bottom) - np.maximum(place[1], top)
    return int(np.maximum(across, 0) @ np.maximum(down, 0))


def _label(text: str, color: Color, size: int, room: int, font: str | None) -> NDArray[np.uint8]:
    """Text on a filled ground, uint8 (h, w, 3) BGR, no wider than ``room``: a name too long ends in an ellipsis."""
    from PIL import Image, ImageDraw

    letters = _font(size, font)
    pad = max(2, round(size * 0.28))
    text = " ".join(text.split())
    shortened = text
    while letters.getlength(shortened) + 2 * pad > room and len(text) > 1:
        text = text[:-1]
        shortened = text.rstrip() + "…"
    ascent, descent = letters.getmetrics()
    label_width = math.ceil(letters.getlength(shortened)) + 2 * pad
    label = Image.new("RGB", (label_width, ascent + descent + pad), color[::-1])
    pencil = ImageDraw.Draw(label)
    edge = tuple(value // 2 for value in color[::-1])
    pencil.rectangle((0, 0, label.width - 1, label.height - 1), outline=edge)
    pencil.text((pad, pad // 2), shortened, font=letters, fill=text_color(color)[::-1])
    return np.ascontiguousarray(np.asarray(label)[..., ::-1])


def write(image: NDArray[np.uint8], text: str, left: int, top: int, size: int, color: Color = (40, 40, 40)) -> None:
    """Write a line into a BGR picture (h, w, 3), ``size`` pixels high; what does not fit is cut off."""
    from PIL import Image, ImageDraw

    room = image[top : top + round(1.4 * size), left:]
    if not room.size:
        return
    part = Image.fromarray(np.ascontiguousarray(room[..., ::-1]))
    ImageDraw.Draw(part).text((0, 0), text, font=_font(size, _bundled_font("DejaVuSans.ttf")), fill=color[::-1])
    room[:] = np.asarray(part)[..., ::-1]


@lru_cache(maxsize=32)
def _font(size: int, path: str | None) -> Any:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(path or _bundled_font(), size)
    except OSError as error:
        raise InputError(f"cannot be used as a font: {error}", where=path or "") from error


def _bundled_font(name: str = "DejaVuSans-Bold.ttf") -> str:
    return str(font_folder() / name)


def font_folder() -> Path:
    """The folder of the DejaVu fonts, which come with matplotlib; found without the cost of importing matplotlib."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise OSError("matplotlib, which brings the font of the labels, is not installed")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
