"""Pictures on their way to a network's input: bytes and floats are the same pictures, wherever they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpy.backends.cuda.device import PinnedBlock
from darkpy.config.cfg import read_cfg
from darkpy.network import Network
from darkpy.training import TrainingSettings, train
from tests import hostcuda
from tests.backends import BACKENDS, ON_REAL_GPU, fresh, why_no_gpu
from tests.tiny_job import write_cfg, write_job

on_gpu = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]
on_stand_in = pytest.mark.skipif(ON_REAL_GPU, reason="the stand-in counts how often it is waited for")


def bytes_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Pictures (n, c, h, w), channels last in memory."""
    n, c, h, w = shape
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, c), np.uint8).transpose(0, 3, 1, 2)


def as_floats(x: np.ndarray) -> np.ndarray:
    """As the loader divides them."""
    return np.divide(np.ascontiguousarray(x), np.float32(255))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 4, 4), (3, 8, 2, 3)])
def test_bytes_are_the_quotients_of_the_cpu_bit_for_bit(name: str, shape: tuple[int, ...]) -> None:
    device = fresh(name)
    x = bytes_of(shape)
    assert set(np.unique(bytes_of((4, 3, 32, 32)))) == set(range(256))
    for _ in range(3):  # both berths, and one of them again
        for given in (x, as_floats(x), np.ascontiguousarray(x)):
            assert (np.asarray(device.pictures(given)) == as_floats(x)).all()
        x = bytes_of((4, 3, 32, 32), 1)


@pytest.mark.parametrize("device", BACKENDS)
def test_a_network_takes_both(tmp_path: Path, device: str) -> None:
    networks = [Network(read_cfg(write_cfg(tmp_path)), training=True, device=device) for _ in range(2)]
    truth = [np.array([[0, 0.5, 0.5, 0.4, 0.4]], np.float32)] * 4
    for number in range(3):
        x = bytes_of((4, 3, 32, 32), number)
        losses = [net.train_batch(given, truth) for net, given in zip(networks, (x, as_floats(x)), strict=True)]
        assert losses[0] == losses[1]
    first, second = (np.array(net.parameters.values) for net in networks)
    assert (first == second).all()


class TestPinned:
    pytestmark = on_gpu

    @on_stand_in
    def test_pictures_in_pinned_memory_are_waited_for_before_they_may_change(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device: Any = fresh("cuda")._device
        memory = device.picture_memory(1000)
        assert PinnedBlock.holds(memory[10:50].view(np.float32).reshape(1, 1, 2, 5))
        pinned = memory[: 3 * 16].reshape(1, 4, 4, 3).transpose(0, 3, 1, 2)
        pinned[...] = bytes_of((1, 3, 4, 4))
        monkeypatch.setenv("HOSTCUDA_BUSY", "1")
        for given, expected in ((pinned, 1), (np.array(pinned), 0)):
            device.pictures(given)
            before = hostcuda.waits()
            device.pictures_taken()
            device.pictures_taken()
            assert hostcuda.waits() - before == expected

    @on_stand_in
    @pytest.mark.parametrize("reads_pageable", [False, True])
    def test_pictures_from_anywhere_else_may_change_at_once(
        self, reads_pageable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        device: Any = fresh("cuda")._device
        monkeypatch.setenv("HOSTCUDA_BUSY", "1")
        monkeypatch.setenv("HOSTCUDA_PAGEABLE", str(int(reads_pageable)))
        monkeypatch.setattr(device.gpu, "reads_pageable", reads_pageable)
        x = bytes_of((1, 3, 4, 4))
        given = x.copy(order="K")
        out = device.pictures(given)
        given[...] = 0
        assert (np.asarray(out) == as_floats(x)).all()

    def test_the_loader_s_batches_come_as_bytes_from_pinned_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A training with them ends with the weights of one with floats from anywhere, bit for bit."""
        from darkpy.backends.cuda import CudaBackend

        write_job(tmp_path, max_batches=5, random=1)
        monkeypatch.chdir(tmp_path)
        seen: set[tuple[str, bool]] = set()
        pictures = CudaBackend.pictures

        def noted(self: Any, x: np.ndarray) -> Any:
            seen.add((x.dtype.name, PinnedBlock.holds(x)))
            return pictures(self, x)

        monkeypatch.setattr(CudaBackend, "pictures", noted)
        given: dict[str, Any] = {"cfg": "tiny.cfg", "device": "gpu", "measure": False, "report": False}
        train(TrainingSettings(out="bytes", workers=2, **given))
        assert seen == {("uint8", True)}
        seen.clear()
        monkeypatch.setattr(CudaBackend, "bytes_preferred", False)
        monkeypatch.setattr(CudaBackend, "picture_memory", lambda self, nbytes: np.empty(nbytes, np.uint8))
        train(TrainingSettings(out="floats", workers=2, **given))
        assert seen == {("float32", False)}
        assert Path("bytes/final.weights").read_bytes() == Path("floats/final.weights").read_bytes()
