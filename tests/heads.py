"""Heads alone, on inputs of their own: what Darknet's C code made of them, and building them for other checks.

``data/darknet_heads.npz`` holds, for options that the reference networks do not use, the input of a head, the truth
(class, cx, cy, w, h, identity), and output, delta, cost and boxes (threshold 0.1) as Darknet computed them (AlexeyAB's
fork at 59596d78, CPU, single precision).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from darkpy.boxes import iou, suppress
from darkpy.builder import build
from darkpy.config.cfg import Config, parse_cfg, read_cfg
from darkpy.errors import ConfigError
from darkpy.network import Network
from tests.backends import backend, with_host_arrays
from tests.conftest import SHARED
from tests.golden import Case

CASES = Path(__file__).parent / "data" / "darknet_heads.npz"

TREE = "a -1\nb -1\nc 0\nd 0\ne 1\nf 1\ng 1\n"
"""The hierarchy of the cases with a tree: a over c and d, b over e, f and g."""

MAP = "3\n6\n2\n0\n1\n4\n5\n"
"""The list that renumbers the classes of the labels in the cases with a map."""


@cache
def recorded() -> dict[str, dict[str, Any]]:
    """Every case by name: cfg, layer, seen, x, truth, output, delta, cost and perhaps boxes."""
    with np.load(CASES) as stored:
        found: dict[str, dict[str, Any]] = json.loads(str(stored["meta"]))
        for key in stored.files:
            if key != "meta":
                name, _, part = key.partition("/")
                found[name][part] = stored[key]
    return found


def names(kind: str) -> list[str]:
    return sorted(name for name in recorded() if name.startswith(kind))


def head(cfg: str, folder: Path, device: str = "numpy", index: int = -1, **options: Any) -> Any:
    """Layer ``index`` of a cfg, built for training."""
    return with_host_arrays(Network(parsed(cfg, folder), training=True, device=device, **options).layers[index])


def parsed(cfg: str, folder: Path) -> Config:
    """A cfg in a folder, which gets the files of classes."""
    (folder / "classes.tree").write_text(TREE)
    (folder / "classes.map").write_text(MAP)
    return parse_cfg(cfg, str(folder / "my.cfg"))


def check_against_darknet(name: str, folder: Path, device: str) -> None:
    """Output, cost, gradient and boxes of a recorded case."""
    case = recorded()[name]
    layer = head(case["cfg"], folder, device, case["layer"])
    layer.graph.seen = case["seen"]
    x = case["x"]
    if layer.is_identity(True):
        layer.output = x
    else:
        layer.forward(x, training=True)
    cost = layer.loss(list(case["truth"]))
    if "output" in case:
        close(layer.output, case["output"], 2e-5)
    close(cost, case["cost"], 5e-4 if name.startswith("contrastive") else 1e-5)
    close(-np.asarray(layer.grad_output), case["delta"], 2e-4)
    if "boxes" in case:
        close(np.column_stack(layer.boxes(0, 0.1)), case["boxes"], 1e-4)


def close(found: Any, expected: Any, tolerance: float) -> None:
    """Every single value agrees, within the tolerance as a part of it and a tenth of it besides."""
    np.testing.assert_allclose(np.reshape(found, np.shape(expected)), expected, rtol=tolerance, atol=tolerance / 10)


def problems(cfg: str, folder: Path) -> list[str]:
    """What is wrong with a cfg, as ``line  message``."""
    try:
        head(cfg, folder)
    except ConfigError as error:
        return [str(problem).rpartition("my.cfg:")[2] for problem in error.problems]
    return []


def objects(pictures: int, count: int, classes: int, seed: int = 0) -> list[np.ndarray]:
    """Random truth: per picture an array (count, 5)."""
    rng = np.random.default_rng(seed)
    return [
        np.column_stack(
            [rng.integers(0, classes, count), rng.uniform(0.05, 0.95, (count, 2)), rng.uniform(0.05, 0.6, (count, 2))]
        ).astype(np.float32)
        for _ in range(pictures)
    ]


def check_loss_gradient(layer: Any, x: np.ndarray, truth: Any, loss: Any, tolerance: float = 1e-6) -> None:
    """The gradient equals central differences, in double precision, of ``loss(input)`` along random directions."""
    layer.forward(x, training=True)
    layer.loss(truth)
    gradient = np.array(layer.grad_output).reshape(x.shape)
    rng = np.random.default_rng(1)
    step = 1e-6
    for _ in range(6):
        direction = rng.normal(size=x.shape)
        numeric = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
        assert abs(numeric - np.sum(gradient * direction)) <= tolerance * np.linalg.norm(gradient)


def golden_names(section: str) -> list[str]:
    """The reference cases with a section."""
    folder = SHARED / "golden"
    cfgs = folder.glob("*/net.cfg") if folder.is_dir() else []
    return sorted(cfg.parent.name for cfg in cfgs if f"[{section}]" in cfg.read_text())


def check_golden_boxes(folder: Path, device: str, scale: float = 1.0) -> None:
    """Boxes before and after suppression of a reference case's head, for the recorded output of the layer before.

    ``scale``: of the recorded coordinates.
    """
    case = Case(folder)
    network = case.network(training=False, device=device)
    layer = network.heads[-1]
    before = case.arrays[f"infer/{layer.index - 1:03d}/output"].reshape(1, *layer.input_shapes[0])
    layer.forward(network.backend.asarray(before), training=False)
    boxes, objectness, probabilities = layer.boxes(0, case.meta["options"]["thresh"])
    uncertainties = np.zeros((len(boxes), case.arrays["infer/dets_raw"].shape[1] - 5 - layer.classes))
    found = np.column_stack([scale * boxes, objectness, uncertainties, probabilities])
    expected = case.arrays["infer/dets_raw"].copy()
    expected[:, 5 : 5 + uncertainties.shape[1]] = 0
    close(found, expected, 1e-4)
    kept = suppress(boxes, probabilities, case.meta["options"]["nms"])
    row, class_id = np.nonzero(kept)
    rows = np.column_stack([class_id, kept[row, class_id], scale * boxes[row], objectness[row]])
    expected = case.arrays["infer/dets"]
    assert rows.shape == expected.shape
    close(by_class_and_probability(rows), by_class_and_probability(expected), 1e-4)


def by_class_and_probability(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort((-rows[:, 1], rows[:, 0]))]


def check_learns_and_detects(cfg: str, folder: Path, rate: float = 0.003) -> None:
    """Trained on two pictures of one object each, a network finds these objects in them."""
    cfg = cfg.replace("size=1\nstride=16", "size=16\nstride=16").replace("[net]", f"[net]\nlearning_rate={rate}")
    network = Network(parsed(cfg, folder), training=True, seed=1)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, network.height, network.width, 3), np.uint8)
    x = np.ascontiguousarray(pictures[..., ::-1].transpose(0, 3, 1, 2), np.float32) / 255
    truth = [np.array([[1, 0.3, 0.6, 0.4, 0.5]], np.float32), np.array([[0, 0.7, 0.3, 0.3, 0.4]], np.float32)]
    network.seen = 10**6
    for _ in range(300):
        network.train_batch(x, truth)
    network.save_weights(folder / "learned.weights")
    found = Network(parsed(cfg, folder))
    found.load_weights(folder / "learned.weights")
    for picture, (wanted,) in zip(pictures, truth):
        best = found.detect(picture)[0]
        box = np.array([best.x, best.y, best.w, best.h]) / ([network.width, network.height] * 2)
        assert best.class_id == wanted[0]
        assert float(iou(box[None], wanted[None, 1:])[0, 0]) > 0.6


def published(section: str) -> list[str]:
    """The published cfgs with a section, by their path in the folder."""
    folder = SHARED / "zoo"
    cfgs = sorted(folder.rglob("*.cfg")) if folder.is_dir() else []
    return [str(cfg.relative_to(folder)) for cfg in cfgs if f"[{section}]" in cfg.read_text(errors="replace")]


def check_builds(path: Path, section: str) -> None:
    """A published cfg is possible, and has the section."""
    built = build(read_cfg(path), backend())
    assert section in {layer.name for layer in built.layers}
