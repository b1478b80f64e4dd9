"""The memory that passes take for a moment, known before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import pytest

from darkpy.config.cfg import read_cfg
from darkpy.network import Network
from darkpy.rehearsal import scratch_memory
from tests import hostcuda, layer_checks
from tests.backends import ON_REAL_GPU, why_no_gpu
from tests.test_backends_cuda_graphs import looked_at
from tests.test_update import batch, values
from tests.tiny_job import write_cfg

on_gpu = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]

#: A matrix of what lies channels last in memory has to be made, and its gradient brought back.
REARRANGED = "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n[connected]\noutput=4\nactivation=linear\n[cost]\n"


def test_there_is_none_on_the_cpu(tmp_path: Path) -> None:
    assert scratch_memory(Network(read_cfg(write_cfg(tmp_path)), training=True, device="numpy")) == 0


class TestOnTheGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("training", [True, False])
    def test_it_is_what_the_passes_take(self, monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
        monkeypatch.setenv("DARKPY_CUDA_GRAPHS", "0")
        network = layer_checks.network(REARRANGED, (3, 20, 20), training=training, device="cuda", dtype=np.float32)
        found = scratch_memory(network)
        assert found >= 2 * 8 * 20 * 20 * 4
        x = layer_checks.pictures(network, 2)
        with counted(network.backend) as most:
            network.run(x)
            if training:
                network.backend.fill(network.heads[0].grad_output, 1.0)
                with network.backend.running():
                    network._backward(-1)
        assert found == max(most)

    def test_the_network_is_as_before(self, tmp_path: Path) -> None:
        networks = [Network(read_cfg(write_cfg(tmp_path)), training=True, device="cuda") for _ in range(2)]
        before = 0 if ON_REAL_GPU else hostcuda.launches()
        free = networks[0].backend.free_memory()
        scratch_memory(networks[0])
        assert networks[0].backend.free_memory() == free
        assert ON_REAL_GPU or hostcuda.launches() == before
        for number in range(3):
            losses = [network.train_batch(*batch(number)) for network in networks]
            assert losses[0] == losses[1]
        assert (values(networks[0]) == values(networks[1])).all()

    def test_work_for_the_host_is_left_out(self) -> None:
        network = layer_checks.network(REARRANGED, (3, 20, 20), training=True, device="cuda", dtype=np.float32)
        assert scratch_memory(looked_at(network)) >= 2 * 8 * 20 * 20 * 4


@contextmanager
def counted(backend: Any) -> Iterator[list[int]]:
    """Bytes of scratch that there were at any time."""
    now, times = [0], [0]
    allocate = backend.scratch

    class Kept:
        """Lives as long as the memory it came with."""

    def scratch(shape: Any, dtype: Any = None) -> Any:
        array = allocate(shape, dtype)
        nbytes = max(array.nbytes, 1)
        now[0] += nbytes
        times.append(now[0])
        owner, array.owner = array.owner, Kept()
        array.owner.memory = owner
        finalize(array.owner, lambda: now.__setitem__(0, now[0] - nbytes))
        return array

    backend.scratch = scratch
    yield times
    del backend.scratch
