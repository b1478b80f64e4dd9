"""The random changes of a classifier's pictures: geometry, blends, truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from darkpy.config.cfg import read_cfg
from darkpy.config.net import NetOptions
from darkpy.config.options import parse_options
from darkpy.data.classifier_augmentation import Blend, ClassifierAugmentation, blend, smooth_truth
from darkpy.views import centre_input


class Chances:
    """Random numbers that are known beforehand: those of :meth:`ClassifierAugmentation._cut`, then 0.9 for ever."""

    def __init__(
        self, *, aspect: float = 0, inverse: bool = False, length: float = 0, turn: float = 0.5, across: float = 0.5,
        down: float = 0.5, flip: bool = False,
    ) -> None:  # fmt: skip
        self.first = [aspect, 0.9 if inverse else 0.1, length, turn, across, down]
        self.flip = flip

    def random(self, size: Any = None) -> Any:
        first, self.first = self.first, []
        if first:
            return np.array(first)
        return np.full(size, 0.1 if self.flip else 0.9)

    def permutation(self, count: int) -> NDArray[np.intp]:
        return np.arange(count)


def augment(image: NDArray[np.uint8], width: int, height: int, chances: Chances, **options: Any) -> NDArray[np.uint8]:
    side = max(width, height)
    augmentation = ClassifierAugmentation(**{"min_crop": side, "max_crop": side, **options})
    return augmentation.augment(image, width, height, chances)  # type: ignore[arg-type]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """A picture whose neighbours differ little, so that small errors of place stay small."""
    x, y = np.arange(width) / width, np.arange(height)[:, np.newaxis] / height
    planes = [127 + 120 * np.sin(3 * x + (2 + c) * y + c) for c in range(channels)]
    return np.rint(np.stack(planes, axis=-1)).astype(np.uint8)


def plain_cut(
    image: NDArray[np.uint8], size: int, shorter: float, aspect: float, degrees: float, across: float, down: float
) -> NDArray[np.float64]:
    """The definition: for each pixel of the square the place in the picture, and there the bilinear value."""
    rows, columns = image.shape[:2]
    scale = shorter / min(rows, columns / aspect)
    wide, high = columns * scale / aspect, rows * scale
    # Into the scaled picture, from its middle.
    grid = np.arange(size) - (size - 1) / 2
    u = grid + max(wide - size, 0) / 2 * (2 * across - 1)
    v = (grid + max(high - size, 0) / 2 * (2 * down - 1))[:, np.newaxis]
    # Into the picture.
    u, v = u * (columns - 1) / (wide - 1), v * (rows - 1) / (high - 1)
    angle = np.deg2rad(degrees)
    x = np.cos(angle) * u - np.sin(angle) * v + (columns - 1) / 2
    y = np.sin(angle) * u + np.cos(angle) * v + (rows - 1) / 2
    padded = np.pad(image.astype(np.float64), ((1, 2), (1, 2), (0, 0)))
    x, y = np.clip(x, -1, columns) + 1, np.clip(y, -1, rows) + 1
    left, upper = np.floor(x).astype(int), np.floor(y).astype(int)
    dx, dy = (x - left)[..., np.newaxis], (y - upper)[..., np.newaxis]
    return (
        padded[upper, left] * (1 - dx) * (1 - dy)
        + padded[upper, left + 1] * dx * (1 - dy)
        + padded[upper + 1, left] * (1 - dx) * dy
        + padded[upper + 1, left + 1] * dx * dy
    )


# Where things go


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(8, 60), st.integers(8, 60)),
    st.integers(8, 40),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_cut_is_what_its_definition_says(shape, size, length, aspect, inverse, turn, across, down) -> None:
    image = smooth(*shape)
    chances = Chances(aspect=aspect, inverse=inverse, length=length, turn=turn, across=across, down=down)
    least, most = size // 2, 2 * size
    found = augment(image, size, size, chances, min_crop=least, max_crop=most, aspect=1.5, angle=30)
    factor = 1 + 0.5 * aspect
    shorter = least + int(length * (most - least + 1))
    expected = plain_cut(
        image, size, shorter, 1 / factor if inverse else factor, 30 * (2 * turn - 1), across, down
    )
    difference = np.abs(found.transpose(1, 2, 0) - expected)
    # OpenCV rounds places to 1/32 of a pixel; at the edge of the picture, towards black, that is more than inside.
    assert np.median(difference) < 2
    assert np.mean(difference > 8) < 0.05 + 8 / size / 10


@pytest.mark.parametrize("shape", [(20, 20), (14, 23), (33, 17)])
@pytest.mark.parametrize("channels", [1, 3])
def test_with_nothing_to_change_training_sees_what_evaluation_sees(shape: tuple[int, int], channels: int) -> None:
    image = smooth(*shape, channels)
    sample = augment(image, 12, 12, Chances())
    expected = centre_input(image, 12, 12)[0]
    # Evaluation cuts at whole pixels.
    shift = 255 * np.abs(np.diff(expected, axis=1)).max() + 255 * np.abs(np.diff(expected, axis=2)).max()
    assert np.abs(sample - 255 * expected).max() <= 1.5 + 0.5 * shift
    if shape == (20, 20):
        assert np.abs(sample - 255 * expected).max() <= 2


def test_a_square_that_fits_is_left_as_it_is() -> None:
    image = noise(9, 9)
    np.testing.assert_array_equal(augment(image, 9, 9, Chances()), image.transpose(2, 0, 1))


def corners(sample: NDArray[np.uint8]) -> list[int]:
    """Values at upper left, upper right, lower left, lower right."""
    return [int(sample[0, y, x]) for y in (2, -3) for x in (2, -3)]


def quarters(height: int = 20, width: int = 20) -> NDArray[np.uint8]:
    image = np.empty((height, width, 1), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = 50, 100
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = 150, 200
    return image


@pytest.mark.parametrize("turn, expected", [(0.5, [50, 100, 150, 200]), (1, [100, 200, 50, 150]), (0, [150, 50, 200, 100])])
def test_pictures_turn_both_ways(turn: float, expected: list[int]) -> None:
    """By 90 degrees: what was at the upper right is at the upper left, or the other way round."""
    assert corners(augment(quarters(), 20, 20, Chances(turn=turn), angle=90)) == expected


def test_pictures_are_mirrored() -> None:
    assert corners(augment(quarters(), 20, 20, Chances(flip=True), flip=True)) == [100, 50, 200, 150]
    assert corners(augment(quarters(), 20, 20, Chances(flip=True), flip=False)) == [50, 100, 150, 200]


@pytest.mark.parametrize("across, down, expected", [(0, 0, 50), (1, 0, 100), (0, 1, 150), (1, 1, 200)])
def test_the_square_reaches_every_corner(across: float, down: float, expected: int) -> None:
    """Enlarged to twice the size, the square shows one quarter."""
    found = augment(quarters(), 20, 20, Chances(across=across, down=down), min_crop=40, max_crop=40)
    assert corners(found) == [expected] * 4


@pytest.mark.parametrize("across, visible", [(0, "left"), (0.5, "middle"), (1, "right")])
def test_of_a_long_picture_a_part_is_cut(across: float, visible: str) -> None:
    image = np.zeros((20, 60, 1), np.uint8)
    for place, value in (("left", 60), ("middle", 120), ("right", 180)):
        start = {"left": 0, "middle": 20, "right": 40}[place]
        image[:, start : start + 20] = value
    found = augment(image, 20, 20, Chances(across=across))
    assert np.median(found) == {"left": 60, "middle": 120, "right": 180}[visible]


@pytest.mark.parametrize("length, side", [(0, 10), (0.999, 30)])
def test_min_crop_and_max_crop_are_the_shorter_side(length: float, side: int) -> None:
    """The white picture fills so much of the black square, whatever the aspect."""
    image = np.full((40, 40, 1), 255, np.uint8)
    for inverse in (False, True):
        chances = Chances(length=length, aspect=1, inverse=inverse)
        found = augment(image, 50, 50, chances, min_crop=10, max_crop=30, aspect=1.5)[0]
        across, down = (int((found.max(axis=axis) > 127).sum()) for axis in (0, 1))
        assert abs(min(across, down) - side) <= 1
        assert abs(max(across, down) / min(across, down) - 1.5) < 0.12
        assert (across > down) == inverse


def test_a_network_that_is_not_square_sees_the_square_stretched() -> None:
    assert augment(quarters(), 20, 10, Chances()).shape == (1, 10, 20)
    assert corners(augment(quarters(), 20, 10, Chances())) == [50, 100, 150, 200]
    found = centre_input(quarters(20, 60)[:, 20:40], 20, 10)
    assert found.shape == (1, 1, 10, 20)


def test_brightness_of_grey_pictures() -> None:
    image = np.full((8, 8, 1), 80, np.uint8)
    rng = np.random.default_rng(0)
    augmentation = ClassifierAugmentation(8, 8, exposure=1.5, hue=0.3, saturation=2)
    values = {int(augmentation.augment(image, 8, 8, rng).max()) for _ in range(100)}
    assert 53 <= min(values) < 60
    assert 110 < max(values) <= 120


def test_a_sample_is_a_function_of_its_seed_and_its_picture() -> None:
    augmentation = ClassifierAugmentation(12, 24, angle=20, aspect=1.3, flip=True, hue=0.2, saturation=1.5, exposure=1.5)
    image = noise(30, 40)
    before = image.copy()
    samples = [augmentation.augment(image, 12, 12, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])
    np.testing.assert_array_equal(image, before)


def test_options_do_not_disturb_each_other() -> None:
    """The place of the cut is the same with and without colours."""
    image = smooth(30, 40, 1)
    plain = ClassifierAugmentation(12, 24).augment(image, 12, 12, np.random.default_rng(3))
    brighter = ClassifierAugmentation(12, 24, exposure=1.0001).augment(image, 12, 12, np.random.default_rng(3))
    np.testing.assert_array_equal(plain, brighter)


# Truth and blends


@pytest.mark.parametrize("classes, eps", [(2, 0.1), (10, 0.1), (1000, 0.3), (1, 0.1), (5, 0)])
def test_smooth_truth(classes: int, eps: float) -> None:
    truth = smooth_truth(0, classes, eps)
    assert truth.dtype == np.float32
    assert truth.sum() == pytest.approx(1, abs=1e-5)
    if classes > 1:
        assert truth[0] == pytest.approx(1 - eps)
        np.testing.assert_allclose(truth[1:], eps / (classes - 1), rtol=1e-5)


def constant(value: int, height: int = 9, width: int = 13) -> NDArray[np.uint8]:
    return np.full((3, height, width), value, np.uint8)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([Blend.MIXUP, Blend.CUTMIX, Blend.MOSAIC]), st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_the_truth_of_a_blend_is_what_is_to_be_seen(kind: Blend, seed: int, eps: float) -> None:
    """With pictures of one brightness each, the mean of the sample is the mean of these weighted by the truth."""
    values = [0, 51, 153, 255][: kind.pictures]
    out = np.empty((3, 9, 13), np.float32)
    truths = [smooth_truth(number, 5) for number in range(kind.pictures)]
    truth = blend(kind, [constant(value) for value in values], truths, out, np.random.default_rng(seed))
    assert truth.sum() == pytest.approx(1, abs=1e-5)
    assert truth[4] == 0
    assert out.mean() == pytest.approx(sum(truth[n] * value for n, value in enumerate(values)) / 255, abs=1e-5)
    smoothed = [smooth_truth(number, 5, eps) for number in range(kind.pictures)]
    again = blend(kind, [constant(value) for value in values], smoothed, out, np.random.default_rng(seed))
    assert again.sum() == pytest.approx(1, abs=1e-5)


def test_mixup_is_the_mean() -> None:
    out = np.empty((3, 9, 13), np.float32)
    rng = np.random.default_rng(0)
    truth = blend(Blend.MIXUP, [constant(100), constant(200)], [smooth_truth(0, 2), smooth_truth(1, 2)], out, rng)
    np.testing.assert_allclose(out, 150 / 255, rtol=1e-6)
    assert truth.tolist() == [0.5, 0.5]


def test_one_picture_is_itself() -> None:
    out = np.empty((3, 9, 13), np.float32)
    truth = blend(Blend.NONE, [constant(51)], [smooth_truth(1, 3)], out, np.random.default_rng(0))
    np.testing.assert_allclose(out, 0.2, rtol=1e-6)
    assert truth.tolist() == [0, 1, 0]


def test_cutmix_pastes_one_rectangle_of_nine_to_64_hundredths() -> None:
    areas = []
    for seed in range(200):
        out = np.empty((3, 40, 40), np.float32)
        pictures, truths = [constant(0, 40, 40), constant(255, 40, 40)], [smooth_truth(0, 2), smooth_truth(1, 2)]
        truth = blend(Blend.CUTMIX, pictures, truths, out, np.random.default_rng(seed))
        rows, columns = np.flatnonzero(out[0].any(axis=1)), np.flatnonzero(out[0].any(axis=0))
        assert out[0].sum() == len(rows) * len(columns)
        assert truth[1] == pytest.approx(len(rows) * len(columns) / 1600)
        areas.append(float(truth[1]))
    assert 0.09 <= min(areas) < 0.15
    assert 0.5 < max(areas) <= 0.64


def test_a_mosaic_has_four_pictures_around_a_point() -> None:
    meetings = set()
    for seed in range(50):
        out = np.empty((3, 10, 20), np.float32)
        pictures = [constant(value, 10, 20) for value in (0, 85, 170, 255)]
        blend(Blend.MOSAIC, pictures, [smooth_truth(n, 4) for n in range(4)], out, np.random.default_rng(seed))
        x, y = int((out[0, 0] == 0).sum()), int((out[0, :, 0] == 0).sum())
        expected = np.full((10, 20), 1, np.float32)
        expected[:y, :x], expected[:y, x:], expected[y:, :x] = 0, 85 / 255, 170 / 255
        np.testing.assert_allclose(out[0], expected, rtol=1e-6)
        meetings.add((x, y))
    assert {x for x, _ in meetings} <= set(range(4, 17))
    assert {y for _, y in meetings} <= set(range(2, 9))
    assert len(meetings) > 20


@pytest.mark.parametrize(
    "mixup, expected",
    [(0, {Blend.NONE}), (1, {Blend.NONE, Blend.MIXUP}), (2, {Blend.NONE, Blend.CUTMIX}), (3, {Blend.NONE, Blend.MOSAIC}),
     (4, {Blend.NONE, Blend.CUTMIX, Blend.MOSAIC})],
)  # fmt: skip
def test_every_second_sample_is_blended(mixup: int, expected: set[Blend]) -> None:
    rng = np.random.default_rng(0)
    chosen = [ClassifierAugmentation(8, 8, mixup=mixup).choose_blend(rng) for _ in range(1000)]
    assert set(chosen) == expected
    if mixup:
        assert 440 < chosen.count(Blend.NONE) < 560


@pytest.mark.parametrize("blur, reach", [(1, 7), (5, 2), (4, 2)])
def test_every_fourth_sample_is_blurred(blur: int, reach: int) -> None:
    augmentation = ClassifierAugmentation(8, 8, blur=blur)
    rng = np.random.default_rng(0)
    blurred = 0
    for _ in range(400):
        sample = np.zeros((1, 41, 41), np.float32)
        sample[0, 20, 20] = 1
        augmentation.maybe_blur(sample, rng)
        rows = np.flatnonzero(sample[0].any(axis=1))
        assert sample.sum() == pytest.approx(1, abs=1e-4)
        assert len(rows) in (1, 2 * reach + 1)
        blurred += len(rows) > 1
    assert 70 < blurred < 130


def test_options_come_from_the_cfg(tmp_path) -> None:
    path = tmp_path / "x.cfg"
    keys = "width=20\nheight=20\nchannels=3\nmax_crop=30\nangle=7\naspect=.75\nhue=.1\nsaturation=.75\nexposure=.8\nblur=1"
    path.write_text(f"[net]\n{keys}\nflip=0\ncutmix=1\nmosaic=1\nlabel_smooth_eps=.1\n[softmax]\n")
    options = parse_options(NetOptions, read_cfg(path).net, [], [])
    assert ClassifierAugmentation.from_options(options) == ClassifierAugmentation(
        min_crop=20, max_crop=30, angle=7, aspect=0.75, flip=False, hue=0.1, saturation=0.75, exposure=0.8, blur=1,
        mixup=4, label_smooth_eps=0.1,
    )  # fmt: skip
