"""Weights in any of three kinds of file: Darknet's ``.weights``, ``.npz`` and ``.safetensors``.

The last two hold one named array per parameter, ``000_convolutional.weights``, in the shape the layer gives it (for
convolutions filters, channels, height, width), and beside them what a .weights file has in its header. So nothing is
lost on the way there and back.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy import weights
from darkpy.errors import InputError, Problem, WeightsError, suggestion
from darkpy.files import atomic_write
from darkpy.weights import FLOAT, VERSION, Header, Tensor, stored_parameters, tensor_name

if TYPE_CHECKING:
    from darkpy.layers.base import Layer

NPZ, SAFETENSORS = ".npz", ".safetensors"
VERSION_KEY, SEEN_KEY = "darknet.version", "darknet.seen"
"""What .npz and .safetensors files call the contents of a .weights file's header."""


def check_ending(path: str | Path) -> None:
    """Raise InputError for a name that promises another kind of file than the three.

    Darknet's files end in .weights, .backup, or a number, as yolov4.conv.137.
    """
    ending = Path(path).suffix
    if ending not in (".weights", ".backup", NPZ, SAFETENSORS) and not ending[1:].isdecimal():
        raise InputError(f"is none of the files to convert to: .weights, {NPZ}, {SAFETENSORS}", where=str(path))


@dataclass(frozen=True)
class StoredWeights:
    """What a file holds for the layers of a cfg: all of them, or the first ones."""

    path: Path
    header: Header
    tensors: list[Tensor]


def read(path: str | Path, layers: Sequence[Layer], *, cfg: str) -> StoredWeights:
    """Read a file of any of the three kinds, told apart by their endings.

    ``layers`` are those of the cfg of that name. The file may end after any layer. Raises
    :class:`~darkpy.errors.WeightsError` if it does not fit, with every misfit where the parameters have names.
    """
    path = Path(path)
    if path.suffix == NPZ:
        header, arrays = _read_npz(path)
    elif path.suffix == SAFETENSORS:
        header, arrays = _read_safetensors(path)
    else:
        return StoredWeights(path, *weights.read(path, layers, cfg=cfg, partial=True))
    return StoredWeights(path, header, _tensors(path, arrays, layers, cfg))


def read_values(path: str | Path) -> tuple[Header, np.ndarray]:
    """All values of a file one after the other, without a cfg that says what they are."""
    path = Path(path)
    if path.suffix in (NPZ, SAFETENSORS):
        header, arrays = _read_npz(path) if path.suffix == NPZ else _read_safetensors(path)
        numbers = [array.ravel() for array in arrays.values() if array.dtype.kind == "f"]
        return header, np.concatenate([np.empty(0, FLOAT), *numbers])
    header = weights.read_header(path)
    return header, weights.read_values(path, header)


def write(path: str | Path, header: Header, tensors: Sequence[Tensor]) -> None:
    """Write a file of the kind its ending says, at once or not at all; any other ending is a .weights file."""
    path = Path(path)
    if header.is_transposed:
        # Old files have connected weights the other way round; in memory and in new files they are as today.
        header = Header(*VERSION, header.seen)
    if path.suffix == NPZ:
        _write_npz(path, header, tensors)
    elif path.suffix == SAFETENSORS:
        _write_safetensors(path, header, tensors)
    else:
        weights.write(path, header, (tensor.values for tensor in tensors))


def _tensors(path: Path, arrays: Mapping[str, np.ndarray], layers: Sequence[Layer], cfg: str) -> list[Tensor]:
    """The named arrays in the order of the layers, up to the last layer that is there."""
    expected = {tensor_name(layer, p): (layer, p) for layer in layers for p in stored_parameters(layer)}
    last = max((layer.index for name, (layer, _) in expected.items() if name in arrays), default=None)
    if last is None:
        example = next(iter(expected), "")
        raise WeightsError(f"none of its {len(arrays)} arrays has a name of {cfg}, such as {example}", where=str(path))
    expected = {name: pair for name, pair in expected.items() if pair[0].index <= last}
    problems = [
        Problem(str(path), f"{name} is none of {cfg}{suggestion(name, expected)}")
        for name in arrays
        if name not in expected
    ]
    for name, (_, parameter) in expected.items():
        message = _misfit(arrays.get(name), parameter.shape)
        if message:
            problems.append(Problem(str(path), f"{name} {message}"))
    if problems:
        raise WeightsError(problems=problems)
    return [Tensor(layer, p, arrays[name].astype(FLOAT, copy=False)) for name, (layer, p) in expected.items()]


def _misfit(array: np.ndarray | None, shape: tuple[int, ...]) -> str:
    if array is None:
        return "is missing"
    if array.shape != shape:
        return f"has shape {array.shape}, the cfg needs {shape}"
    return "" if array.dtype.kind == "f" else f"holds {array.dtype}, not floating point numbers"


def _write_npz(path: Path, header: Header, tensors: Sequence[Tensor]) -> None:
    entries: dict[str, Any] = {tensor.name: tensor.values for tensor in tensors}
    entries |= {VERSION_KEY: np.array(header.version, np.int32), SEEN_KEY: np.array(header.seen, np.uint64)}
    with atomic_write(path) as file:
        np.savez(file, **entries)


def _read_npz(path: Path) -> tuple[Header, dict[str, np.ndarray]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile):
        raise WeightsError(f"is no {NPZ} file of arrays, or a damaged one", where=str(path)) from None
    version, seen = arrays.pop(VERSION_KEY, np.array(VERSION)), arrays.pop(SEEN_KEY, np.array(0))
    return _header(path, version.tolist(), seen.item() if seen.size == 1 else None), arrays


def _write_safetensors(path: Path, header: Header, tensors: Sequence[Tensor]) -> None:
    _require_safetensors(path)
    from safetensors.numpy import save

    metadata = {VERSION_KEY: ".".join(map(str, header.version)), SEEN_KEY: str(header.seen)}
    arrays = {tensor.name: np.ascontiguousarray(tensor.values) for tensor in tensors}
    with atomic_write(path) as file:
        file.write(save(arrays, metadata))


def _read_safetensors(path: Path) -> tuple[Header, dict[str, np.ndarray]]:
    _require_safetensors(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except (SafetensorError, TypeError) as error:
        raise WeightsError(f"is no {SAFETENSORS} file that NumPy can hold: {error}", where=str(path)) from None
    version = metadata.get(VERSION_KEY, ".".join(map(str, VERSION))).split(".")
    return _header(path, version, metadata.get(SEEN_KEY, 0)), arrays


def _header(path: Path, version: Any, seen: Any) -> Header:
    try:
        major, minor, revision = map(int, version)
        return Header(major, minor, revision, int(seen))
    except (TypeError, ValueError):
        raise WeightsError(f"has a {VERSION_KEY} or {SEEN_KEY} that is no number", where=str(path)) from None


def _require_safetensors(path: Path) -> None:
    try:
        import safetensors  # noqa: F401
    except ImportError:
        message = 'needs the package safetensors: pip install "darkpy-detector[convert]"; .npz files need nothing'
        raise InputError(message, where=str(path)) from None
