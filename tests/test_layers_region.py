"""[region]: Darknet's numbers for the head alone, hierarchies of classes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpy.errors import InputError
from darkpy.layers.region import YOUNG
from tests import heads
from tests.backends import BACKENDS, random

CFG = """[net]
batch=2
width=48
height=32
channels=3
max_batches=10

[convolutional]
filters=16
size=1
stride=16
activation=linear

[region]
classes=3
num=2
anchors=1,1.5, .7,.7
softmax=1
"""
SEVEN = CFG.replace("classes=3", "classes=7").replace("filters=16", "filters=24") + "tree=classes.tree\n"


def region(folder: Path, cfg: str = CFG, seed: int = 0, **options):
    """The head with a random output."""
    layer = heads.head(cfg, folder, **options)
    layer.graph.seen = YOUNG
    layer.forward(random(layer.output.shape, seed, layer.backend.dtype), training=True)
    return layer


# Darknet's numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", heads.names("region"))
def test_darknets_numbers(tmp_path, name, device):
    heads.check_against_darknet(name, tmp_path, device)


@pytest.mark.parametrize("device", BACKENDS)
@pytest.mark.parametrize("name", heads.golden_names("region"))
def test_golden_boxes(shared, name, device):
    heads.check_golden_boxes(shared / "golden" / name, device)


def test_output_is_stored_cell_by_cell(tmp_path):
    layer = heads.head(CFG, tmp_path)
    x = random(layer.output.shape)
    layer.forward(x, training=False)
    cells = layer.output.reshape(2, 2, 3, 2, 8)
    planes = x.reshape(2, 2, 8, 2, 3)
    assert (cells[1, 0, 2, 1, :4] == planes[1, 1, :4, 0, 2]).all()
    assert cells[..., 4] == pytest.approx(1 / (1 + np.exp(-planes[:, :, 4].transpose(0, 2, 3, 1))), rel=1e-6)
    assert cells[..., 5:].sum(-1) == pytest.approx(1, rel=1e-6)


def test_gradient_is_that_of_the_loss(tmp_path):
    """Squared errors and cross-entropy, the logistic function included; the choice of the anchor is fixed here."""
    layer = heads.head(CFG + "bias_match=1\nthresh=2\ncoord_scale=3\nobject_scale=5\nclass_scale=2\n", tmp_path,
                       dtype=np.float64)  # fmt: skip
    x = random(layer.output.shape, dtype=np.float64)
    truth = [np.array([[1, 0.5, 0.3, 1 / 3, 0.75]]), np.array([[2, 0.9, 0.6, 0.2, 0.3]])]
    places = [(0, 0, 0, 1), (1, 1, 1, 2)]  # picture, anchor, row, column

    def loss(values: np.ndarray) -> float:
        planes = values.reshape(2, 2, 8, 2, 3)
        objectness = 1 / (1 + np.exp(-planes[:, :, 4]))
        centres = 1 / (1 + np.exp(-planes[:, :, :2]))
        background, prior = objectness**2 / 2, 0.01 / 2 * ((centres - 0.5) ** 2).sum(2)
        prior += 0.01 / 2 * (planes[:, :, 2:4] ** 2).sum(2)
        total = background.sum() + prior.sum()
        for (picture, slot, row, column), rows in zip(places, truth):
            class_id, cx, cy, w, h = rows[0]
            place = picture, slot, row, column
            cell = planes[picture, slot, :, row, column]
            anchor = [(1, 1.5), (0.7, 0.7)][slot]
            goal = np.array([cx * 3 - column, cy * 2 - row, np.log(w * 3 / anchor[0]), np.log(h * 2 / anchor[1])])
            found = np.r_[centres[picture, slot, :, row, column], cell[2:4]]
            total += -background[place] - prior[place] + 5 / 2 * (1 - objectness[place]) ** 2
            total += 3 / 2 * ((found - goal) ** 2).sum()
            total += 2 * (np.log(np.exp(cell[5:]).sum()) - cell[5 + int(class_id)])
        return float(total)

    heads.check_loss_gradient(layer, x, truth, loss)


def test_learns_and_detects(tmp_path):
    heads.check_learns_and_detects(CFG + "object_scale=5\n", tmp_path)


@pytest.mark.parametrize("cfg", heads.published("region"))
def test_published_networks_build(shared, cfg):
    heads.check_builds(shared / "zoo" / cfg, "region")


# Boxes of any truth ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", BACKENDS)
def test_nothing_to_learn_but_the_background(tmp_path, device):
    layer = region(tmp_path, device=device)
    layer.loss([np.empty((0, 5)), []])
    assert layer.loss_parts.count == 0
    assert layer.loss_parts.box == layer.loss_parts.classification == 0
    assert layer.loss_parts.objectness == layer.loss_parts.cost > 0


@pytest.mark.parametrize("device", BACKENDS)
def test_objects_that_no_cell_can_learn(tmp_path, device):
    """Of an unknown class, outside the picture, without area: left out. At the last edge: the last cell's."""
    layer = region(tmp_path, device=device)
    bad = np.array([[3, 0.5, 0.5, 0.2, 0.2], [-1, 0.5, 0.5, 0.2, 0.2], [0, 1.5, 0.5, 0.2, 0.2], [0, 0.5, 0.5, 0, 0.2]])
    layer.loss([bad, np.array([[1, 1, 1, 0.2, 0.2]])])
    assert layer.loss_parts.count == 1
    classes = layer.grad_output.reshape(2, 2, 8, 2, 3)[:, :, 5:]
    assert (classes[0] == 0).all()
    assert np.argwhere(classes[1].any(axis=1))[:, 1:].tolist() == [[1, 2]]


def test_a_box_without_size_is_no_reason_to_write_elsewhere(tmp_path):
    """Where no predicted shape overlaps the object's, its own cell learns it (Darknet: the first of the batch)."""
    layer = region(tmp_path)
    layer.output.reshape(2, 2, 3, 2, 8)[..., 2] = -200
    layer.loss([[], np.array([[1, 0.5, 0.5, 0.2, 0.2]])])
    classes = layer.grad_output.reshape(2, 2, 8, 2, 3)[:, :, 5:]
    assert np.argwhere(classes.any(axis=2)).tolist() == [[1, 0, 1, 1]]


def test_the_pull_towards_the_anchors_ends(tmp_path):
    layer = region(tmp_path)
    layer.loss([[], []])
    assert layer.loss_parts.box == 0
    layer.graph.seen = YOUNG - 1
    layer.loss([[], []])
    assert layer.loss_parts.box > 0


# Hierarchies -----------------------------------------------------------------------------------------------------


def test_classes_of_a_group_exclude_each_other(tmp_path):
    layer = region(tmp_path, SEVEN)
    classes = layer.output.reshape(-1, 12)[:, 5:]
    for group in (classes[:, :2], classes[:, 2:4], classes[:, 4:]):
        assert group.sum(axis=1) == pytest.approx(1, rel=1e-6)


def test_the_last_probable_class_is_found(tmp_path):
    """b, which is 0.9, then f within b with 0.7: 0.63. With 0.5 for f, the last above one half is b."""
    layer = region(tmp_path, SEVEN)
    cells = layer.output.reshape(2, -1, 12)
    cells[...] = 0
    cells[0, :, 4] = 0.8, *[0.1] * 11
    cells[0, 0, 5:] = 0.1, 0.9, 0.5, 0.5, 0.2, 0.7, 0.1
    _, objectness, probabilities = layer.boxes(0, 0.2)
    assert (objectness == 1).all()
    assert probabilities[0] == pytest.approx([0, 0, 0, 0, 0, 0.63, 0], rel=1e-6)
    assert (probabilities[1:] == 0).all()
    cells[0, 0, 10] = 0.5
    assert layer.boxes(0, 0.2)[2][0] == pytest.approx([0, 0.9, 0, 0, 0, 0, 0], rel=1e-6)


def test_classes_to_be_told_are_told_with_their_probability(tmp_path):
    """f and b as above, and d within a: 0.05, which is below the threshold; all times the objectness."""
    layer = region(tmp_path, SEVEN)
    cells = layer.output.reshape(2, -1, 12)
    cells[...] = 0
    cells[0, :, 4] = 0.8, *[0.1] * 11
    cells[0, 0, 5:] = 0.1, 0.9, 0.5, 0.5, 0.2, 0.7, 0.1
    layer.told = np.array([5, 1, 3])
    boxes, _, probabilities = layer.boxes(0, 0.2)
    assert probabilities.shape == (len(boxes), 3) and (probabilities[1:] == 0).all()
    assert probabilities[0] == pytest.approx([0.8 * 0.63, 0.8 * 0.9, 0], rel=1e-6)


def test_a_picture_of_a_class_somewhere_teaches_that_class_only(tmp_path):
    layer = region(tmp_path, SEVEN)
    somewhere = np.array([[0, 0.5, 0.5, 0.2, 0.2], [5, 999999, 999999, 999999, 999999]])
    layer.loss([somewhere, []])
    gradient = layer.grad_output.reshape(2, 2, 12, 2, 3)[0]
    assert np.flatnonzero(gradient.any(axis=(0, 2, 3))).tolist() == [5, 6, 9, 10, 11]  # b's group and f's
    assert np.count_nonzero(gradient.any(axis=1)) == 1


def test_without_a_tree_every_object_has_a_place(tmp_path):
    layer = region(tmp_path)
    layer.loss([np.array([[1, 999999, 999999, 999999, 999999]]), []])
    assert layer.loss_parts.count == 0
    assert layer.loss_parts.objectness > 0


def test_labels_beyond_the_map_are_left_out(tmp_path):
    cfg = SEVEN.replace("tree=classes.tree", "map=short.map")
    (tmp_path / "short.map").write_text("6\n")
    layer = region(tmp_path, cfg)
    layer.loss([np.array([[0, 0.5, 0.5, 0.2, 0.2], [1, 0.2, 0.2, 0.2, 0.2]]), []])
    assert layer.loss_parts.count == 1
    gradient = layer.grad_output.reshape(2, 2, 12, 2, 3)[0]
    assert gradient[:, 11].min() < 0


def test_files_that_are_missing_are_remarked_on(tmp_path):
    """Published cfgs name files that do not come with them."""
    layer = heads.head(SEVEN.replace("classes.tree", "data/9k.tree") + "map=data/coco9k.map\n", tmp_path)
    first, second = layer.graph.warnings
    assert str(first).startswith(f"{tmp_path}/my.cfg:19  [region] tree=data/9k.tree: no such file here or beside the cfg")
    assert str(second).startswith(f"{tmp_path}/my.cfg:20  [region] map=data/coco9k.map: no such file")
    assert len(layer.tree.parents) == 0 and layer.class_map is None
    layer.forward(random(layer.output.shape), training=True)
    assert layer.output.reshape(-1, 12)[:, 5:].sum(axis=1) == pytest.approx(1, rel=1e-6)


# Problems --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("filters=16", "filters=30", "9  [convolutional] filters=30 does not fit the [region] on line 14: "
         "2 anchors x (4 + 1 + 3 classes) = 16"),
        (".7,.7", ".7", "17  [region] anchors has 3 numbers; they come in pairs of width and height"),
        (".7,.7", ".7,0", "17  [region] anchors has 0; widths and heights are greater than 0"),
        (", .7,.7", "", "16  [region] num=2 does not fit the 1 pair in anchors"),
        ("softmax=1", "coords=5", "18  [region] coords=5: expected one of 4"),
        ("softmax=1", "classfix=3", "18  [region] classfix=3: expected one of -1, 0, 1, 2"),
    ],
)  # fmt: skip
def test_impossible_options(tmp_path, old, new, expected):
    assert old in CFG
    assert heads.problems(CFG.replace(old, new), tmp_path) == [expected]


def test_a_tree_of_another_number_of_classes(tmp_path):
    (found,) = heads.problems(CFG + "tree=classes.tree\n", tmp_path)
    assert found == f"19  [region] {tmp_path}/classes.tree has 7 classes, the layer 3"


def test_files_that_cannot_be_read_name_their_lines(tmp_path):
    (tmp_path / "bad.tree").write_text("a -1\nb 2\nc x\n")
    (tmp_path / "bad.map").write_text("0\n3\n")
    found = heads.problems(CFG + "tree=bad.tree\nmap=bad.map\n", tmp_path)
    assert [line.split(str(tmp_path))[-1] for line in found] == [
        "/bad.tree:2  expected a name and the number of an earlier class, -1 to 0; found 'b 2'",
        "/bad.map:2  expected a class, 0 to 2; found '3'",
        "/bad.tree:3  expected a name and the number of an earlier class, -1 to 1; found 'c x'",
    ]


def test_truth_of_another_shape_is_refused(tmp_path):
    layer = region(tmp_path)
    with pytest.raises(InputError, match=r"picture 1 of the batch has shape \(2, 4\); \[region\] takes"):
        layer.loss([[], np.zeros((2, 4))])


def test_anchors_left_out(tmp_path):
    layer = heads.head(CFG.replace("anchors=1,1.5, .7,.7\n", ""), tmp_path)
    assert layer.settings().anchors.tolist() == [[0.5, 0.5], [0.5, 0.5]]
