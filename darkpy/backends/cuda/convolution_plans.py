"""Which kernel computes a convolution, and into how many parts its longest sum is divided.

A :class:`Plan` names both. :func:`candidates` lists the plans there are kernels for, :func:`default_plan` takes one by
arithmetic alone; a table of measured plans, ``backend.plans``, goes before it. Everything here is a function of shapes:
no device is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from darkpy.backends.base import ConvolutionGeometry

OPERATIONS = ("forward", "backward_input", "backward_weights")

#: How numbers are multiplied: exactly, or on tensor cores with 10, 10 and 7 bits of fraction.
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")

#: Terms of a sum that are worth adding up apart from the others.
FEWEST_TERMS = 256

#: Bytes that the shares of one operation may take before they are added up.
MOST_SHARES = 64 << 20


@dataclass(frozen=True)
class Plan:
    """One way to compute a convolution.

    kernel: the tile of results that a block of threads makes, such as ``128x64``; the kernel's name is the operation's
    and this. splits: parts the sum over K is divided into, each made by blocks of its own and added up afterwards.
    """

    kernel: str
    splits: int = 1


class Tile(NamedTuple):
    """Results of one block: m x n; how many blocks a multiprocessor holds at once."""

    m: int
    n: int
    blocks: int


#: The tiles that kernels exist for, by operation and kind of arithmetic, the largest first.
EXACT_TILES = {"128x128": Tile(128, 128, 2), "64x64": Tile(64, 64, 4)}


@dataclass(frozen=True)
class ConvolutionShape:
    """The numbers a convolution's speed depends on; a key of the table of measured plans.

    channels and filters are those of all groups. vectors: whether all rows of channels begin at multiples of 16 bytes,
    so that they can be copied so many at a time; heads and first layers cannot.
    """

    batch: int
    channels: int
    height: int
    width: int
    filters: int
    out_height: int
    out_width: int
    geometry: ConvolutionGeometry
    vectors: bool = True

    @classmethod
    def of(
        cls, x_shape: tuple[int, ...], out_shape: tuple[int, ...], geometry: ConvolutionGeometry, vectors: bool = True
    ) -> ConvolutionShape:
        """From the shapes of input and output, (n, c, h, w) each."""
        n, c, h, w = x_shape
        _, filters, out_height, out_width = out_shape
        return cls(n, c, h, w, filters, out_height, out_width, geometry, vectors)

    def product(self, operation: str) -> tuple[int, int, int]:
        """M, N, K of the product of matrices that each group is: see kernels/convolution.cu."""
        g = self.geometry
        channels, filters, taps = self.channels // g.groups, self.filters // g.groups, g.size * g.size
        positions, pixels = self.batch * self.out_height * self.out_width, self.batch * self.height * self.width
        return {
            "forward": (positions, filters, taps * channels),
            "backward_input": (pixels, channels, taps * filters),
            "backward_weights": (filters, taps * channels, positions),
        }[operation]

    def results(self, operation: str) -> int:
        """Elements that the operation writes."""
        m, n, _ = self.product(operation)
        return m * n * self.geometry.groups


def candidates(operation: str, precision: str, shape: ConvolutionShape, multiprocessors: int) -> list[Plan]:
    """Every plan that is worth measuring for a shape on a GPU of so many multiprocessors."""
    found = []
    for name, tile in EXACT_TILES.items():
        most = _most_splits(operation, shape, tile, multiprocessors)
        found += [Plan(name, splits) for splits in sorted({1, -(-most // 4), -(-most // 2), most})]
    return found


def default_plan(operation: str, precision: str, shape: ConvolutionShape, multiprocessors: int) -> Plan:
    """The plan for a shape that nobody has measured: the largest tile that fits and occupies the device."""
    name = next((name for name, tile in EXACT_TILES.items() if _fits(operation, shape, tile, multiprocessors)), "64x64")
    return Plan(name, _most_splits(operation, shape, EXACT_TILES[name], multiprocessors))


def _fits(operation: str, shape: ConvolutionShape, tile: Tile, multiprocessors: int) -> bool:
    m, n, _ = shape.product(operation)
    if operation == "backward_weights":  # splits occupy the device
        return min(m, n) > tile.n // 2
    return n > tile.n // 2 and _blocks(shape, operation, tile) >= multiprocessors


def _blocks(shape: ConvolutionShape, operation: str, tile: Tile) -> int:
    m, n, _ = shape.product(operation)
    return -(-m // tile.m) * -(-n // tile.n) * shape.geometry.groups


def _most_splits(operation: str, shape: ConvolutionShape, tile: Tile, multiprocessors: int) -> int:
    """Parts that give every multiprocessor two blocks, if their sums are long and their shares small enough."""
    if operation != "backward_weights":
        return 1
    _, _, terms = shape.product(operation)
    wanted = 2 * multiprocessors // _blocks(shape, operation, tile)
    return max(1, min(wanted, terms // FEWEST_TERMS, MOST_SHARES // (4 * shape.results(operation))))
