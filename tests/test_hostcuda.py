"""The stand-in GPU itself: what it computes, and what it finds."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests import hostcuda
from tests.backends import ON_REAL_GPU, backend, why_no_gpu

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or ""),
    pytest.mark.skipif(ON_REAL_GPU, reason="a real GPU does not find these mistakes"),
]

KERNELS = Path(__file__).parent / "data" / "kernels" / "stand_in.cu"


@pytest.fixture(scope="module", params=["source", "ptx"])
def functions(request):
    """The kernels by name: read by g++, and by NVIDIA's compiler where it is."""
    import pycuda.driver as driver

    from darkpy.backends.cuda.compiler import compile_file, compiler_version, signatures

    if request.param == "ptx" and hostcuda.real_nvcc() is None:
        pytest.skip("NVIDIA's nvcc is not here")
    backend("cuda")  # a context
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTCUDA_PTX", str(int(request.param == "ptx")))
        compiler_version.cache_clear()
        module = driver.module_from_buffer(compile_file(KERNELS, "sm_80"))
    compiler_version.cache_clear()

    def find(name):
        function = module.get_function(name)
        function.prepare(signatures(KERNELS.read_text())[name].codes)
        return function

    return find


@pytest.fixture
def run(functions, monkeypatch):
    """Run a kernel of one block on arrays, of which it returns the last as it is then."""
    device = backend("cuda")._device

    def call(name, *arguments, threads=64, grid=(1, 1), order=0, shared=0):
        monkeypatch.setenv("HOSTCUDA_ORDER", str(order))
        arrays = [device.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        values = [a if isinstance(a, int) else a.address for a in arrays]
        functions(name).prepared_async_call(grid, (threads, 1, 1), device.stream, *values, shared_size=shared)
        return device.to_host([a for a in arrays if not isinstance(a, int)][-1])

    return call


@pytest.fixture
def is_ptx(request):
    return request.node.callspec.params["functions"] == "ptx"


def mistake(run, capfd, *arguments, **options):
    """What the stand-in says to a kernel that ends in an error."""
    import pycuda.driver as driver

    with pytest.raises(driver.Error, match="illegal memory access"):
        run(*arguments, **options)
    return capfd.readouterr().err


X = np.arange(64, dtype=np.float32)
NOTHING = np.zeros(64, np.float32)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_copy(run, order):
    x = np.arange(1000, dtype=np.float32)
    assert (run("copy", x, np.zeros(1000, np.float32), 1000, threads=256, grid=(4, 1), order=order) == x).all()


def test_reading_beyond_an_array(run, capfd):
    said = mistake(run, capfd, "read_beyond", X, NOTHING, 64)
    assert "kernel read_beyond, block (0, 0, 0), thread (60, 0, 0)" in said
    assert "touches 0 bytes beyond the end of a block of 256" in said


def test_writing_before_an_array(run, capfd):
    assert "wrote just beside a block" in mistake(run, capfd, "write_before", NOTHING)


def test_what_was_written_beside_an_array_is_said_once(functions, capfd):
    import pycuda.driver as driver

    device = backend("cuda")._device
    array = device.zeros((64,))
    functions("write_before").prepared_async_call((1, 1), (64, 1, 1), device.stream, array.address)
    with pytest.raises(driver.Error, match="illegal memory access"):
        device.to_host(array)
    assert (device.to_host(array)[:-1] == 1).all()
    del array
    gc.collect()
    device.stream.synchronize()
    assert capfd.readouterr().err.count("beside a block") == 1


def test_the_next_launch_works_again(run, capfd):
    mistake(run, capfd, "read_beyond", X, NOTHING, 64)
    assert (run("copy", X, NOTHING, 64) == X).all()


@pytest.mark.parametrize("order", [0, 1, 5])
def test_with_a_barrier_the_order_does_not_matter(run, order):
    assert (run("reverse", X, NOTHING, 1, order=order) == X[::-1]).all()


@pytest.mark.parametrize("order", [0, 1, 5])
def test_a_missing_barrier_shows(run, order, capfd, is_ptx):
    if is_ptx:
        assert "a race in shared memory: thread" in mistake(run, capfd, "reverse", X, NOTHING, 0, order=order)
    else:
        assert np.isnan(run("reverse", X, NOTHING, 0, order=order)).any()


@pytest.mark.parametrize("order", [0, 1])
def test_a_warp_does_not_wait_for_another(run, order, capfd, is_ptx):
    if is_ptx:
        assert "a race in shared memory: thread" in mistake(run, capfd, "reverse", X, NOTHING, 2, order=order)
    else:
        assert np.isnan(run("reverse", X, NOTHING, 2, order=order)).sum() == 32


def test_shared_memory_that_was_not_written_is_not_a_number(run):
    found = run("read_unwritten", NOTHING)
    assert found[0] == 1
    assert np.isnan(found[1:]).all()


def test_an_index_beyond_a_shared_array(run, capfd):
    assert (run("index_beyond", NOTHING, 0) == 1).all()
    assert "an index outside a shared or local array" in mistake(run, capfd, "index_beyond", NOTHING, 1)


def test_a_vector_that_is_not_aligned(run, capfd):
    x = np.arange(32, dtype=np.int32).view(np.uint16)
    assert (run("copy_in_fours", x, np.zeros(8, np.uint16), 4, threads=32) == x[4:12]).all()
    assert "a vector that is not aligned" in mistake(run, capfd, "copy_in_fours", x, np.zeros(8, np.uint16), 2, threads=32)


def test_more_threads_than_a_kernel_is_made_for(run):
    """On a GPU there would be no registers for them."""
    import pycuda.driver as driver

    x = np.zeros(32, np.uint16)
    with pytest.raises(driver.Error, match="invalid argument"):
        run("copy_in_fours", x, x.copy(), 0, threads=64)


@pytest.mark.skipif(" fma " not in Path("/proc/cpuinfo").read_text(), reason="this processor rounds twice")
def test_a_product_and_a_sum_are_rounded_once_as_by_nvcc(run):
    x, y = (np.random.default_rng(seed).standard_normal(64).astype(np.float32) for seed in (1, 2))
    exact = x.astype(np.float64) * y - x * y
    assert (run("rounding", x, y, -(x * y), NOTHING, 0) == exact.astype(np.float32)).all()
    assert not run("rounding", x, y, -(x * y), NOTHING, 1).any()


def test_threads_that_do_not_come_to_a_barrier(run, capfd):
    assert "32 are at a barrier, 32 have ended" in mistake(run, capfd, "barrier_for_some", NOTHING)


def test_lanes_missing_from_a_warp_operation(run, capfd):
    assert "16 have ended, 16 wait in a warp" in mistake(run, capfd, "shuffle_for_some", NOTHING, threads=32)


@pytest.mark.parametrize("order", [0, 1, 4])
def test_warp_operations(run, order):
    lanes = np.arange(32)
    down, same, up, ballot, total = run("warp_operations", np.zeros(160, np.float32), threads=32, order=order).reshape(5, 32)
    assert (down == np.minimum(lanes + 1, 31)).all()
    assert (same == 5).all()
    assert (up == np.where(lanes % 8 < 2, lanes, lanes - 2)).all()
    assert (ballot == 11).all()
    assert (total == 496).all()


def test_atomic_addition(run):
    assert run("add_up", np.zeros(1, np.float32), threads=96, grid=(5, 2))[0] == 960


def test_dynamic_shared_memory(run, capfd):
    assert (run("dynamic_shared", NOTHING, shared=256) == X[::-1]).all()
    assert "thread (60, 0, 0): touches memory" in mistake(run, capfd, "dynamic_shared", NOTHING, shared=240)


def test_an_asynchronous_copy_is_there_after_the_wait(run):
    x = np.arange(1, 129, dtype=np.float32)
    found = run("copy_through_shared", x, np.zeros(128, np.float32), 1, threads=32)
    assert (found[:126] == x[:126]).all()
    assert (found[126:] == 0).all()
    assert np.isnan(run("copy_through_shared", x, np.zeros(128, np.float32), 0, threads=32)).all()


@pytest.mark.parametrize("order", [0, 3])
def test_products_on_tensor_cores(run, order):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 8, shape).astype(np.float32) for shape in ((16, 16), (8, 16)))
    found = run("multiply_halves", a, b, np.zeros((16, 8), np.float32), threads=32, order=order)
    assert (found == a @ b.T).all()
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((16, 8), (8, 8)))
    found = run("multiply_tf32", a, b, np.zeros((16, 8), np.float32), threads=32, order=order)
    assert 0 < np.abs(found - a.astype(float) @ b).max() < 5e-3


def test_nothing_is_done_until_it_is_waited_for(monkeypatch):
    """A device that is busy reads pinned memory late; one stream waits for another by events alone."""
    device = backend("cuda")._device
    array, pinned = device.zeros((4,)), device.pinned((4,), np.float32)
    monkeypatch.setenv("HOSTCUDA_BUSY", "1")
    event = device.gpu.event()
    pinned[:] = 1
    device._driver.memcpy_htod_async(array.address, pinned, device.gpu.copies)
    event.record(device.gpu.copies)
    pinned[:] = 2
    assert not event.query()
    assert not np.asarray(array).any()
    event.holds_back(device.stream)
    assert (np.asarray(array) == 2).all()
    assert event.query()


def test_a_thread_without_a_context():
    import pycuda.driver as driver

    device = backend("cuda")._device
    problems = []

    def work():
        try:
            driver.pagelocked_empty((4,), np.uint8)
        except driver.Error as error:
            problems.append(str(error))
        with device.running():
            device.pinned((4,), np.uint8)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert problems == ["cuMemHostAlloc failed: invalid device context"]


def test_another_process_can_use_it():
    """Through its environment alone, as a program would find a real GPU."""
    code = "import numpy as np; from darkpy import backends; b = backends.create('gpu:1'); print(b.to_host(b.zeros((3,))))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=hostcuda.environment(), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[0. 0. 0.]\n", "")
