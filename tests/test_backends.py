"""Choosing a backend; arrays, workspace, threads; the helpers of the NumPy backend."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from darkpy.backends import create
from darkpy.backends.base import CHANNEL_ACTIVATIONS, ELEMENTWISE_ACTIVATIONS, gradient_needs_input
from darkpy.backends.numpy.tiles import TILE, matrix, per_channel, planes, tiles
from darkpy.backends.numpy.windows import overlap
from darkpy.errors import InputError
from tests.backends import BACKENDS, CPU_BACKENDS, backend, fresh


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "darkpy.backends.numba", None)


def test_create_numpy():
    assert create("numpy").name == "numpy"


def test_create_cpu_is_numpy_if_the_environment_says_so(monkeypatch):
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    assert create().name == "numpy"


@pytest.mark.skipif("numba" not in CPU_BACKENDS, reason="numba is not installed")
def test_create_cpu_is_numba_where_it_is_installed(monkeypatch):
    monkeypatch.delenv("DARKPY_NUMBA", raising=False)
    assert create().name == "numba"
    assert create("numba").name == "numba"


def test_create_without_numba(without_numba, monkeypatch):
    monkeypatch.delenv("DARKPY_NUMBA", raising=False)
    assert create("cpu").name == "numpy"
    with pytest.raises(InputError, match="pip install numba"):
        create("numba")


def test_create_unknown_device_suggests_a_known_one():
    with pytest.raises(InputError, match="did you mean 'numpy'"):
        create("numpie")


def test_gradient_needs_input():
    assert gradient_needs_input("mish")
    assert gradient_needs_input("gelu")
    assert all(gradient_needs_input(activation) for activation in CHANNEL_ACTIVATIONS)
    assert not gradient_needs_input("leaky")
    assert not gradient_needs_input("linear")
    assert len(ELEMENTWISE_ACTIVATIONS) == 20


@pytest.mark.parametrize("name", BACKENDS)
class TestMemory:
    def test_new_arrays_have_the_float_type_of_the_backend(self, name):
        assert backend(name).empty((2, 3)).dtype == np.float32
        assert not backend(name).to_host(backend(name).zeros((2, 3))).any()
        assert backend(name).zeros((2, 3), np.int64).dtype == np.int64

    def test_asarray_converts_floats_only(self, name):
        b = backend(name)
        assert b.asarray(np.ones(3)).dtype == np.float32
        assert b.asarray([1, 2]).dtype.kind == "i"
        assert b.to_host(b.asarray(np.ones((2, 3)).T)).flags.c_contiguous

    def test_copy_fill_add(self, name):
        b = backend(name)
        out = b.empty((2, 3))
        b.fill(out, 2)
        b.add(b.asarray(np.ones((2, 3))), out)
        assert (b.to_host(out) == 3).all()
        b.copy(np.zeros((2, 3)), out)
        assert not b.to_host(out).any()

    def test_workspace_never_shrinks(self, name):
        b = fresh(name)
        b.set_workspace(1000)
        assert b.workspace.nbytes >= 1000
        assert b.workspace.dtype == np.uint8
        b.set_workspace(10)
        assert b.workspace.nbytes >= 1000

    def test_parallel_calls_for_every_item(self, name):
        found = []
        lock = threading.Lock()

        def collect(item):
            with lock:
                found.append(item)

        backend(name).parallel(collect, range(20))
        assert sorted(found) == list(range(20))

    def test_parallel_raises_what_a_call_raises(self, name):
        with pytest.raises(ZeroDivisionError):
            backend(name).parallel(lambda item: 1 / item, [1, 0, 2])


def test_carve_gives_aligned_separate_arrays_and_grows():
    b = create("numpy")
    first, empty, second = b.carve((3, 5), (0,), (7,), dtype=np.float64)
    assert (first.shape, empty.shape, second.shape) == ((3, 5), (0,), (7,))
    assert first.ctypes.data % 64 == second.ctypes.data % 64 == 0
    first.fill(1)
    second.fill(2)
    assert (first == 1).all()


def test_carve_reuses_the_workspace():
    b = create("numpy")
    b.set_workspace(4096)
    before = b.workspace
    b.carve((16, 16), (100,), dtype=np.float32)
    assert b.workspace is before


@pytest.mark.parametrize("shape", [(1, 1), (1, 3 * TILE + 1), (5, TILE), (3, TILE + 1), (1000, 40), (0, 7), (7, 0)])
def test_tiles_cover_every_element_once(shape):
    seen = np.zeros(shape, int)
    for tile in tiles(*shape):
        assert seen[tile].size <= TILE
        seen[tile] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("shape", [(2, 5, 3, 3), (1, 3, 200, 200), (2, 300, 20, 20)])
def test_planes_cover_every_channel_once(shape):
    seen = np.zeros(shape[:2], int)
    for picture, channels in planes(shape):
        seen[picture, channels] += 1
    assert (seen == 1).all()


def test_matrix_refuses_to_copy():
    with pytest.raises(ValueError, match="C-contiguous"):
        matrix(np.zeros((4, 6))[:, ::2])
    with pytest.raises(ValueError, match="C-contiguous"):
        per_channel(np.zeros((2, 4, 3, 3))[:, ::2])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("start", range(-9, 10))
def test_overlap(start, stride):
    for inputs in (1, 2, 5):
        for outputs in (1, 4):
            expected = [(o, start + o * stride) for o in range(outputs) if 0 <= start + o * stride < inputs]
            out_slice, in_slice = overlap(start, stride, inputs, outputs)
            assert list(zip(range(outputs)[out_slice], range(inputs)[in_slice], strict=True)) == expected
