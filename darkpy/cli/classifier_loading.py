"""From the files a command names to a classifier ready for use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy import resources
from darkpy.cli.arguments import Files
from darkpy.errors import ConfigError, DataError

if TYPE_CHECKING:
    from darkpy.network import Network


@dataclass(frozen=True)
class Classifier:
    """A network with its weights and class names, how many classes to show, and in words what it is."""

    network: Network
    top: int | None
    description: str


def load_classifier(
    files: Files, *, device: str = "auto", batch: int | None = None, precision: str = "fp32"
) -> Classifier:
    """Build the network of the files and find the names of its classes.

    From the names or data file that is given, which must fit; else from the first of these that has as many: a names
    file beside the weights or the cfg, called like the cfg; the data set that goes with the cfg by its name; else the
    numbers.
    """
    from darkpy.classification import check_classifier, output_layer
    from darkpy.network import Network

    if files.cfg is None or files.weights is None:
        raise click.UsageError("a .cfg and a .weights file are needed")
    network = Network.from_cfg(files.cfg, files.weights, batch=batch, device=device, precision=precision)
    check_classifier(network)
    names, top, source = _names(files, network, output_layer(network).outputs)
    network.names = list(names)
    size = f"{network.width}x{network.height}"
    known = f"{len(network.names)} classes ({source})"
    return Classifier(network, top, f"{network.config.path}   {files.weights}   {size}   {known}")


def _names(files: Files, network: Network, classes: int) -> tuple[Sequence[str], int | None, str]:
    """Names of the classes, how many to show if somebody says so, and where the names come from."""
    from darkpy.classification import check_classes
    from darkpy.config.data_files import read_names

    names: Sequence[str]
    if files.names is not None:
        names = read_names(resources.find("data", files.names))
        check_classes(network, len(names), files.names)
        return names, None, files.names
    if files.data is not None:
        names, top = _names_of_data(files.data)
        check_classes(network, len(names), files.data)
        return names, top, files.data
    for names, top, source in _likely_names(files, network.config.path):
        if len(names) == classes:
            return names, top, source
    return [str(number) for number in range(classes)], None, "no names"


def _names_of_data(source: str) -> tuple[Sequence[str], int | None]:
    from darkpy.config.data_files import read_data
    from darkpy.data.classification import open_classification

    if not Path(source).is_dir():
        description = read_data(resources.find("data", source))
        if description.names:
            return description.names, description.extra["top"] if "top" in description.lines else None
    return open_classification(source, "all").names, None


def _likely_names(files: Files, cfg: str) -> Iterator[tuple[Sequence[str], int | None, str]]:
    from darkpy.config.data_files import read_names
    from darkpy.training.settings import default_data

    for folder in (Path(files.weights or "").parent, Path(cfg).parent):
        beside = folder / f"{Path(cfg).stem}.names"
        if beside.is_file():
            yield read_names(beside), None, str(beside)
    with suppress(DataError, ConfigError):  # there need not be one
        data = str(default_data(cfg))
        yield *_names_of_data(data), data
