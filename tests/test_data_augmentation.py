from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from darkpy.data.augmentation import Augmentation, Region, cut_and_resize, move_boxes

FULL = Augmentation(jitter=0.3, resize=1.5, flip=True, hue=0.1, saturation=1.5, exposure=1.5)


def options(**changes):
    net = {"flip": True, "hue": 0.1, "saturation": 1.5, "exposure": 1.4, "letter_box": False, **changes}
    return SimpleNamespace(**net), SimpleNamespace(jitter=0.3, resize=1.2, max=200, random=1.0)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_from_options():
    augmentation = Augmentation.from_options(*options(letter_box=True))
    assert augmentation == Augmentation(0.3, 1.2, True, 0.1, 1.5, 1.4, True, 200)


def test_what_is_not_applied_is_known():
    augmentation = Augmentation.from_options(*options(mosaic=True, mixup=0, blur=1, gaussian_noise=10))
    assert augmentation.not_applied == ("mosaic", "blur", "gaussian_noise")


def test_none_only_resizes():
    image = noise(40, 60)
    boxes = np.array([[1, 0.5, 0.5, 0.25, 0.25]], np.float32)
    sample, moved = Augmentation.none().augment(image, boxes, 30, 20, np.random.default_rng(0))
    assert np.array_equal(sample, cv2.resize(image, (30, 20)).transpose(2, 0, 1))
    assert np.allclose(moved, boxes)


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_types(channels):
    image = noise(50, 70, channels)
    before = image.copy()
    boxes = np.array([[0, 0.5, 0.5, 0.5, 0.5]], np.float32)
    sample, moved = FULL.augment(image, boxes, 64, 32, np.random.default_rng(0))
    assert sample.shape == (channels, 32, 64) and sample.dtype == np.uint8
    assert moved.shape == (1, 5) and moved.dtype == np.float32
    assert np.array_equal(image, before) and boxes.tolist() == [[0, 0.5, 0.5, 0.5, 0.5]]


def test_same_random_numbers_same_sample():
    image, boxes = noise(50, 70), np.random.default_rng(1).random((6, 5)).astype(np.float32)
    first = FULL.augment(image, boxes, 64, 64, np.random.default_rng(3))
    again = FULL.augment(image, boxes, 64, 64, np.random.default_rng(3))
    other = FULL.augment(image, boxes, 64, 64, np.random.default_rng(4))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_options_do_not_disturb_each_other():
    image, boxes = noise(50, 70), np.array([[0, 0.5, 0.5, 0.5, 0.5]], np.float32)
    _, with_colours = FULL.augment(image, boxes, 64, 64, np.random.default_rng(3))
    plain = Augmentation(jitter=FULL.jitter, resize=FULL.resize, flip=True)
    _, without = plain.augment(image, boxes, 64, 64, np.random.default_rng(3))
    assert np.array_equal(with_colours, without)


# Boxes --------------------------------------------------------------------------------------------------------


def blob_box(sample: np.ndarray) -> np.ndarray | None:
    """Edges (left, top, right, bottom) in pixels of what is white in a sample (1, h, w)."""
    mask = (sample[0] > 127).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(mask)
    return np.array([x, y, x + w, y + h]) if w else None


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(30, 200), st.integers(30, 200)),
    st.tuples(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.15, 0.9), st.floats(0.15, 0.9)),
    st.floats(0, 0.45),
    st.floats(0.6, 1.8),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_boxes_stay_on_their_object(size, place, jitter, resize, letter_box, seed):
    """A white rectangle on black is found again by its colour where the box says it is."""
    width, height = size
    left, top = int(place[0] * width), int(place[1] * height)
    right, bottom = min(width, left + max(8, int(place[2] * width))), min(height, top + max(8, int(place[3] * height)))
    assume(right - left >= 6 and bottom - top >= 6)
    image = np.zeros((height, width, 1), np.uint8)
    image[top:bottom, left:right] = 255
    # A picture mostly white has a bright mean, which would be taken for the object.
    assume(image.mean() < 100)
    box = [0, (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
    augmentation = Augmentation(jitter=jitter, resize=resize, flip=True, letter_box=letter_box)
    truth = np.array([box], np.float32)
    sample, boxes = augmentation.augment(image, truth, 96, 64, np.random.default_rng(seed))
    found = blob_box(sample)
    if len(boxes) == 0:
        assert found is None or (found[2:] - found[:2]).min() <= 1
        return
    centre, extent = boxes[0, 1:3] * [96, 64], boxes[0, 3:5] * [96, 64]
    if found is None:
        assert extent.min() < 1.5
        return
    # A pixel of the sample, and where the object meets the grey around the picture, part of one of the picture.
    region = augmentation._region(width, height, 96, 64, np.random.default_rng(seed).random(12)[:6])
    tolerance = 0.6 + 0.35 * max(96 / region.width, 64 / region.height)
    edges = np.concatenate([centre - extent / 2, centre + extent / 2])
    assert np.abs(edges - found).max() <= tolerance


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.9), st.floats(0.3, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_boxes_are_inside_and_no_smaller_than_a_pixel(seed, jitter, resize, letter_box):
    rng = np.random.default_rng(seed)
    boxes = rng.random((20, 5)).astype(np.float32)
    augmentation = Augmentation(jitter=jitter, resize=resize, flip=True, letter_box=letter_box)
    _, moved = augmentation.augment(np.zeros((33, 47, 1), np.uint8), boxes, 64, 48, rng)
    low, high = moved[:, 1:3] - moved[:, 3:5] / 2, moved[:, 1:3] + moved[:, 3:5] / 2
    assert (low >= -1e-6).all() and (high <= 1 + 1e-6).all()
    assert (moved[:, 3:5] * [64, 48] >= 1 - 1e-5).all()
    assert set(moved[:, 0]) <= set(boxes[:, 0])


def test_boxes_move_with_the_region():
    boxes = np.array([[2, 0.5, 0.5, 0.2, 0.4]], np.float32)
    # The right half of a picture of 100 x 100, mirrored: the object's right half is at the right border.
    moved = move_boxes(boxes, Region(50, 0, 50, 100), 100, 100, flip=True)
    assert np.allclose(moved, [[2, 0.9, 0.5, 0.2, 0.4]])


def test_small_boxes_are_dropped():
    boxes = np.array([[0, 0.5, 0.5, 0.009, 0.5], [1, 0.5, 0.5, 0.011, 0.5]], np.float32)
    _, moved = Augmentation.none().augment(np.zeros((90, 90, 1), np.uint8), boxes, 100, 100, np.random.default_rng(0))
    assert moved[:, 0].tolist() == [1]


def test_max_keeps_a_random_part():
    boxes = np.zeros((50, 5), np.float32)
    boxes[:, 0] = np.arange(50)
    boxes[:, 1:] = 0.5
    image = np.zeros((20, 20, 1), np.uint8)
    kept = [
        Augmentation(max=10).augment(image, boxes, 20, 20, np.random.default_rng(seed))[1][:, 0].tolist()
        for seed in range(2)
    ]
    assert [len(set(classes)) for classes in kept] == [10, 10] and set(kept[0]) != set(kept[1])


# Geometry -----------------------------------------------------------------------------------------------------


def test_outside_the_picture_is_its_mean():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = (200, 100, 50)
    cut = cut_and_resize(image, Region(-20, -10, 60, 30), 60, 30)
    assert (cut[:10] == (100, 50, 25)).all() and (cut[:, 40:] == (100, 50, 25)).all()
    assert np.array_equal(cut[10:20, 20:40], image)


def regions(augmentation: Augmentation, width: int, height: int, count: int = 400) -> list[Region]:
    rng = np.random.default_rng(0)
    return [augmentation._region(width, height, 64, 64, rng.random(6)) for _ in range(count)]


def test_jitter_moves_each_side_by_up_to_its_part():
    found = regions(Augmentation(jitter=0.2), 100, 50)
    lefts = np.array([region.left for region in found])
    bottoms = np.array([region.top + region.height - 50 for region in found])
    assert lefts.min() == -19 and lefts.max() == 19
    assert bottoms.min() == -9 and bottoms.max() == 9
    assert abs(np.corrcoef(lefts, bottoms)[0, 1]) < 0.2


def test_resize_zooms_both_ways_or_only_out():
    # 1.5: the sides move out by up to (1.5 - 1) / 2 and in by up to (1 - 1 / 1.5) / 2 of the picture.
    both = np.array([region.left for region in regions(Augmentation(resize=1.5), 120, 120)])
    assert -30 <= both.min() <= -28 and 18 <= both.max() <= 20
    outwards = np.array([region.left for region in regions(Augmentation(resize=1 / 1.5), 120, 120)])
    assert -30 <= outwards.min() <= -28 and outwards.max() <= 0


def test_resize_moves_left_and_top_together():
    for region in regions(Augmentation(resize=1.5), 120, 120):
        assert region.left == region.top


@pytest.mark.parametrize("width, height", [(200, 100), (100, 200)])
def test_letter_box_keeps_the_aspect_ratio(width, height):
    (region,) = regions(Augmentation.none(letter_box=True), width, height, 1)
    assert region.width == region.height == 200
    assert region.left + region.width / 2 == width / 2 and region.top + region.height / 2 == height / 2


def test_too_much_jitter_takes_the_whole_picture():
    found = regions(Augmentation(jitter=2.0), 40, 40)
    assert all(region.width > 0 and region.height > 0 for region in found)
    for region in found:
        # Something of the picture is always inside.
        assert region.left < 40 and region.top < 40
        assert region.left + region.width > 0 and region.top + region.height > 0


# Colours ------------------------------------------------------------------------------------------------------


def colours(augmentation: Augmentation, colour: tuple[int, ...], count: int = 200) -> np.ndarray:
    image = np.full((2, 2, len(colour)), colour, np.uint8)
    rng = np.random.default_rng(0)
    boxes = np.zeros((0, 5), np.float32)
    return np.stack([augmentation.augment(image, boxes, 2, 2, rng)[0][:, 0, 0] for _ in range(count)])


def hsv(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb[np.newaxis], cv2.COLOR_RGB2HSV)[0].astype(int)


def test_hue_turns_both_ways_around_the_circle():
    # Red is at 0 of 180: turning it back must give magenta, not stop.
    hue = hsv(colours(Augmentation(hue=0.1), (200, 0, 0)))[:, 0]
    signed = (hue + 90) % 180 - 90
    assert -18 <= signed.min() <= -15 and 15 <= signed.max() <= 18


def test_saturation_and_exposure_are_factors_both_ways():
    changed = hsv(colours(Augmentation(saturation=1.5), (100, 60, 60)))
    assert 65 <= changed[:, 1].min() <= 72 and 145 <= changed[:, 1].max() <= 155
    assert set(changed[:, 2]) == {100}
    brighter = hsv(colours(Augmentation(exposure=1.5), (100, 60, 60)))[:, 2]
    assert 65 <= brighter.min() <= 69 and 145 <= brighter.max() <= 151
    assert np.count_nonzero(brighter > 100) in range(70, 130)


def test_grey_pictures_only_change_their_brightness():
    values = colours(Augmentation(hue=0.1, saturation=2, exposure=1.5), (100,))
    assert values.shape == (200, 1)
    assert 65 <= values.min() <= 69 and 145 <= values.max() <= 151


def test_exposure_saturates():
    assert colours(Augmentation(exposure=3), (200, 200, 200)).max() == 255


def test_flip_is_left_to_right_for_every_second():
    image = np.zeros((4, 4, 1), np.uint8)
    image[0, 0] = 255
    rng = np.random.default_rng(0)
    corners = [Augmentation(flip=True).augment(image, np.zeros((0, 5), np.float32), 4, 4, rng)[0][0] for _ in range(100)]
    left, right = sum(int(corner[0, 0] == 255) for corner in corners), sum(int(corner[0, 3] == 255) for corner in corners)
    assert left + right == 100 and 30 <= left <= 70
