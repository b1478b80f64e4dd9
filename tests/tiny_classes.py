"""A classifier's job that is trained in a second: small pictures, red, green or blue."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CFG = """\
[net]
batch=6
subdivisions={subdivisions}
width=8
height=8
channels=3
learning_rate={learning_rate}
policy=constant
max_batches={max_batches}
min_crop=8
max_crop=10
{more}

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
filters={filters}
size=1
activation=linear

[avgpool]

[softmax]
"""

NAMES = ("red", "green", "blue")


def write_cfg(
    folder: Path,
    name: str = "colours.cfg",
    *,
    max_batches: int = 6,
    learning_rate: float = 0.05,
    subdivisions: int = 1,
    filters: int = 3,
    more: str = "",
) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        CFG.format(max_batches=max_batches, learning_rate=learning_rate, subdivisions=subdivisions, filters=filters,
                   more=more)
    )  # fmt: skip
    return path


def write_picture(path: Path, class_id: int, seed: int = 0) -> Path:
    """A picture of 14 x 10 pixels in the colour of a class, with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 90, (10, 14, 3), dtype=np.uint8)
    image[:, :, 2 - class_id] += 150  # OpenCV's order is blue, green, red
    assert cv2.imwrite(str(path), image)
    return path


def write_folders(folder: Path, train: int = 4, val: int = 2) -> Path:
    """``train/<colour>/*.png`` and ``val/<colour>/*.png``; returns the folder."""
    for split, count in (("train", train), ("val", val)):
        for class_id, name in enumerate(NAMES):
            for number in range(count):
                write_picture(folder / split / name / f"{number}.png", class_id, seed=100 * class_id + number)
    return folder


def write_lists(folder: Path, train: int = 4, val: int = 2) -> Path:
    """Darknet's form: pictures in one folder with their class in the name, lists, labels; returns the .data file."""
    for split, count in (("train", train), ("valid", val)):
        paths = [
            write_picture(folder / "pictures" / f"{split}{number}_{name}.png", class_id, seed=10 * class_id + number)
            for number in range(count)
            for class_id, name in enumerate(NAMES)
        ]
        (folder / f"{split}.list").write_text("".join(f"{path.relative_to(folder)}\n" for path in paths))
    (folder / "labels.list").write_text("_red.\n_green.\n_blue.\n")
    (folder / "colours.names").write_text("Red\nGreen\nBlue\n")
    path = folder / "colours.data"
    path.write_text(
        "classes=3\ntrain=train.list\nvalid=valid.list\nlabels=labels.list\nnames=colours.names\ntop=2\nbackup=backup\n"
    )
    return path


def write_job(folder: Path, **cfg: int | float | str) -> Path:
    """``colours.cfg`` and its data set as folders, ``colours``; the cfg."""
    write_folders(folder / "colours")
    return write_cfg(folder, **cfg)  # type: ignore[arg-type]
