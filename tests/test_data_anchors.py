from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.boxes import iou
from darkpy.data.anchors import anchors_text, box_shapes, coverage, draw_anchors, find_anchors, overlaps
from darkpy.data.opening import open_dataset
from darkpy.errors import DataError, InputError
from tests.test_data_dataset import annotate, picture


def clouds(seed: int = 0) -> np.ndarray:
    """Shapes about three sizes that are far from each other."""
    generator = np.random.default_rng(seed)
    centres = np.array([[10.0, 20.0], [60.0, 30.0], [100.0, 120.0]])
    return np.concatenate([centre * generator.normal(1, 0.03, (count, 2)) for centre, count in zip(centres, (500, 60, 20))])


# Fitting ----------------------------------------------------------------------------------------------------------


def test_the_centres_of_clouds_are_found():
    anchors = find_anchors(clouds(), 3)
    np.testing.assert_allclose(anchors, [[10, 20], [60, 30], [100, 120]], rtol=0.03)
    found = coverage(clouds(), anchors)
    assert found.mean_iou > 0.93 and found.covered == 1
    assert found.shares == pytest.approx((500 / 580, 60 / 580, 20 / 580))
    assert found.text() == f"avg IoU = {100 * found.mean_iou:.2f} %   100.0 % of the objects above 50 %"


def test_overlaps_are_those_of_boxes_with_one_centre():
    generator = np.random.default_rng(1)
    shapes, anchors = generator.uniform(1, 50, (20, 2)), generator.uniform(1, 50, (4, 2))
    centred = [np.concatenate([np.zeros_like(sides), sides], axis=1) for sides in (shapes, anchors)]
    np.testing.assert_allclose(overlaps(shapes, anchors), iou(*centred))


def test_the_seed_decides_and_restarts_help():
    generator = np.random.default_rng(2)
    shapes = generator.lognormal(3, 0.7, (2000, 2))
    np.testing.assert_array_equal(find_anchors(shapes, 9, seed=4), find_anchors(shapes, 9, seed=4))
    once = [coverage(shapes, find_anchors(shapes, 9, seed=seed, restarts=1)).mean_iou for seed in range(5)]
    assert len(set(once)) > 1
    assert coverage(shapes, find_anchors(shapes, 9, seed=0, restarts=10)).mean_iou >= max(once) - 0.002


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(6, 60))
def test_anchors_are_in_order_and_more_of_them_fit_no_worse(seed, count, objects):
    shapes = np.random.default_rng(seed).uniform(1, 100, (objects, 2)).round(1)
    anchors = find_anchors(shapes, count, restarts=3)
    assert anchors.shape == (count, 2) and (np.diff(anchors.prod(axis=1)) >= 0).all()
    assert coverage(shapes, anchors).mean_iou >= coverage(shapes, np.median(shapes, axis=0, keepdims=True)).mean_iou - 1e-9
    assert sum(coverage(shapes, anchors).shares) == pytest.approx(1)


def test_as_many_anchors_as_shapes_fit_exactly():
    shapes = np.array([[1.0, 2.0], [30.0, 40.0], [5.0, 5.0], [5.0, 5.0]])
    assert find_anchors(shapes, 3).tolist() == [[1, 2], [5, 5], [30, 40]]
    with pytest.raises(InputError, match="the objects have 3 different shapes, too few for 4 anchors"):
        find_anchors(shapes, 4)
    with pytest.raises(InputError, match="0 anchors: at least 1 is needed"):
        find_anchors(shapes, 0)


def test_of_very_many_objects_a_sample_is_taken(monkeypatch):
    import darkpy.data.anchors as module

    monkeypatch.setattr(module, "_MOST_BOXES", 100)
    np.testing.assert_allclose(find_anchors(clouds(), 3), [[10, 20], [60, 30], [100, 120]], rtol=0.05)


def test_text():
    anchors = np.array([[10.4, 20.6], [1 / 3, 100]])
    assert anchors_text(anchors) == "10,21, 0,100" and anchors_text(anchors, 4) == "10.4000,20.6000, 0.3333,100.0000"


# Reading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shapes_in_pixels_of_the_input(folder):
    picture(folder / "a.png", "0 .5 .5 .5 .25\n0 .5 .5 .1 .1\n")
    picture(folder / "b.png", "")
    seen: list[tuple[int, int]] = []
    shapes = box_shapes(open_dataset("."), 200, 100, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(shapes, [[100, 25], [20, 10]], rtol=1e-6)
    assert seen == [(1, 2), (2, 2)]
    # The picture has 40 x 20 pixels: padded to a square it fills half of the height.
    np.testing.assert_allclose(box_shapes(open_dataset("."), 100, 100, letter_box=True), [[50, 12.5], [10, 5]], rtol=1e-6)
    picture(folder / "c.png", "0 .5 .5 .5 .25\n").write_bytes(b"")
    assert len(box_shapes(open_dataset("."), 100, 100, letter_box=True)) == 2


def test_difficult_objects_are_left_out_and_sizes_may_come_from_the_labels(folder):
    for name, difficult in (("a", 0), ("b", 1)):
        picture(folder / "v" / "JPEGImages" / f"{name}.png")
        annotate(folder / "v" / "Annotations" / f"{name}.xml", "dog", difficult=difficult)
    dataset = open_dataset("v")
    for path in (folder / "v" / "JPEGImages").iterdir():
        path.write_bytes(b"")
    np.testing.assert_allclose(box_shapes(dataset, 100, 100, letter_box=True), [[50, 25]], rtol=1e-6)


def test_without_objects(folder):
    picture(folder / "a.png", "")
    with pytest.raises(DataError, match="has no objects: there is nothing to fit anchors to"):
        box_shapes(open_dataset(".", names=["a"]), 32, 32)


def test_the_picture(tmp_path):
    draw_anchors(clouds(), find_anchors(clouds(), 3), 128, 128, "three $anchors$", tmp_path / "a.png")
    drawn = cv2.imread(str(tmp_path / "a.png"))
    assert drawn.shape == (750, 750, 3) and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50
