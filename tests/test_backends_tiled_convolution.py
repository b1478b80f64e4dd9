"""Convolutions tile by tile, in every number format, against float64 on inputs that have been rounded to it."""

from __future__ import annotations

import os
from functools import cache

import numpy as np
import pytest

from darkpy.backends import create
from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.convolution_plans import OPERATIONS, TILES, TILES_FOR_ANY, ConvolutionShape, Plan
from tests.backends import ON_REAL_GPU, backend, need_tensor_cores, random, why_no_gpu

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]

on_stand_in = pytest.mark.skipif(ON_REAL_GPU, reason="the stand-in can be an older GPU")

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")

#: Bits of the fraction of numbers that are multiplied.
FRACTION = {"fp32": 23, "tf32": 10, "fp16": 10, "bf16": 7}

# x shape, filters, geometry, output height and width
CASES = {
    "1x1": ((2, 16, 7, 6), 24, ConvolutionGeometry(1), (7, 6)),
    "1x1 stride 2": ((2, 16, 7, 6), 16, ConvolutionGeometry(1, 2, 2), (4, 3)),
    "3x3": ((2, 16, 6, 5), 8, ConvolutionGeometry(3, padding=1), (6, 5)),
    "3x3 stride 2": ((2, 8, 9, 8), 16, ConvolutionGeometry(3, 2, 2, 1), (5, 4)),
    "5x5 strides 2 and 1": ((1, 8, 11, 9), 8, ConvolutionGeometry(5, 2, 1, 2), (6, 9)),
    "4x4 stride 3": ((1, 8, 11, 10), 8, ConvolutionGeometry(4, 3, 3, 2), (4, 4)),
    "dilated": ((1, 8, 7, 6), 16, ConvolutionGeometry(3, padding=2, dilation=2), (7, 6)),
    "dilated, stride 2": ((1, 8, 9, 8), 16, ConvolutionGeometry(3, 2, 2, padding=2, dilation=2), (5, 4)),
    "padding beyond the kernel": ((1, 8, 4, 4), 8, ConvolutionGeometry(3, padding=4), (10, 10)),
    "grouped": ((2, 32, 6, 7), 48, ConvolutionGeometry(3, padding=1, groups=2), (6, 7)),
    "first layer": ((1, 3, 9, 8), 8, ConvolutionGeometry(3, padding=1), (9, 8)),
    "a head": ((1, 40, 5, 6), 21, ConvolutionGeometry(1), (5, 6)),
    "nothing fits": ((1, 5, 9, 7), 11, ConvolutionGeometry(3, 2, 2, 1, groups=1), (5, 4)),
    "odd groups": ((1, 10, 5, 7), 6, ConvolutionGeometry(3, padding=1, groups=2), (5, 7)),
    "single pixels": ((9, 24, 1, 1), 16, ConvolutionGeometry(1), (1, 1)),
    "more than a tile": ((1, 72, 9, 9), 72, ConvolutionGeometry(1), (9, 9)),
    "many steps": ((1, 72, 5, 5), 40, ConvolutionGeometry(3, padding=1), (5, 5)),
}

cases = pytest.mark.parametrize("case", CASES)
precisions = pytest.mark.parametrize("precision", PRECISIONS)


@cache
def device(precision):
    from darkpy.backends.cuda import CudaBackend

    need_tensor_cores(precision)
    return CudaBackend(0, precision)


def rounded(values, precision):
    """The nearest number that is multiplied exactly; in float32."""
    kept = 2.0 ** (FRACTION[precision] + 1)
    fraction, exponent = np.frexp(np.asarray(values, np.float32))
    return np.ldexp(np.round(fraction * kept) / kept, exponent).astype(np.float32)


def arrays(case, precision, seed=0):
    """x, weights, grad_out of numbers that the format has."""
    shape, filters, geometry, size = CASES[case]
    weights = (filters, shape[1] // geometry.groups, geometry.size, geometry.size)
    made = random(shape, seed + 1), random(weights, seed + 2) / 4, random((shape[0], filters, *size), seed + 3)
    return [rounded(values, precision) for values in made]


@cache
def expected(case, precision):
    """Output, gradient of x, gradient of the weights, in float64."""
    x, weights, grad_out = (values.astype(np.float64) for values in arrays(case, precision))
    b, geometry = backend("numpy", np.float64), CASES[case][2]
    out, grad_x, grad_weights = np.empty(grad_out.shape), np.empty(x.shape), np.zeros(weights.shape)
    b.convolution_forward(x, weights, out, geometry)
    b.convolution_backward_input(grad_out, weights, grad_x, geometry)
    b.convolution_backward_weights(x, grad_out, grad_weights, geometry)
    return out, grad_x, grad_weights


def on_device(d, values, margin=0, dtype=None):
    """The array on the device, in the type of layers' outputs; with a margin, a view of a larger array of 77s."""
    whole = d.empty((values.shape[0], values.shape[1] + 2 * margin, *values.shape[2:]), dtype or d.activation_dtype)
    d.fill(whole, 77)
    part = whole[:, margin : margin + values.shape[1]] if margin else whole
    d.copy(np.asarray(values).astype(part.dtype), part)
    return part


def of_type(d, shape, margin=0):
    """A new array of NaN of the type of layers' outputs."""
    return on_device(d, np.full(shape, np.nan, np.float32), margin)


def check(d, array, exact, precision, terms, rounds=1):
    """Within the rounding of the result's type, `rounds` times, and that of a sum of so many terms in float32.

    Products of two numbers of 11 bits of fraction are exact in float32, of others as good as a sum; a sum errs by some half ulp for every sqrt(terms)
    of its terms, of the largest partial sum, which is taken to be within four times the largest result.
    """
    actual = d.to_host(array).astype(np.float64)
    ulp = 0.0 if array.dtype == np.float32 else 2.0 ** -(FRACTION[precision] + 1)
    largest = np.abs(exact).max()
    allowed = rounds * ulp * np.abs(exact) + 4 * largest * 2.0**-24 * (4 + np.sqrt(terms))
    # Numbers of 16 bits with the smallest exponents are less dense.
    allowed += 2.0**-25 if array.dtype == np.float16 else 0
    wrong = np.abs(actual - exact) - allowed
    assert np.isfinite(actual).all()
    assert wrong.max() <= 0, f"{wrong.max():.3g} too far of {largest:.3g}, at {np.unravel_index(wrong.argmax(), wrong.shape)}"


@cases
@precisions
def test_the_default_plan(precision, case):
    """Every operation as it is chosen for the shape; results are added where they are to be."""
    d, geometry = device(precision), CASES[case][2]
    x, weights, grad_out = arrays(case, precision)
    out, grad_x, grad_weights = expected(case, precision)
    on_x, on_grad = on_device(d, x), on_device(d, grad_out)
    on_weights = on_device(d, weights, dtype=np.float32)
    on_out, on_grad_x = of_type(d, out.shape), of_type(d, x.shape)
    d.convolution_forward(on_x, on_weights, on_out, geometry)
    check(d, on_out, out, precision, weights[0].size)
    d.convolution_backward_input(on_grad, on_weights, on_grad_x, geometry)
    check(d, on_grad_x, grad_x, precision, weights[:, 0].size)
    d.convolution_backward_input(on_grad, on_weights, on_grad_x, geometry, accumulate=True)
    check(d, on_grad_x, 2 * grad_x, precision, weights[:, 0].size, rounds=2)
    on_gradient = on_device(d, np.ones_like(weights), dtype=np.float32)
    d.convolution_backward_weights(on_x, on_grad, on_gradient, geometry)
    check(d, on_gradient, grad_weights + 1, precision, grad_out[:, 0].size)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("case", ["3x3", "5x5 strides 2 and 1", "grouped", "nothing fits", "more than a tile"])
@precisions
def test_every_tile_whole_and_in_parts(monkeypatch, precision, case, splits):
    d, geometry = device(precision), CASES[case][2]
    x, weights, grad_out = arrays(case, precision)
    out, grad_x, grad_weights = expected(case, precision)
    on_x, on_grad = on_device(d, x), on_device(d, grad_out)
    on_weights = on_device(d, weights, dtype=np.float32)
    vectors = case != "nothing fits"
    shape = ConvolutionShape.of(x.shape, out.shape, geometry, vectors)
    if case != "more than a tile":  # one order of threads will do for the others
        monkeypatch.setenv("HOSTCUDA_ORDER", os.environ.get("HOSTCUDA_ORDER", "2"))
    for operation in OPERATIONS:
        for name in (name for name in TILES[operation, precision] if vectors or name in TILES_FOR_ANY):
            monkeypatch.setitem(d.plans, (operation, precision, shape), Plan(name, splits))
            if operation == "forward":
                target = of_type(d, out.shape)
                d.convolution_forward(on_x, on_weights, target, geometry)
                check(d, target, out, precision, weights[0].size)
            elif operation == "backward_input":
                target = on_device(d, rounded(grad_x, precision))
                d.convolution_backward_input(on_grad, on_weights, target, geometry, accumulate=True)
                check(d, target, grad_x + rounded(grad_x, precision), precision, weights[:, 0].size)
            else:
                target = on_device(d, np.ones_like(weights), dtype=np.float32)
                d.convolution_backward_weights(on_x, on_grad, target, geometry)
                check(d, target, grad_weights + 1, precision, grad_out[:, 0].size)


@pytest.mark.parametrize("margin", [8, 3])
@precisions
def test_views_of_channels(precision, margin):
    """Rows further apart than they are long: with 8 channels more on each side aligned, with 3 not."""
    case = "3x3"
    d, geometry = device(precision), CASES[case][2]
    x, weights, grad_out = arrays(case, precision)
    out, grad_x, grad_weights = expected(case, precision)
    on_x, on_grad = on_device(d, x, margin), on_device(d, grad_out, margin)
    on_weights = on_device(d, weights, dtype=np.float32)
    on_out, on_grad_x = of_type(d, out.shape, margin), of_type(d, x.shape, margin)
    d.convolution_forward(on_x, on_weights, on_out, geometry)
    check(d, on_out, out, precision, weights[0].size)
    d.convolution_backward_input(on_grad, on_weights, on_grad_x, geometry)
    check(d, on_grad_x, grad_x, precision, weights[:, 0].size)
    on_gradient = on_device(d, np.zeros_like(weights), dtype=np.float32)
    d.convolution_backward_weights(on_x, on_grad, on_gradient, geometry)
    check(d, on_gradient, grad_weights, precision, grad_out[:, 0].size)
    for view in (on_out, on_grad_x):
        around = np.asarray(whole_of(d, view, margin)).astype(np.float32)
        assert (around[:, :margin] == 77).all()
        assert (around[:, -margin:] == 77).all()


def whole_of(d, view, margin):
    """Of a view with a margin of channels on each side, all rows of the larger array, (rows, channels)."""
    rows, channels, distance = view.positions()
    assert distance == channels + 2 * margin
    return DeviceArray(d, view.owner, view.owner.address, (rows, distance), view.dtype)


@pytest.mark.parametrize("case", ["3x3", "a head"])
@pytest.mark.parametrize("activation, after", [("leaky", "linear"), ("mish", "linear"), ("linear", "relu")])
@pytest.mark.parametrize("splits", [1, 2])
@precisions
def test_epilogue(monkeypatch, precision, splits, activation, after, case):
    """Scale, bias, activation; and a residual, whose own activation is that of the sum."""
    d, geometry = device(precision), CASES[case][2]
    x, weights, more = arrays(case, precision)
    scale, bias = random(more.shape[1:2], 5), random(more.shape[1:2], 6)
    convolved = expected(case, precision)[0] * scale[:, None, None] + bias[:, None, None]
    activated, exact = np.empty_like(convolved), np.empty_like(convolved)
    backend("numpy", np.float64).activation_forward(convolved, activated, activation)
    vectors = case == "3x3"
    for shape_vectors in (True, False):
        shape = ConvolutionShape.of(x.shape, more.shape, geometry, shape_vectors)
        monkeypatch.setitem(d.plans, ("forward", precision, shape), Plan("64x64", splits))
    on_x, on_weights = on_device(d, x), on_device(d, weights, dtype=np.float32)
    floats = [on_device(d, values[None], dtype=np.float32)[0] for values in (scale, bias)]
    out = of_type(d, more.shape)
    d.convolution_forward(on_x, on_weights, out, geometry, *floats, activation)
    check(d, out, activated, precision, weights[0].size, rounds=1.01)

    backend("numpy", np.float64).activation_forward(activated + more, exact, after)
    on_more, out = on_device(d, more, margin=8 if vectors else 3), of_type(d, more.shape)
    d.convolution_residual_forward(on_x, on_weights, out, on_more, geometry, *floats, activation, after)
    check(d, out, exact, precision, weights[0].size, rounds=1.01)


@pytest.mark.parametrize("case", ["3x3", "a head", "first layer"])
@pytest.mark.parametrize("splits", [1, 2])
@precisions
def test_normalized_at_inference(monkeypatch, precision, splits, case):
    """Batch normalisation with the rolling statistics, by the convolution's kernel."""
    d, geometry = device(precision), CASES[case][2]
    x, weights, _ = arrays(case, precision)
    exact = expected(case, precision)[0]
    for vectors in (True, False):
        shape = ConvolutionShape.of(x.shape, exact.shape, geometry, vectors)
        monkeypatch.setitem(d.plans, ("forward", precision, shape), Plan("64x64", splits))
    filters = exact.shape[1]
    scales, biases, mean = (random((filters,), seed).astype(np.float64) for seed in (5, 6, 7))
    variance = np.abs(random((filters,), 8)) + 0.1
    wanted = np.empty_like(exact)
    backend("numpy", np.float64).batchnorm_forward_inference(exact, wanted, scales, biases, mean, variance, "leaky")
    floats = [on_device(d, values[None], dtype=np.float32)[0] for values in (scales, biases, mean, variance, mean, mean)]
    on_x, on_weights, out = on_device(d, x), on_device(d, weights, dtype=np.float32), of_type(d, exact.shape)
    d.convolution_batchnorm_forward_inference(on_x, on_weights, out, geometry, *floats, "leaky")
    check(d, out, wanted, precision, weights[0].size, rounds=1.01)
    if case == "first layer":  # another kernel's, and the sum another's
        return
    residual = rounded(random(exact.shape, 9), precision)
    d.convolution_batchnorm_forward_inference(
        on_x, on_weights, out, geometry, *floats, "leaky", on_device(d, residual), "relu"
    )
    check(d, out, np.maximum(wanted + residual, 0), precision, weights[0].size, rounds=1.01)


@pytest.mark.parametrize("kernel", ["largest", "64x64"])
@pytest.mark.parametrize("mean", [0, 30])
@precisions
def test_statistics_on_the_way(monkeypatch, precision, kernel, mean):
    """Those that the kernel adds up while it writes are those of what it wrote; also of values far from 0."""
    d, geometry = device(precision), ConvolutionGeometry(3, padding=1, groups=2)
    x, weights = random((2, 16, 18, 17), 1) + mean, np.abs(random((20, 8, 3, 3), 2))
    shape = ConvolutionShape.of(x.shape, (2, 20, 18, 17), geometry)
    name = kernel if kernel in TILES["forward", precision] else next(iter(TILES["forward", precision]))
    monkeypatch.setitem(d.plans, ("forward", precision, shape), Plan(name))
    launched = []
    launch = d.launch
    monkeypatch.setattr(d, "launch", lambda file, name, *rest, **options: (launched.append(name), launch(file, name, *rest, **options)))
    on_x, on_weights = on_device(d, rounded(x, precision)), on_device(d, rounded(weights, precision), dtype=np.float32)
    convolved, out, expected_out = (of_type(d, (2, 20, 18, 17)) for _ in range(3))
    learned = [on_device(d, values[None], dtype=np.float32)[0] for values in (random((20,), 3), random((20,), 4))]
    found, wanted = ([on_device(d, np.zeros((1, 20)), dtype=np.float32)[0] for _ in range(4)] for _ in range(2))
    d.convolution_batchnorm_forward_training(
        on_x, on_weights, convolved, out, geometry, *learned, *found, 0.1, "leaky"
    )
    assert "statistics_of_stretches" not in launched
    assert ("join_stretches" in launched) == (kernel == "64x64")
    d.batchnorm_forward_training(convolved, expected_out, *learned, *wanted, 0.1, "leaky")
    for actual, exact in zip(found, wanted, strict=True):
        np.testing.assert_allclose(d.to_host(actual), d.to_host(exact), rtol=1e-5)
    values = d.to_host(convolved).astype(np.float64).transpose(1, 0, 2, 3).reshape(20, -1)
    np.testing.assert_allclose(d.to_host(found[0]), values.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(d.to_host(found[1]), values.var(1, ddof=1), rtol=1e-5)
    check(d, out, d.to_host(expected_out).astype(np.float64), precision, 1, rounds=2)


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_weights_that_are_not_aligned(precision):
    """A layer's weights begin anywhere in the vector of all parameters, and are read there."""
    d, case = device(precision), "3x3"
    geometry = CASES[case][2]
    x, weights, grad_out = arrays(case, precision)
    vector = d.empty((weights.size + 1,))
    on_weights = vector[1:].reshape(weights.shape)
    d.copy(weights, on_weights)
    out, on_x = of_type(d, grad_out.shape), on_device(d, x)
    d.convolution_forward(on_x, on_weights, out, geometry)
    check(d, out, expected(case, precision)[0], precision, weights[0].size)
    d.convolution_backward_input(on_device(d, grad_out), on_weights, on_x, geometry)
    check(d, on_x, expected(case, precision)[1], precision, weights[:, 0].size)


def test_parameters_are_copied_once_for_a_pass(monkeypatch):
    """Weights that are a view of the vector of all parameters are read in its copy, others in one of their own."""
    case = "3x3"
    d, geometry = create("gpu", precision="fp16"), CASES[case][2]
    x, weights, grad_out = arrays(case, "fp16")
    out, grad_x, _ = expected(case, "fp16")
    moved = []
    move = d.move
    monkeypatch.setattr(d, "move", lambda source, *rest, **options: (moved.append(source), move(source, *rest, **options)))
    for first, others in ((8, 0), (0, 0), (3, 2)):
        vector = d.zeros((first + weights.size + 5,))
        on_weights = vector[first : first + weights.size].reshape(weights.shape)
        d.copy(weights, on_weights)
        on_x, on_grad, on_out = on_device(d, x), on_device(d, grad_out), of_type(d, out.shape)
        d.use_parameters(vector)
        moved.clear()
        d.convolution_forward(on_x, on_weights, on_out, geometry)
        d.convolution_backward_input(on_grad, on_weights, on_x, geometry)
        assert len(moved) == others
        check(d, on_out, out, "fp16", weights[0].size)
        check(d, on_x, grad_x, "fp16", weights[:, 0].size)
    on_x = on_device(d, x)
    d.copy(2 * weights, on_weights)
    d.use_parameters(vector)
    d.convolution_forward(on_x, on_weights, on_out, geometry)
    check(d, on_out, 2 * out, "fp16", weights[0].size)
    d.convolution_forward(on_x, on_device(d, weights, dtype=np.float32), on_out, geometry)
    check(d, on_out, out, "fp16", weights[0].size)


def test_tf32_rounds_to_the_nearest():
    """1 + 2^-11 and a little more lies nearer to 1 + 2^-10; what is not finite stays so."""
    d, geometry = device("tf32"), ConvolutionGeometry(1)
    x = np.zeros((1, 8, 1, 5), np.float32)
    x[0, 0, 0] = 1 + 2.0**-11 + 2.0**-20, 1 + 2.0**-11 - 2.0**-20, -(1 + 2.0**-11 + 2.0**-20), np.inf, np.nan
    weights = np.zeros((8, 8, 1, 1), np.float32)
    weights[0, 0] = 1
    on_x, on_weights, out = on_device(d, x), on_device(d, weights), of_type(d, (1, 8, 1, 5))
    d.convolution_forward(on_x, on_weights, out, geometry)
    found = d.to_host(out)[0, 0, 0]
    assert (found[:4] == [1 + 2.0**-10, 1, -(1 + 2.0**-10), np.inf]).all()
    assert np.isnan(found[4])


@pytest.mark.parametrize("case", ["3x3", "grouped", "more than a tile", "first layer"])
@precisions
def test_workspace_is_what_the_operations_use(monkeypatch, precision, case):
    """With shares and copies of the weights; nothing is allocated for them afterwards."""
    d, geometry = device(precision), CASES[case][2]
    x, weights, grad_out = arrays(case, precision)
    for operation in OPERATIONS:
        for vectors in (True, False):
            shape = ConvolutionShape.of(x.shape, grad_out.shape, geometry, vectors)
            monkeypatch.setitem(d.plans, (operation, precision, shape), Plan("64x64", 2))
    monkeypatch.setattr(d, "_workspace", d.empty((0,), np.uint8))
    on_x, on_grad, on_out = on_device(d, x), on_device(d, grad_out), of_type(d, grad_out.shape)
    on_weights = on_device(d, weights, dtype=np.float32)
    for training in (False, True):
        d.set_workspace(d.convolution_workspace(x.shape, weights.shape, grad_out.shape, geometry, training))
        before = d.workspace
        d.convolution_forward(on_x, on_weights, on_out, geometry)
        if training:
            d.convolution_backward_input(on_grad, on_weights, on_x, geometry)
            d.convolution_backward_weights(on_x, on_grad, on_weights, geometry)
        assert d.workspace is before


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(
    "filters, geometry",
    [(8, ConvolutionGeometry(3, padding=1, groups=8)), (6, ConvolutionGeometry(3, 2, 2, 1, groups=6))],
    ids=["by four", "one by one"],
)
def test_depthwise(precision, filters, geometry):
    d = device(precision)
    height = 7 if geometry.stride_y == 1 else 4
    x, grad_out = random((2, filters, 7, 7), 1), random((2, filters, height, height), 2)
    x, grad_out, weights = rounded(x, precision), rounded(grad_out, precision), random((filters, 1, 3, 3), 3)
    exact = backend("numpy", np.float64)
    out, grad_x, grad_weights = np.empty(grad_out.shape), np.empty(x.shape), np.ones(weights.shape)
    exact.convolution_forward(x.astype(float), weights.astype(float), out, geometry)
    exact.convolution_backward_input(grad_out.astype(float), weights.astype(float), grad_x, geometry)
    exact.convolution_backward_weights(x.astype(float), grad_out.astype(float), grad_weights, geometry)
    on_x, on_grad = on_device(d, x), on_device(d, grad_out)
    on_weights = on_device(d, weights, dtype=np.float32)
    on_out, on_gradient = of_type(d, out.shape), on_device(d, np.ones_like(weights), dtype=np.float32)
    d.convolution_forward(on_x, on_weights, on_out, geometry)
    check(d, on_out, out, precision, 9)
    d.convolution_backward_weights(on_x, on_grad, on_gradient, geometry)
    check(d, on_gradient, grad_weights, precision, grad_out[:, 0].size)
    d.convolution_backward_input(on_grad, on_weights, on_x, geometry)
    check(d, on_x, grad_x, precision, 9)


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_gpus_without_such_tensor_cores_compute_in_float32(monkeypatch, precision):
    d, case = device(precision), "3x3"
    monkeypatch.setattr(type(d.gpu), "has_tensor_cores", lambda gpu, precision: False)
    launched = []
    launch = d.launch
    monkeypatch.setattr(d, "launch", lambda file, *rest, **options: (launched.append(file), launch(file, *rest, **options)))
    geometry = CASES[case][2]
    x, weights, grad_out = arrays(case, precision)
    out, grad_x, grad_weights = expected(case, precision)
    on_x, on_grad, on_out = on_device(d, x), on_device(d, grad_out), of_type(d, out.shape)
    on_weights = on_device(d, weights, dtype=np.float32)
    d.convolution_forward(on_x, on_weights, on_out, geometry)
    check(d, on_out, out, precision, weights[0].size)
    on_gradient = on_device(d, np.ones_like(weights), dtype=np.float32)
    d.convolution_backward_weights(on_x, on_grad, on_gradient, geometry)
    check(d, on_gradient, grad_weights + 1, precision, grad_out[:, 0].size)
    d.convolution_backward_input(on_grad, on_weights, on_x, geometry, accumulate=True)
    check(d, on_x, x + grad_x, precision, weights[:, 0].size)
    assert set(launched) == {"exact_forward", "exact_backward_weights", "exact_backward_input", "memory"}


# Turing ----------------------------------------------------------------------------------------------------------------


@cache
def turing_device(precision):
    from darkpy.backends.cuda import CudaBackend

    return CudaBackend(2, precision)


@pytest.fixture
def turing(monkeypatch):
    """A third GPU, of compute capability 7.5, for the tests above to compute on."""
    monkeypatch.setenv("HOSTCUDA_DEVICES", "3")
    monkeypatch.setenv("HOSTCUDA_ARCH", "75")
    monkeypatch.setattr(f"{__name__}.device", turing_device)
    return turing_device("fp16")


@on_stand_in
@pytest.mark.parametrize("case", ["3x3 stride 2", "grouped", "a head", "nothing fits", "more than a tile", "many steps"])
def test_half_precision_on_turing(turing, monkeypatch, case):
    """With other tensor cores, and without asynchronous copies: two steps in shared memory, one in registers."""
    assert turing.gpu.architecture == "sm_75"
    launched = []
    launch = turing.launch
    monkeypatch.setattr(turing, "launch", lambda file, *rest, **options: (launched.append(file), launch(file, *rest, **options)))
    test_the_default_plan("fp16", case)
    assert {"tensor_forward", "tensor_backward_input", "tensor_backward_weights"} <= set(launched)
    for splits in (1, 3):
        test_every_tile_whole_and_in_parts(monkeypatch, "fp16", case, splits)


@on_stand_in
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_other_precisions_on_turing_compute_in_float32(turing, precision):
    """By kernels that copy at once there."""
    if precision == "bf16":
        pytest.importorskip("ml_dtypes")
    d = turing_device(precision)
    assert d.convolution_precision(d.activation_dtype) == "fp32"
    test_the_default_plan(precision, "3x3")
