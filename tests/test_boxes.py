from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy import boxes as module
from darkpy.boxes import (
    centers_to_corners,
    ciou,
    clip,
    corners_to_centers,
    diou,
    giou,
    iou,
    overlaps,
    suppress,
)
from darkpy.errors import InputError

KINDS = ["default", "greedynms", "diounms", "cornersnms"]
MEASURES = [iou, giou, diou, ciou]


def box(*values: float) -> np.ndarray:
    return np.array([values], np.float64)


def random_boxes(count: int, seed: int, size: float = 0.4) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centers, sides = generator.random((count, 2)), 0.02 + size * generator.random((count, 2))
    return np.column_stack([centers, sides]).astype(np.float32)


def plain_measure(a: np.ndarray, b: np.ndarray, kind: str, beta: float) -> float:
    """Box by box, straight from the definitions."""
    width = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    height = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    common = max(width, 0) * max(height, 0)
    overlap = common / (a[2] * a[3] + b[2] * b[3] - common)
    if kind in ("default", "cornersnms"):
        return overlap
    outer_width = max(a[0] + a[2] / 2, b[0] + b[2] / 2) - min(a[0] - a[2] / 2, b[0] - b[2] / 2)
    outer_height = max(a[1] + a[3] / 2, b[1] + b[3] / 2) - min(a[1] - a[3] / 2, b[1] - b[3] / 2)
    distance = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (outer_width**2 + outer_height**2)
    return overlap - distance ** (0.6 if kind == "greedynms" else beta)


def plain_suppress(
    boxes: np.ndarray, probabilities: np.ndarray, threshold: float, kind: str, beta: float
) -> np.ndarray:
    result = probabilities.copy()
    for c in range(result.shape[1]):
        order = sorted(range(len(boxes)), key=lambda i: -probabilities[i, c])
        for place, i in enumerate(order):
            for j in order[place + 1 :]:
                if result[i, c] > 0 and plain_measure(boxes[i], boxes[j], kind, beta) > threshold:
                    result[j, c] = 0
    return result


# Conversions ---------------------------------------------------------------------------------------------------


def test_corners_and_centers_are_each_others_inverse():
    given_boxes = random_boxes(20, 1)
    corners = centers_to_corners(given_boxes)
    np.testing.assert_allclose(centers_to_corners(box(5, 6, 4, 2)), box(3, 5, 7, 7))
    np.testing.assert_allclose(corners_to_centers(corners), given_boxes, atol=1e-6)


def test_clip_cuts_at_the_edge_of_the_picture():
    np.testing.assert_allclose(clip(box(0.1, 0.5, 0.4, 0.2)), box(0.15, 0.5, 0.3, 0.2))
    np.testing.assert_allclose(clip(box(90, 40, 40, 20), width=100, height=45), box(85, 37.5, 30, 15))
    assert clip(box(2, 0.5, 0.4, 0.2))[0, 2] == 0


# Overlap -------------------------------------------------------------------------------------------------------


def test_iou_by_hand():
    assert iou(box(0, 0, 2, 2), box(1, 0, 2, 2)).item() == pytest.approx(1 / 3)
    assert iou(box(0, 0, 2, 2), box(5, 0, 2, 2)).item() == 0
    assert iou(box(0, 0, 0, 0), box(0, 0, 0, 0)).item() == 0


def test_giou_by_hand():
    assert giou(box(0, 0, 2, 2), box(4, 0, 2, 2)).item() == pytest.approx(-4 / 12)
    assert giou(box(0, 0, 2, 2), box(1, 0, 2, 2)).item() == pytest.approx(1 / 3)
    assert giou(box(1, 1, 0, 0), box(1, 1, 0, 0)).item() == 0


def test_diou_by_hand():
    distance = 1 / (3**2 + 2**2)
    assert diou(box(0, 0, 2, 2), box(1, 0, 2, 2)).item() == pytest.approx(1 / 3 - distance**0.6)
    assert diou(box(0, 0, 2, 2), box(1, 0, 2, 2), beta=1).item() == pytest.approx(1 / 3 - distance)
    assert diou(box(1, 1, 0, 0), box(1, 1, 0, 0)).item() == 0


def test_ciou_by_hand():
    a, b = box(0, 0, 2, 2), box(0, 0, 4, 2)
    aspect = 4 / math.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    assert ciou(a, b).item() == pytest.approx(0.5 - aspect**2 / (0.5 + aspect), rel=1e-5)
    assert ciou(box(1, 1, 0, 0), box(1, 1, 0, 0)).item() == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_are_matrices_symmetric_and_1_for_equal_boxes(measure):
    a, b = random_boxes(5, 2), random_boxes(7, 3)
    assert measure(a, b).shape == (5, 7)
    np.testing.assert_allclose(measure(a, b), measure(b, a).T, atol=1e-6)
    np.testing.assert_allclose(np.diag(measure(a, a)), 1, atol=1e-5)
    np.testing.assert_array_equal(overlaps(a, b, measure.__name__), measure(a, b))


@pytest.mark.parametrize("kind", ["greedynms", "diounms"])
def test_diou_agrees_with_the_plain_definition(kind):
    a, b = random_boxes(6, 4).astype(np.float64), random_boxes(8, 5).astype(np.float64)
    expected = [[plain_measure(one, two, kind, 0.8) for two in b] for one in a]
    np.testing.assert_allclose(diou(a, b, 0.6 if kind == "greedynms" else 0.8), expected)


# Suppression ---------------------------------------------------------------------------------------------------


def test_suppress_keeps_the_stronger_box_and_leaves_other_classes_alone():
    given_boxes = np.array([[0.5, 0.5, 0.2, 0.2], [0.51, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]], np.float32)
    probabilities = np.array([[0.6, 0.9], [0.8, 0.0], [0.3, 0.2]], np.float32)
    before = probabilities.copy()
    np.testing.assert_array_equal(
        suppress(given_boxes, probabilities, 0.45), np.array([[0, 0.9], [0.8, 0], [0.3, 0.2]], np.float32)
    )
    np.testing.assert_array_equal(probabilities, before)


def test_a_suppressed_box_suppresses_nothing():
    chain = np.array([[x, 0.5, 0.2, 0.2] for x in (0.3, 0.36, 0.42)], np.float32)  # neighbours overlap, ends do not
    result = suppress(chain, np.array([[0.9], [0.8], [0.7]], np.float32), 0.45)
    assert (result[:, 0] > 0).tolist() == [True, False, True]


def test_of_equal_probabilities_the_first_wins():
    same = np.array([[0.5, 0.5, 0.2, 0.2]] * 3, np.float32)
    assert suppress(same, np.full((3, 1), 0.5, np.float32), 0.45)[:, 0].tolist() == [0.5, 0, 0]


def test_greedynms_spares_neighbours_whose_centres_are_apart():
    pair = np.array([[0.5, 0.5, 0.2, 0.2], [0.56, 0.5, 0.2, 0.2]], np.float32)
    probabilities = np.array([[0.9], [0.8]], np.float32)
    assert np.count_nonzero(suppress(pair, probabilities, 0.45, "default")) == 1
    assert np.count_nonzero(suppress(pair, probabilities, 0.45, "greedynms")) == 2
    assert np.count_nonzero(suppress(pair, probabilities, 0.45, "diounms", beta=3.0)) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_suppress_of_no_or_one_box(count):
    probabilities = np.full((count, 3), 0.5, np.float32)
    np.testing.assert_array_equal(suppress(random_boxes(count, 0), probabilities, 0.45), probabilities)


@pytest.mark.filterwarnings("error")
def test_suppress_survives_infinite_and_nan_boxes():
    wild = np.array([[np.inf, 0, np.inf, 1], [np.nan] * 4, [0.5, 0.5, 0.2, np.inf], [0.5, 0.5, 0.2, 0.2]], np.float32)
    wild = np.concatenate([wild, wild, np.full((2, 4), 3e38, np.float32)])
    result = suppress(wild, np.linspace(0.9, 0.1, len(wild), dtype=np.float32)[:, None], 0.45, "greedynms")
    assert result[3, 0] > 0
    assert result[7, 0] == 0


def test_suppress_refuses_what_it_does_not_know():
    with pytest.raises(InputError, match="softnms"):
        suppress(random_boxes(2, 0), np.ones((2, 1), np.float32), 0.45, "softnms")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"1\.5"):
        suppress(random_boxes(2, 0), np.ones((2, 1), np.float32), 1.5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(2, 25),
    kind=st.sampled_from(KINDS),
    threshold=st.sampled_from([0.0, 0.2, 0.45, 0.7]),
    beta=st.sampled_from([0.3, 0.6, 1.0]),
)
def test_suppress_agrees_with_the_plain_loop(seed, count, kind, threshold, beta):
    generator = np.random.default_rng(seed)
    given_boxes = random_boxes(count, seed).astype(np.float64)
    probabilities = generator.integers(0, 6, (count, 3)) / 5  # with ties and zeros
    expected = plain_suppress(given_boxes, probabilities, threshold, kind, beta)
    np.testing.assert_array_equal(suppress(given_boxes, probabilities, threshold, kind, beta), expected)


@pytest.mark.parametrize("limit, value", [("_MOST_PAIRS", 3), ("_PAIRS_PER_BLOCK", 100)])
@pytest.mark.parametrize("kind", KINDS)
def test_many_pairs_and_many_blocks_give_the_same(kind, limit, value, monkeypatch):
    given_boxes = random_boxes(40, 7, size=0.8)
    probabilities = np.random.default_rng(8).random((40, 4)).astype(np.float32)
    expected = suppress(given_boxes, probabilities, 0.45, kind)
    assert np.count_nonzero(expected) < expected.size
    monkeypatch.setattr(module, limit, value)
    np.testing.assert_array_equal(suppress(given_boxes, probabilities, 0.45, kind), expected)


# Darknet's results ---------------------------------------------------------------------------------------------


def darknet_cases(shared: Path) -> list[tuple[str, np.ndarray, np.ndarray, int, str, float]]:
    """Name, boxes before and after suppression, numbers before the probabilities, kind, beta."""
    cases = []
    for file in sorted((shared / "golden").glob("*/golden.npz")):
        arrays = np.load(file)
        if "infer/dets_raw" not in arrays:
            continue
        cfg = (file.parent / "net.cfg").read_text(encoding="utf-8")
        kinds = re.findall(r"^nms_kind\s*=\s*(\w+)", cfg, re.MULTILINE) or ["default"]
        betas = re.findall(r"^beta_nms\s*=\s*([\d.]+)", cfg, re.MULTILINE) or ["0.6"]
        leading = 9 if "Gaussian_yolo" in cfg else 5
        raw, kept = arrays["infer/dets_raw"], arrays["infer/dets"]
        cases.append((file.parent.name, raw, kept, leading, kinds[-1], float(betas[-1])))
    for file in sorted((shared / "models").glob("*/expected/*.npz")):
        arrays = np.load(file)
        for name in ("resize", "letterbox"):
            raw, kept = arrays[f"{name}/dets_raw"], arrays[f"{name}/dets"]
            cases.append((f"{file.parent.parent.name} {file.stem} {name}", raw, kept, 5, "greedynms", 0.6))
    return cases


def test_suppress_keeps_what_darknet_keeps(shared):
    cases = darknet_cases(shared)
    assert len(cases) > 40
    for name, raw, expected, leading, kind, beta in cases:
        kept = suppress(raw[:, :4], raw[:, leading:], 0.45, kind, beta)
        row, class_id = np.nonzero(kept)
        found = np.column_stack([class_id, kept[row, class_id], raw[row, :5]])
        found = found[np.lexsort((-found[:, 1], found[:, 0]))]
        np.testing.assert_array_equal(found, expected, err_msg=name)
