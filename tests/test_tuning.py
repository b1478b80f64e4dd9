"""``darkpy gpu tune``: what is measured, kept, looked up and forgotten. Times on a stand-in mean nothing: they are made up."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from darkpy import backends
from darkpy.backends.base import ConvolutionGeometry
from darkpy.backends.cuda import plan_table
from darkpy.backends.cuda.convolution_plans import ConvolutionShape, Plan, candidates, default_plan
from darkpy.backends.cuda.plan_table import Measured
from darkpy.cli.main import cli
from darkpy.errors import InputError
from darkpy.network import Network
from darkpy.tuning import tune
from tests.backends import need_tensor_cores, why_no_gpu

on_gpu = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]



@dataclass(frozen=True)
class SomeGpu:
    """What the table wants to know of one."""

    name: str = "Some (R) GPU-9"
    driver: str = "12.4"


GPU = SomeGpu()
SHAPE = ConvolutionShape(2, 8, 6, 6, 16, 3, 3, ConvolutionGeometry(3, 2, 2, 1), vectors=False)
KEY = ("forward", "tf32", SHAPE)
ENTRY = Measured(Plan("64x64", 3), 1e-5, 2e-5)

CFG = """
[net]
batch=2
width=16
height=16
channels=8
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=leaky
[convolutional]
filters=18
size=1
activation=linear
[convolutional]
filters=18
size=1
activation=linear
[yolo]
mask=0,1,2
anchors=4,4, 8,8, 16,16
classes=1
num=3
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for tables; kernels that have been compiled stay where they are."""
    monkeypatch.setattr(plan_table, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def cfg(tmp_path: Path) -> str:
    path = tmp_path / "some.cfg"
    path.write_text(CFG)
    return str(path)


# The table -----------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(cache: Path) -> None:
    assert plan_table.load(GPU) == {}
    assert plan_table.save(GPU, {KEY: ENTRY}) == cache / "plans" / "some-r-gpu-9.json"
    assert plan_table.load(GPU) == {KEY: ENTRY}
    other = ("forward", "tf32", replace(SHAPE, batch=3))
    plan_table.save(GPU, {other: ENTRY, KEY: replace(ENTRY, seconds=5e-6)})
    assert plan_table.load(GPU) == {KEY: replace(ENTRY, seconds=5e-6), other: ENTRY}


def test_another_driver_or_other_kernels_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    plan_table.save(GPU, {KEY: ENTRY})
    assert plan_table.load(replace(GPU, driver="13.0")) == {}
    assert plan_table.load(replace(GPU, name="Another")) == {}
    monkeypatch.setattr(plan_table, "_digest", lambda folder: "changed")
    assert plan_table.load(GPU) == {}
    other = ("backward_input", "tf32", SHAPE)
    plan_table.save(GPU, {other: ENTRY})
    assert plan_table.load(GPU) == {other: ENTRY}


def test_the_digest_is_of_the_kernels_of_convolutions(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        for name, text in files.items():
            (tmp_path / name.replace("_cu", ".cu")).write_text(text)
        plan_table._digest.cache_clear()
        return plan_table._digest(tmp_path)

    first = digest(exact_forward_cu='#include "common.cuh"\n', common_cuh="", pooling_cu="")
    assert digest(pooling_cu="int x;") == first
    assert digest(common_cuh="int x;") != first
    plan_table._digest.cache_clear()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"conditions": 1}', '{"plans": [{}]}'])
def test_a_file_that_is_no_table_counts_as_none(text: str) -> None:
    path = plan_table.path_for(GPU)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert plan_table.load(GPU) == {}


def test_entries_that_lack_something_count_as_none() -> None:
    path = plan_table.save(GPU, {KEY: ENTRY})
    content = json.loads(path.read_text())
    del content["plans"][0]["shape"]["geometry"]["size"]
    path.write_text(json.dumps(content))
    assert plan_table.load(GPU) == {}


# Measuring -----------------------------------------------------------------------------------------------------------


class TestTuning:
    pytestmark = on_gpu

    def test_the_fastest_is_kept_and_used(self, cfg: str) -> None:
        times = count(1.0)

        def timer(call, hopeless):
            call()
            return next(times)

        found = tune(cfg, batch=2, training=True, timer=timer)
        keys = {(operation, shape.filters, shape.geometry.size) for operation, _, shape in found.measured}
        # Nobody wants the gradient of the pictures.
        assert keys == {
            ("forward", 8, 3), ("backward_weights", 8, 3),
            ("forward", 18, 1), ("backward_input", 18, 1), ("backward_weights", 18, 1),
        }  # fmt: skip
        assert found.skipped == 0
        assert found.uses.total() == 8, "two layers differ in the channels of their input"
        assert found.seconds == found.default_seconds, "the usual plan is measured first, and all later ones are slower"

    @pytest.mark.parametrize("precision", ["fp16", "tf32"])
    def test_tensor_cores_have_plans_of_their_own(self, cfg: str, precision: str) -> None:
        need_tensor_cores(precision)
        found = tune(cfg, batch=1, training=True, precision=precision, timer=lambda call, hopeless: call() or 1.0)
        assert {key[1] for key in found.measured} == {precision}
        assert (len(found.measured), found.skipped, found.uses.total()) == (8, 0, 8)
        # 18 channels are no multiple of 16 bytes, in either type.
        assert {shape.vectors for _, _, shape in found.measured if shape.channels == 18} == {False}
        assert {shape.vectors for operation, _, shape in found.measured if shape.filters == 8} == {True}
        assert plan_table.load(backends.create("gpu").gpu) == found.measured  # type: ignore[attr-defined]

    def test_what_is_faster_than_the_usual_plan_is_found(self, cfg: str) -> None:
        wanted = Plan("128x128")
        network = Network.from_cfg(cfg, device="gpu")
        limits = network.backend.limits  # type: ignore[attr-defined]
        found = tune(cfg, timer=_favouring(network.backend, wanted))
        assert set(found.measured) == set(found.uses)
        for key, entry in found.measured.items():
            if not key[2].vectors:  # what cannot be copied 16 bytes at a time has one tile
                assert (entry.plan.kernel, entry.seconds) == ("64x64", 2e-3)
                continue
            assert default_plan(*key, limits) != wanted, "else the test shows nothing"
            assert entry == Measured(wanted, 1e-3, 2e-3)
            assert wanted in candidates(*key, limits)
        assert plan_table.load(network.backend.gpu) == found.measured  # type: ignore[attr-defined]
        # A backend that is made now takes them, and computes the same.
        x = np.random.default_rng(0).random((1, 8, 16, 16), dtype=np.float32)
        tuned = Network.from_cfg(cfg, device="gpu")
        plans = tuned.backend.plans  # type: ignore[attr-defined]
        assert {plan for key, plan in plans.items() if key[2].vectors} == {wanted}
        for layer in tuned.layers[:1]:
            tuned.parameters.write(layer, "rolling_variance", np.ones(8))
            network.parameters.write(network.layers[0], "rolling_variance", np.ones(8))
        np.testing.assert_allclose(tuned.forward(x), network.forward(x), rtol=1e-5, atol=1e-5)

    def test_arrays_with_gaps_are_made_again(self, cfg: str) -> None:
        """Half of the channels of another layer: rows that are further apart than they are long."""
        from darkpy.tuning import _call_for, _listening, _operation

        backend = backends.create("gpu")
        key = ("forward", "fp32", ConvolutionShape(1, 8, 4, 4, 8, 4, 4, ConvolutionGeometry(1)))
        with _listening(backend) as asked:
            _operation(backend, key, 1)()
        assert [shape.channels for _, _, shape in asked] == [8]
        assert _call_for(backend, key) is not None

    def test_on_the_cpu_there_is_nothing_to_tune(self, cfg: str) -> None:
        with pytest.raises(InputError, match="nothing to tune on num"):
            tune(cfg, device="cpu")

    def test_the_command(self, cfg: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("darkpy.tuning._device_timer", lambda backend: _favouring(backend, Plan("128x128")))
        shown = _darkpy("gpu", "tune", cfg, "--batch", "1", "--quiet")
        assert "inference, 1 picture at a time" in shown
        assert "6.000 ms by rule, 4.000 ms with the fastest kernels" in shown
        table = next(cache.glob("plans/*.json"))
        assert f"written to {table}" in shown
        assert f"  tuned         3 convolutions, in {table}" in _darkpy("gpu", "info")
        assert f"removed {table}" in _darkpy("gpu", "tune", "--clear")
        assert f"there is no {table}" in _darkpy("gpu", "tune", "--clear")
        assert f"  tuned         0 convolutions, in {table}" in _darkpy("gpu", "info")

    def test_the_command_needs_something_to_do(self) -> None:
        result = CliRunner().invoke(cli, ["gpu", "tune"])
        assert result.exit_code == 2
        assert "tune needs a cfg file, or --clear" in result.stderr

    def test_the_device_s_own_time(self, cfg: str) -> None:
        """The clock as it is, on one convolution of few candidates."""
        from darkpy.backends.cuda.clock import DeviceClock, kernel_seconds

        clock = DeviceClock(backends.create("gpu"), busy_bytes=1024)
        calls: list[int] = []
        assert kernel_seconds(clock, [lambda: calls.append(1), lambda: calls.append(2)]) >= 0
        assert calls[:4] == [1, 2, 1, 2]
        assert len(calls) == 2 + 5 * 10
        calls.clear()
        kernel_seconds(clock, [lambda: calls.append(1)], hopeless=-1)
        assert len(calls) == 1 + 10


def _favouring(backend, wanted: Plan):
    """A timer to which one plan is fast; it sees which by what the call looks up."""
    look_up = type(backend).plan

    def timer(call, hopeless):
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(backend), "plan", lambda self, *key: seen.append(look_up(self, *key)) or seen[-1])
            call()
        return 1e-3 if seen == [wanted] else 2e-3

    return timer


def _darkpy(*arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == 0, result.stderr
    return result.stdout
