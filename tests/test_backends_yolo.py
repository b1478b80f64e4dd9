"""The YOLO operations: decoding, the loss and its gradient, boxes, truth."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest

from darkpy import boxes as box_measures
from darkpy.backends.base_yolo import BoxMeasure, YoloDecode, pack_truth, yolo_loss_settings
from darkpy.backends.numpy.yolo_cells import box_gradient, similarity
from tests.backends import BACKENDS, CPU_BACKENDS, assert_close, backend

ANCHORS = [(10, 14), (20, 18), (30, 40), (60, 50)]
CLASSES = 3
SIDE = 64
"""Pixels of the network's input."""

each_backend = pytest.mark.parametrize("name", BACKENDS)


def logistic(x):
    return 1 / (1 + np.exp(-x))


def settings_for(mask=(0, 1, 2), **options):
    return yolo_loss_settings(ANCHORS, mask, CLASSES, SIDE, SIDE, **options)


def random_output(pictures=2, anchors=3, height=4, width=4, seed=0, dtype=np.float32):
    """A plausible output of a head: probabilities, and small logarithms for w and h."""
    generator = np.random.default_rng(seed)
    output = generator.uniform(0.05, 0.95, (pictures, anchors, 5 + CLASSES, height, width))
    output[:, :, 2:4] = generator.uniform(-0.7, 0.7, output[:, :, 2:4].shape)
    return output.reshape(pictures, -1, height, width).astype(dtype)


def random_truth(pictures=2, count=6, seed=0):
    generator = np.random.default_rng(seed)
    columns = [
        generator.integers(0, CLASSES, (pictures, count, 1)),
        generator.uniform(0.02, 0.98, (pictures, count, 2)),
        generator.uniform(0.1, 0.9, (pictures, count, 2)),
    ]
    return list(np.concatenate(columns, axis=2).astype(np.float32))


def loss_of(name, output, truth, settings):
    """The parts of the loss, and the gradient as (pictures, anchors, channels, height, width)."""
    grad = np.full_like(output, np.nan)
    parts = backend(name, output.dtype.type).yolo_loss(output, truth, grad, settings)
    return parts, grad.reshape(len(output), len(settings.mask), 5 + CLASSES, *output.shape[2:])


def objects(*rows):
    return np.array(rows, np.float32).reshape(-1, 5)


# Forward ---------------------------------------------------------------------------------------------------------


@each_backend
@pytest.mark.parametrize("in_place", [False, True])
def test_forward_squashes_all_but_width_and_height(name, in_place):
    x = np.random.default_rng(0).normal(0, 3, (2, 2 * 8, 3, 5)).astype(np.float32)
    before = x.reshape(2, 2, 8, 3, 5).astype(np.float64)
    out = x if in_place else np.empty_like(x)
    backend(name).yolo_forward(x, out, 2, CLASSES, 1.2, False)
    after = out.reshape(before.shape)
    assert_close(after[:, :, :2], logistic(before[:, :, :2]) * 1.2 - 0.1)
    assert (after[:, :, 2:4] == before[:, :, 2:4]).all()
    assert_close(after[:, :, 4:], logistic(before[:, :, 4:]))


@each_backend
def test_forward_with_new_coords_only_stretches(name):
    x = random_output()
    out = np.empty_like(x)
    backend(name).yolo_forward(x, out, 3, CLASSES, 2.0, True)
    before, after = (array.reshape(2, 3, 8, 4, 4) for array in (x, out))
    assert_close(after[:, :, :2], before[:, :, :2] * 2 - 0.5)
    assert (after[:, :, 2:] == before[:, :, 2:]).all()


@each_backend
def test_forward_of_extreme_values(name):
    x = np.full((1, 8, 1, 2), 1e30, np.float32)
    x[..., 1] *= -1
    out = np.empty_like(x)
    backend(name).yolo_forward(x, out, 1, CLASSES, 1.0, False)
    assert out[0, 4].tolist() == [[1.0, 0.0]]


# Boxes -----------------------------------------------------------------------------------------------------------


@each_backend
@pytest.mark.parametrize("new_coords", [False, True])
def test_boxes_cell_by_cell(name, new_coords):
    output = random_output(pictures=2, anchors=2, height=3, width=4)
    anchors = np.array(ANCHORS[2:], float)
    settings = YoloDecode(anchors, CLASSES, 64, 48, new_coords)
    boxes, objectness, probabilities = backend(name).yolo_boxes(output, 1, 0.4, settings)
    expected = []
    values = output[1].reshape(2, 8, 3, 4)
    for row, column, anchor in product(range(3), range(4), range(2)):
        x, y, w, h, confidence, *classes = values[anchor, :, row, column].astype(float)
        if confidence <= 0.4:
            continue
        size = np.square([w, h]) * 4 if new_coords else np.exp([w, h])
        box = [(column + x) / 4, (row + y) / 3, *(size * anchors[anchor] / [64, 48])]
        probability = [confidence * p if confidence * p > 0.4 else 0 for p in classes]
        expected.append([*box, confidence, *probability])
    expected = np.array(expected)
    assert 0 < len(expected) < 24
    assert 0 < np.count_nonzero(probabilities) < probabilities.size
    assert_close(np.column_stack([boxes, objectness, probabilities]), expected)


@each_backend
def test_no_boxes(name):
    boxes, objectness, probabilities = backend(name).yolo_boxes(random_output(), 0, 1.0, settings_for().decode())
    assert (boxes.shape, objectness.shape, probabilities.shape) == ((0, 4), (0,), (0, CLASSES))


# Loss: what learns what -------------------------------------------------------------------------------------------


@each_backend
def test_without_objects_only_the_objectness_learns(name):
    output = random_output()
    parts, grad = loss_of(name, output, [objects(), objects()], settings_for(obj_normalizer=0.5))
    objectness = output.reshape(grad.shape)[:, :, 4]
    assert_close(grad[:, :, 4], 0.5 * objectness)
    assert not grad[:, :, :4].any() and not grad[:, :, 5:].any()
    assert parts.count == 0
    assert parts.cost == pytest.approx(np.square(0.5 * objectness.astype(float)).sum())
    assert parts.avg_background == pytest.approx(objectness.mean(), rel=1e-5)


@each_backend
def test_an_object_teaches_the_best_anchor_of_its_cell(name):
    output = random_output(pictures=1)
    shape = np.array(ANCHORS[1]) / SIDE
    parts, grad = loss_of(name, output, [objects([2, 0.6, 0.3, *shape])], settings_for())
    slot, row, column = 1, 1, 2
    values = output.reshape(grad.shape)[0, slot, :, row, column].astype(float)
    taught = grad[0, slot, :, row, column]
    weight = 0.75 * (2 - shape.prod())
    goal = [0.6 * 4 - 2, 0.3 * 4 - 1, 0, 0]
    assert_close(taught[:4], weight * (values[:4] - goal), 1e-5)
    assert_close(taught[4:], values[4:] - [1, 0, 0, 1])
    grad[0, slot, :, row, column] = 0
    assert not grad[0, :, :4].any() and not grad[0, :, 5:].any()
    assert parts.count == 1
    assert parts.avg_class == pytest.approx(values[7])
    assert parts.avg_objectness == pytest.approx(values[4])


@each_backend
def test_an_object_for_another_head_teaches_nothing_here(name):
    parts, grad = loss_of(name, random_output(pictures=1), [objects([0, 0.5, 0.5, 0.9, 0.8])], settings_for())
    assert parts.count == 0
    assert not grad[:, :, :4].any()


@each_backend
def test_an_object_on_the_far_edge_belongs_to_the_last_cell(name):
    shape = np.array(ANCHORS[0]) / SIDE
    _, grad = loss_of(name, random_output(pictures=1), [objects([0, 1, 1, *shape])], settings_for())
    assert np.argwhere(grad[0, :, 5]).tolist() == [[0, 3, 3]]


@each_backend
def test_iou_thresh_teaches_every_anchor_of_similar_shape(name):
    truth = [objects([0, 0.6, 0.3, 20 / SIDE, 18 / SIDE])]
    output = random_output(pictures=1)
    similar = 10 * 14 / (20 * 18)  # the first anchor lies within the second
    parts, grad = loss_of(name, output, truth, settings_for(iou_thresh=similar - 0.01))
    assert parts.count == 2
    assert np.argwhere(grad[0, :, 5]).tolist() == [[0, 1, 2], [1, 1, 2]]
    parts, _ = loss_of(name, output, truth, settings_for(iou_thresh=similar + 0.01))
    assert parts.count == 1


@each_backend
def test_a_second_object_in_the_same_place(name):
    """Box gradients add up; of the classes only the second's own changes. iou_thresh < 1 averages the boxes."""
    output = random_output(pictures=1)
    shape = np.array(ANCHORS[1]) / SIDE
    first, second = [0, 0.6, 0.3, *shape], [2, 0.55, 0.32, *shape]
    here = (0, 1, slice(None), 1, 2)
    alone = [loss_of(name, output, [objects(row)], settings_for())[1][here] for row in (first, second)]
    _, grad = loss_of(name, output, [objects(first, second)], settings_for())
    assert_close(grad[here][:4], alone[0][:4] + alone[1][:4])
    assert_close(grad[here][5:], np.array([alone[0][5], alone[0][6], alone[1][7]]))
    _, averaged = loss_of(name, output, [objects(first, second)], settings_for(iou_thresh=0.99))
    assert_close(averaged[here][:4], grad[here][:4] / 2)


@each_backend
@pytest.mark.parametrize("probability, expected", [(0.3, 0.0), (0.2, 0.8)])
def test_a_box_that_fits_is_not_background_if_it_names_a_class(name, probability, expected):
    """The object is in the cell to the right, the box of this cell reaches over it."""
    output = np.zeros((1, 3, 8, 4, 4), np.float32)
    output[0, 1, :5, 1, 1] = 1.0, 0.5, 0, 0, 0.8
    output[0, 1, 7, 1, 1] = probability
    truth = [objects([0, 0.501, 0.375, 20 / SIDE, 18 / SIDE])]
    _, grad = loss_of(name, output.reshape(1, 24, 4, 4), truth, settings_for(ignore_thresh=0.7))
    assert grad[0, 1, 4, 1, 1] == pytest.approx(expected)


@each_backend
def test_objectness_smooth(name):
    output = np.zeros((1, 3, 8, 4, 4), np.float32)
    output[0, 1, :6, 1, 1] = 1.0, 0.5, 0, 0, 0.8, 0.9
    box = objects([0, 0.5, 0.375, 20 / SIDE, 18 / SIDE])
    truth = box + np.float32([0, 0.05, 0, 0, 0])
    iou = box_measures.iou(box[:, 1:].astype(float), truth[:, 1:].astype(float)).item()
    assert 0.5 < iou < 0.9
    flat = output.reshape(1, 24, 4, 4)
    _, grad = loss_of(name, flat, [truth], settings_for(ignore_thresh=0.5, objectness_smooth=True))
    assert grad[0, 1, 4, 1, 1] == pytest.approx(0.8 - iou, rel=1e-5)
    _, grad = loss_of(name, flat, [truth], settings_for(truth_thresh=0.5, objectness_smooth=True))
    assert grad[0, 1, 4, 1, 1] == pytest.approx(0.8 - iou**2, rel=1e-5)
    assert grad[0, 1, 5, 1, 1] == pytest.approx(0.9 - iou**2, rel=1e-5)


@each_backend
def test_truth_thresh_teaches_boxes_that_fit(name):
    output = np.zeros((1, 3, 8, 4, 4), np.float32)
    output[0, 1, :5, 1, 1] = 1.0, 0.5, 0, 0, 0.8
    truth = [objects([1, 0.501, 0.375, 20 / SIDE, 18 / SIDE])]
    parts, grad = loss_of(name, output.reshape(1, 24, 4, 4), truth, settings_for(truth_thresh=0.9))
    assert grad[0, 1, 4:, 1, 1].tolist() == pytest.approx([-0.2, 0, -1, 0])
    assert grad[0, 1, 0, 1, 1] == pytest.approx(0.75 * (2 - 20 * 18 / SIDE**2) * (1 - 1.004), rel=1e-3)
    assert parts.count == 1  # the one assigned by its cell; those taught by their fit do not enter the averages


@each_backend
def test_counters_per_class_weigh_rare_classes(name):
    output = random_output(pictures=1)
    truth = [objects([1, 0.6, 0.3, 20 / SIDE, 18 / SIDE])]
    here = (0, 1, slice(None), 1, 2)
    _, plain = loss_of(name, output, truth, settings_for(cls_normalizer=0.5))
    _, grad = loss_of(name, output, truth, settings_for(cls_normalizer=0.5, counters_per_class=(100, 20, 0)))
    assert_close(grad[here] / plain[here], np.array([5, 5, 5, 5, 5, 1, 2.5, 1], np.float32), 1e-5)
    limited = settings_for(counters_per_class=(100, 20, 0), max_delta=40)
    assert limited.class_multipliers.tolist() == [1, 5, 40]


@each_backend
def test_label_smoothing(name):
    output = random_output(pictures=1)
    truth = [objects([1, 0.6, 0.3, 20 / SIDE, 18 / SIDE])]
    _, grad = loss_of(name, output, truth, settings_for(label_smooth_eps=0.1))
    classes = output.reshape(grad.shape)[0, 1, 5:, 1, 2]
    assert_close(grad[0, 1, 5:, 1, 2], classes - np.array([0.05, 0.95, 0.05]))


@each_backend
def test_focal_loss(name):
    output = random_output(pictures=1)
    truth = [objects([1, 0.6, 0.3, 20 / SIDE, 18 / SIDE])]
    _, grad = loss_of(name, output, truth, settings_for(focal_loss=True, label_smooth_eps=0.1))
    classes = output.reshape(grad.shape)[0, 1, 5:, 1, 2].astype(float)
    p = classes[1]
    factor = 0.5 * (1 - p) * (1 - p - 2 * p * math.log(p))
    assert_close(grad[0, 1, 5:, 1, 2], factor * (classes - [0, 1, 0]))


@each_backend
@pytest.mark.parametrize("iou_loss", ["iou", "giou", "diou", "ciou"])
def test_overlap_losses(name, iou_loss):
    """Gradient = -measure's ascent, w and h times their own derivative, limited; the cost counts 1 - IoU."""
    output = random_output(pictures=1)
    truth = objects([1, 0.6, 0.3, 20 / SIDE, 18 / SIDE])
    options = {"iou_loss": iou_loss, "iou_normalizer": 0.5, "obj_normalizer": 2.0}
    parts, grad = loss_of(name, output, [truth], settings_for(**options))
    x, y, w, h = output.reshape(grad.shape)[0, 1, :4, 1, 2].astype(float)
    box = ((2 + x) / 4, (1 + y) / 4, math.exp(w) * 20 / SIDE, math.exp(h) * 18 / SIDE)
    target = tuple(map(float, truth[0, 1:]))
    ascent = np.array(box_gradient(box, target, BoxMeasure[iou_loss.upper()]))
    expected = -0.5 * ascent * [1, 1, math.exp(w), math.exp(h)]
    assert_close(grad[0, 1, :4, 1, 2], expected, 1e-5)
    measure = BoxMeasure.GIOU if iou_loss == "giou" else BoxMeasure.IOU
    assert parts.box == pytest.approx(0.5 * (1 - similarity(box, target, measure)), rel=1e-5)
    assert parts.objectness == pytest.approx(2 * np.square(grad[:, :, 4].astype(float)).sum(), rel=1e-5)
    assert parts.classification == pytest.approx(2 * np.square(grad[:, :, 5:].astype(float)).sum(), rel=1e-5)
    assert parts.cost == pytest.approx(parts.box + parts.objectness + parts.classification)
    limit = np.abs(expected).max() / 3
    _, limited = loss_of(name, output, [truth], settings_for(max_delta=limit, **options))
    assert_close(limited[0, 1, :4, 1, 2], np.clip(expected, -limit, limit), 1e-5)


@each_backend
@pytest.mark.parametrize("options", [{}, {"iou_loss": "ciou", "show_details": False}])
def test_cost_is_the_sum_of_squares(name, options):
    parts, grad = loss_of(name, random_output(), random_truth(), settings_for(**options))
    squares = np.square(grad.astype(float))
    assert parts.cost == pytest.approx(squares.sum(), rel=1e-5)
    assert parts.box == pytest.approx(squares[:, :, :4].sum(), rel=1e-5)
    assert parts.objectness == pytest.approx(squares[:, :, 4].sum(), rel=1e-5)


@each_backend
def test_averages(name):
    """A perfect box counts in both recalls, a far one in none."""
    output = np.zeros((1, 3, 8, 4, 4), np.float32)
    output[0, 1, :2, 1, 1] = 0.5
    rows = objects([0, 0.375, 0.375, 20 / SIDE, 18 / SIDE], [0, 0.874, 0.874, 20 / SIDE, 18 / SIDE])
    parts, _ = loss_of(name, output.reshape(1, 24, 4, 4), [rows], settings_for())
    far = box_measures.iou(np.array([[0.75, 0.75, *rows[1, 3:]]]), rows[1:, 1:]).item()
    assert far < 0.5
    assert parts.avg_iou == pytest.approx((1 + far) / 2, rel=1e-5)
    assert (parts.count, parts.recall50, parts.recall75) == (2, 0.5, 0.5)


VARIANTS = [
    {},
    {"ignore_thresh": 0.2, "truth_thresh": 0.4},
    {"iou_loss": "iou", "iou_thresh": 0.3},
    {"iou_loss": "giou", "iou_thresh": 0.3, "iou_thresh_kind": "giou", "objectness_smooth": True, "ignore_thresh": 0.2},
    {"iou_loss": "diou", "iou_thresh": 0.1, "iou_thresh_kind": "diou", "max_delta": 0.5, "truth_thresh": 0.3},
    {"iou_loss": "ciou", "iou_thresh": 0.2, "iou_thresh_kind": "ciou", "label_smooth_eps": 0.1},
    {"iou_loss": "ciou", "new_coords": True, "objectness_smooth": True, "truth_thresh": 0.3, "ignore_thresh": 0.2},
    {"new_coords": True, "counters_per_class": (5, 10, 50), "cls_normalizer": 0.5, "iou_thresh": 0.3},
    {"focal_loss": True, "obj_normalizer": 0.4, "show_details": False},
]


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: ",".join(options) or "default")
def test_backends_agree(name, options, dtype):
    """With several objects in a cell, whose order matters."""
    if name == "cuda" and dtype != np.float32:
        pytest.skip("the GPU computes in float32")
    output = np.abs(random_output(pictures=3, anchors=2, height=5, width=7, seed=1, dtype=dtype))
    truth = random_truth(pictures=3, count=20, seed=2)
    settings = settings_for(mask=(1, 3), **options)
    expected, grad = loss_of("numpy", output, truth, settings)
    found, compiled_grad = loss_of(name, output, truth, settings)
    assert expected.count > 20
    assert_close(compiled_grad, grad, 2e-6)
    assert asdict(found) == pytest.approx(asdict(expected), rel=2e-6)


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "numpy"])
def test_backends_agree_on_many_cells_and_objects(name):
    """More of both than a block of threads takes at a time; the last picture has none."""
    output = np.abs(random_output(pictures=3, anchors=3, height=17, width=13, seed=1))
    truth = [*random_truth(pictures=2, count=300, seed=2), objects()]
    settings = settings_for(iou_thresh=0.3, max_boxes=300)
    expected, grad = loss_of("numpy", output, truth, settings)
    found, compiled_grad = loss_of(name, output, truth, settings)
    assert_close(compiled_grad, grad, 2e-6)
    assert asdict(found) == pytest.approx(asdict(expected), rel=3e-6)
    decode = settings.decode()
    boxes = (backend(each).yolo_boxes(output, 2, 0.3, decode) for each in (name, "numpy"))
    for ours, theirs in zip(*boxes):
        assert len(theirs) > 256
        assert_close(ours, theirs, 1e-6)


@each_backend
@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: ",".join(options) or "default")
def test_pictures_do_not_influence_each_other(name, options):
    output, truth, settings = random_output(pictures=3), random_truth(pictures=3), settings_for(**options)
    _, together = loss_of(name, output, truth, settings)
    for i in range(3):
        _, alone = loss_of(name, output[i : i + 1], truth[i : i + 1], settings)
        assert (alone[0] == together[i]).all()


@each_backend
@pytest.mark.parametrize("iou_loss", ["mse", "iou", "giou", "diou", "ciou"])
@pytest.mark.parametrize("size", [90.0, -120.0])
def test_boxes_beyond_single_precision_give_finite_gradients(name, iou_loss, size):
    output = random_output(pictures=1)
    output.reshape(1, 3, 8, 4, 4)[:, :, 2:4] = size
    settings = settings_for(iou_loss=iou_loss, iou_thresh=0.1, truth_thresh=0.5)
    _, grad = loss_of(name, output, random_truth(pictures=1), settings)
    assert np.isfinite(grad).all()


@each_backend
@pytest.mark.parametrize("iou_loss", ["giou", "diou", "ciou"])
def test_boxes_without_area_with_new_coords(name, iou_loss):
    output = random_output(pictures=1)
    output.reshape(1, 3, 8, 4, 4)[:, :, 2:4] = 0
    settings = settings_for(iou_loss=iou_loss, new_coords=True)
    _, grad = loss_of(name, output, random_truth(pictures=1), settings)
    assert np.isfinite(grad).all()


# Loss: derivatives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_objectness_and_classes_have_the_gradient_of_the_cross_entropy(name):
    """Finite differences of -log p where an object is, of -log(1 - p) elsewhere, as functions of the head's input."""
    generator = np.random.default_rng(3)
    x = generator.normal(0, 1, (1, 24, 4, 4))
    truth = [objects([1, 0.6, 0.3, 20 / SIDE, 18 / SIDE])]
    device = backend(name, np.float64)

    def forward(x):
        out = np.empty_like(x)
        device.yolo_forward(x, out, 3, CLASSES, 1.0, False)
        return out

    _, grad = loss_of(name, forward(x), truth, settings_for())
    target = np.zeros(grad.shape)
    target[0, 1, [4, 6], 1, 2] = 1
    counted = np.zeros(grad.shape, bool)
    counted[:, :, 4] = counted[0, 1, 4:, 1, 2] = True

    def cross_entropy(x):
        p = forward(x).reshape(grad.shape)[counted]
        return -np.sum(np.log(np.where(target[counted] == 1, p, 1 - p)))

    for index in [(0, 12, 1, 2), (0, 13, 1, 2), (0, 14, 1, 2), (0, 4, 0, 3), (0, 20, 3, 3)]:
        step = np.zeros_like(x)
        step[index] = 1e-5
        slope = (cross_entropy(x + step) - cross_entropy(x - step)) / 2e-5
        assert grad.reshape(x.shape)[index] == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("measure", [BoxMeasure.IOU, BoxMeasure.GIOU])
@pytest.mark.parametrize("seed", range(8))
def test_box_gradient_is_the_derivative_of_the_measure(measure, seed):
    """For overlapping boxes, that of x and y; twice that of w and h. DIoU and CIoU are not derivatives in Darknet."""
    generator = np.random.default_rng(seed)
    target = (0.5, 0.5, *generator.uniform(0.2, 0.5, 2))
    box = np.array([*generator.uniform(0.4, 0.6, 2), *generator.uniform(0.2, 0.5, 2)])
    gradient = np.array(box_gradient(tuple(box), target, measure)) / [1, 1, 2, 2]
    for axis in range(4):
        step = np.zeros(4)
        step[axis] = 1e-6
        slope = (similarity(tuple(box + step), target, measure) - similarity(tuple(box - step), target, measure)) / 2e-6
        assert gradient[axis] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("measure", [BoxMeasure.GIOU, BoxMeasure.DIOU, BoxMeasure.CIOU])
def test_box_gradient_pulls_a_distant_box_nearer(measure):
    box, target = (0.2, 0.3, 0.1, 0.1), (0.7, 0.8, 0.2, 0.2)
    gradient = np.array(box_gradient(box, target, measure))
    assert (gradient[:2] > 0).all()
    moved = np.array(box)
    moved[:2] += 0.01 * gradient[:2]
    assert similarity(tuple(moved), target, measure) > similarity(box, target, measure)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_similarity_is_the_measure_of_the_detections(kind):
    generator = np.random.default_rng(0)
    a = np.concatenate([generator.uniform(0, 1, (30, 2)), generator.uniform(0.05, 0.6, (30, 2))], axis=1)
    b = np.concatenate([a[:3], generator.permuted(a, axis=0)])
    expected = box_measures.overlaps(a, b, kind)
    found = [[similarity(tuple(x), tuple(y), BoxMeasure[kind.upper()]) for y in b.tolist()] for x in a.tolist()]
    assert_close(np.array(found), expected, 1e-12)


# Truth ------------------------------------------------------------------------------------------------------------


GOOD = [0, 0.5, 0.5, 0.1, 0.1]


def test_packed_truth_keeps_pictures_apart():
    first, second = objects(GOOD, [1, 0.25, 0.5, 0.1, 0.1]), objects([2, 0.75, 0.5, 0.1, 0.1])
    rows, starts = pack_truth([first, objects(), second], CLASSES, 200)
    assert starts.tolist() == [0, 2, 2, 3]
    assert (rows == np.concatenate([first, second])).all()


def test_packed_truth_of_one_array_ends_at_x_zero():
    padded = np.zeros((2, 4, 5), np.float32)
    padded[0, :2] = padded[1, 0] = padded[1, 2] = GOOD
    rows, starts = pack_truth(padded, CLASSES, 200)
    assert starts.tolist() == [0, 2, 3]
    assert (rows == objects(GOOD, GOOD, GOOD)).all()


def test_packed_truth_is_limited_before_rows_are_dropped():
    rows = objects([CLASSES, *GOOD[1:]], GOOD, [1, *GOOD[1:]])
    packed = pack_truth([rows], CLASSES, 2)
    assert packed.rows.tolist() == objects(GOOD).tolist()


@pytest.mark.parametrize(
    "row",
    [
        [CLASSES, 0.5, 0.5, 0.1, 0.1],
        [-1, 0.5, 0.5, 0.1, 0.1],
        [0, 1.1, 0.5, 0.1, 0.1],
        [0, -0.1, 0.5, 0.1, 0.1],
        [0, 0.5, 1.1, 0.1, 0.1],
        [0, 0.5, 0.5, 0.0, 0.1],
        [0, 0.5, 0.5, 0.1, -0.1],
        [0, np.nan, 0.5, 0.1, 0.1],
    ],
)
@each_backend
def test_unusable_truth_changes_nothing(name, row):
    output, settings = random_output(pictures=1), settings_for(iou_thresh=0.1)
    _, expected = loss_of(name, output, [objects(GOOD, GOOD)], settings)
    _, grad = loss_of(name, output, [objects(GOOD, row, GOOD)], settings)
    assert (grad == expected).all()
