"""The networks that the benchmarks measure, and what they are fed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from darkpy.config.cfg import Config, Entry

ROOT = Path(__file__).resolve().parents[1]
BOXES_PER_PICTURE = 12


def with_net_keys(config: Config, keys: Mapping[str, int]) -> Config:
    """The same network with other values in [net]."""
    line = config.net.line
    others = [entry for entry in config.net.entries if entry.key not in keys]
    entries = (*(Entry(key, str(value), line) for key, value in keys.items()), *others)
    return replace(config, net=replace(config.net, entries=entries))


def in_one_part(config: Config, batch: int) -> Config:
    """The same network with another batch and ``subdivisions=1``."""
    return with_net_keys(config, {"batch": batch, "subdivisions": 1})


def random_boxes(generator: np.random.Generator, classes: int) -> np.ndarray:
    """About BOXES_PER_PICTURE rows of (class, centre x, centre y, width, height), the boxes inside the picture."""
    count = generator.poisson(BOXES_PER_PICTURE)
    sizes = generator.uniform(0.03, 0.4, (count, 2))
    centres = generator.uniform(sizes / 2, 1 - sizes / 2)
    labels = generator.integers(classes, size=(count, 1))
    return np.concatenate([labels, centres, sizes], axis=1).astype(np.float32)


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
