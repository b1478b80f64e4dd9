from __future__ import annotations

import pytest

from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda.convolution_plans import (
    EXACT_TILES,
    MOST_SHARES,
    OPERATIONS,
    TILES,
    ConvolutionShape,
    Limits,
    Plan,
    candidates,
    default_plan,
)
from darkpy.backends.precision import PRECISIONS
from tests.backends import fresh, random, why_no_gpu

H200 = Limits(132, 228 << 10, 1 << 10, 2048, 4)
RTX4090 = Limits(128, 100 << 10, 1 << 10, 1536, 4)
T4 = Limits(40, 64 << 10, 0, 1024, 2)

LARGE = ConvolutionShape(64, 128, 52, 52, 256, 52, 52, ConvolutionGeometry(3, padding=1))
SMALL = ConvolutionShape(1, 512, 13, 13, 1024, 13, 13, ConvolutionGeometry(3, padding=1))
GROUPED = ConvolutionShape(2, 64, 8, 8, 32, 4, 4, ConvolutionGeometry(3, 2, 2, 1, groups=4))
SHAPES = {"large": LARGE, "small": SMALL, "grouped": GROUPED}

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
operations = pytest.mark.parametrize("operation", OPERATIONS)
precisions = pytest.mark.parametrize("precision", PRECISIONS)


def test_the_product_of_matrices_of_each_group():
    assert GROUPED.product("forward") == (2 * 4 * 4, 8, 9 * 16)
    assert GROUPED.product("backward_input") == (2 * 8 * 8, 16, 9 * 8)
    assert GROUPED.product("backward_weights") == (8, 9 * 16, 2 * 4 * 4)
    assert [GROUPED.results(operation) for operation in OPERATIONS] == [32 * 32, 128 * 64, 32 * 16 * 9]


@precisions
@operations
@shapes
@pytest.mark.parametrize("limits", [H200, RTX4090, T4])
def test_the_default_is_a_candidate_and_candidates_are_possible(operation, precision, shape, limits):
    found = candidates(operation, precision, shape, limits)
    assert default_plan(operation, precision, shape, limits) in found
    assert len(found) == len(set(found))
    for plan in found:
        assert plan.splits >= 1
        assert plan.splits == 1 or plan.splits * shape.results(operation) * 4 <= MOST_SHARES


@pytest.mark.parametrize(
    "limits, precision, blocks",
    [
        (H200, "fp16", {"256x128": 1, "128x128": 2, "128x64": 3, "64x64": 4}),
        (RTX4090, "fp16", {"256x128": 1, "128x128": 1, "128x64": 2, "64x64": 3}),
        (T4, "fp16", {"256x128": 1, "128x128": 2, "128x64": 2, "64x64": 4}),
        (Limits(9, 48 << 10, 0, 1024, 4), "fp16", {"128x64": 1, "64x64": 1}),
        (H200, "fp32", {"128x128": 2, "128x64": 4, "128x32": 4, "64x64": 8}),
        (T4, "fp32", {"128x128": 1, "128x64": 2, "128x32": 3, "64x64": 4}),
    ],
)
def test_blocks_are_as_many_as_there_is_shared_memory_for(limits, precision, blocks):
    found = {name: limits.applied(tile, precision) for name, tile in TILES["forward", precision].items()}
    assert {name: tile.blocks for name, tile in found.items() if tile.blocks} == blocks
    for name in blocks:
        assert blocks[name] * (found[name].shared_bytes + limits.reserved) <= limits.shared
        assert blocks[name] * found[name].threads <= limits.threads
    assert {plan.kernel for plan in candidates("forward", precision, LARGE, limits)} == set(blocks)


def test_large_maps_take_large_tiles_and_small_ones_occupy_the_device():
    assert default_plan("forward", "fp32", LARGE, H200) == Plan("128x128")
    assert default_plan("forward", "fp32", SMALL, H200).kernel == "64x64"
    assert default_plan("backward_weights", "fp32", LARGE, H200).splits > 1


def test_few_filters_take_narrow_tiles():
    shape = ConvolutionShape(4, 64, 104, 104, 32, 104, 104, ConvolutionGeometry(3, padding=1))
    assert default_plan("forward", "fp32", shape, H200).kernel == "128x32"
    assert default_plan("backward_weights", "fp32", shape, H200).kernel == "32x128"


@pytest.mark.cuda
@pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")
def test_a_measured_plan_goes_before_the_default():
    """All tiles of the exact kernels give the same; which one ran shows in the order of the sum of the parts."""
    geometry = ConvolutionGeometry(1)
    x, grad_out = random((1, 8, 16, 40), 1), random((1, 8, 16, 40), 2)
    shape = ConvolutionShape.of(x.shape, grad_out.shape, geometry)
    b = fresh("cuda")
    asked = []
    launch = b._device.launch
    b._device.launch = lambda file, name, *rest, **options: (asked.append(name), launch(file, name, *rest, **options))
    for name in EXACT_TILES["backward_weights"]:
        b.plans["backward_weights", "fp32", shape] = Plan(name, 2)
        gradient = random((8, 8, 1, 1), 3)
        expected = gradient[:, :, 0, 0] + grad_out[0].reshape(8, -1).astype(float) @ x[0].reshape(8, -1).T
        b.convolution_backward_weights(x, grad_out, gradient, geometry)
        assert abs(gradient[:, :, 0, 0] - expected).max() < 1e-4
    assert [name for name in asked if "backward" in name] == [f"backward_weights_{name}" for name in EXACT_TILES["backward_weights"]]
