"""Darknet's ``.weights`` files.

Layout: int32 major, minor, revision; ``seen`` as uint64 if ``major * 10 + minor >= 2``, else uint32; then the
parameters of each layer in cfg order as little-endian float32 (Darknet, load_weights_upto). There are no names or
sizes in the file, so everything hangs on the cfg being the right one: a file that does not end exactly at the end of
a layer is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darkpy.errors import WeightsError
from darkpy.files import atomic_write

if TYPE_CHECKING:
    from darkpy.layers.base import Layer, Parameter
    from darkpy.network import Network

VERSION = (0, 2, 5)
FLOAT = np.dtype("<f4")
SCALES = ("scales", "rolling_mean", "rolling_variance")
OF_CONNECTED_PARTS = ("connected", "rnn", "gru", "lstm")


@dataclass(frozen=True)
class Header:
    """First bytes of a file: version, pictures seen, where the parameters begin."""

    major: int
    minor: int
    revision: int
    seen: int
    nbytes: int

    @property
    def is_transposed(self) -> bool:
        """Whether connected weights are stored input-major, as very old files have them."""
        return self.major > 1000 or self.minor > 1000


def read_header(path: str | Path) -> Header:
    """Version and ``seen`` of a file; raises :class:`WeightsError` if it is too short to be one."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(20)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    if len(start) >= 12:
        major, minor, revision = (int(v) for v in np.frombuffer(start, "<i4", 3))
        seen_type = np.dtype("<u8" if major * 10 + minor >= 2 else "<u4")
        if len(start) >= 12 + seen_type.itemsize:
            seen = int(np.frombuffer(start, seen_type, 1, offset=12)[0])
            return Header(major, minor, revision, seen, 12 + seen_type.itemsize)
    raise WeightsError(f"is no weights file: {len(start)} bytes are too few for its header", where=str(path))


def load(network: Network, path: str | Path, *, partial: bool = False) -> int:
    """Fill a network from a file and set ``network.seen``; returns the number of layers with weights filled.

    Layers with ``dontload`` keep their starting values and have no place in the file; ``dontloadscales`` leaves out
    the batch-norm scales and statistics. With ``partial`` the file may end after any layer (weights for the first
    layers, made to start a training from). Nothing in the network changes if the file is refused.
    """
    path = Path(path)
    header = read_header(path)
    values = _values(path, header)
    layers = [layer for layer in network.layers if _stored(layer)]
    taken: list[tuple[Layer, Parameter, np.ndarray]] = []
    filled = 0
    position = 0
    for layer in layers:
        if partial and filled and position == len(values):
            break
        for parameter in _stored(layer):
            stop = position + parameter.size
            if stop > len(values):
                raise _truncated(path, network, layer, parameter, len(values), position)
            taken.append((layer, parameter, values[position:stop]))
            position = stop
        filled += 1
    if position < len(values):
        raise WeightsError(
            f"does not fit {network.config.path}: the network has {position:,} values, the file {len(values):,}; "
            f"is it the weights file of another cfg, or of another number of classes?",
            where=str(path),
        )
    for layer, parameter, flat in taken:
        network.parameters.write(layer, parameter.name, _arranged(layer, parameter, flat, header))
    network.seen = header.seen
    return filled


def save(network: Network, path: str | Path, upto: int | None = None) -> None:
    """Write the parameters of the first ``upto`` layers (default all), as version 0.2.5."""
    with atomic_write(path) as file:
        file.write(np.array(VERSION, "<i4").tobytes())
        file.write(np.array([network.seen], "<u8").tobytes())
        for layer in network.layers[:upto]:
            for parameter in layer.parameters():
                file.write(network.parameters.read(layer, parameter.name).astype(FLOAT, copy=False).tobytes())


def _values(path: Path, header: Header) -> np.ndarray:
    nbytes = path.stat().st_size - header.nbytes
    if nbytes % FLOAT.itemsize:
        raise WeightsError(
            f"is damaged: {nbytes:,} bytes of parameters are not a whole number of float32 values", where=str(path)
        )
    return np.fromfile(path, FLOAT, offset=header.nbytes)


def _stored(layer: Layer) -> list[Parameter]:
    """The parameters of a layer that a file to be loaded holds."""
    if layer.options.dontload:
        return []
    skipped = SCALES if layer.options.dontloadscales else ()
    return [p for p in layer.parameters() if p.name.rpartition(".")[2] not in skipped]


def _arranged(layer: Layer, parameter: Parameter, flat: np.ndarray, header: Header) -> np.ndarray:
    if header.is_transposed and len(parameter.shape) == 2 and layer.name in OF_CONNECTED_PARTS:
        return flat.reshape(parameter.shape[::-1]).T
    return flat.reshape(parameter.shape)


def _truncated(
    path: Path, network: Network, layer: Layer, parameter: Parameter, found: int, position: int
) -> WeightsError:
    expected = sum(p.size for each in network.layers for p in _stored(each))
    place = f"layer {layer.index} [{layer.name}] {parameter.name}"
    if parameter == _stored(layer)[0] and found == position:
        what = (
            f"ends before {place}: it holds only the first layers (weights to start a training from), "
            f"{found:,} values of {expected:,}"
        )
    else:
        what = (
            f"is cut short or belongs to another cfg: it ends inside {place}; {network.config.path} needs "
            f"{expected:,} values, the file has {found:,}"
        )
    return WeightsError(what, where=str(path))
