"""Measured plans on disk: which kernel was the fastest for a convolution on a GPU.

One file for each kind of GPU, ``plans/<name>.json`` beside the folder of compiled kernels. What it says holds for the
driver and the kernels it was measured with; a table of others counts as empty.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from darkpy import resources
from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda import convolution_plans
from darkpy.backends.cuda.compiler import OPTIONS, cache_folder, sources
from darkpy.backends.cuda.convolution_plans import ConvolutionShape, Plan
from darkpy.backends.cuda.device import Gpu
from darkpy.files import atomic_write

Key = tuple[str, str, ConvolutionShape]
"""Operation, precision, shape."""


@dataclass(frozen=True)
class Measured:
    """The fastest plan, its seconds, and those of the plan that is taken where nothing was measured."""

    plan: Plan
    seconds: float
    default_seconds: float


def path_for(gpu: Gpu) -> Path:
    """Where the table of a kind of GPU is kept."""
    name = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
    return cache_folder() / "plans" / f"{name}.json"


def load(gpu: Gpu) -> dict[Key, Measured]:
    """What was measured on such a GPU with the present driver and kernels; nothing where the file cannot be read."""
    try:
        found = json.loads(path_for(gpu).read_text(encoding="utf-8"))
        if found["conditions"] != conditions(gpu):
            return {}
        return dict(_from_json(row) for row in found["plans"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def save(gpu: Gpu, measured: Mapping[Key, Measured]) -> Path:
    """Add to the table, or begin it anew if its driver or kernels were others; returns its place."""
    table = {**load(gpu), **measured}
    path = path_for(gpu)
    content = {"conditions": conditions(gpu), "plans": [_to_json(key, entry) for key, entry in table.items()]}
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    return path


def clear(gpu: Gpu) -> bool:
    """Remove the table; whether there was one."""
    path = path_for(gpu)
    existed = path.is_file()
    path.unlink(missing_ok=True)
    return existed


def conditions(gpu: Gpu) -> dict[str, str]:
    """What a measurement depends on besides its key."""
    return {"gpu": gpu.name, "driver": gpu.driver, "kernels": _digest(resources.folder("kernels"))}


@cache
def _digest(folder: Path) -> str:
    """Changes with the kernels of convolutions, how they are compiled, and how they are chosen."""
    digest = hashlib.sha256("\0".join(OPTIONS).encode())
    digest.update(Path(convolution_plans.__file__).read_bytes())
    kernels = [path for path in folder.glob("*.cu") if path.stem.startswith(("exact_", "tensor_", "shares"))]
    for path in sorted(kernels):
        for file, text in sorted(sources(path).items()):
            digest.update(file.name.encode() + b"\0" + text.encode() + b"\0")
    return digest.hexdigest()[:24]


def _to_json(key: Key, entry: Measured) -> dict[str, Any]:
    operation, precision, shape = key
    return {"operation": operation, "precision": precision, **asdict(entry), "shape": asdict(shape)}


def _from_json(row: dict[str, Any]) -> tuple[Key, Measured]:
    numbers = dict(row["shape"])
    shape = ConvolutionShape(**{**numbers, "geometry": ConvolutionGeometry(**numbers["geometry"])})
    entry = Measured(Plan(**row["plan"]), float(row["seconds"]), float(row["default_seconds"]))
    return (row["operation"], row["precision"], shape), entry
