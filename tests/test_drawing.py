from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from darkpy import drawing
from darkpy.detection import Detection
from darkpy.drawing import class_color, contrast, draw, text_color
from darkpy.errors import InputError


def detection(name: str = "dog", class_id: int = 0, probability: float = 0.9, box=(100, 80, 60, 40)) -> Detection:
    return Detection(class_id, name, probability, *box)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


GREY = np.full((200, 300, 3), 128, np.uint8)


def test_draw_leaves_the_picture_as_it_is():
    before = GREY.copy()
    result = draw(GREY, [detection()])
    np.testing.assert_array_equal(GREY, before)
    assert changed(GREY, result).any()


def test_without_detections_the_copy_is_equal():
    np.testing.assert_array_equal(draw(GREY, []), GREY)


def test_the_frame_lies_on_the_box_in_the_class_color():
    result = draw(GREY, [detection(class_id=4)])
    inside_frame = changed(GREY, result)[60:100, 70:130]
    assert inside_frame[:, 0].all()
    assert inside_frame[-1].all()
    assert not inside_frame[10:-10, 10:-10].any()
    assert not changed(GREY, result)[102:].any()
    assert (result[60:100, 70:130] == class_color(4)).all(axis=2).sum() > 50


@pytest.mark.parametrize(
    "box", [(0, 0, 40, 40), (299, 199, 50, 50), (150, 100, 5000, 5000), (-500, 90, 20, 20), (150, 100, 0, 0)]
)
def test_labels_stay_inside_for_boxes_anywhere(box):
    result = draw(GREY, [detection(box=box)])
    label = (result == class_color(0)).all(axis=2)
    assert label.sum() > 300


def test_infinite_boxes_are_drawn_as_far_as_they_can():
    draw(GREY, [detection(box=(150, 100, float("inf"), float("inf"))), detection(box=(float("nan"),) * 4)])


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 200, 3), (200, 1, 3), (12, 40, 3)])
def test_tiny_pictures(shape):
    image = np.zeros(shape, np.uint8)
    assert draw(image, [detection(box=(1, 1, 2, 2))]).shape == shape


@pytest.mark.parametrize("shape", [(50, 60), (50, 60, 1), (50, 60, 4)])
def test_grey_and_transparent_pictures_become_color(shape):
    assert draw(np.zeros(shape, np.uint8), [detection(box=(30, 25, 20, 20))]).shape == (50, 60, 3)


def test_other_arrays_are_refused():
    with pytest.raises(InputError, match="float64"):
        draw(np.zeros((50, 60, 3)), [])


def test_pictures_seen_backwards_are_drawn_alike():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    found = [detection(box=(40, 40, 30, 30))]
    np.testing.assert_array_equal(draw(image[..., ::-1], found), draw(image[..., ::-1].copy(), found))


def test_hidden_classes_are_not_drawn():
    np.testing.assert_array_equal(draw(GREY, [detection("dont_show me")]), GREY)


def test_letters_outside_ascii_are_not_question_marks():
    for name in ("Füße", "кошка", "čeština", "naïve"):
        replaced = "".join(c if c.isascii() else "?" for c in name)
        assert (draw(GREY, [detection(name)]) != draw(GREY, [detection(replaced)])).any()
    missing = draw(GREY, [detection("\ue000")])
    assert (draw(GREY, [detection("к")]) != missing).any()


def test_a_name_too_long_is_shortened():
    image = np.zeros((60, 120, 3), np.uint8)
    result = draw(image, [detection("a" * 200, box=(60, 30, 20, 20))])
    ground = (result == class_color(0)).all(axis=2)
    assert ground.any(axis=0).sum() > 90


def test_labels_of_neighbours_do_not_cover_each_other():
    found = [detection(class_id=i, box=(100 + 4 * i, 100, 60, 40)) for i in range(3)]
    together = draw(GREY, found)
    for one in found:
        alone = (draw(GREY, [one]) == class_color(one.class_id)).all(axis=2).sum()
        assert (together == class_color(one.class_id)).all(axis=2).sum() > 0.6 * alone


def test_line_and_text_grow_with_the_picture():
    def inked(scale: int) -> float:
        image = np.zeros((200 * scale, 300 * scale, 3), np.uint8)
        box = tuple(scale * value for value in (100, 80, 60, 40))
        return changed(image, draw(image, [detection(box=box)])).mean()

    assert inked(6) == pytest.approx(inked(3), rel=0.3)


def test_colors_are_stable_distinct_and_readable():
    assert class_color(3) == class_color(3)
    for one, other in combinations(map(class_color, range(12)), 2):
        assert sum(abs(a - b) for a, b in zip(one, other)) > 60
    for color in map(class_color, range(500)):
        assert contrast(color, text_color(color)) >= 4.5
        assert contrast(color, (0, 0, 0)) >= 3


def test_text_color_is_dark_on_light_and_light_on_dark():
    assert sum(text_color((200, 255, 255))) < 100
    assert sum(text_color((90, 0, 0))) > 600
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


def test_a_font_of_ones_own(tmp_path):
    bundled = drawing._bundled_font()
    np.testing.assert_array_equal(draw(GREY, [detection()], font=bundled), draw(GREY, [detection()]))
    (tmp_path / "a.ttf").write_text("no font")
    with pytest.raises(InputError, match=r"a\.ttf"):
        draw(GREY, [detection()], font=tmp_path / "a.ttf")


def test_a_line_is_written_where_it_fits():
    picture = GREY.copy()
    drawing.write(picture, "Größe 10", 200, 150, 20)
    rows, columns = np.nonzero(changed(GREY, picture))
    assert 150 <= rows.min() < rows.max() <= 150 + 28
    assert columns.min() >= 200
    drawing.write(picture, "outside", 0, 300, 20)
