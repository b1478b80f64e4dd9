from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpy import timing
from darkpy.errors import ConfigError
from darkpy.network import Network
from darkpy.timing import measure, synthetic_truth
from tests.tiny_job import write_cfg


class Clock:
    """A clock that moves on by one second with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", made)
    return made


def test_inference(tmp_path: Path, clock: Clock) -> None:
    found = measure(write_cfg(tmp_path), runs=3, device="numpy")
    assert [(row.index, row.type, row.geometry) for row in found.rows][:2] == [(0, "convolutional", "3x3/2"), (1, "maxpool", "2x2/2")]
    assert [row.forward for row in found.rows] == [1, 1, 1, 1]
    assert [row.backward for row in found.rows] == [0, 0, 0, 0]
    assert (found.forward, found.backward, found.update) == (9, 0, 0)  # two looks for each layer, and one
    assert found.total == found.step == 9
    assert (found.batch, found.memory.batch, found.memory.training) == (1, 1, False)
    assert found.operations == sum(row.operations for row in found.rows) > 0
    assert found.process_memory is None or found.process_memory > 10_000_000


def test_training(tmp_path: Path, clock: Clock) -> None:
    found = measure(write_cfg(tmp_path), runs=2, training=True, device="numpy")
    assert [row.forward for row in found.rows] == [1, 1, 1, 2]  # the head's with its loss
    assert [row.backward for row in found.rows] == [1, 1, 1, 1]
    assert (found.forward, found.backward, found.update) == (11, 9, 1)
    assert (found.batch, found.memory.training) == (2, True)


def test_medians_leave_out_the_first_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a first pass has to wait for, and one hiccup later, are not what the layer takes."""
    passes = [50, 9, 2, 2, 40, 2, 2]  # seconds of the first layer: two of warm-up, five measured
    ticks = []
    now = 0.0
    for seconds in passes:
        ticks += [now, now, now + seconds] + [now + seconds] * 7
        now += seconds
    monkeypatch.setattr(timing.time, "perf_counter", iter(ticks).__next__)
    found = measure(write_cfg(tmp_path), runs=5, device="numpy")
    assert [row.forward for row in found.rows] == [2, 0, 0, 0]
    assert found.forward == found.step == 2


def test_what_disturbs_another_layer_each_time_is_no_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it anything between layers; the whole has it."""
    ticks: list[float] = []
    now = 0.0
    for run in range(2 + 4):
        ticks.append(now)
        for layer in range(4):
            ticks += [now, now + 1 + 5 * (layer == run - 2)]
            now = ticks[-1]
        ticks.append(now)
    monkeypatch.setattr(timing.time, "perf_counter", iter(ticks).__next__)
    found = measure(write_cfg(tmp_path), runs=4, device="numpy")
    assert [row.forward for row in found.rows] == [1, 1, 1, 1]
    assert (found.between, found.total, found.step) == ((0, 0), 4, 9)
    assert found.is_disturbed


def test_batch_and_operations(tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path)
    one, three = (measure(cfg, runs=1, batch=batch, device="numpy") for batch in (1, 3))
    assert three.batch == 3
    assert three.operations == 3 * one.operations
    assert measure(cfg, runs=1, batch=3, training=True, device="numpy").batch == 3


def test_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    measure(write_cfg(tmp_path), runs=2, device="numpy", progress=lambda done, total: seen.append((done, total)))
    assert seen[-2:] == [(1, 2), (2, 2)]
    assert seen[0] == (0, 2)


def test_training_without_a_loss(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text("[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\n")
    assert measure(tmp_path / "a.cfg", runs=1, device="numpy").rows[0].type == "convolutional"
    with pytest.raises(ConfigError, match="has no head with a loss"):
        measure(tmp_path / "a.cfg", training=True, device="numpy")


CONV = "[convolutional]\nfilters={filters}\nsize=1\nactivation=linear\n"
HEADS = {
    "softmax": CONV.format(filters=5) + "[avgpool]\n[softmax]\n",
    "cost": "[connected]\noutput=5\n[cost]\n",
    "logistic": "[connected]\noutput=5\n[logistic]\n",
    "region": CONV.format(filters=14) + "[region]\nclasses=2\nnum=2\nanchors=1,1,2,1\nsoftmax=1\n",
    "detection": "[connected]\noutput=28\n[detection]\nside=2\nclasses=2\nsqrt=1\n",
    "contrastive": CONV.format(filters=14)
    + "[yolo]\nclasses=2\nmask=0,1\nanchors=3,4,6,5\nnum=2\n[route]\nlayers=0\n[contrastive]\nyolo_layer=-2\n",
    "rnn": "[rnn]\noutput=4\nhidden=3\n[softmax]\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_truth_for_every_kind_of_head(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.cfg").write_text(f"[net]\nbatch=2\nwidth=6\nheight=6\nchannels=3\ntime_steps=2\n{HEADS[name]}")
    network = Network.from_cfg(tmp_path / "a.cfg", training=True, device="numpy")
    assert len(synthetic_truth(network)) == network.batch == 4
    found = measure(tmp_path / "a.cfg", runs=1, training=True, device="numpy")
    assert np.isfinite(found.total)
    assert all(row.forward > 0 for row in found.rows if row.type != "route")
