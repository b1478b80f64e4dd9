"""The memory that passes take beside what is planned, known before anything is computed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import pytest

from darkpy.config.cfg import read_cfg
from darkpy.network import Network
from darkpy.rehearsal import scratch_memory
from darkpy.training.preparation import with_subdivisions
from tests import hostcuda, layer_checks
from tests.backends import ON_REAL_GPU, why_no_gpu
from tests.test_backends_cuda_graphs import looked_at
from tests.test_update import HEADS, batch, classifier, detector, labels, rare, values, views, with_head
from tests.tiny_job import write_cfg

on_gpu = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]

#: A matrix of what lies channels last in memory has to be made, and its gradient brought back.
REARRANGED = "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n[connected]\noutput=4\nactivation=linear\n[cost]\n"


#: Bytes of what stays on the device, at most: what heads are made of, the alarm.
CONSTANTS = 1024

#: Networks of all kinds, and data for them.
NETWORKS: dict[str, Any] = {
    "cost": (
        lambda folder: layer_checks.network(REARRANGED, (3, 20, 20), training=True, device="cuda", dtype=np.float32),
        lambda number: (np.random.default_rng(number).random((2, 3, 20, 20), np.float32), np.ones((2, 4))),
    ),
    "classifier": (lambda folder: classifier(folder, "cuda"), labels),
    "detector": (lambda folder: detector(folder, "cuda"), batch),
    "rare": (lambda folder: rare(folder, "cuda"), views),
    **{head: (partial(with_head, head=head), batch) for head in HEADS},
}


def test_there_is_none_on_the_cpu(tmp_path: Path) -> None:
    assert scratch_memory(Network(read_cfg(write_cfg(tmp_path)), training=True, device="numpy")) == 0


def free_memory(network: Network) -> int:
    """What the device has left, when all that was let go of has gone, other tests' networks too."""
    gc.collect()
    network.backend.gpu.collect()  # type: ignore[attr-defined]
    return network.backend.free_memory() or 0


class TestOnTheGpu:
    pytestmark = on_gpu

    def test_it_is_what_a_forward_pass_takes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DARKPY_CUDA_GRAPHS", "0")
        network = layer_checks.network(REARRANGED, (3, 20, 20), device="cuda", dtype=np.float32)
        x = layer_checks.pictures(network, 2)
        with_planned(network, x)
        found = scratch_memory(network)
        assert found >= 8 * 20 * 20 * 4
        with counted(network.backend) as most:
            network.run(x)
        assert found == max(most)

    @pytest.mark.parametrize("make, data", NETWORKS.values(), ids=NETWORKS)
    def test_nothing_more_is_taken_in_a_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, data: Any
    ) -> None:
        """With as many objects in every picture as a head learns it is what is taken, with fewer enough."""
        monkeypatch.setenv("DARKPY_CUDA_GRAPHS", "0")
        network, (x, truth) = make(tmp_path), data(3)
        with_planned(network, x)
        found = scratch_memory(network)
        with counted(network.backend) as taken:
            network.train_batch(x, truth)
        assert max(taken) <= found
        if isinstance(truth, list):
            network.heads[-1].truth = None
            network.graph.forget_truth()
            many = [np.tile([1, 0.4, 0.6, 0.2, 0.3, 5], (200, 1))] * len(truth)
            with counted(network.backend) as taken:
                network.train_batch(x, many)
        assert 0 <= found - max(taken) < CONSTANTS

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_it_is_known_for_any_batch_without_arrays(self, tmp_path: Path, precision: str) -> None:
        config = read_cfg(write_cfg(tmp_path))
        make = partial(Network, training=True, keep_gradients=False, device="cuda", precision=precision)
        plans, runs = make(config, plan_only=True), make(config)
        free = free_memory(runs)
        found = [scratch_memory(plans, batch) for batch in (1, 2, 4)]
        assert [scratch_memory(runs, batch) for batch in (1, 2, 4)] == found
        assert free_memory(runs) == free
        assert 0 < found[0] < found[1] < found[2]
        assert [scratch_memory(make(with_subdivisions(config, 4 // batch))) for batch in (1, 2, 4)] == found
        assert runs.batch == 2
        assert np.isfinite(runs.train_batch(*batch(1)))

    def test_the_network_is_as_before(self, tmp_path: Path) -> None:
        networks = [Network(read_cfg(write_cfg(tmp_path)), training=True, device="cuda") for _ in range(2)]
        before = 0 if ON_REAL_GPU else hostcuda.launches()
        free = free_memory(networks[0])
        scratch_memory(networks[0])
        assert free_memory(networks[0]) == free
        assert ON_REAL_GPU or hostcuda.launches() == before
        for number in range(3):
            losses = [network.train_batch(*batch(number)) for network in networks]
            assert losses[0] == losses[1]
        assert (values(networks[0]) == values(networks[1])).all()

    def test_work_for_the_host_is_left_out(self) -> None:
        network = layer_checks.network(REARRANGED, (3, 20, 20), training=True, device="cuda", dtype=np.float32)
        assert scratch_memory(looked_at(network)) >= 2 * 8 * 20 * 20 * 4


def with_planned(network: Network, x: np.ndarray) -> None:
    """Two berths for pictures, and room for sums, which are planned; and a workspace as large as it gets."""
    network.backend.partials(1)  # type: ignore[attr-defined]
    for _ in range(2):
        network.run(x[: network.batch])


@contextmanager
def counted(backend: Any) -> Iterator[list[int]]:
    """Bytes that there were at any time, for a moment and for longer."""
    now, times = [0], [0]

    class Kept:
        """Lives as long as the memory it came with."""

    def counting(allocate: Any, shape: Any, dtype: Any = None) -> Any:
        array = allocate(shape, dtype)
        nbytes = max(array.nbytes, 1)
        now[0] += nbytes
        times.append(now[0])
        owner, array.owner = array.owner, Kept()
        array.owner.memory = owner
        finalize(array.owner, lambda: now.__setitem__(0, now[0] - nbytes))
        return array

    backend.scratch, backend.empty = partial(counting, backend.scratch), partial(counting, backend.empty)
    yield times
    del backend.scratch, backend.empty
