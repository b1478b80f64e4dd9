"""What the compiled backend has of its own: threads, tiles, and several ways to the same convolution."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from darkpy.backends.base import ConvolutionGeometry, PoolGeometry
from darkpy.errors import InputError
from tests.backends import assert_close, backend, random

numba = pytest.importorskip("numba")

from darkpy.backends.numba import NumbaBackend, convolution, convolution_plans, packing, winograd  # noqa: E402
from darkpy.backends.numba.activations import exponential  # noqa: E402
from darkpy.backends.numba.memory import shares  # noqa: E402
from darkpy.backends.numba.threads import Workers  # noqa: E402
from darkpy.backends.numba.tile import COLUMNS, HEIGHTS, multiply_tile, tile_address  # noqa: E402

# --- Threads.


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_task_is_done_once(count, tasks):
    done = [0] * tasks
    workers = Workers(count)

    def task(worker, number):
        assert 0 <= worker < count
        done[number] += 1

    for _ in range(3):
        workers.run(task, tasks)
    assert done == [3] * tasks


def test_workers_work_at_the_same_time():
    workers = Workers(3)
    together = threading.Barrier(3, timeout=30)
    workers.run(lambda worker, number: together.wait(), 3)


def test_a_worker_has_one_task_at_a_time():
    workers = Workers(3)
    busy = [threading.Lock() for _ in range(3)]

    def task(worker, number):
        assert busy[worker].acquire(blocking=False)
        time.sleep(0.001)
        busy[worker].release()

    workers.run(task, 30)


@pytest.mark.parametrize("culprit", [0, 4])
def test_an_error_of_a_task_is_raised_and_ends_the_work(culprit):
    workers = Workers(2)
    done = []

    def task(worker, number):
        if number == culprit:
            raise ValueError("task 4")
        done.append(number)

    with pytest.raises(ValueError, match="task 4"):
        workers.run(task, 1000)
    assert len(done) < 1000
    done.clear()
    workers.run(lambda worker, number: done.append(number), 7)
    assert sorted(done) == list(range(7))


def test_work_within_a_task_is_done_by_its_caller():
    workers = Workers(2)
    inner = []

    def task(worker, number):
        caller = threading.get_ident()
        workers.run(lambda worker, inner_number: inner.append(threading.get_ident() == caller), 3)

    workers.run(task, 4)
    assert inner == [True] * 12


def test_threads_end_with_their_owner():
    def ours():
        return [thread for thread in threading.enumerate() if thread.name.startswith("darkpy-") and thread not in before]

    before = threading.enumerate()
    workers = Workers(3)
    workers.run(lambda worker, number: time.sleep(0.01), 3)
    assert len(ours()) == 2
    del workers
    deadline = time.monotonic() + 30
    while ours() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not ours()


@pytest.mark.parametrize("total", [0, 1, 5, 64, 100])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("multiple", [1, 6, 16])
def test_shares_cover_everything_once(total, parts, multiple):
    ranges = shares(total, parts, multiple)
    assert len(ranges) <= parts
    assert [i for first, last in ranges for i in range(first, last)] == list(range(total))
    assert all(first % multiple == 0 for first, _ in ranges)


@pytest.mark.parametrize("setting", ["0", "-1", "two", "1.5"])
def test_threads_of_the_environment_are_checked(setting, monkeypatch):
    monkeypatch.setenv("DARKPY_THREADS", setting)
    with pytest.raises(InputError, match="DARKPY_THREADS"):
        NumbaBackend()


def test_threads_of_the_environment(monkeypatch):
    monkeypatch.setenv("DARKPY_THREADS", "3")
    assert NumbaBackend().threads == 3


# --- Kernels.


@numba.njit
def multiply(tile, rows, columns, a, a_rows, b, b_rows, c, c_row, depth, add):
    multiply_tile(tile, rows, columns, a, 0, a_rows, 0, b, 1, b_rows, 0, c, 2, c_row, depth, add)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("depth", [1, 7])
def test_multiply_tile(depth, add):
    for rows in HEIGHTS:
        for columns in range(1, COLUMNS + 1):
            a, b = random((2 * rows, depth), 1), random((depth, COLUMNS + 3), 2)
            c = random((rows, COLUMNS + 5), 3)
            expected = c.copy()
            expected[:, 2 : 2 + columns] *= add
            expected[:, 2 : 2 + columns] += a[::2] @ b[:, 1 : 1 + columns]
            a_rows, b_rows = np.arange(rows) * 2 * depth, np.arange(depth) * (COLUMNS + 3)
            flat = a.reshape(-1), a_rows, b.reshape(-1), b_rows, c.reshape(-1)
            multiply(tile_address(), rows, columns, *flat, COLUMNS + 5, depth, add)
            assert_close(c, expected)


@numba.njit
def exponentials(x, out):
    for i in range(len(x)):
        out[i] = exponential(x[i])


def test_exponential_is_exact_to_two_units_in_the_last_place():
    x = np.linspace(-87, 88, 200_001, dtype=np.float32)
    out = np.empty_like(x)
    exponentials(x, out)
    expected = np.exp(x.astype(np.float64))
    assert (np.abs(out - expected) <= 2 * np.spacing(expected.astype(np.float32))).all()


def test_exponential_of_what_is_out_of_range():
    x = np.array([-np.inf, -1000, -88, 100, np.inf, np.nan, 0], np.float32)
    out = np.empty_like(x)
    exponentials(x, out)
    assert (out[:3] == 0).all()
    assert (out[3:5] > 2e38).all()
    assert np.isfinite(out[3:5]).all()
    assert np.isnan(out[5])
    assert out[6] == 1


# --- Ways of a convolution.

# x shape, filters, geometry
CASES = {
    "3x3": ((2, 20, 19, 37), 33, ConvolutionGeometry(3, padding=1)),
    "3x3 narrow": ((3, 40, 7, 6), 17, ConvolutionGeometry(3, padding=1)),
    "3x3 wide": ((1, 16, 5, 150), 16, ConvolutionGeometry(3, padding=1)),
    "3x3 unpadded": ((2, 16, 11, 12), 18, ConvolutionGeometry(3)),
    "3x3 padded more": ((1, 17, 9, 8), 16, ConvolutionGeometry(3, padding=2)),
    "3x3 grouped": ((2, 34, 12, 13), 32, ConvolutionGeometry(3, padding=1, groups=2)),
    "3x3 stride 2": ((2, 9, 22, 41), 12, ConvolutionGeometry(3, 2, 2, 1)),
    "3x3 strides 1 and 2": ((2, 5, 13, 30), 7, ConvolutionGeometry(3, 1, 2, 1)),
    "3x3 dilated": ((2, 6, 17, 18), 8, ConvolutionGeometry(3, padding=2, dilation=2)),
    "5x5 stride 3": ((1, 4, 31, 29), 6, ConvolutionGeometry(5, 3, 3, 2)),
    "1x1": ((3, 21, 9, 11), 70, ConvolutionGeometry(1)),
    "1x1 stride 2": ((2, 5, 9, 11), 8, ConvolutionGeometry(1, 2, 2)),
    "depthwise": ((2, 6, 19, 20), 6, ConvolutionGeometry(3, padding=1, groups=6)),
    "depthwise stride 2": ((2, 6, 19, 21), 6, ConvolutionGeometry(3, 2, 2, 1, groups=6)),
    "depthwise 5x5 stride 3": ((1, 4, 23, 70), 4, ConvolutionGeometry(5, 3, 3, 2, groups=4)),
}


@pytest.fixture
def constants(monkeypatch):
    """Sets constants by which convolutions are planned: (module, name, value), ... Restores them and forgets the plans."""

    def forget():
        for function in (
            convolution_plans.forward_reading,
            convolution_plans.backward_phases,
            convolution_plans.plan_gradient_tiles,
        ):
            function.cache_clear()

    def change(*settings):
        for module, name, value in settings:
            assert hasattr(module, name)
            monkeypatch.setattr(module, name, value)
        forget()

    yield change
    monkeypatch.undo()
    forget()


BANDS = ((convolution_plans, "PACKING_FILTERS", 1e9), (convolution_plans, "TRANSFORM_CYCLES", 1e9))
PANELS = ((convolution_plans, "PACKING_FILTERS", -1e9), (convolution_plans, "TRANSFORM_CYCLES", 1e9))
TILES = ((convolution_plans, "TRANSFORM_CYCLES", -1e9),)
WAYS = {
    "bands": BANDS,
    "panels": PANELS,
    "tiles": TILES,
    "sums by channel": (*BANDS, (convolution, "SEPARATE_SUMS", 0)),
    "panels, sums by channel": (*PANELS, (convolution, "SEPARATE_SUMS", 0)),
    "tiles, sums by channel": (*TILES, (winograd, "SEPARATE_SUMS", 0)),
    "small tiles": (*TILES, (convolution_plans, "INPUT_FLOATS", 0), (convolution_plans, "TILE_BAND_FLOATS", 9000)),
    "few tiles summed at a time": (*TILES, (convolution_plans, "GRADIENT_SPAN", 20)),
}


def run_all(b, x, weights, grad_out, geometry, accumulate):
    """Output and both gradients, the gradients on top of something."""
    out = np.full(grad_out.shape, np.nan, x.dtype)
    b.convolution_forward(x, weights, out, geometry, random(weights.shape[:1], 5, x.dtype), None, "leaky")
    grad_weights = random(weights.shape, 6, x.dtype)
    b.convolution_backward_weights(x, grad_out, grad_weights, geometry)
    grad_x = random(x.shape, 7, x.dtype)
    b.convolution_backward_input(grad_out, weights, grad_x, geometry, accumulate)
    return out, grad_weights, grad_x


def inputs(x_shape, filters, geometry, dtype=np.float32):
    weights_shape = (filters, x_shape[1] // geometry.groups, geometry.size, geometry.size)
    reach = (geometry.size - 1) * geometry.dilation + 1
    height = (x_shape[2] + 2 * geometry.padding - reach) // geometry.stride_y + 1
    width = (x_shape[3] + 2 * geometry.padding - reach) // geometry.stride_x + 1
    shapes = x_shape, weights_shape, (x_shape[0], filters, height, width)
    return [random(shape, seed, dtype) for seed, shape in enumerate(shapes)]


def check_against_float64(b, x_shape, filters, geometry, accumulate=True):
    results = run_all(b, *inputs(x_shape, filters, geometry), geometry, accumulate)
    double = inputs(x_shape, filters, geometry, np.float64)
    for result, expected in zip(results, run_all(backend("numpy", np.float64), *double, geometry, accumulate)):
        assert_close(result, expected, 5e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_every_way_of_a_convolution(case, way, constants):
    constants(*WAYS[way])
    check_against_float64(backend("numba"), *CASES[case], accumulate=way != "bands")


@pytest.mark.parametrize("case", ["3x3", "3x3 stride 2", "5x5 stride 3"])
def test_bands_of_few_channels(case, constants):
    constants(*BANDS, (packing, "BAND_TERMS", 80), (packing, "BAND_FLOATS", 2000))
    check_against_float64(backend("numba"), *CASES[case])


def test_panels_of_few_terms(constants):
    constants(*PANELS)
    # More terms than a block of panels has, and more than a block of patches.
    check_against_float64(backend("numba"), (2, 70, 9, 10), 20, ConvolutionGeometry(3, padding=1))


def test_ways_are_chosen_by_shape():
    def reading(x_shape, filters, geometry):
        x, weights, out = inputs(x_shape, filters, geometry)
        return convolution_plans.forward_reading(x.shape, weights.shape, out.shape, geometry)

    same = ConvolutionGeometry(3, padding=1)
    assert reading((1, 3, 64, 64), 16, same).band is not None
    assert reading((1, 3, 64, 64), 16, same).tiles is None
    assert reading((1, 64, 52, 52), 128, same).tiles is not None
    assert reading((1, 64, 52, 52), 128, ConvolutionGeometry(3, 2, 2, 1)).tiles is None
    # To transform so many kernels pays for several pictures only.
    assert reading((1, 256, 13, 13), 512, same).tiles is None
    assert reading((8, 256, 13, 13), 512, same).tiles is not None
    assert reading((1, 64, 52, 52), 128, ConvolutionGeometry(1)).band is None


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", ["3x3", "3x3 narrow", "3x3 stride 2", "1x1", "depthwise stride 2"])
def test_any_number_of_threads(case, threads, monkeypatch):
    monkeypatch.setenv("DARKPY_THREADS", str(threads))
    monkeypatch.setattr("darkpy.backends.numba.memory.WORTH_SHARING", 0)
    check_against_float64(NumbaBackend(), *CASES[case])


@pytest.mark.parametrize("case", ["3x3", "3x3 stride 2", "1x1"])
def test_results_are_the_same_every_time(case, monkeypatch):
    monkeypatch.setenv("DARKPY_THREADS", "2")
    monkeypatch.setattr("darkpy.backends.numba.memory.WORTH_SHARING", 0)
    b = NumbaBackend()
    x_shape, filters, geometry = CASES[case]
    first = run_all(b, *inputs(x_shape, filters, geometry), geometry, True)
    for _ in range(5):
        for result, before in zip(run_all(b, *inputs(x_shape, filters, geometry), geometry, True), first):
            assert (result == before).all()


def test_inputs_may_be_read_only():
    x, weights, grad_out = inputs(*CASES["3x3"])
    out, expected = np.empty_like(grad_out), np.empty_like(grad_out)
    backend("numba").convolution_forward(x, weights, expected, CASES["3x3"][2])
    x.flags.writeable = False
    backend("numba").convolution_forward(x, weights, out, CASES["3x3"][2])
    assert (out == expected).all()


def test_outputs_must_be_contiguous():
    x, weights, grad_out = inputs(*CASES["3x3"])
    with pytest.raises(ValueError, match="C-contiguous"):
        backend("numba").convolution_forward(x, weights, grad_out[:, :, :, ::-1], CASES["3x3"][2])


# --- Other operations.


@pytest.mark.parametrize("geometry", [PoolGeometry(2, 2, 2), PoolGeometry(3, 1, 1, 1), PoolGeometry(17, 1, 1, 8)])
def test_large_pools_use_winners_that_fit(geometry):
    b = backend("numba")
    x = random((2, 3, 20, 40))
    height, width = -(-20 // geometry.stride_y), -(-40 // geometry.stride_x)
    out, expected = np.empty((2, 3, height, width), np.float32), np.empty((2, 3, height, width))
    winners = np.empty(out.shape, b.winner_dtype(geometry))
    b.maxpool_forward(x, out, geometry, winners)
    backend("numpy", np.float64).maxpool_forward(x.astype(np.float64), expected, geometry)
    assert_close(out, expected, 0)
    grad_x = np.empty_like(x)
    b.maxpool_backward(np.ones_like(out), winners, grad_x, geometry)
    assert grad_x.sum() == out.size


def test_moments_of_a_large_mean():
    """A variance that the plain formula, mean of squares less square of the mean, would lose altogether."""
    b = backend("numba")
    x = random((3, 2, 70, 80)) * 0.01 + 1000
    mean, variance, rolling = np.empty(2, np.float32), np.empty(2, np.float32), np.zeros(2, np.float32)
    out, ones = np.empty_like(x), np.ones(2, np.float32)
    b.batchnorm_forward_training(x, out, ones, np.zeros_like(ones), mean, variance, rolling, rolling.copy(), 0.1)
    exact = x.astype(np.float64)
    assert_close(mean, exact.mean(axis=(0, 2, 3)), 1e-7)
    assert_close(variance, exact.var(axis=(0, 2, 3), ddof=1), 1e-3)


def test_other_float_types_are_left_to_numpy():
    b = backend("numba", np.float64)
    assert b.name == "numba"
    assert isinstance(b, NumbaBackend)
    check_against_float64(backend("numba"), *CASES["1x1"])
    x, weights, grad_out = inputs(*CASES["3x3"], np.float64)
    for result, expected in zip(
        run_all(b, x, weights, grad_out, CASES["3x3"][2], False),
        run_all(backend("numpy", np.float64), x, weights, grad_out, CASES["3x3"][2], False),
    ):
        assert (result == expected).all()
