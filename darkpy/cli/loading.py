"""From the files a command names to a detector ready for use."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy import resources
from darkpy.cli.arguments import Files
from darkpy.config.data_files import DESCRIPTION_ENDINGS
from darkpy.errors import ConfigError, DataError, InputError

if TYPE_CHECKING:
    from darkpy.network import Network

SHIPPED_CFG, SHIPPED_WEIGHTS, SHIPPED_DATA = "shapes.cfg", "shapes.weights", "shapes.yaml"
PUBLISHED_NAMES = {80: "coco.names", 20: "voc.names"}
"""Class names of the published networks, by their number, as Darknet's ``detect`` assumes them."""


@dataclass(frozen=True)
class Detector:
    """A network with its weights and class names, and in words what it is."""

    network: Network
    description: str


def load_detector(
    files: Files, *, device: str = "auto", batch: int | None = None, precision: str = "fp32"
) -> Detector:
    """Build the network of the files; with neither cfg nor weights, the small detector that comes with darkpy."""
    from darkpy.network import Network

    if files.cfg is None and files.weights is None:
        files = Files(
            cfg=str(resources.find("cfg", SHIPPED_CFG)),
            weights=str(resources.find("data", SHIPPED_WEIGHTS)),
            data=files.data or str(resources.find("data", SHIPPED_DATA)),
            names=files.names,
        )
    if files.cfg is None or files.weights is None:
        missing, given = ("cfg", files.weights) if files.cfg is None else ("weights", files.cfg)
        raise InputError(f"{given} alone is no detector; name its {missing} file too")
    network = Network.from_cfg(files.cfg, files.weights, batch=batch, device=device, precision=precision)
    warm_up(network)
    names, source = class_names(files, network.config.path, network.classes)
    network.names = names
    size = f"{network.width}x{network.height}"
    known = f"{network.classes} classes ({source})"
    return Detector(network, f"{network.config.path}   {files.weights}   {size}   {known}")


def warm_up(network: Network) -> None:
    """Get over with what the first pass on a machine waits for, and say so: it is not part of the pictures' time."""
    import numpy as np

    if network.backend.first_use is not None:
        click.echo(network.backend.first_use, err=True)
        network.forward(np.zeros((network.batch, network.channels, network.height, network.width), np.float32))


def class_names(files: Files, cfg: str, classes: int) -> tuple[Sequence[str], str]:
    """Names of the classes, and where they come from.

    From the names or data file that is given, which must fit; else from the first of these that has as many: the data
    set that goes with the cfg by its name, a names file beside the cfg, those of COCO or VOC; else the numbers.
    """
    from darkpy.config.data_files import read_names

    if files.names is not None:
        return _fitting(read_names(resources.find("data", files.names)), files.names, classes), files.names
    if files.data is not None:
        return _fitting(_names_of_data(files.data), files.data, classes), files.data
    for names, source in _likely_names(cfg, classes):
        if len(names) == classes:
            return names, source
    return [str(number) for number in range(classes)], "no names"


def _fitting(names: Sequence[str], source: str, classes: int) -> Sequence[str]:
    if len(names) != classes:
        raise ConfigError(f"has {len(names)} names, the network {classes} classes", where=source)
    return names


def _names_of_data(path: str) -> Sequence[str]:
    from darkpy.config.data_files import read_data

    if Path(path).suffix.lower() in DESCRIPTION_ENDINGS and (names := read_data(resources.find("data", path)).names):
        return names
    from darkpy.data.opening import open_splits

    return next(iter(open_splits(path).values())).names


def _likely_names(cfg: str, classes: int) -> list[tuple[Sequence[str], str]]:
    from darkpy.config.data_files import read_names
    from darkpy.training.settings import default_data

    found: list[tuple[Sequence[str], str]] = []
    with suppress(DataError, ConfigError):  # there need not be one
        data = default_data(cfg)
        found.append((_names_of_data(str(data)), str(data)))
    beside = Path(cfg).with_suffix(".names")
    published = PUBLISHED_NAMES.get(classes)
    candidates = [beside if beside.is_file() else None, resources.find("data", published) if published else None]
    return found + [(read_names(path), path.name) for path in candidates if path is not None]
