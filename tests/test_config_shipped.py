"""The network files darkpy comes with: they load without a remark, and say the truth about themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from darkpy import backends, resources
from darkpy.builder import build
from darkpy.config.cfg import read_cfg

NAMES = ["classifier", "mobile", "yolov3", "yolov3-tiny", "yolov4", "yolov4-tiny", "yolov7-tiny"]


@pytest.fixture(scope="module")
def backend():
    return backends.create("numpy")


def introduction(path: Path) -> str:
    """The comment at the top of a cfg, in one line."""
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in lines)
    return " ".join(line.lstrip("# ") for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_loads_without_a_remark_and_is_described_by_its_first_lines(name, backend):
    path = resources.folder("cfg") / f"{name}.cfg"
    blueprint = build(read_cfg(path), backend)
    assert blueprint.warnings == []
    parameters = sum(parameter.size for layer in blueprint.layers for parameter in layer.parameters())
    operations = sum(layer.operations() for layer in blueprint.layers)
    text = introduction(path)
    stated = re.search(r"(\d+) layers, ([\d.]+) M parameters, ([\d.]+) BFLOPs at (\d+) x (\d+)", text)
    assert stated is not None
    assert int(stated[1]) == len(blueprint.layers)
    assert float(stated[2]) == round(parameters / 1e6, 2)
    assert float(stated[3]) == round(operations / 1e9, 2)
    assert (int(stated[4]), int(stated[5])) == (blueprint.options.width, blueprint.options.height)
    assert "Source" in text
    assert "For your own classes" in text


@pytest.mark.parametrize("name", NAMES)
def test_has_a_complete_schedule(name):
    net = read_cfg(resources.folder("cfg") / f"{name}.cfg").net
    keys = {entry.key for entry in net.entries}
    assert {"batch", "subdivisions", "max_batches", "learning_rate", "burn_in", "policy", "momentum", "decay"} <= keys


@pytest.mark.parametrize("name", [name for name in NAMES if name != "classifier"])
def test_heads_fit_their_anchors_and_classes(name, backend):
    blueprint = build(read_cfg(resources.folder("cfg") / f"{name}.cfg"), backend)
    heads = [layer.options for layer in blueprint.layers if layer.is_head]
    assert len(heads) in (2, 3)
    assert {head.classes for head in heads} == {80}
    assert {len(head.anchors) for head in heads} == {2 * heads[0].num}
