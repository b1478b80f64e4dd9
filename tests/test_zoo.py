"""The published network files: every one can be built, computes and learns.

Here at the smallest input size that is of use, and those with the most weights not at all: a machine may not have the
memory. ``scripts/zoo_table.py`` runs all of them at their own size.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from darkpy import backends
from darkpy.builder import Blueprint, build
from darkpy.config.cfg import read_cfg
from darkpy.network import Network
from darkpy.parameters import Parameters
from tests.conftest import SHARED

FOLDER = SHARED / "zoo"
CFGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.cfg"))
SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "zoo_table.py"))

ROWS = SCRIPT["read"]()[0]
"""The table in docs/zoo.md."""

HEAVIEST = {
    "cspx-p7-mish-omega.cfg": 159,
    "cspx-p7-mish.cfg": 277,
    "cspx-p7-mish_hp.cfg": 276,
    "extraction22k.cfg": 98,
    "vgg-16.cfg": 138,
    "yolov1/yolo-coco.cfg": 234,
    "yolov1/yolo-small.cfg": 94,
    "yolov1/yolo.cfg": 197,
    "yolov1/yolo.train.cfg": 197,
    "yolov1/yolo2.cfg": 197,
    "yolov4-csp-x-mish.cfg": 100,
    "yolov4-csp-x-swish-frozen.cfg": 100,
    "yolov4-csp-x-swish.cfg": 100,
    "yolov4-p6.cfg": 128,
    "yolov4x-mish.cfg": 100,
}
"""Millions of parameters of those that are not run here."""

PUBLISHED_WEIGHTS = {
    "yolov3.cfg": 248_007_048,
    "yolov3-tiny.cfg": 35_434_956,
    "yolov4.cfg": 257_717_640,
    "yolov4-tiny.cfg": 24_251_276,
}
"""Bytes of weights files that many people have: a header of 20 and float32 values."""


class NoArrays(type(backends.create("numpy"))):  # type: ignore[misc]
    """A backend that has no memory to give."""

    def empty(self, *_arguments, **_options):
        raise AssertionError("building a network must not allocate")

    zeros = asarray = empty


@pytest.fixture(scope="module")
def memory() -> np.ndarray:
    """Room for the largest network that is run here."""
    return np.empty(2_000_000_000, np.uint8)


@pytest.fixture
def quick(memory, monkeypatch) -> None:
    """Networks that begin sooner: fresh memory and random numbers take more time than a training step.

    One network after the other gets the same memory, full of NaN where it need not be zero, so that nobody can rely on
    what nobody wrote. Weights are the same random numbers over and over.
    """
    taken = 0
    noise = np.random.default_rng(0).uniform(-1, 1, 2**18 + 1).astype(np.float32)

    def empty(backend, shape, dtype=None):
        nonlocal taken
        dtype, size = np.dtype(dtype or backend.dtype), int(np.prod(shape))
        start, taken = taken, taken + -(-size * dtype.itemsize // 64) * 64
        memory[start:taken] = 0xFF
        return memory[start:taken].view(dtype)[:size].reshape(shape)

    def zeros(backend, shape, dtype=None):
        array = empty(backend, shape, dtype)
        array.fill(0)
        return array

    def initialize(parameters, _seed):
        for slot in parameters.slots:
            limit = np.sqrt(2 * slot.parameter.shape[0] / slot.parameter.size)
            for start in range(slot.start, slot.stop, len(noise)):
                stop = min(start + len(noise), slot.stop)
                np.multiply(noise[: stop - start], limit, out=parameters.values[start:stop])

    kind = type(backends.create("cpu"))
    monkeypatch.setattr(kind, "empty", empty)
    monkeypatch.setattr(kind, "zeros", zeros)
    monkeypatch.setattr(Parameters, "initialize", initialize)


def blueprint(path: Path) -> Blueprint:
    return build(read_cfg(path), NoArrays())


def test_they_are_all_there(shared):
    assert len(CFGS) == 95
    assert set(HEAVIEST) <= set(CFGS)
    assert set(ROWS) == set(CFGS)


@pytest.mark.parametrize("name", CFGS)
def test_builds_without_allocating(shared, name):
    built = blueprint(FOLDER / name)
    assert all(layer.output_shape is not None and min(layer.output_shape) > 0 for layer in built.layers)
    parameters = sum(parameter.size for layer in built.layers for parameter in layer.parameters())
    assert parameters > 1000
    operations = sum(layer.operations() for layer in built.layers)
    assert HEAVIEST.get(name, 0) == (round(parameters / 1e6) if parameters > 90e6 else 0)
    assert ROWS[name]["parameters"] == f"{parameters / 1e6:.2f}"
    assert ROWS[name]["operations"] == f"{operations / 1e9:.2f}"
    assert all(ROWS[name][key] for key in ("forward", "trained", "compared"))


@pytest.mark.parametrize("name", PUBLISHED_WEIGHTS)
def test_parameters_fill_the_published_weights_file(shared, name):
    built = blueprint(FOLDER / name)
    count = sum(parameter.size for layer in built.layers for parameter in layer.parameters())
    assert 20 + 4 * count == PUBLISHED_WEIGHTS[name]


@pytest.mark.parametrize("name", [name for name in CFGS if name not in HEAVIEST])
def test_computes_and_learns(shared, quick, name):
    """A training step, of which train() of the script says what must hold, and a forward pass at inference."""
    config = SCRIPT["for_a_trial"](read_cfg(FOLDER / name))
    trained = Network(config, training=True, keep_gradients=False)
    SCRIPT["randomize"](trained)
    assert SCRIPT["train"](trained) == []

    network = Network(config, batch=2, keep_outputs=True)
    SCRIPT["randomize"](network)
    network.forward(np.random.default_rng(0).random((2, *network.graph.input_shape), np.float32))
    for layer in network.layers:
        assert np.asarray(layer.output).shape == (2, *layer.output_shape)
        assert np.isfinite(np.asarray(layer.output)).all()
