"""The published network files: every one can be built, and the small ones compute and learn."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from darkpy.backends import create
from darkpy.builder import Blueprint, build
from darkpy.config.cfg import parse_cfg, read_cfg
from darkpy.network import Network
from tests.conftest import SHARED

FOLDER = SHARED / "zoo"
CFGS = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.cfg"))

SMALL = [
    "cifar.cfg",
    "crnn.train.cfg",
    "darknet.cfg",
    "efficientnet_b0.cfg",
    "enet-coco.cfg",
    "go.test.cfg",
    "gru.cfg",
    "lstm.train.cfg",
    "rnn.cfg",
    "rnn.train.cfg",
    "tiny-yolo_xnor.cfg",
    "tiny.cfg",
    "writing.cfg",
    "yolov2-tiny.cfg",
    "yolov3-tiny-prn.cfg",
    "yolov3-tiny_occlusion_track.cfg",
    "yolov3-tiny_xnor.cfg",
    "yolov4-csp-s-mish.cfg",
    "yolov4-tiny.cfg",
    "yolov4-tiny_contrastive.cfg",
    "yolov7-tiny.cfg",
]

PUBLISHED_WEIGHTS = {
    "yolov3.cfg": 248_007_048,
    "yolov3-tiny.cfg": 35_434_956,
    "yolov4.cfg": 257_717_640,
    "yolov4-tiny.cfg": 24_251_276,
}
"""Bytes of weights files that many people have: a header of 20 and float32 values."""


class NoArrays(type(create("numpy"))):  # type: ignore[misc]
    """A backend that has no memory to give."""

    def empty(self, *_arguments, **_options):
        raise AssertionError("building a network must not allocate")

    zeros = asarray = empty


def blueprint(path: Path) -> Blueprint:
    return build(read_cfg(path), NoArrays())


def test_they_are_all_there(shared):
    assert len(CFGS) == 95
    assert set(SMALL) <= set(CFGS)


@pytest.mark.parametrize("name", CFGS)
def test_builds_without_allocating(shared, name):
    built = blueprint(FOLDER / name)
    assert all(layer.output_shape is not None and min(layer.output_shape) > 0 for layer in built.layers)
    assert sum(parameter.size for layer in built.layers for parameter in layer.parameters()) > 1000
    assert sum(layer.operations() for layer in built.layers) > 0


@pytest.mark.parametrize("name", PUBLISHED_WEIGHTS)
def test_parameters_fill_the_published_weights_file(shared, name):
    built = blueprint(FOLDER / name)
    count = sum(parameter.size for layer in built.layers for parameter in layer.parameters())
    assert 20 + 4 * count == PUBLISHED_WEIGHTS[name]


@pytest.mark.parametrize("name", SMALL)
def test_small_ones_compute_and_learn(shared, name):
    """At a smaller size where the weights allow it, with two pictures or two short sequences."""
    config = parse_cfg(reduced((FOLDER / name).read_text()), name)
    trained = Network(config, training=True, device="numpy")
    x = pictures(trained)
    truth = truth_for(trained, len(x))
    before = trained.parameters.values.copy()
    assert np.isfinite(trained.train_batch(x, truth))
    changed = trained.parameters.values != before
    assert np.isfinite(trained.parameters.values).all()
    for slot in trained.parameters.slots:
        assert changed[slot.start : slot.stop].any(), f"layer {slot.layer.index} {slot.parameter.name} did not change"

    network = Network(config, batch=2, device="numpy", keep_outputs=True)
    for layer in network.layers:
        for parameter in layer.parameters():
            if parameter.name.endswith("rolling_variance"):
                network.parameters.write(layer, parameter.name, np.ones(parameter.shape))
    network.forward(pictures(network))
    for layer in network.layers:
        assert np.asarray(layer.output).shape == (2, *layer.output_shape)
        assert np.isfinite(np.asarray(layer.output)).all()


def reduced(text: str) -> str:
    changes = {"batch": 2, "subdivisions": 1, "burn_in": 0}
    if "time_steps" in text:
        changes["time_steps"] = 2
    has_fixed_size = re.search(r"^\[(connected|crop|local)\]", text, re.MULTILINE)
    if not has_fixed_size and re.search(r"^width *= *\d{3}", text, re.MULTILINE):
        changes |= {"width": 64, "height": 64}
    net, rest = re.split(r"\n(?=\[(?!net\]))", text, maxsplit=1)
    for key in changes:
        net = re.sub(rf"^ *{key} *=.*$", "", net, flags=re.MULTILINE)
    return net + "".join(f"\n{key}={value}" for key, value in changes.items()) + "\n" + rest


def pictures(network: Network) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.uniform(0, 1, (network.batch, *network.graph.input_shape)).astype(np.float32)


def truth_for(network: Network, count: int):
    """Two objects in every picture, with an identity for [contrastive], or a class for every picture."""
    objects = np.array([[0, 0.3, 0.4, 0.2, 0.3, 1], [1, 0.7, 0.6, 0.4, 0.5, 2]], np.float32)
    names = {head.name for head in network.heads}
    if "contrastive" in names:
        return [objects] * count
    if names & {"yolo", "region"}:
        return [objects[:, :5]] * count
    classes = int(np.prod(network.output.shape[1:]))
    return np.eye(classes, dtype=np.float32)[np.arange(count) % classes]
