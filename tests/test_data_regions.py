"""Parts of pictures: their pixels, and where boxes are in them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from darkpy.data.regions import Region, View, cut_and_resize, look, move_boxes


@pytest.mark.parametrize("turn, expected", [(90, (25, 0, 30, 15)), (-90, (10, 25, 15, 40)), (180, (25, 25, 40, 30))])
def test_turning_is_clockwise(turn, expected):
    """By a quarter it is exact: an object 15 wide and 5 high at (0, 10) of 40 x 40."""
    image = np.zeros((40, 40, 1), np.uint8)
    image[10:15, 0:15] = 255
    boxes = np.array([[0, 7.5 / 40, 12.5 / 40, 15 / 40, 5 / 40]], np.float32)
    region = Region(0, 0, 40, 40)
    view = View(region, region, turn=turn)
    turned = look(image, view, 40, 40)[:, :, 0]
    moved = move_boxes(boxes, view, 40, 40, region, (40, 40))[0]
    left, top, right, bottom = np.rint(40 * np.concatenate([moved[1:3] - moved[3:5] / 2, moved[1:3] + moved[3:5] / 2]))
    x, y, w, h = cv2.boundingRect((turned > 127).astype(np.uint8))
    assert (x, y, x + w, y + h) == (left, top, right, bottom)
    assert (left, top, right, bottom) == expected


def test_boxes_move_with_the_region():
    boxes = np.array([[2, 0.5, 0.5, 0.2, 0.4]], np.float32)
    # The right half of a picture of 100 x 100, mirrored: the object's right half is at the right border.
    right_half, whole = Region(50, 0, 50, 100), Region(0, 0, 64, 64)
    moved = move_boxes(boxes, View(right_half, right_half, flip=True), 100, 100, whole, (64, 64))
    assert np.allclose(moved, [[2, 0.9, 0.5, 0.2, 0.4]])


def test_outside_the_picture_is_its_mean():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = (200, 100, 50)
    cut = cut_and_resize(image, Region(-20, -10, 60, 30), 60, 30)
    assert (cut[:10] == (100, 50, 25)).all() and (cut[:, 40:] == (100, 50, 25)).all()
    assert np.array_equal(cut[10:20, 20:40], image)
