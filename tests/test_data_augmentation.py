from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.config.net import NetOptions
from darkpy.data.augmentation import Augmentation, Chances, quarters
from darkpy.data.regions import Region, View, move_boxes

FULL = Augmentation(jitter=0.3, resize=1.5, flip=True, hue=0.1, saturation=1.5, exposure=1.5)


def options(**changes):
    net = {"hue": 0.1, "saturation": 1.5, "exposure": 1.4, **changes}
    return NetOptions(**net), SimpleNamespace(jitter=0.3, resize=1.2, max=200, random=1.0)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_from_options():
    augmentation = Augmentation.from_options(*options(letter_box=True))
    assert augmentation == Augmentation(0.3, 1.2, True, 0.1, 1.5, 1.4, True, 200)


def test_pictures_are_turned_only_if_that_is_asked_for():
    assert Augmentation.from_options(*options(angle=7)).angle == 0
    assert Augmentation.from_options(*options(angle=7, rotate_boxes=True)).angle == 7


@pytest.mark.parametrize("keys, refused", [({"cutmix": True}, True), ({"mixup": 2}, True), ({"mosaic": True}, False)])
def test_cutmix_is_for_classifiers(keys, refused):
    assert Augmentation.from_options(*options(**keys)).not_applied == (("cutmix",) if refused else ())


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


SIZE = (96, 64)
"""Width and height of the samples."""


def picture(rng: np.random.Generator, channel: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A black picture of any size with one object, a rectangle of class ``channel`` that is white in this channel."""
    width, height = rng.integers(30, 200, 2)
    w, h = (int(rng.integers(max(8, 0.15 * side), 0.6 * side)) for side in (width, height))
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    image = np.zeros((height, width, channels), np.uint8)
    image[y : y + h, x : x + w, channel] = 255
    box = [channel, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    return image, np.array([box], np.float32)


def edges(box: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom in pixels of the sample of a box (class, cx, cy, w, h)."""
    return np.concatenate([box[1:3] - box[3:5] / 2, box[1:3] + box[3:5] / 2]) * (SIZE * 2)


def found(sample: np.ndarray, channel: int, threshold: int = 127) -> np.ndarray | None:
    """Left, top, right, bottom of what is white in a channel of a sample."""
    x, y, w, h = cv2.boundingRect((sample[channel] > threshold).astype(np.uint8))
    return np.array([x, y, x + w, y + h]) if w else None


def places(count: int, chances: Chances) -> list[Region]:
    return quarters(*SIZE, chances.meeting) if count == 4 else [Region(0, 0, *SIZE)] * count


def views(augmentation: Augmentation, pictures: list, chances: Chances) -> list[View]:
    return [
        augmentation.view(image.shape[1], image.shape[0], place, SIZE, row)
        for (image, _), place, row in zip(pictures, places(len(pictures), chances), chances.pictures)
    ]


def pixel(view: View, place: Region) -> float:
    """Pixels of the sample that one of the picture becomes, or 1 if it becomes less."""
    return max(1.0, place.width / view.part.width, place.height / view.part.height)


AUGMENTATIONS = {
    "jitter": st.floats(0, 0.45),
    "resize": st.floats(0.6, 1.8),
    "flip": st.booleans(),
    "letter_box": st.booleans(),
    "mosaic_bound": st.booleans(),
}
COUNTS = pytest.mark.parametrize("count", [1, 2, 4], ids=["single", "mixup", "mosaic"])


@COUNTS
@settings(max_examples=80, deadline=None)
@given(st.builds(Augmentation, **AUGMENTATIONS), st.integers(0, 2**32 - 1))
def test_boxes_stay_on_their_object(count, augmentation, seed):
    """White rectangles, each in a colour of its own, are found again where their boxes say they are."""
    rng = np.random.default_rng(seed)
    pictures = [picture(rng, number, count) for number in range(count)]
    chances = Chances.draw(rng)
    sample, boxes = augmentation.combine(pictures, *SIZE, chances, rng)
    assert sample.shape == (count, SIZE[1], SIZE[0]) and len(set(boxes[:, 0])) == len(boxes)
    by_class = {int(box[0]): edges(box) for box in boxes}
    seen = views(augmentation, pictures, chances)
    for number, (view, place) in enumerate(zip(seen, places(count, chances))):
        assert is_inside(view.part, view.region)
        there = found(sample, number, 63 if count == 2 else 127)
        # A pixel of the sample, and where the object meets the grey around the picture, part of one of the picture.
        tolerance = 0.6 + 0.35 * pixel(view, place)
        if number not in by_class:
            assert there is None or (there[2:] - there[:2]).min() <= 1 + tolerance
        elif there is None:
            assert (by_class[number][2:] - by_class[number][:2]).min() < 1 + tolerance
        else:
            assert np.abs(by_class[number] - there).max() <= tolerance


@COUNTS
@settings(max_examples=80, deadline=None)
@given(st.builds(Augmentation, angle=st.floats(1, 180), **AUGMENTATIONS), st.integers(0, 2**32 - 1))
def test_turned_boxes_hold_their_object(count, augmentation, seed):
    """They are the boxes around the turned rectangles; where those are cut, they may be larger."""
    rng = np.random.default_rng(seed)
    pictures = [picture(rng, number, count) for number in range(count)]
    chances = Chances.draw(rng)
    sample, boxes = augmentation.combine(pictures, *SIZE, chances, rng)
    by_class = {int(box[0]): edges(box) for box in boxes}
    for number, (view, place) in enumerate(zip(views(augmentation, pictures, chances), places(count, chances))):
        there = found(sample, number, 63 if count == 2 else 127)
        # The tips of a turned rectangle are less than half a pixel wide.
        tolerance = 1 + 1.5 * pixel(view, place)
        if there is None:
            continue
        if number not in by_class:
            assert (there[2:] - there[:2]).min() <= 1 + tolerance
            continue
        box = by_class[number]
        assert (box[:2] <= there[:2] + 1).all() and (box[2:] >= there[2:] - 1).all()
        corner = np.array([place.left, place.top])
        is_whole = (box[:2] > corner).all() and (box[2:] < corner + (place.width, place.height)).all()
        if is_whole and not is_cut(view, pictures[number][0], pictures[number][1][0]):
            assert np.abs(box - there).max() <= tolerance


def is_inside(part: Region, whole: Region) -> bool:
    across = whole.left <= part.left and part.left + part.width <= whole.left + whole.width
    return across and whole.top <= part.top and part.top + part.height <= whole.top + whole.height


def is_cut(view: View, image: np.ndarray, box: np.ndarray) -> bool:
    """Whether a turned object leaves the region that is seen."""
    height, width = image.shape[:2]
    corners = (box[1:3] + np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * box[3:5] / 2) * (width, height)
    region = view.region
    middle = np.array([region.left + region.width / 2, region.top + region.height / 2])
    angle = np.deg2rad(view.turn)
    turned = (corners - middle) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + middle
    first, last = (view.part.left, view.part.top), (view.part.left + view.part.width, view.part.top + view.part.height)
    return bool((turned < first).any() or (turned > last).any())


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


def regions(augmentation: Augmentation, width: int, height: int, count: int = 400) -> list[Region]:
    rng, whole = np.random.default_rng(0), Region(0, 0, 64, 64)
    return [
        augmentation.view(width, height, whole, (64, 64), Chances.draw(rng).pictures[0]).region for _ in range(count)
    ]


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


# Mosaic and mixup ---------------------------------------------------------------------------------------------


def constant(colour: int, width: int = 100, height: int = 100) -> tuple[np.ndarray, np.ndarray]:
    return np.full((height, width, 1), colour, np.uint8), np.zeros((0, 5), np.float32)


def numbers(**changes: float) -> np.ndarray:
    """A row of chances that leave a picture as it is, except for what is changed by its place in the row."""
    row = np.full(16, 0.5)
    row[6] = row[13] = row[15] = 0.9  # no flip, no noise, not into the corner
    for place, value in changes.items():
        row[int(place[1:])] = value
    return row


def test_quarters_meet_between_a_fifth_and_four_fifths():
    rng = np.random.default_rng(0)
    found = [quarters(100, 200, rng.random(2)) for _ in range(2000)]
    for parts in found:
        first, last = parts[0], parts[3]
        assert (first.left, first.top) == (0, 0)
        assert (last.left, last.top) == (first.width, first.height)
        assert (last.left + last.width, last.top + last.height) == (100, 200)
        assert sum(part.width * part.height for part in parts) == 100 * 200
    assert {parts[0].width for parts in found} == set(range(20, 81))
    assert {parts[0].height for parts in found} == set(range(40, 161))


def test_a_mosaic_shows_the_inner_end_of_each_picture():
    """Pictures whose left part is dark: the left ones show their right end, the right ones their left end."""
    image = np.zeros((100, 100, 1), np.uint8)
    image[:, 50:] += 100
    image[50:] += 50
    chances = Chances(np.stack([numbers()] * 4), np.array([0.5, 0.5]))
    empty = np.zeros((0, 5), np.float32)
    sample, _ = Augmentation().combine([(image, empty)] * 4, 100, 100, chances, np.random.default_rng(0))
    corners = sample[0][[0, 0, 99, 99], [0, 99, 0, 99]]
    assert corners.tolist() == [150, 50, 100, 0]


def seen(place: Region, changes: dict, **options: float) -> View:
    return Augmentation(**options).view(100, 100, place, (100, 100), numbers(**changes))


TOP_LEFT, TOP_RIGHT = Region(0, 0, 50, 50), Region(50, 0, 50, 50)


def test_what_is_beyond_a_picture_is_skipped_at_the_meeting_point():
    # Both sides move out by 20 of 100: 140 pixels are seen, of which the last 20 are empty.
    out = {"n0": 0.0, "n1": 0.0, "n2": 0.0, "n3": 0.0}
    view = seen(TOP_LEFT, out, jitter=0.2)
    assert view.region == Region(-20, -20, 140, 140)
    part = view.part
    assert part.left + part.width in (100, 101) and part.top + part.height in (100, 101)
    view = seen(TOP_RIGHT, out, jitter=0.2)
    assert view.part.left in (0, -1)


def test_some_pictures_of_a_mosaic_are_pushed_into_its_corner():
    # The left side moves in by 20 and the right one out by 10, so 90 pixels are seen.
    sides = {"n0": 1.0, "n1": 0.25}
    assert seen(TOP_LEFT, sides, jitter=0.2).region == Region(20, 0, 90, 100)
    assert seen(TOP_LEFT, {**sides, "n15": 0.1}, jitter=0.2).region == Region(0, 0, 90, 100)
    assert seen(TOP_RIGHT, {**sides, "n15": 0.1}, jitter=0.2).region == Region(10, 0, 90, 100)
    mirrored = {**sides, "n15": 0.1, "n6": 0.1}
    assert seen(TOP_LEFT, mirrored, jitter=0.2, flip=True).region == Region(10, 0, 90, 100)
    assert seen(TOP_RIGHT, mirrored, jitter=0.2, flip=True).region == Region(0, 0, 90, 100)


def test_mosaic_bound_cuts_boxes_where_their_picture_ends():
    whole = Region(0, 0, 100, 100)
    view = View(whole, Region(40, 40, 50, 50))
    boxes = np.array([[0, 0.8, 0.8, 0.4, 0.4]], np.float32)
    free = move_boxes(boxes, view, 100, 100, TOP_LEFT, (100, 100))
    assert np.allclose(free, [[0, 0.4, 0.4, 0.4, 0.4]])
    bound = move_boxes(boxes, view, 100, 100, TOP_LEFT, (100, 100), True)
    assert np.allclose(bound, [[0, 0.35, 0.35, 0.3, 0.3]])


def test_max_holds_for_all_pictures_of_a_sample_together():
    boxes = np.full((8, 5), 0.5, np.float32)
    pictures = [(np.zeros((20, 20, 1), np.uint8), boxes)] * 2
    rng = np.random.default_rng(0)
    assert len(Augmentation(max=10).combine(pictures, 20, 20, Chances.draw(rng), rng)[1]) == 10


def test_mixup_is_the_mean_of_both():
    rng = np.random.default_rng(0)
    sample, _ = Augmentation().combine([constant(40), constant(160)], 20, 20, Chances.draw(rng), rng)
    assert sample.shape == (1, 20, 20) and (sample == 100).all()


def test_further_columns_of_boxes_are_kept():
    rng = np.random.default_rng(0)
    image = constant(0)[0]
    pictures = [(image, np.array([[0, 0.5, 0.5, 0.5, 0.5, identity]], np.float32)) for identity in (7, 8)]
    _, boxes = FULL.combine(pictures, 64, 64, Chances.draw(rng), rng)
    assert boxes.shape == (2, 6) and boxes[:, 5].tolist() == [7, 8]


# Blur and noise -----------------------------------------------------------------------------------------------


def blurred(blur: int, chance: float, side: float = 0.5) -> np.ndarray:
    """How much each pixel of a noisy picture with an object in its middle has changed."""
    image = noise(100, 100)
    boxes = np.array([[0, 0.5, 0.5, side, side]] if side else [], np.float32).reshape(-1, 5)
    chances = Chances(np.stack([numbers(n12=chance)] * 4), np.array([0.5, 0.5]))
    sample, _ = Augmentation(blur=blur).combine([(image, boxes)], 100, 100, chances, np.random.default_rng(0))
    return np.abs(sample.astype(int) - image.transpose(2, 0, 1)).max(axis=0)


@pytest.mark.parametrize("blur, chance", [(1, 0.5), (1, 0.9), (7, 0.5)])
def test_blur_keeps_objects_sharp(blur, chance):
    change = blurred(blur, chance)
    assert (change[25:75, 25:75] == 0).all()
    outside = np.ones((100, 100), bool)
    outside[25:75, 25:75] = False
    assert (change[outside] > 0).mean() > 0.95


@pytest.mark.parametrize("blur", [1, 7])
def test_a_third_is_not_blurred(blur):
    assert (blurred(blur, 0.3) == 0).all()


def test_blur_of_the_whole_picture_has_the_size_given():
    wide, narrow = blurred(6, 0.9), blurred(2, 0.9)
    assert (wide[25:75, 25:75] > 0).mean() > 0.95
    assert wide.mean() > narrow.mean() > 10


def test_blur_of_the_whole_picture_spares_small_objects():
    # The window is at most an eighth of the smallest object: 2 of 17 pixels, 1 of 9 (their background only), 0 of 7.
    assert np.array_equal(blurred(9, 0.9, 0.17), blurred(2, 0.9, 0.5))
    assert (blurred(9, 0.9, 0.09)[46:54, 46:54] == 0).all() and blurred(9, 0.9, 0.09).any()
    assert (blurred(9, 0.9, 0.07) == 0).all()
    assert (blurred(9, 0.9, 0) == 0).all()


def test_noise_is_on_every_second_picture_and_has_its_size():
    image, empty = constant(120)
    rng = np.random.default_rng(0)
    samples = [Augmentation(gaussian_noise=20).augment(image, empty, 100, 100, rng)[0] for _ in range(60)]
    noisy = [sample for sample in samples if (sample != 120).any()]
    assert 18 <= len(noisy) <= 42
    for sample in noisy:
        assert abs(sample.mean() - 120) < 1 and abs(sample.std() - 20) < 1
    assert not np.array_equal(noisy[0], noisy[1])


def test_noise_stays_within_the_range():
    chances = Chances(np.stack([numbers(n13=0.1)] * 4), np.array([0.5, 0.5]))
    sample, _ = Augmentation(gaussian_noise=127).combine([constant(250)], 50, 50, chances, np.random.default_rng(0))
    # What went beyond is white, not black.
    assert (sample == 255).mean() > 0.4 and (sample < 20).mean() < 0.1


# Chances ------------------------------------------------------------------------------------------------------


def test_views_share_what_they_are_told_to():
    rng = np.random.default_rng(0)
    first, second = Chances.draw(rng), Chances.draw(rng)
    both = second.like(first, jitter_and_flip=True, colours=True)
    same = both.pictures == first.pictures
    assert same[:, [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]].all() and not same[:, [4, 5, 12, 13, 14, 15]].any()
    assert np.array_equal(both.pictures[:, 4:6], second.pictures[:, 4:6])
    neither = second.like(first, jitter_and_flip=False, colours=False)
    assert np.array_equal(neither.pictures, second.pictures)
    colours = second.like(first, jitter_and_flip=False, colours=True).pictures == first.pictures
    assert colours[:, 7:12].all() and not colours[:, :7].any()


# Channels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 4, 5, 9])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_channels(channels, count):
    """Each channel is changed as it would be alone, border and turn included."""
    augmentation = Augmentation(jitter=0.4, flip=True, exposure=1.5, angle=30, letter_box=True)
    image = cv2.GaussianBlur(noise(50, 70, channels), (9, 9), 0)
    pictures = [(image, np.zeros((0, 5), np.float32))] * count
    for seed in range(6):
        chances = Chances.draw(np.random.default_rng(seed))
        sample, _ = augmentation.combine(pictures, 48, 32, chances, np.random.default_rng(0))
        assert sample.shape == (channels, 32, 48)
        for channel in (0, channels - 1):
            alone = [(image[:, :, channel : channel + 1], boxes) for image, boxes in pictures]
            single, _ = augmentation.combine(alone, 48, 32, chances, np.random.default_rng(0))
            # OpenCV turns pictures of one channel more exactly than those of several.
            assert np.abs(sample[channel].astype(int) - single[0]).max() <= 6


@pytest.mark.parametrize("channels", [2, 5])
def test_blur_and_noise_of_any_number_of_channels(channels):
    augmentation = Augmentation(blur=3, gaussian_noise=20)
    rng = np.random.default_rng(0)
    boxes = np.array([[0, 0.5, 0.5, 0.5, 0.5]], np.float32)
    shapes = {augmentation.augment(noise(40, 40, channels), boxes, 32, 32, rng)[0].shape for _ in range(12)}
    assert shapes == {(channels, 32, 32)}
