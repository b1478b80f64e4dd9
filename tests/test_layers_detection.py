"""[detection]: Darknet's numbers for the head alone, and truth by cell."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.errors import InputError
from darkpy.layers.detection import YOUNG
from darkpy.network import Network
from tests import heads
from tests.backends import BACKENDS, assert_close, random

CFG = """[net]
batch=2
width=32
height=32
channels=3
max_batches=10

[connected]
output=117
activation=linear

[detection]
classes=3
num=2
side=3
sqrt=0
"""
"""9 cells of 3 classes and 2 boxes: 27 class scores, 18 objectnesses, 18 boxes."""


def parts(array: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes (n, 9, 3), objectness (n, 9, 2), boxes (n, 9, 2, 4)."""
    flat = array.reshape(len(array), -1)
    return flat[:, :27].reshape(-1, 9, 3), flat[:, 27:45].reshape(-1, 9, 2), flat[:, 45:].reshape(-1, 9, 2, 4)


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", heads.names("detection"))
def test_darknets_numbers(tmp_path, name, device):
    heads.check_against_darknet(name, tmp_path, device)


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", heads.golden_names("detection"))
def test_golden_boxes(shared, name, device):
    heads.check_golden_boxes(shared / "golden" / name, device, scale=32)


def test_gradient_is_that_of_the_loss(tmp_path):
    """Half of the squared errors of the classes, the objectness of all boxes, and the box that learns the object."""
    cfg = CFG + "forced=1\ncoord_scale=5\nobject_scale=2\nnoobject_scale=.5\nclass_scale=3\n"
    layer = heads.head(cfg, tmp_path, dtype=np.float64)
    truth = [np.array([[1, 0.5, 0.4, 0.2, 0.25]]), np.array([[2, 0.1, 0.9, 0.5, 0.75]])]
    places = [(0, 4, 1), (1, 6, 0)]  # picture, cell, box: the small object belongs to the second box

    def loss(values: np.ndarray) -> float:
        classes, objectness, boxes = parts(values)
        total = 0.25 * (objectness**2).sum()
        for (picture, cell, box), rows in zip(places, truth):
            class_id, x, y, w, h = rows[0]
            goal = np.array([3 * x - cell % 3, 3 * y - cell // 3, w, h])
            sure = objectness[picture, cell, box]
            total += (1 - sure) ** 2 - 0.25 * sure**2
            total += 5 / 2 * ((boxes[picture, cell, box] - goal) ** 2).sum()
            total += 3 / 2 * ((classes[picture, cell] - np.eye(3)[int(class_id)]) ** 2).sum()
        return float(total)

    heads.check_loss_gradient(layer, random(layer.output.shape, dtype=np.float64), truth, loss)


def test_learns_and_detects(tmp_path):
    heads.check_learns_and_detects(CFG, tmp_path)


@pytest.mark.parametrize("device", BACKENDS)
def test_values_of_a_convolution_are_those_in_the_order_of_its_axes(tmp_path, device):
    """Whose channels lie last on a GPU."""
    convolution = "[convolutional]\nfilters=13\nsize=16\nstride=16\nactivation=linear\n"
    cfg = CFG.replace("=32", "=48").replace("[connected]\noutput=117\nactivation=linear\n", convolution)
    cfg += "softmax=1\nsqrt=1\n"
    ours, exact = (Network(heads.parsed(cfg, tmp_path), training=True, device=name) for name in (device, "numpy"))
    x, truth = random((2, 3, 48, 48)), heads.objects(2, 4, 3)
    for network in (ours, exact):
        network.run(x)
        network.backward(truth)
    for name in ("output", "grad_output"):
        found, expected = (np.array(getattr(network.layers[-1], name)) for network in (ours, exact))
        assert_close(found, expected, 1e-5)
    (boxes, *_), (expected, *_) = (network.layers[-1].boxes(1, 0.1) for network in (ours, exact))
    assert_close(boxes, expected, 1e-5)


@pytest.mark.parametrize("cfg", heads.published("detection"))
def test_published_networks_build(shared, cfg):
    heads.check_builds(shared / "zoo" / cfg, "detection")


# Truth -----------------------------------------------------------------------------------------------------------


def test_truth_by_cell(tmp_path):
    layer = heads.head(CFG, tmp_path)
    first = [[1, 0.5, 0.4, 0.2, 0.25], [0, 0.55, 0.45, 0.9, 0.9], [2, 1, 1, 0.5, 0.5], [2, 0.1, 0.9, 0.0005, 0.75]]
    cells = layer.cells([np.array(first), []]).reshape(2, 9, 8)
    assert np.argwhere(cells[..., 0]).tolist() == [[0, 4], [0, 8]]
    assert cells[0, 4] == pytest.approx([1, 0, 1, 0, 0.5, 0.2, 0.2, 0.25], rel=1e-5)  # the first object of the cell
    assert cells[0, 8] == pytest.approx([1, 0, 0, 1, 1, 1, 0.5, 0.5])  # the last cell has its outer edges
    assert (cells[1] == 0).all()


@pytest.mark.parametrize("device", BACKENDS)
def test_both_forms_of_truth_are_one(tmp_path, device):
    layer = heads.head(CFG, tmp_path, device)
    layer.forward(random(layer.output.shape), training=True)
    truth = heads.objects(2, 4, 3)
    cost, gradient = layer.loss(truth), layer.grad_output.copy()
    layer.grad_output[:] = np.nan
    assert layer.loss(layer.cells(truth)) == cost
    assert (layer.grad_output == gradient).all()


def test_truth_of_another_shape_is_refused(tmp_path):
    layer = heads.head(CFG, tmp_path)
    for truth in (np.zeros((2, 71)), [np.zeros((3, 4)), []]):
        with pytest.raises(InputError, match=r"\[detection\] takes one array \(n, 5\) per picture"):
            layer.loss(truth)


# Which box learns ------------------------------------------------------------------------------------------------


def learner(layer, boxes: list[list[float]], truth: list[float]) -> int:
    """The box of cell 4 that learns an object when the boxes there are predicted."""
    x = np.zeros(layer.output.shape, np.float32)
    parts(x)[2][0, 4] = boxes
    layer.forward(x, training=True)
    layer.loss([np.array([truth]), []])
    _, objectness, _ = parts(layer.grad_output)
    (box,) = np.flatnonzero(objectness[0, 4])
    return int(box)


@pytest.mark.parametrize("device", BACKENDS)
def test_the_box_that_overlaps_most_learns_else_the_nearest(tmp_path, device):
    layer = heads.head(CFG, tmp_path, device)
    truth = [0, 0.5, 0.5, 0.2, 0.2]
    assert learner(layer, [[0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2]], truth) == 1
    assert learner(layer, [[0.5, 0.5, 0.9, 0.9], [3, 3, 0.2, 0.2]], truth) == 0
    assert learner(layer, [[4, 4, 0.2, 0.2], [3, 3, 0.2, 0.2]], truth) == 1
    assert learner(layer, [[4, 4, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2]], truth) == 1
    assert learner(layer, [[99, 99, 0.2, 0.2], [99, 99, 0.2, 0.2]], truth) == 0  # Darknet writes outside its arrays


@pytest.mark.parametrize("device", BACKENDS)
def test_young_networks_choose_at_random(tmp_path, device):
    layer = heads.head(CFG + "random=1\n", tmp_path, device)
    boxes, truth = [[0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2]], [0, 0.5, 0.5, 0.2, 0.2]
    chosen = set()
    for layer.graph.seen in range(0, 40, 2):
        chosen.add(learner(layer, boxes, truth))
        assert learner(layer, boxes, truth) == learner(layer, boxes, truth)
    assert chosen == {0, 1}
    for layer.graph.seen in range(YOUNG, YOUNG + 40, 2):
        assert learner(layer, boxes, truth) == 1


# Problems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("side=3", "side=4", "12  [detection] cannot follow a layer of 117 values: side² x (num x (1 + 4) + classes) = "
         "4² x (2 x 5 + 3) = 208"),
        ("num=2", "num=2\ncoords=1", "15  [detection] coords=1: expected one of 4"),
        ("num=2\n", "num=1\nforced=1\n", "15  [detection] forced=1 gives small objects to the second box; num=1 has "
         "none"),
    ],
)  # fmt: skip
def test_impossible_options(tmp_path, old, new, expected):
    assert old in CFG
    cfg = CFG.replace(old, new)
    if "forced" in new:
        cfg = cfg.replace("output=117", "output=72")
    assert heads.problems(cfg, tmp_path) == [expected]


def test_description(tmp_path):
    assert heads.head(CFG, tmp_path).describe() == "3x3, 2 boxes, 3 classes"
