"""Passes recorded and launched as one: the same numbers as launched one by one, and when they cannot be recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from darkpy import resources
from darkpy.config.cfg import read_cfg
from darkpy.layers import registered
from darkpy.layers.heads import ObjectHead
from darkpy.layers.recurrent import RecurrentLayer
from darkpy.network import Network
from darkpy.timing import synthetic_truth
from tests import hostcuda, layer_checks
from tests.backends import ON_REAL_GPU, backend, fresh, why_no_gpu
from tests.test_layers import EXAMPLES, NO_TRUE_GRADIENT
from tests.test_update import KINDS, batch, detector, values
from tests.tiny_job import write_cfg

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]
on_stand_in = pytest.mark.skipif(ON_REAL_GPU, reason="the stand-in counts launches")


ONE_BY_ONE = {"crop"}
"""It does something else in every pass."""


def plain(make: Callable[..., Network], *arguments: Any) -> Network:
    """A network that records nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARKPY_CUDA_GRAPHS", "0")
        return make(*arguments)


def looked_at(network: Network) -> Network:
    """The host looks at what the first layer has written."""
    layer = network.layers[0]
    forward = layer.forward

    def look(*inputs: Any, training: bool) -> None:
        forward(*inputs, training=training)
        network.backend.to_host(layer.output)

    layer.forward = look  # type: ignore[method-assign]
    return network


def graphs_of(network: Network) -> list[Any]:
    return [graph for graph in network.backend._graphs.values() if graph is not None]  # type: ignore[attr-defined]


@KINDS
@pytest.mark.parametrize("pool", ["0", "1"])
def test_updates_are_those_of_plain_launches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, data: Any, pool: str
) -> None:
    """With a rate that changes from step to step, dropout, blocks that grow, and other numbers of objects."""
    monkeypatch.setenv("DARKPY_CUDA_POOL", pool)
    network, other = make(tmp_path, "cuda"), plain(make, tmp_path, "cuda")
    for number in range(4):
        assert network.train_batch(*data(number)) == other.train_batch(*data(number))
        assert (values(network) == values(other)).all()
    assert (np.array(network.parameters.statistics) == np.array(other.parameters.statistics)).all()
    assert len(graphs_of(network)) == 1
    assert not graphs_of(other)


@pytest.mark.parametrize("section", sorted(set(EXAMPLES) - ONE_BY_ONE))
def test_every_section_trains_with_graphs_as_without(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = EXAMPLES[section]
    is_recurrent = issubclass(registered()[section], RecurrentLayer)
    if section not in NO_TRUE_GRADIENT and section != "cost":
        text = layer_checks.identity_first(text, 3)
    results = []
    for wanted in ("1", "0"):
        monkeypatch.setenv("DARKPY_CUDA_GRAPHS", wanted)
        network = layer_checks.network(
            text, training=True, device="cuda", dtype=np.float32, time_steps=3 if is_recurrent else 1
        )
        network.options = replace(network.options, learning_rate=1e-3)
        losses, planned = [], network.backend.workspace
        for number in range(3):
            x = layer_checks.pictures(network, network.options.batch, number)
            losses.append(network.train_batch(x, truth_for(network, number)))
        assert network.backend.workspace is planned
        vectors = (network.parameters.values, network.parameters.statistics, *network.memories().values())
        results.append((losses, [np.array(vector).tobytes() for vector in vectors]))
        assert bool(graphs_of(network)) == (wanted == "1")
    assert np.isfinite(results[0][0]).all()
    assert results[0] == results[1]


def truth_for(network: Network, number: int) -> Any:
    """Other truth for every number, as the last head takes it."""
    rng = np.random.default_rng(number)
    pictures = network.options.batch
    if any(isinstance(head, ObjectHead) for head in network.heads):
        return [np.array([[0, *rng.uniform(0.2, 0.8, 4), 1], [1, *rng.uniform(0.2, 0.8, 4), 2]])] * pictures
    return rng.uniform(size=(pictures, int(np.prod(network.heads[-1].output_shape or ()))))


@pytest.mark.parametrize("precision", ["tf32", "fp16", "bf16"])
def test_updates_on_tensor_cores(tmp_path: Path, precision: str) -> None:
    config = read_cfg(write_cfg(tmp_path))
    network = Network(config, training=True, device="cuda", precision=precision)
    other = plain(lambda: Network(config, training=True, device="cuda", precision=precision))
    for number in range(3):
        assert network.train_batch(*batch(number)) == other.train_batch(*batch(number))
    assert (values(network) == values(other)).all()
    assert len(graphs_of(network)) == 1


def test_each_size_has_its_graph(tmp_path: Path) -> None:
    network, other = detector(tmp_path, "cuda"), plain(detector, tmp_path, "cuda")
    for size in (64, 32, 64, 32):
        for net in (network, other):
            net.resize(size, size)
            net.train_batch(*batch(size, size))
        assert (values(network) == values(other)).all()
    assert len(graphs_of(network)) == 2
    assert all(graph.allocations == network.backend.allocations for graph in graphs_of(network))


def test_more_objects_than_before_and_memory_that_has_moved(tmp_path: Path) -> None:
    """Room for objects grows, the workspace moves: what was recorded counts no more."""
    network, other = detector(tmp_path, "cuda"), plain(detector, tmp_path, "cuda")
    for number in (1, 2, 40, 3, 4):
        if number == 3:
            network.backend.set_workspace(10 * network.backend.workspace.size + 4096)
        assert network.train_batch(*batch(number)) == other.train_batch(*batch(number))
    assert (values(network) == values(other)).all()


def test_inference(tmp_path: Path) -> None:
    config = read_cfg(write_cfg(tmp_path))
    network = Network(config, device="cuda")
    other = plain(lambda: Network(config, device="cuda"))
    for number in range(5):
        x = batch(number)[0][: 1 + number // 3]
        if number == 2:
            for net in (network, other):
                net.parameters.write(net.layers[2], "biases", np.arange(14))
        found, expected = (net.forward(x) for net in (network, other))
        assert (found == expected).all()
    assert len(graphs_of(network)) == 2


@on_stand_in
def test_a_forward_pass_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(read_cfg(write_cfg(tmp_path)), device="cuda")
    before = hostcuda.waits()
    monkeypatch.setenv("HOSTCUDA_BUSY", "1")
    for number in range(3):
        network.run(batch(number)[0][:1])
    assert hostcuda.waits() == before


@on_stand_in
def test_a_pass_is_one_launch(tmp_path: Path) -> None:
    network = detector(tmp_path, "cuda")
    for number in range(2):
        network.train_batch(*batch(number))
    before = hostcuda.launches()
    network.start_update(*batch(3))
    # For each of two parts the pictures and the pass; then the check of the gradients and two segments of parameters.
    assert hostcuda.launches() - before == 2 * 2 + 3


@on_stand_in
@pytest.mark.parametrize("name, size", [("digits", 16), ("shapes", 32)])
def test_networks_that_come_with_the_package_are_launched_as_one_and_never_waited_for(name: str, size: int) -> None:
    config = read_cfg(resources.find("cfg", f"cfg/{name}.cfg")).with_net(batch=2, subdivisions=1)
    network = Network(config, training=True, keep_gradients=False, device="cuda")
    network.resize(size, size)
    waits = hostcuda.waits()
    for number in range(3):
        launches = hostcuda.launches()
        network.start_update(layer_checks.pictures(network, 2, number), synthetic_truth(network))
    assert hostcuda.waits() == waits
    assert hostcuda.launches() - launches <= 5
    assert len(graphs_of(network)) == 1


def test_a_network_with_work_for_the_host_is_launched_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network, other = looked_at(detector(tmp_path, "cuda")), looked_at(plain(detector, tmp_path, "cuda"))
    with caplog.at_level(logging.DEBUG, "darkpy"):
        for number in range(3):
            assert network.train_batch(*batch(number)) == other.train_batch(*batch(number))
    assert (values(network) == values(other)).all()
    assert not graphs_of(network)
    (record,) = caplog.records
    assert record.getMessage().endswith("is launched one by one: the host looks at a result")


def test_a_layer_that_asks_what_was_seen_is_launched_one_by_one(tmp_path: Path) -> None:
    """[crop] cuts elsewhere at every pass, by launches alone."""

    def make() -> Network:
        path = write_cfg(tmp_path)
        crop = "[crop]\ncrop_width=24\ncrop_height=24\nflip=1\n\n[convolutional]\n"
        path.write_text(path.read_text().replace("[convolutional]\n", crop, 1))
        return Network(read_cfg(path), training=True, device="cuda")

    network, other = make(), plain(make)
    for number in range(4):
        assert network.train_batch(*batch(number)) == other.train_batch(*batch(number))
    assert not graphs_of(network)


def test_what_recorded_work_takes_for_a_moment_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKPY_CUDA_POOL", "1")
    from darkpy.backends import create

    device: Any = create("cuda")
    x, out = device.zeros((1000,)), device.zeros((1000,))

    def work() -> None:
        moment = device.scratch((1000,))
        device.fill(moment, 5.0)
        device.add(moment, out)

    for _ in range(3):
        device.repeated("work", work)
    others = [device.asarray(np.full(1000, 7, np.float32)) for _ in range(4)]
    device.repeated("work", work)
    assert all((np.asarray(array) == 7).all() for array in [*others])
    assert (np.asarray(out) == 20).all()
    assert not np.asarray(x).any()


def test_recorded_work_takes_the_same_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a graph and from one to the next; a result that is kept keeps its own."""
    monkeypatch.setenv("DARKPY_CUDA_POOL", "1")
    device: Any = fresh("cuda")._device

    def work() -> Any:
        first = device.scratch((1000,))
        kept = device.scratch((1000,))
        addresses = [first.address]
        del first
        for _ in range(3):
            addresses.append(device.scratch((999,)).address)
        return addresses, kept

    results = []
    for key in ("one", "other"):
        device.repeated(key, work)
        results.append(device.repeated(key, work))
    addresses = [set(addresses) for addresses, _ in results]
    assert addresses[0] == addresses[1]
    assert len(addresses[0]) == 1
    assert len({kept.address for _, kept in results} | addresses[0]) == 3


def test_a_constant_that_is_new_while_work_is_recorded() -> None:
    """It is brought then, not at every launch from memory that has other numbers by now."""
    device: Any = fresh("cuda")._device
    out, numbers = device.zeros((3,)), iter([1.0, 2.0])

    def work() -> None:
        device.add(device.constant([next(numbers)] * 3, np.float32), out)

    for expected in (1, 3, 5, 7):
        device.repeated("constant", work)
        assert (np.asarray(out) == expected).all()
        for _ in range(3):
            device.asarray(np.full(3, 9, np.float32))
    assert not list(numbers)


@on_stand_in
def test_without_memory_for_a_graph_work_goes_on_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    device: Any = fresh("cuda")._device
    out = device.zeros((1000,))
    calls = []

    def work() -> None:
        calls.append(len(calls))
        monkeypatch.setenv("HOSTCUDA_FAIL", "cuMemAlloc:2" if len(calls) == 2 else "")
        device.fill(device.scratch((1000,)), 5.0)
        device.add(out, out)

    device.fill(out, 1.0)
    for _ in range(4):
        device.repeated("work", work)
    assert (np.asarray(out) == 16).all()
    assert len(calls) == 5, "the second time twice: recorded in vain, then done"


def test_a_mistake_while_recording_is_told_and_the_stream_works_again(tmp_path: Path) -> None:
    device: Any = backend("cuda")._device
    out = device.zeros((3,))
    device.repeated("mistake", lambda: None)

    def mistake() -> None:
        device.fill(out, 3.0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        device.repeated("mistake", mistake)
    assert not np.asarray(out).any(), "recorded, not done"
    device.fill(out, 2.0)
    assert (np.asarray(out) == 2).all()


@on_stand_in
@pytest.mark.parametrize("forbidden", ["wait", "allocate", "free", "legacy", "other work"])
def test_the_stand_in_refuses_what_a_driver_refuses(forbidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pycuda.driver as driver

    from darkpy.backends.cuda.capture import Capture, NotRepeatable

    device: Any = backend("cuda")._device
    array, other, memory = device.zeros((4,)), device.gpu.event(), driver.mem_alloc(4)
    other.record(device.gpu.copies)
    capture = Capture(device.stream)
    monkeypatch.setattr("darkpy.backends.cuda.capture.RELAXED", 0 if forbidden == "allocate" else 2)
    capture.begin()
    attempts: dict[str, Callable[[], Any]] = {
        "wait": device.stream.synchronize,
        "allocate": lambda: driver.mem_alloc(4),
        "legacy": lambda: driver.memset_d32(array.address, 1, 4),
        "other work": lambda: other.holds_back(device.stream),
    }
    if forbidden == "free":
        memory.free()  # PyCUDA warns
    else:
        with pytest.raises(driver.Error, match="captur"):
            attempts[forbidden]()
    with pytest.raises(NotRepeatable, match="previous error during capture"):
        capture.end()
    assert not np.asarray(array).any()


def test_an_old_driver_launches_one_by_one(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from darkpy.backends.cuda import capture

    device: Any = fresh("cuda")._device
    out = device.zeros((3,))

    def work() -> None:
        device.fill(out, 2.0)

    library = capture._library()
    fewer = {name: getattr(library, name) for name in ("cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy")}
    monkeypatch.setattr(capture, "_library", lambda: SimpleNamespace(**fewer))
    with caplog.at_level(logging.DEBUG, "darkpy"):
        for _ in range(3):
            device.repeated("old", work)
            assert (np.asarray(out) == 2).all()
            device.fill(out, 1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "old is launched one by one: the driver has no cuGraphInstantiateWithFlags"
    ]


@on_stand_in
def test_an_event_of_a_recording_cannot_be_asked_for() -> None:
    import pycuda.driver as driver

    from darkpy.backends.cuda.capture import Capture

    device: Any = backend("cuda")._device
    event, capture = device.gpu.event(), Capture(device.stream)
    capture.begin()
    event.record(device.stream)
    capture.end()
    with pytest.raises(driver.Error, match="last recorded in a capturing stream"):
        event.query()
