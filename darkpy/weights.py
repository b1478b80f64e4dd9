"""Darknet's ``.weights`` files.

Layout: int32 major, minor, revision; ``seen`` as uint64 if ``major * 10 + minor >= 2``, else uint32; then the
parameters of each layer in cfg order as little-endian float32 (Darknet, load_weights_upto). There are no names or
sizes in the file, so everything hangs on the cfg being the right one: a file that does not end exactly at the end of
a layer is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    """First bytes of a file: version, pictures seen."""

    major: int
    minor: int
    revision: int
    seen: int

    @property
    def version(self) -> tuple[int, int, int]:
        """Major, minor, revision."""
        return self.major, self.minor, self.revision

    @property
    def seen_type(self) -> np.dtype:
        """How ``seen`` is stored."""
        return np.dtype("<u8" if self.major * 10 + self.minor >= 2 else "<u4")

    @property
    def nbytes(self) -> int:
        """Bytes of the header; the parameters follow."""
        return 12 + self.seen_type.itemsize

    @property
    def is_transposed(self) -> bool:
        """Whether connected weights are stored input-major, as very old files have them."""
        return self.major > 1000 or self.minor > 1000

    def to_bytes(self) -> bytes:
        """The header as a file has it."""
        return np.array(self.version, "<i4").tobytes() + np.array([self.seen], self.seen_type).tobytes()


@dataclass(frozen=True)
class Tensor:
    """The values that a file holds for one parameter of a layer, float32 in the parameter's shape."""

    layer: Layer
    parameter: Parameter
    values: np.ndarray

    @property
    def name(self) -> str:
        """Layer and parameter, such as ``000_convolutional.weights``."""
        return tensor_name(self.layer, self.parameter)


def tensor_name(layer: Layer, parameter: Parameter) -> str:
    """The name of a parameter among all of a network: ``003_lstm.wf.weights``."""
    return f"{layer.index:03}_{layer.name}.{parameter.name}"


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
        header = Header(major, minor, revision, seen=0)
        if len(start) >= header.nbytes:
            return replace(header, seen=int(np.frombuffer(start, header.seen_type, 1, offset=12)[0]))
    raise WeightsError(f"is no weights file: {len(start)} bytes are too few for its header", where=str(path))


def read_values(path: Path, header: Header) -> np.ndarray:
    """All values after the header, float32; raises :class:`WeightsError` if the last one is cut short."""
    nbytes = path.stat().st_size - header.nbytes
    if nbytes % FLOAT.itemsize:
        raise WeightsError(
            f"is damaged: {nbytes:,} bytes of parameters are not a whole number of float32 values", where=str(path)
        )
    return np.fromfile(path, FLOAT, offset=header.nbytes)


def load(network: Network, path: str | Path, *, partial: bool = False) -> int:
    """Fill a network from a file and set ``network.seen``; returns the number of layers with weights filled.

    See :func:`read` for what a file may hold. Nothing in the network changes if the file is refused.
    """
    header, tensors = read(path, network.layers, cfg=network.config.path, partial=partial)
    for tensor in tensors:
        network.parameters.write(tensor.layer, tensor.parameter.name, tensor.values)
    network.seen = header.seen
    return len({tensor.layer.index for tensor in tensors})


def read(
    path: str | Path, layers: Sequence[Layer], *, cfg: str, partial: bool = False
) -> tuple[Header, list[Tensor]]:
    """The parameters of the layers of a cfg as a file holds them, in its order.

    Layers with ``dontload`` keep their starting values and have no place in the file; ``dontloadscales`` leaves out
    the batch-norm scales and statistics. With ``partial`` the file may end after any layer (weights for the first
    layers, made to start a training from). Raises :class:`WeightsError` if the file does not fit; ``cfg`` is named
    there.
    """
    path = Path(path)
    header = read_header(path)
    values = read_values(path, header)
    tensors: list[Tensor] = []
    position = 0
    for layer in layers:
        if partial and tensors and position == len(values):
            break
        for parameter in stored_parameters(layer):
            stop = position + parameter.size
            if stop > len(values):
                raise _truncated(path, layers, cfg, layer, parameter, len(values), position)
            tensors.append(Tensor(layer, parameter, _arranged(layer, parameter, values[position:stop], header)))
            position = stop
    if position < len(values):
        raise WeightsError(
            f"does not fit {cfg}: the network has {position:,} values, the file {len(values):,}; "
            f"is it the weights file of another cfg, or of another number of classes?",
            where=str(path),
        )
    return header, tensors


def save(network: Network, path: str | Path, upto: int | None = None) -> None:
    """Write the parameters of the first ``upto`` layers (default all), as version 0.2.5."""
    layers = network.layers[:upto]
    arrays = (network.parameters.read(layer, p.name) for layer in layers for p in layer.parameters())
    write(path, Header(*VERSION, network.seen), arrays)


def write(path: str | Path, header: Header, arrays: Iterable[np.ndarray]) -> None:
    """Write parameters in the order of the layers."""
    with atomic_write(path) as file:
        file.write(header.to_bytes())
        for array in arrays:
            file.write(np.ascontiguousarray(array, FLOAT).tobytes())


def stored_parameters(layer: Layer) -> list[Parameter]:
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
    path: Path,
    layers: Sequence[Layer],
    cfg: str,
    layer: Layer,
    parameter: Parameter,
    found: int,
    position: int,
) -> WeightsError:
    expected = sum(p.size for each in layers for p in stored_parameters(each))
    place = f"layer {layer.index} [{layer.name}] {parameter.name}"
    if parameter == stored_parameters(layer)[0] and found == position:
        what = (
            f"ends before {place}: it holds only the first layers (weights to start a training from), "
            f"{found:,} values of {expected:,}"
        )
    else:
        what = (
            f"is cut short or belongs to another cfg: it ends inside {place}; {cfg} needs "
            f"{expected:,} values, the file has {found:,}"
        )
    return WeightsError(what, where=str(path))
