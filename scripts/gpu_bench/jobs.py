"""What is measured, and what comes of it: plain values that travel between processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from subjects import in_one_part, with_net_keys

from darkpy import builder
from darkpy.backends.base import ConvolutionGeometry
from darkpy.config.cfg import Config, read_cfg
from darkpy.layers.base import NETWORK_INPUT

OPERATIONS = ("forward", "backward_input", "backward_weights")
PRECISIONS = ("fp16", "tf32", "fp32")
ITEMSIZE = {"fp16": 2, "bf16": 2, "tf32": 4, "fp32": 4}


@dataclass(frozen=True)
class Subject:
    """A network at an input size: 0 is the cfg's own."""

    name: str
    cfg: Path
    side: int = 0

    def config(self, batch: int = 1) -> Config:
        """The cfg at that size, with so many pictures in one part."""
        keys = {"width": self.side, "height": self.side} if self.side else {}
        return in_one_part(with_net_keys(read_cfg(self.cfg), keys), batch)


@dataclass(frozen=True)
class NetworkJob:
    """A network to run at several batch sizes, or to train at one.

    seconds: how long each batch size is repeated, after a warm-up.
    """

    subject: Subject
    training: bool
    batches: tuple[int, ...]
    precision: str
    seconds: float


@dataclass(frozen=True)
class Convolution:
    """A convolution of a network: input (n, c, h, w), filters, geometry.

    uses: how often it occurs in each of the networks, by name. passes: those that a network needs of it; nobody
    wants the gradient of pictures.
    """

    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    geometry: ConvolutionGeometry
    uses: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    passes: tuple[str, ...] = field(default=OPERATIONS, compare=False)

    @property
    def weights_shape(self) -> tuple[int, int, int, int]:
        """(f, c / groups, size, size)."""
        g = self.geometry
        return self.output_shape[1], self.input_shape[1] // g.groups, g.size, g.size

    @property
    def operations(self) -> float:
        """Floating point operations of any of the three passes."""
        n, _, h, w = self.output_shape
        return 2.0 * n * h * w * prod(self.weights_shape)

    def bytes(self, precision: str) -> int:
        """What is read and written if everything is once."""
        return ITEMSIZE[precision] * sum(map(prod, (self.input_shape, self.output_shape, self.weights_shape)))

    def shortest(self, precision: str, limits: Limits) -> float | None:
        """Seconds that the device's limits allow; None where they are not known."""
        rate = limits.rates.get(precision)
        if not rate or not limits.bandwidth:
            return None
        return max(self.operations / rate, self.bytes(precision) / limits.bandwidth)

    def describe(self) -> str:
        """Such as ``256 x 52 x 52, 3x3/2, 512``."""
        g = self.geometry
        _, c, h, w = self.input_shape
        groups = f" g{g.groups}" if g.groups > 1 else ""
        return f"{c} x {h} x {w}, {g.size}x{g.size}/{g.stride_y}{groups}, {self.output_shape[1]}"


@dataclass(frozen=True)
class KernelJob:
    """A pass of a convolution, repeated for so many seconds; l2: bytes of the cache that its arrays are to outgrow."""

    convolution: Convolution
    operation: str
    precision: str
    seconds: float
    l2: int


@dataclass(frozen=True)
class Speed:
    """Median seconds of a call, and bytes of the device's memory that it took (None: not looked at)."""

    seconds: float
    memory: int | None = None


@dataclass(frozen=True)
class Limits:
    """What the device can do: bytes a second, floating point operations a second by precision; where that is from."""

    bandwidth: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)
    source: str = "unknown"


def convolutions(subjects: Sequence[Subject], batch: int) -> list[Convolution]:
    """The distinct convolutions of networks, those that take most operations first."""
    from darkpy.backends.numpy import NumpyBackend

    found: dict[Convolution, Counter[str]] = {}
    inner: set[Convolution] = set()
    for subject in subjects:
        for layer in builder.build(subject.config(), NumpyBackend("float32")).layers:
            if layer.name == "convolutional":
                shape = Convolution((batch, *layer.input_shapes[0]), (batch, *layer.convolved_shape), layer.geometry)
                found.setdefault(shape, Counter())[subject.name] += 1
                if layer.sources != [NETWORK_INPUT]:
                    inner.add(shape)
    without = tuple(name for name in OPERATIONS if name != "backward_input")
    counted = [
        replace(c, uses=tuple(uses.items()), passes=OPERATIONS if c in inner else without) for c, uses in found.items()
    ]
    return sorted(counted, key=lambda c: c.operations * sum(n for _, n in c.uses), reverse=True)
