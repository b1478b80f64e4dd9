"""The built-in data set: darkpy draws it itself, so that there is something to train with on any machine.

Coloured shapes, digits and letters, turned and distorted, of several sizes, some partly behind others, on textured
backgrounds. Everything random comes from one seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.config.data_files import DataDescription
from darkpy.data.workers import SHAPES, generator, thread_count
from darkpy.errors import ConfigError, DataError, Problem, suggestion
from darkpy.files import atomic_write

NAMES = ("circle", "square", "triangle", "star", "cross", "ring", "3", "4", "7", "A", "K", "S")
"""The classes, in order."""

_VERSION = 3  # of the way pictures are drawn; another one means drawing again
_MARKER = "complete.json"  # written last: without it the folder is not finished
_SPLITS = ("train", "val")

_SIDES = (160, 176, 192)  # of a picture, pixels
_JPEG_QUALITY = 92
_MOST_OBJECTS = 7
_SMALLEST, _LARGEST = 36.0, 100.0  # of an object, pixels
_TRIES = 12  # places tried for an object before it is left out
_MOST_HIDDEN = 0.25  # part of an object that later ones may cover

_MARGIN = 10  # pixels around an object that its shadow may reach
_STENCIL = 128  # side of the square an object is drawn in before it is distorted
_REACH = 48.0  # half the size of an object in its stencil
_TYPEFACES = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX_SMALL,
    cv2.FONT_HERSHEY_SIMPLEX | cv2.FONT_ITALIC,
    cv2.FONT_HERSHEY_TRIPLEX | cv2.FONT_ITALIC,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ShapesOptions:
    """What the ``shapes:`` part of a data description may say."""

    folder: str = "data/shapes"
    train: int = 2000
    val: int = 400
    seed: int = 1


def ensure_shapes(description: DataDescription, notify: Callable[[str], None]) -> Path:
    """The folder of the data set a description asks for, drawn first if it is not there or not complete.

    Raises:
        ConfigError: the description asks for something that cannot be drawn.
        DataError: the pictures cannot be written.
    """
    if description.names != NAMES:
        message = f"names: the classes of the shapes are {', '.join(NAMES)}, in this order"
        raise ConfigError(message, where=description.where("names"))
    options = _read_options(description.extra, description.where("shapes"))
    folder = Path(options.folder)
    if not is_complete(folder, options):
        count = options.train + options.val
        notify(f"drawing the built-in data set: {count:,} pictures into {folder}, a few seconds")
        draw_dataset(folder, options)
    return folder


def _read_options(given: Mapping[str, Any], where: str) -> ShapesOptions:
    """The options of a description, checked; ConfigError with all problems."""
    known = {key: type(default) for key, default in asdict(ShapesOptions()).items()}
    least: dict[str, int] = {"train": 1, "val": 1, "seed": 0}
    problems = []
    for key, value in given.items():
        if key not in known:
            problems.append(Problem(where, f"shapes: there is no option {key!r}{suggestion(str(key), known)}"))
        elif type(value) is not known[key]:
            expected = "a folder" if known[key] is str else "a whole number"
            problems.append(Problem(where, f"shapes: {key}: expected {expected}, not {value!r}"))
        elif key in least and value < least[key]:
            problems.append(Problem(where, f"shapes: {key}: expected at least {least[key]}, not {value}"))
    if problems:
        raise ConfigError(problems=problems)
    return ShapesOptions(**given)


def is_complete(folder: Path, options: ShapesOptions) -> bool:
    """Whether the folder holds all pictures that these options ask for."""
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(marker == _marker(options))


def _marker(options: ShapesOptions) -> dict[str, Any]:
    # Where the folder is does not change what is in it.
    return {"version": _VERSION, **{key: value for key, value in asdict(options).items() if key != "folder"}}


def draw_dataset(folder: Path, options: ShapesOptions, threads: int | None = None) -> None:
    """Draw all pictures into a folder: ``train/``, ``val/``, the lists ``train.txt`` and ``val.txt``, the names.

    Raises DataError if they cannot be written.
    """
    try:
        (folder / _MARKER).unlink(missing_ok=True)
        for number, split in enumerate(_SPLITS):
            (folder / split).mkdir(parents=True, exist_ok=True)
            paths = [folder / split / f"{index:05d}.jpg" for index in range(getattr(options, split))]
            _draw_files(paths, (options.seed, SHAPES, number), threads or thread_count())
            _write_text(folder / f"{split}.txt", "".join(f"{path.as_posix()}\n" for path in paths))
        _write_text(folder / "shapes.names", "".join(f"{name}\n" for name in NAMES))
        _write_text(folder / _MARKER, json.dumps(_marker(options)) + "\n")
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(error.filename or folder)) from error


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(text)


def _draw_files(paths: list[Path], seed: tuple[int, ...], threads: int) -> None:
    def draw(index: int) -> None:
        image, boxes = draw_picture(generator(*seed, index))
        _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        lines = (f"{int(kind)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for kind, x, y, w, h in boxes)
        paths[index].write_bytes(data.tobytes())
        paths[index].with_suffix(".txt").write_text("".join(lines), encoding="utf-8")

    pool = ThreadPoolExecutor(threads)
    try:
        for _ in pool.map(draw, range(len(paths))):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def draw_picture(rng: np.random.Generator) -> tuple[NDArray[np.uint8], Floats]:
    """One picture, uint8 (h, w, 3) RGB, and its boxes, float32 (n, 5), rows (class, cx, cy, w, h), relative."""
    width, height = (int(side) for side in rng.choice(_SIDES, 2))
    canvas = _background(rng, width, height)
    placed: list[tuple[int, NDArray[np.bool_]]] = []
    visible: list[NDArray[np.bool_]] = []
    for _ in range(int(rng.integers(1, _MOST_OBJECTS + 1))):
        kind = int(rng.integers(len(NAMES)))
        mask = _place(rng, kind, width, height, [full for _, full in placed], visible)
        if mask is None:
            continue
        solid = mask > 0.5
        visible = [seen & ~solid for seen in visible] + [solid]
        placed.append((kind, solid))
        _paint(rng, canvas, mask)
    _develop(rng, canvas)
    boxes = [_box(kind, solid) for kind, solid in placed]
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return image, np.array(boxes, np.float32).reshape(-1, 5)


def _box(kind: int, solid: NDArray[np.bool_]) -> tuple[float, ...]:
    """Class and relative box around the pixels of an object."""
    height, width = solid.shape
    x, y, w, h = cv2.boundingRect(solid.astype(np.uint8))
    return kind, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height


def _place(
    rng: np.random.Generator,
    kind: int,
    width: int,
    height: int,
    full: list[NDArray[np.bool_]],
    visible: list[NDArray[np.bool_]],
) -> Floats | None:
    """Coverage (h, w) in 0..1 of an object at a place where it hides no other too much; None if none was found."""
    stencil = _stencil(rng, kind)
    for _ in range(_TRIES):
        mask = _distort(rng, stencil, width, height)
        solid = mask > 0.5
        if not solid.any():
            continue
        remaining = (np.count_nonzero(seen & ~solid) for seen in visible)
        if all(left >= (1 - _MOST_HIDDEN) * np.count_nonzero(whole) for left, whole in zip(remaining, full)):
            return mask
    return None


def _stencil(rng: np.random.Generator, kind: int) -> NDArray[np.uint8]:
    """An object upright in the middle of a square, 255 where it is."""
    stencil = np.zeros((_STENCIL, _STENCIL), np.uint8)
    name = NAMES[kind]
    if name in _OUTLINES:
        points = np.array(_OUTLINES[name](rng), np.float32) * _REACH + _STENCIL / 2
        cv2.fillPoly(stencil, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    elif name in ("circle", "ring"):
        centre = (_STENCIL // 2, _STENCIL // 2)
        cv2.circle(stencil, centre, int(_REACH), 255, -1, cv2.LINE_AA)
        if name == "ring":
            cv2.circle(stencil, centre, int(_REACH * rng.uniform(0.5, 0.72)), 0, -1, cv2.LINE_AA)
    else:
        _write_character(rng, stencil, name)
    return stencil


def _write_character(rng: np.random.Generator, stencil: NDArray[np.uint8], text: str) -> None:
    """A character in one of OpenCV's typefaces, as high as the other objects."""
    face = int(rng.choice(_TYPEFACES))
    thickness = int(rng.integers(6, 15))
    (_, natural_height), _ = cv2.getTextSize(text, face, 1.0, 1)
    scale = (2 * _REACH - thickness) / natural_height
    (width, height), _ = cv2.getTextSize(text, face, scale, thickness)
    corner = ((_STENCIL - width) // 2, (_STENCIL + height) // 2)
    cv2.putText(stencil, text, corner, face, scale, 255, thickness, cv2.LINE_AA)


def _regular(corners: int, inner: float = 1.0) -> list[tuple[float, float]]:
    """A polygon whose every second corner is drawn in to ``inner``; the first points up."""
    angles = np.arange(corners) * 2 * np.pi / corners
    radii = np.where(np.arange(corners) % 2, inner, 1.0)
    return list(zip(radii * np.sin(angles), -radii * np.cos(angles)))


def _cross(rng: np.random.Generator) -> list[tuple[float, float]]:
    arm = rng.uniform(0.24, 0.38)
    quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    turned = []
    for _ in range(4):
        turned += quarter
        quarter = [(-y, x) for x, y in quarter]
    return turned


# The corners of each polygon, in a square from -1 to 1.
_OUTLINES: dict[str, Callable[[np.random.Generator], list[tuple[float, float]]]] = {
    "square": lambda rng: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": lambda rng: _regular(3),
    "star": lambda rng: _regular(10, rng.uniform(0.38, 0.52)),
    "cross": _cross,
}


def _distort(rng: np.random.Generator, stencil: NDArray[np.uint8], width: int, height: int) -> Floats:
    """The stencil turned, sheared, put in perspective and moved to a random place: coverage (h, w) in 0..1."""
    size = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
    # Turned further, a square is no square to most people, and a character another one: 7 and L, 4 and h.
    turn = rng.uniform(-0.5, 0.5)
    stretch = np.exp(rng.uniform(-0.25, 0.25))
    shear = rng.uniform(-0.2, 0.2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shape = rotation @ np.array([[stretch, shear], [0, 1 / stretch]])
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    quad = (corners + rng.uniform(-0.1, 0.1, (4, 2))) @ shape.T * size / 2
    reach = np.abs(quad).max(axis=0)
    room = np.array([width, height]) / 2 - reach - 1
    if (room < 0).any():
        quad *= min((np.array([width, height]) / 2 - 1) / reach)
        room = room.clip(0)
    quad += np.array([width, height]) / 2 + rng.uniform(-1, 1, 2) * room
    frame = corners * _REACH + (_STENCIL - 1) / 2
    matrix = cv2.getPerspectiveTransform(frame.astype(np.float32), quad.astype(np.float32))
    # Shrinking without blurring first leaves jagged edges.
    blur = max(0.0, 2 * _REACH / size - 1) / 2
    soft = cv2.GaussianBlur(stencil, (0, 0), blur) if blur > 0.2 else stencil
    mask = cv2.warpPerspective(soft, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(mask / np.float32(255), np.float32)


def _paint(rng: np.random.Generator, canvas: Floats, mask: Floats) -> None:
    """Put an object on the canvas (3, h, w): one colour, or two that run into each other; edges and shadows on some."""
    x, y, w, h = cv2.boundingRect((mask > 0).astype(np.uint8))
    window = np.s_[max(y - _MARGIN, 0) : y + h + _MARGIN, max(x - _MARGIN, 0) : x + w + _MARGIN]
    canvas, mask = canvas[:, window[0], window[1]], mask[window]
    under = canvas[:, mask > 0.5]
    colour = _contrasting_colour(rng, under)[:, np.newaxis, np.newaxis]
    if rng.random() < 0.35:
        shift = np.array([[1, 0, rng.uniform(2, 5)], [0, 1, rng.uniform(2, 5)]], np.float32)
        shadow = cv2.GaussianBlur(cv2.warpAffine(mask, shift, mask.shape[::-1]), (0, 0), 2.0)
        canvas *= 1 - np.float32(rng.uniform(0.3, 0.6)) * shadow
    paint = colour
    if rng.random() < 0.4:
        paint = colour + (_ramp(rng, *mask.shape[::-1]) - 0.5) * np.float32(rng.uniform(30, 70))
    if rng.random() < 0.3:
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8))
        paint = paint * (0.45 + 0.55 * inside)
    canvas += mask * (paint - canvas)


def _contrasting_colour(rng: np.random.Generator, under: Floats) -> Floats:
    """A colour that stands out from nearly all of the pixels (3, n) under it."""
    few = under[:, :: max(1, under.shape[1] // 64)]
    colours = _colours(rng, 6, 0.35, 1.0)
    distances = np.abs(colours[:, :, np.newaxis] - few).sum(axis=1)
    distances.sort(axis=1)
    least = distances[:, distances.shape[1] // 5]
    # Not always the one that differs most: that would be the same few colours everywhere.
    good = np.flatnonzero(least > 150)
    return np.asarray(colours[good[0] if len(good) else least.argmax()])


def _colours(rng: np.random.Generator, count: int, least_saturation: float, most_saturation: float) -> Floats:
    """Colours, float32 (count, 3), RGB in 0..255."""
    hsv = rng.uniform([0, least_saturation, 0.15], [360, most_saturation, 1], (count, 3)).astype(np.float32)
    return np.asarray(cv2.cvtColor(hsv[np.newaxis], cv2.COLOR_HSV2RGB)[0] * np.float32(255), np.float32)


def _background(rng: np.random.Generator, width: int, height: int) -> Floats:
    """A textured background, float32 (3, h, w) in 0..255: two colours mixed by one or two patterns."""
    share = _pattern(rng, width, height)
    if rng.random() < 0.5:
        share = share * np.float32(0.6) + _pattern(rng, width, height) * np.float32(0.4)
    first, second = _colours(rng, 2, 0.05, 0.6)
    difference = (second - first) * np.float32(rng.uniform(0.3, 0.8))
    canvas = first[:, np.newaxis, np.newaxis] + difference[:, np.newaxis, np.newaxis] * share
    if rng.random() < 0.3:
        _scribble(rng, canvas)
    return canvas


def _scribble(rng: np.random.Generator, canvas: Floats) -> None:
    """A few thin lines that belong to nothing."""
    height, width = canvas.shape[1:]
    for _ in range(int(rng.integers(2, 9))):
        x1, x2, y1, y2 = (int(value) for value in rng.integers([0, 0, 0, 0], [width, width, height, height]))
        thickness = int(rng.integers(1, 3))
        for plane, value in zip(canvas, _colours(rng, 1, 0.0, 0.8)[0]):
            cv2.line(plane, (x1, y1), (x2, y2), float(value), thickness)


def _coordinates(rng: np.random.Generator, width: int, height: int) -> tuple[Floats, Floats]:
    """Pixel coordinates along and across a random direction, each (h, w)."""
    angle = rng.uniform(0, np.pi)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, np.newaxis]
    along = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    across = np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x
    return along, across


def _ramp(rng: np.random.Generator, width: int, height: int) -> Floats:
    along, _ = _coordinates(rng, width, height)
    return np.asarray((along - along.min()) / (along.max() - along.min()), np.float32)


def _stripes(rng: np.random.Generator, width: int, height: int) -> Floats:
    along, across = _coordinates(rng, width, height)
    bend = rng.uniform(0, 6) * np.sin(across * np.float32(rng.uniform(0.02, 0.12)))
    wave = np.sin((along + bend) * np.float32(2 * np.pi / rng.uniform(6, 40)))
    return np.asarray((wave * rng.uniform(1, 6)).clip(-1, 1) / 2 + 0.5, np.float32)


def _checker(rng: np.random.Generator, width: int, height: int) -> Floats:
    along, across = _coordinates(rng, width, height)
    side = np.float32(rng.uniform(8, 30))
    return np.asarray((np.floor(along / side) + np.floor(across / side)) % 2, np.float32)


def _clouds(rng: np.random.Generator, width: int, height: int) -> Floats:
    cells = int(rng.integers(3, 24))
    coarse = rng.random((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32).clip(0, 1)


def _grain(rng: np.random.Generator, width: int, height: int) -> Floats:
    return np.asarray(rng.random((height, width), dtype=np.float32))


def _dots(rng: np.random.Generator, width: int, height: int) -> Floats:
    along, across = _coordinates(rng, width, height)
    step = np.float32(2 * np.pi / rng.uniform(8, 28))
    hills = np.sin(along * step) * np.sin(across * step)
    return np.asarray((hills * 4).clip(0, 1), np.float32)


_PATTERNS = (_ramp, _stripes, _checker, _clouds, _clouds, _grain, _dots)


def _pattern(rng: np.random.Generator, width: int, height: int) -> Floats:
    """One of the patterns, float32 (h, w) in 0..1."""
    return _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng, width, height)


def _develop(rng: np.random.Generator, canvas: Floats) -> None:
    """What a camera adds: uneven light, a little blur, noise."""
    height, width = canvas.shape[1:]
    canvas *= 1 + (_ramp(rng, width, height) - np.float32(0.5)) * np.float32(rng.uniform(0, 0.5))
    if rng.random() < 0.3:
        sigma = rng.uniform(0.4, 1.1)
        for plane in canvas:
            cv2.GaussianBlur(plane, (0, 0), sigma, dst=plane)
    # Uniform noise looks like normal noise here and is made in a fifth of the time.
    canvas += (rng.random(canvas.shape, dtype=np.float32) - np.float32(0.5)) * np.float32(rng.uniform(0, 35))
