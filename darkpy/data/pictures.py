"""Picture files to arrays, and arrays to a network's input."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.boxes import from_middle, middle
from darkpy.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
"""Endings of the files that count as pictures where a folder is searched, in lower case.

Not ``.npy``: other programs keep such files beside pictures.
"""

_NUMPY = b"\x93NUMPY"  # what a NumPy file begins with
_FILL = np.float32(0.5)  # around a letter-boxed picture (Darknet, letterbox_image)
_ROWS_AT_A_TIME = 128  # rows of the result made at a time, so that the intermediate arrays stay in the cache


def read_picture(path: str | Path, channels: int = 3) -> NDArray[np.uint8]:
    """Read a picture as uint8 (h, w, channels): RGB for three channels, grey for one.

    For these, grey, palette, CMYK, 16-bit and transparent pictures are converted: 16 bits keep the upper 8,
    transparency is dropped. For any other number the file must have as many: PNG and TIFF with transparency have four,
    RGBA; a NumPy file (``.npy``) with an array (h, w, channels), uint8 or uint16, keeps its channels in their order.
    The orientation tag of EXIF is ignored: labels count in the pixels of the file.

    Raises:
        DataError: the file is missing, empty, cut short, not a picture, or has another number of channels.
    """
    data = _read_bytes(path)
    if data[: len(_NUMPY)].tobytes() == _NUMPY:
        return _eight_bits(_load_array(path, data), channels, path)
    if channels not in (1, 3):
        return _eight_bits(_decode(path, data, cv2.IMREAD_UNCHANGED), channels, path)
    if channels == 1:
        return _decode(path, data, cv2.IMREAD_GRAYSCALE)
    return np.asarray(cv2.cvtColor(_decode(path, data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture with any number of channels; raises as :func:`picture_shape`."""
    height, width, _ = picture_shape(path)
    return width, height


def picture_shape(path: str | Path) -> tuple[int, int, int]:
    """Height, width and channels of a picture as the file has them; it is decoded, so damage is found.

    Raises:
        DataError: as :func:`read_picture`.
    """
    data = _read_bytes(path)
    is_array = data[: len(_NUMPY)].tobytes() == _NUMPY
    image = _load_array(path, data) if is_array else _decode(path, data, cv2.IMREAD_UNCHANGED)
    height, width, channels = image.shape
    _eight_bits(image[:1, :1], channels, path)
    return height, width, channels


def _decode(path: str | Path, data: NDArray[np.uint8], flags: int) -> Any:
    """(h, w, c) as OpenCV has it; of four channels the first and third change places, which makes RGBA."""
    try:
        image = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DataError(f"cannot be decoded: {error.err}", where=str(path)) from error
    if image is None:
        raise DataError(_why_not(data), where=str(path))
    if image.ndim == 2:
        return image[:, :, np.newaxis]
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA) if image.shape[2] == 4 else image


def _why_not(data: NDArray[np.uint8]) -> str:
    """What to say of a picture that cannot be decoded."""
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.dtype in (np.uint8, np.uint16):
        return "is damaged, or not a picture of a known format"
    return f"has values of type {image.dtype}; expected uint8 or uint16"


def _load_array(path: str | Path, data: NDArray[np.uint8]) -> Any:
    """(h, w, c) of a NumPy file."""
    try:
        image = np.load(io.BytesIO(data.tobytes()), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"cannot be read as a NumPy file: {error}", where=str(path)) from error
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.ndim != 3 or not image.size:
        raise DataError(f"has an array of shape {image.shape}; expected (height, width, channels)", where=str(path))
    return image


def _eight_bits(image: Any, channels: int, path: str | Path) -> NDArray[np.uint8]:
    """A picture that has the right number of channels as uint8."""
    found = image.shape[2]
    if found != channels:
        plural = "channel" if found == 1 else "channels"
        advice = "" if channels in (1, 3) else "; a .npy file can have any number"
        raise DataError(f"has {found} {plural}, the network takes {channels}{advice}", where=str(path))
    if image.dtype == np.uint16:
        image = image >> 8
    elif image.dtype != np.uint8:
        raise DataError(f"has values of type {image.dtype}; expected uint8 or uint16", where=str(path))
    return np.ascontiguousarray(image, dtype=np.uint8)


def _read_bytes(path: str | Path) -> NDArray[np.uint8]:
    """The bytes of a picture file that is there, not empty and complete as far as its format tells."""
    # Reading here and not in OpenCV: its own file access fails on some names, and prints instead of raising.
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError("no such picture", where=str(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if not data:
        raise DataError("the file is empty", where=str(path))
    if _is_cut_short(data):
        raise DataError(f"the picture is cut short after {len(data):,} bytes", where=str(path))
    return np.frombuffer(data, np.uint8)


def _is_cut_short(data: bytes) -> bool:
    """Whether a JPEG or PNG file lacks its end; some decoders fill up the missing part with grey."""
    if data.startswith(b"\xff\xd8\xff"):
        end_of_image, start_of_scan = data.rfind(b"\xff\xd9"), data.rfind(b"\xff\xda")
        return end_of_image < start_of_scan or start_of_scan < 0
    if data.startswith(b"\x89PNG\r\n"):
        return data.rfind(b"IEND") < 0
    return False


@dataclass(frozen=True)
class Placement:
    """Where a picture lies inside a network's input of ``width`` x ``height`` pixels.

    ``fitted_width`` x ``fitted_height`` is the size the picture is resized to; the rest is filled up evenly on both
    sides. Without ``letter_box`` the picture is stretched over the whole input.
    """

    width: int
    height: int
    fitted_width: int
    fitted_height: int

    @classmethod
    def fit(
        cls, picture_width: int, picture_height: int, width: int, height: int, letter_box: bool = False
    ) -> Placement:
        """Place a picture of the given size (Darknet, letterbox_image)."""
        if not letter_box:
            return cls(width, height, width, height)
        if width * picture_height < height * picture_width:
            return cls(width, height, width, max(1, picture_height * width // picture_width))
        return cls(width, height, max(1, picture_width * height // picture_height), height)

    @property
    def left(self) -> int:
        """First column of the picture."""
        return (self.width - self.fitted_width) // 2

    @property
    def top(self) -> int:
        """First row of the picture."""
        return (self.height - self.fitted_height) // 2

    @property
    def shares(self) -> tuple[float, float]:
        """How much of the input's width and of its height the picture takes."""
        return self.fitted_width / self.width, self.fitted_height / self.height

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the picture in the input."""
        return self.left, self.top, self.fitted_width, self.fitted_height

    def to_picture(self, boxes: NDArray[np.floating]) -> NDArray[np.floating]:
        """Boxes (..., 4) as cx, cy, w, h relative to the input, made relative to the picture.

        As Darknet (correct_yolo_boxes) the margins are taken as equal, although one may be a pixel wider.
        """
        return from_middle(boxes, *self.shares)

    def to_input(self, boxes: NDArray[np.floating]) -> NDArray[np.floating]:
        """Boxes (..., 4) as cx, cy, w, h relative to the picture, made relative to the input."""
        scale, offset = middle(*self.shares, boxes.dtype)
        result = boxes * scale
        result[..., :2] += offset
        return result


def network_input(
    image: NDArray[np.uint8],
    width: int,
    height: int,
    letter_box: bool = False,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Make a network's input of a picture, number for number as Darknet does (resize_image, letterbox_image).

    Args:
        image: uint8 (h, w, channels), as :func:`read_picture` returns it.
        width: width of the network's input.
        height: height of the network's input.
        letter_box: keep the aspect ratio and fill the rest with 0.5; otherwise stretch.
        out: float32 (1, channels, height, width) to write into.

    Returns:
        float32 (1, channels, height, width), values in 0..1.
    """
    if out is None:
        out = np.empty((1, image.shape[2], height, width), np.float32)
    place = Placement.fit(image.shape[1], image.shape[0], width, height, letter_box)
    if letter_box:
        out.fill(_FILL)
    inside = out[0, :, place.top : place.top + place.fitted_height, place.left : place.left + place.fitted_width]
    _resize(image, inside)
    return out


def _resize(image: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Resize uint8 (h, w, c) into float32 (c, h', w') / 255: bilinear, corner on corner, first across, then down.

    The plain version is :func:`resize_reference`; this one gives the same bits. Only rows and columns that are used
    are touched, and columns are gathered from transposed planes, where they are contiguous.
    """
    channels, height, width = out.shape
    left, right, across = _positions(image.shape[1], width)
    upper, lower, down = _positions(image.shape[0], height)
    columns, left, right = _used(left, right)
    across_left, across_right = (1 - across)[:, np.newaxis], across[:, np.newaxis]
    down_upper, down_lower = (1 - down)[:, np.newaxis], down[:, np.newaxis]
    for start in range(0, height, _ROWS_AT_A_TIME):
        band = slice(start, min(start + _ROWS_AT_A_TIME, height))
        rows, band_upper, band_lower = _used(upper[band], lower[band])
        part = image[rows][:, columns]
        # OpenCV turns pixels of these sizes only.
        planes = cv2.split(cv2.transpose(part)) if channels in (3, 4) else list(part.transpose(2, 1, 0))
        for target, plane in zip(out[:, band], planes):
            values = np.divide(plane, np.float32(255))
            blended = values[left] * across_left
            blended += values[right] * across_right
            lines = cv2.transpose(blended)
            np.multiply(lines[band_upper], down_upper[band], out=target)
            target += lines[band_lower] * down_lower[band]


def _positions(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of ``new`` samples the two of ``old`` samples around it and the share of the second.

    Float32 arithmetic, as Darknet. The last sample is the last one of the source; Darknet does so for columns, while
    its last row fades to black where rounding leaves it short of the source's last row.
    """
    step = np.float32(old - 1) / np.float32(max(new - 1, 1))
    place = np.arange(new, dtype=np.float32) * step
    first = np.minimum(place.astype(np.intp), old - 1)
    share = place - first.astype(np.float32)
    first[-1], share[-1] = old - 1, 0
    return first, np.minimum(first + 1, old - 1), share


def _used(
    first: NDArray[np.intp], second: NDArray[np.intp]
) -> tuple[slice | NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The range of indices used, or the indices themselves where they are few, and both lists counted from there."""
    start, stop = int(first[0]), int(second[-1]) + 1
    if 2 * len(first) >= stop - start:
        return slice(start, stop), first - start, second - start
    used, inverse = np.unique(np.concatenate([first, second]), return_inverse=True)
    return used, inverse[: len(first)], inverse[len(first) :]


def resize_reference(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    """The plain version of the resize in :func:`network_input`: uint8 (h, w, c) to float32 (c, height, width)."""
    left, right, across = _positions(image.shape[1], width)
    upper, lower, down = _positions(image.shape[0], height)
    values = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    wide = values[:, :, left] * (1 - across) + values[:, :, right] * across
    high = wide[:, upper] * (1 - down)[:, np.newaxis] + wide[:, lower] * down[:, np.newaxis]
    return np.asarray(high, np.float32)
