"""A detection job that is trained in a second: eight small pictures with one coloured square each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]

CFG = """\
[net]
batch=4
subdivisions=2
width=32
height=32
channels=3
learning_rate={learning_rate}
burn_in=2
power=1
policy=constant
max_batches={max_batches}

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters={filters}
size=1
activation=linear

[yolo]
mask=0,1
anchors=8,8, 16,16
classes=2
num=2
jitter=.1
random={random}
"""


def write_cfg(
    folder: Path,
    name: str = "tiny.cfg",
    *,
    max_batches: int = 6,
    learning_rate: float = 0.001,
    random: float = 0,
    filters: int = 14,
) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = CFG.format(max_batches=max_batches, learning_rate=learning_rate, random=random, filters=filters)
    path.write_text(text)
    return path


def write_pictures(folder: Path, count: int = 8) -> list[Path]:
    """Pictures of 40 x 30 pixels, each with a square of class 0 (bright) or 1 (dark), and their label files."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    paths = []
    for number in range(count):
        image = generator.integers(90, 160, (30, 40, 3), dtype=np.uint8)
        x, y = int(generator.integers(0, 28)), int(generator.integers(0, 18))
        image[y : y + 12, x : x + 12] = 255 if number % 2 == 0 else 0
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), image)
        path.with_suffix(".txt").write_text(
            f"{number % 2} {(x + 6) / 40:.6f} {(y + 6) / 30:.6f} {12 / 40:.6f} {12 / 30:.6f}\n"
        )
        paths.append(path)
    return paths


def write_job(folder: Path, **cfg: float) -> Path:
    """``tiny.cfg`` and its data set ``data/tiny.yaml`` with six pictures to train and two to validate; the cfg."""
    pictures = write_pictures(folder / "pictures")
    (folder / "data").mkdir(exist_ok=True)
    for split, chosen in (("train", pictures[:6]), ("val", pictures[6:])):
        (folder / "data" / f"{split}.txt").write_text("".join(f"{path}\n" for path in chosen))
    (folder / "data" / "tiny.yaml").write_text("train: train.txt\nval: val.txt\nnames: [bright, dark]\n")
    (folder / "data" / "tiny.names").write_text("bright\ndark\n")
    (folder / "tiny.data").write_text(
        "classes=2\ntrain=data/train.txt\nvalid=data/val.txt\nnames=data/tiny.names\nbackup=backup\n"
    )
    return write_cfg(folder, **cfg)  # type: ignore[arg-type]


def environment() -> dict[str, str]:
    """For a process of its own: this checkout, and no compiling."""
    # PyCUDA may have been installed somewhere along this path.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "DARKPY_NUMBA": "0", "PYTHONUNBUFFERED": "1"}


def darkpy(
    *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m darkpy`` as a real process, in :func:`environment` unless another is given."""
    command = [sys.executable, "-m", "darkpy", *map(str, arguments)]
    env = environment() if env is None else env
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)
