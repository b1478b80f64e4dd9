"""Which kernel computes a convolution, and into how many parts its longest sum is divided.

A :class:`Plan` names both. :func:`candidates` lists the plans there are kernels for, :func:`default_plan` takes one by
arithmetic alone; a table of measured plans, ``backend.plans``, goes before it. Everything here is a function of shapes
and of a GPU's limits: no device is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from darkpy.backends.base import ConvolutionGeometry

OPERATIONS = ("forward", "backward_input", "backward_weights")

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
    """What a block makes: m x n results, with so many threads, from so many stages of its operands in shared memory.

    blocks: how many a multiprocessor holds at once: for how many it has registers, or :meth:`Limits.applied`.
    """

    m: int
    n: int
    threads: int
    blocks: int
    stages: int = 4

    @property
    def shared_bytes(self) -> int:
        """Of shared memory of a block."""
        return self.stages * STEP_BYTES * (self.m + self.n)


@dataclass(frozen=True)
class Limits:
    """What a GPU has, as far as plans depend on it.

    shared, reserved: bytes of shared memory of a multiprocessor, and how many of them every block takes besides its
    own. threads: of a multiprocessor. stages: that kernels on tensor cores have there, at most.
    """

    multiprocessors: int
    shared: int
    reserved: int
    threads: int
    stages: int

    def applied(self, tile: Tile, precision: str) -> Tile:
        """A tile as it is on this GPU; with 0 blocks where it cannot be launched."""
        stages = tile.stages if precision == "fp32" else min(tile.stages, self.stages)
        tile = tile._replace(stages=stages)
        fitting = self.shared // (tile.shared_bytes + self.reserved)
        return tile._replace(blocks=min(tile.blocks, fitting, self.threads // tile.threads))


#: Bytes along K of a step: see kernels/convolution_operands.cuh.
STEP_BYTES = 64

_EXACT_TILES = {
    "128x128": Tile(128, 128, 256, 2, 3),
    "128x64": Tile(128, 64, 128, 4, 2),
    "128x32": Tile(128, 32, 128, 4, 2),
    "32x128": Tile(32, 128, 64, 8, 2),
    "64x64": Tile(64, 64, 64, 8, 2),
}

#: The tiles of the exact kernels (kernels/exact_*.cu), by operation, the largest first. Of 32 filters, such as large
#: pictures have, the gradient of the weights has 32 rows, all else has 32 columns.
EXACT_TILES = {
    "forward": {name: tile for name, tile in _EXACT_TILES.items() if name != "32x128"},
    "backward_input": {name: tile for name, tile in _EXACT_TILES.items() if name != "32x128"},
    "backward_weights": {name: tile for name, tile in _EXACT_TILES.items() if name != "128x32"},
}

_TENSOR_TILES = {
    "256x128": Tile(256, 128, 256, 1),
    "128x128": Tile(128, 128, 128, 2),
    "128x64": Tile(128, 64, 128, 3),
    "64x128": Tile(64, 128, 128, 3),
    "64x64": Tile(64, 64, 128, 4),
}

#: The tiles of the kernels on tensor cores (kernels/tensor_*.cu), by operation.
TENSOR_TILES = {
    "forward": {name: tile for name, tile in _TENSOR_TILES.items() if name != "64x128"},
    "backward_input": {name: tile for name, tile in _TENSOR_TILES.items() if name != "64x128"},
    "backward_weights": {name: tile for name, tile in _TENSOR_TILES.items() if name != "128x64"},
}

#: All, by operation and precision.
TILES = {
    (operation, precision): (EXACT_TILES if precision == "fp32" else TENSOR_TILES)[operation]
    for operation in OPERATIONS
    for precision in ("fp32", "tf32", "fp16", "bf16")
}

#: Those of them that take arrays that cannot be copied 16 bytes at a time.
TILES_FOR_ANY = ("64x64",)

#: Times that the blocks of a divided sum may occupy the device: the more, the less is lost where the last are fewer.
MOST_WAVES = 4

#: Multiply-adds that a multiprocessor does in the time that one element of an operand takes to reach it. From
#: datasheets, not measured: it gets some 32 bytes a cycle, and does 128 multiply-adds in fp32, 512 in TF32, 1024 of 16
#: bits.
TRAFFIC = {"fp32": 16, "tf32": 64, "fp16": 64, "bf16": 64}


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
        """M, N, K of the product of matrices that each group is: see kernels/convolution_operands.cuh."""
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


def candidates(operation: str, precision: str, shape: ConvolutionShape, limits: Limits) -> list[Plan]:
    """Every plan that is worth measuring for a shape on a GPU."""
    found = []
    for name, tile in tiles(operation, precision, shape, limits).items():
        most = _most_splits(operation, precision, shape, tile, limits)
        found += [Plan(name, splits) for splits in sorted({1, *(-(-most // part) for part in (8, 4, 2, 1))})]
    return found


@cache
def default_plan(operation: str, precision: str, shape: ConvolutionShape, limits: Limits) -> Plan:
    """The plan for a shape that nobody has measured: the one that should take the least time."""
    plans = candidates(operation, precision, shape, limits)
    return min(plans, key=lambda plan: _cost(operation, precision, shape, plan, limits))


def tiles(operation: str, precision: str, shape: ConvolutionShape, limits: Limits) -> dict[str, Tile]:
    """The tiles there are kernels for, by name, as they are on a GPU."""
    found = {name: limits.applied(tile, precision) for name, tile in TILES[operation, precision].items()}
    names = found if shape.vectors else TILES_FOR_ANY
    return {name: found[name] for name in names if name in found and found[name].blocks}


def _cost(operation: str, precision: str, shape: ConvolutionShape, plan: Plan, limits: Limits) -> float:
    """Estimated time, in multiply-adds of one multiprocessor.

    Blocks run in waves, as many at once as multiprocessors hold. Operands arrive and are multiplied K / splits
    times, with a few steps more to begin and end; shares are written and read again.
    """
    tile, traffic = tiles(operation, precision, shape, limits)[plan.kernel], TRAFFIC[precision]
    terms = shape.product(operation)[2] / _phases(operation, shape)
    at_once = limits.multiprocessors * tile.blocks
    waves = -(-_blocks(operation, shape, tile) * plan.splits // at_once)
    block = (terms / plan.splits + 64) * (tile.m * tile.n + traffic * (tile.m + tile.n))
    shares = 4 * traffic * plan.splits * shape.results(operation) / limits.multiprocessors if plan.splits > 1 else 0
    return waves * tile.blocks * block + shares


def _phases(operation: str, shape: ConvolutionShape) -> int:
    """Into how many products, with a part of the taps each, the input gradient falls at a stride."""
    return shape.geometry.stride_y * shape.geometry.stride_x if operation == "backward_input" else 1


def _blocks(operation: str, shape: ConvolutionShape, tile: Tile) -> int:
    m, n, _ = shape.product(operation)
    return -(-m // tile.m) * -(-n // tile.n) * shape.geometry.groups


def _most_splits(operation: str, precision: str, shape: ConvolutionShape, tile: Tile, limits: Limits) -> int:
    """Parts that occupy the device several times over, if their sums are long and their shares small enough."""
    _, _, terms = shape.product(operation)
    wanted = MOST_WAVES * tile.blocks * limits.multiprocessors // _blocks(operation, shape, tile)
    return max(1, min(wanted, terms // FEWEST_TERMS, MOST_SHARES // (4 * shape.results(operation))))
