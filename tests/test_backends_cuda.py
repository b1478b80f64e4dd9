"""What is the GPU backend's own: choosing a device, arrays in its memory, launching, running out of memory."""

from __future__ import annotations

import gc
import sys
import threading

import numpy as np
import pytest

from darkpy import backends
from darkpy.backends.cuda.array import DeviceArray, Rearranged, own_strides, reshaped_strides
from darkpy.backends.cuda.compiler import KernelError
from darkpy.errors import InputError, OutOfMemory
from tests.backends import ON_REAL_GPU, backend, random, why_no_gpu

on_gpu = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]
on_stand_in = pytest.mark.skipif(ON_REAL_GPU, reason="it takes the stand-in to fail on purpose")


def settled_memory(device):
    """Free memory once all work is done and what nobody holds any more has been freed."""
    import pycuda.driver as driver

    driver.Context.synchronize()
    device.gpu.collect()
    driver.Context.synchronize()
    return device.free_memory()


# Choosing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_set(monkeypatch):
    monkeypatch.delenv("DARKPY_DEVICE", raising=False)
    monkeypatch.delenv("DARKPY_NUMBA", raising=False)


@pytest.mark.parametrize(
    "device, chosen", [("gpu", "gpu:0"), ("gpu:1", "gpu:1"), ("cuda:2", "gpu:2"), ("GPU:0", "gpu:0"), ("numpy", "numpy")]
)
def test_a_device_by_name(nothing_set, device, chosen):
    assert backends.choose(device) == backends.Choice(chosen)


def test_the_environment_chooses_where_nobody_does(nothing_set, monkeypatch):
    monkeypatch.setenv("DARKPY_DEVICE", "gpu:3")
    assert backends.choose() == backends.Choice("gpu:3")
    assert backends.choose("numpy") == backends.Choice("numpy")


def test_without_pycuda_it_is_the_cpu_and_says_why(nothing_set, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    monkeypatch.setattr("darkpy.backends.cuda.device.find_spec", lambda name: None)
    monkeypatch.setattr("darkpy.backends.cuda.device.TRACES", (str(tmp_path / "none"),))
    assert backends.choose().notice == ""  # a machine without a GPU needs no word about it
    monkeypatch.setattr("darkpy.backends.cuda.device.TRACES", (str(tmp_path),))
    choice = backends.choose()
    assert choice.device in ("numba", "numpy")
    assert choice.notice == "computing on the CPU: PyCUDA is not installed: pip install darkpy-detector[cuda]"
    with pytest.raises(InputError, match="gpu:7 cannot be used: PyCUDA is not installed"):
        backends.create("gpu:7")


@pytest.mark.parametrize("device", ["gpu9", "gpu:", "gpu:-1", "cuda:x"])
def test_no_such_device(device):
    with pytest.raises(InputError, match=f"unknown device '{device}'"):
        backends.choose(device)


class TestChoosing:
    pytestmark = on_gpu

    def test_a_gpu_is_chosen_where_there_is_one(self, nothing_set):
        choice = backends.choose()
        assert choice.device == "gpu:0"
        assert choice.notice.startswith("computing on the GPU: ")

    def test_double_precision_is_for_the_cpu(self, nothing_set):
        assert backends.choose("auto", np.float64).device in ("numba", "numpy")
        with pytest.raises(InputError, match="a GPU computes in float32, not float64"):
            backends.create("gpu", np.float64)

    def test_a_gpu_that_is_not_there(self):
        with pytest.raises(InputError, match=r"gpu:99 cannot be used: there (is|are) \d+ GPUs?, counted from 0"):
            backends.create("gpu:99")

    @on_stand_in
    @pytest.mark.parametrize(
        "failure, expected",
        [("cuInit:100", "the driver finds no NVIDIA GPU"), ("cuInit:803", "different versions: restart")],
    )
    def test_a_driver_that_does_not_start(self, nothing_set, monkeypatch, failure, expected):
        monkeypatch.setenv("HOSTCUDA_FAIL", failure)
        choice = backends.choose()
        assert choice.device in ("numba", "numpy")
        assert expected in choice.notice


# Strides -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, strides",
    [((7,), (1,)), ((3, 4), (4, 1)), ((2, 3, 4), (12, 4, 1)), ((2, 3, 4, 5), (60, 1, 15, 3)),
     ((9, 2, 3, 4, 5), (120, 60, 1, 15, 3))],
)  # fmt: skip
def test_channels_lie_last(shape, strides):
    assert own_strides(shape) == strides


@pytest.mark.parametrize("seed", range(40))
def test_reshaped_strides_are_numpys(seed):
    """Where NumPy makes a view, so do we, with the same strides; where it copies, there is none."""
    rng = np.random.default_rng(seed)
    lengths = rng.permutation([1, 2, 3, 2, 4])
    array = np.arange(lengths.prod(), dtype=np.int8).reshape(lengths).transpose(rng.permutation(5))
    for wanted in ((48,), (6, 8), (2, 24), (4, 12), (2, 3, 8), (2, 2, 3, 4), (1, 48), (4, 1, 3, 4)):
        found = reshaped_strides(array.shape, array.strides, wanted)
        view = array.reshape(wanted)
        if np.shares_memory(view, array):
            assert found is not None
            assert [s for s, n in zip(found, wanted, strict=True) if n > 1] == [
                s for s, n in zip(view.strides, wanted, strict=True) if n > 1
            ]
        else:
            assert found is None


# Arrays --------------------------------------------------------------------------------------------------------------


class TestArrays:
    pytestmark = on_gpu

    @pytest.fixture
    def device(self):
        return backend("cuda")._device

    @pytest.fixture
    def pair(self, device):
        host = random((2, 6, 3, 4))
        return host, device.asarray(host)

    @pytest.mark.parametrize(
        "index",
        [
            np.s_[:], np.s_[1], np.s_[1:], np.s_[:, 2:5], np.s_[:, 1::2], np.s_[:, :, ::2, 1:3], np.s_[:, :, :, ::-1],
            np.s_[-1, 3], np.s_[0, 2, 1],
        ],
    )  # fmt: skip
    def test_views(self, pair, index):
        host, array = pair
        assert (np.asarray(array[index]) == host[index]).all()

    def test_an_index_beyond_the_end(self, pair):
        with pytest.raises(IndexError):
            pair[1][2]

    @pytest.mark.parametrize("shape", [(2, 72), (2, -1), (12, 12), (2, 2, 3, 3, 4), (144,), (2, 3, 6, 4), (1, 12, 3, 4)])
    def test_reshape_keeps_the_order_of_the_axes(self, device, pair, shape):
        host, array = pair
        assert (np.asarray(array.reshape(*shape)) == host.reshape(shape)).all()

    def test_writing_to_rearranged_elements(self, device, pair):
        host, array = pair
        rows = array.reshape(2, 72)
        assert isinstance(rows, Rearranged)
        new = random((2, 72), 5)
        device.copy(new, rows)
        assert (np.asarray(array) == new.reshape(host.shape)).all()
        device.add(device.asarray(new), rows)
        assert (np.asarray(array) == 2 * new.reshape(host.shape)).all()
        device.fill(rows, 3)
        assert (np.asarray(array) == 3).all()

    def test_a_kernel_refuses_rearranged_elements(self, device, pair):
        with pytest.raises(ValueError, match="in_order"):
            device.clip(pair[1].reshape(2, 72), 1.0)

    def test_a_vector_in_another_shape_is_the_same_memory(self, device):
        vector = device.zeros((48,))
        weights = vector[:24].reshape(2, 3, 2, 2)
        device.copy(random((2, 3, 2, 2)), weights)
        assert (np.sort(np.asarray(vector)[:24]) == np.sort(random((2, 3, 2, 2)).ravel())).all()
        assert not np.asarray(vector)[24:].any()

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.float32])
    def test_other_types_are_moved_as_they_are(self, device, dtype):
        host = np.arange(2 * 6 * 3 * 4).reshape(2, 6, 3, 4).astype(dtype)
        assert (np.asarray(device.asarray(host)) == host).all()

    @pytest.mark.parametrize("value", [0.0, 2.5, -np.inf])
    def test_fill_a_view(self, device, pair, value):
        host, array = pair
        device.fill(array[:, 1:3, ::2], value)
        host[:, 1:3, ::2] = value
        assert (np.asarray(array) == host).all()

    def test_an_array_lives_as_long_as_a_view_of_it(self, device, pair):
        host, array = pair
        part = array[1, 2]
        del array
        gc.collect()
        device.zeros((2, 6, 3, 4))
        assert (np.asarray(part) == host[1, 2]).all()

    def test_another_thread_may_let_go_of_an_array(self, device):
        gc.collect()  # what other tests have left might go at any time
        before = settled_memory(device)
        holder = [device.empty((100_000,))]
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
        assert settled_memory(device) == before or ON_REAL_GPU

    def test_another_thread_may_let_go_of_what_the_host_shares_with_the_device(self, device):
        """PyCUDA would warn, and never free it."""
        pinned = device.pinned((10, 10), np.float32)
        pinned[:] = 7
        parts = [pinned[2:5, 3], device.gpu.event()]
        del pinned
        assert (parts[0] == 7).all()
        thread = threading.Thread(target=parts.clear)
        thread.start()
        thread.join()
        device.gpu.collect()

    def test_out_of_memory_says_how_much_was_wanted(self, device):
        with pytest.raises(OutOfMemory, match=r"4,000,000 MB more are needed, .* raise subdivisions="):
            device.empty((10**12,))

    def test_an_unknown_kernel_and_a_wrong_number_of_arguments(self, device):
        with pytest.raises(KernelError, match=r"kernels/memory.cu has no .* void nothing"):
            device.launch("memory", "nothing", 1, 32)
        with pytest.raises(KernelError, match="kernel scale_rows of memory.cu takes 10 arguments, not 1"):
            device.launch("memory", "scale_rows", 1, 32, 0)

    @on_stand_in
    def test_a_driver_older_than_the_toolkit(self, device, monkeypatch):
        from darkpy.backends.cuda.compiler import Kernels

        monkeypatch.setenv("HOSTCUDA_FAIL", "cuModuleLoadDataEx:222")
        with pytest.raises(KernelError, match=r"compiled by CUDA 13.0 for sm_\d+a?, .* install a newer driver, or CUDA"):
            Kernels(device.gpu).function("memory", "scale_rows")

    @pytest.mark.parametrize("reads_pageable", [False, True])
    @pytest.mark.parametrize("size", [1, 1000, 300_000])
    def test_what_was_brought_may_change_at_once(self, device, size, reads_pageable, monkeypatch):
        """Small arrays through pinned memory that is used again only when the device has read it, larger ones as they are.

        Where the device reads memory that is not pinned by itself, they are waited for.
        """
        host = np.arange(size, dtype=np.float32)
        arrays = [device.empty((size,)) for _ in range(3)]
        if not ON_REAL_GPU:
            monkeypatch.setenv("HOSTCUDA_BUSY", "1")
            monkeypatch.setenv("HOSTCUDA_PAGEABLE", str(int(reads_pageable)))
            monkeypatch.setattr(device.gpu, "reads_pageable", reads_pageable)
        for number, array in enumerate(arrays):
            given = host + number
            device.copy(given, array)
            given[...] = -1
        for number, array in enumerate(arrays):
            assert (np.asarray(array) == host + number).all()

    @on_stand_in
    def test_memory_for_what_was_brought_is_used_again(self, device, monkeypatch):
        monkeypatch.setattr("darkpy.backends.cuda.parcels.MOST", 3)
        device._parcels.under_way.clear()
        monkeypatch.setenv("HOSTCUDA_BUSY", "1")
        array = device.empty((100,))
        for number in range(9):
            device.copy(np.full(100, number, np.float32), array)
        assert {size: len(parcels) for size, parcels in device._parcels.under_way.items()} == {512: 3}

    def test_is_finite(self, device):
        x = device.asarray(random((2, 6, 3, 4)))
        assert device.is_finite(x)
        for bad in (np.nan, np.inf, -np.inf):
            device.fill(x[1, 5, 2, 3:], bad)
            assert not device.is_finite(x)
            device.fill(x, 1)

    def test_one_device_array_is_described(self, pair):
        assert isinstance(pair[1], DeviceArray)
        assert repr(pair[1]) == "DeviceArray(shape=(2, 6, 3, 4), dtype=float32, strides=(72, 1, 24, 6))"
