from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.data.pictures import network_input, read_picture
from darkpy.errors import DataError, InputError
from darkpy.feature_maps import CAPTION, CONSTANT, GAP, LARGEST, SMALLEST, TITLE, draw, feature_maps, sheet
from darkpy.network import Network
from tests.tiny_job import write_cfg, write_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``tiny.cfg``, ``tiny.weights`` and ``0.png``."""
    Network.from_cfg(write_cfg(tmp_path), device="numpy").save_weights(tmp_path / "tiny.weights")
    write_pictures(tmp_path, 1)
    return tmp_path


def test_maps_are_the_layers_output(folder: Path) -> None:
    network = Network.from_cfg(folder / "tiny.cfg", folder / "tiny.weights", device="numpy", keep_outputs=True)
    x = network_input(read_picture(folder / "0.png"), 32, 32)
    maps = feature_maps(network, x, 0)
    assert maps.shape == (8, 16, 16)
    np.testing.assert_array_equal(maps, network.layers[0].output[0])
    np.testing.assert_array_equal(feature_maps(network, x, -1), network.layers[3].output[0])


@pytest.mark.parametrize("layer", [4, -5])
def test_layers_that_are_not_there(folder: Path, layer: int) -> None:
    with pytest.raises(InputError, match=rf"layer {layer}: .*tiny.cfg has the layers 0 to 3, or -4 to -1"):
        draw(folder / "tiny.cfg", folder / "tiny.weights", folder / "0.png", layer, folder / "out.png", device="numpy")
    assert not (folder / "out.png").exists()


def test_the_sheet_of_a_layer(folder: Path) -> None:
    out = folder / "out.png"
    drawn = draw(folder / "tiny.cfg", folder / "tiny.weights", folder / "0.png", 0, out, device="numpy")
    assert (drawn.title, drawn.maps, drawn.constant) == ("layer 0 convolutional 3x3/2  16x16x8", 8, 0)
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture.shape[:2] == (TITLE + 3 * (LARGEST + GAP + CAPTION) + GAP, 3 * (LARGEST + GAP) + GAP)


def test_pictures_that_cannot_be_used(folder: Path) -> None:
    with pytest.raises(DataError, match="nothing.png  no such picture"):
        draw(folder / "tiny.cfg", folder / "tiny.weights", folder / "nothing.png", 0, folder / "out.png")


def tile(picture: np.ndarray, number: int, side: int, columns: int, caption: int = CAPTION) -> np.ndarray:
    top, left = TITLE + number // columns * (side + GAP + caption), GAP + number % columns * (side + GAP)
    return picture[top : top + side, left : left + side]


def test_each_map_has_its_own_colours_from_dark_to_bright() -> None:
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    maps = np.stack([ramp, 100 * ramp - 7, -ramp])
    picture = sheet(maps, np.zeros((3, 4, 4), np.float32), "title")
    first, second, third = (tile(picture, number, LARGEST, 2) for number in (1, 2, 3))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(third, first[::-1, ::-1])
    assert first[0, 0].sum() < first[-1, -1].sum()
    assert len(np.unique(first.reshape(-1, 3), axis=0)) == 16  # values are enlarged, not blended


def test_the_picture_stands_before_the_maps() -> None:
    red = np.zeros((3, 4, 4), np.float32)
    red[0] = 1
    maps = np.zeros((1, 4, 4), np.float32)
    assert (tile(sheet(maps, red, "title"), 0, LARGEST, 2) == (0, 0, 255)).all()
    grey = np.full((1, 4, 4), 0.2, np.float32)
    assert (tile(sheet(maps, grey, "title"), 0, LARGEST, 2) == 51).all()


def test_constant_maps_and_infinite_ones_are_grey(folder: Path) -> None:
    maps = np.zeros((3, 4, 4), np.float32)
    maps[1, 0, 0], maps[2, 0, 0] = np.nan, np.inf
    picture = sheet(maps, np.zeros((3, 4, 4), np.float32), "title")
    for number in (1, 2, 3):
        assert (tile(picture, number, LARGEST, 2) == CONSTANT).all()
    network = Network.from_cfg(folder / "tiny.cfg", device="numpy")
    network.layers[0].weights[2:] = 0
    network.save_weights(folder / "dead.weights")
    drawn = draw(folder / "tiny.cfg", folder / "dead.weights", folder / "0.png", 0, folder / "out.png", device="numpy")
    assert drawn.constant == 6


def test_maps_of_one_value_share_a_scale() -> None:
    maps = np.array([0, 0.5, 1], np.float32).reshape(3, 1, 1)
    picture = sheet(maps, np.zeros((3, 4, 4), np.float32), "title")
    colours = [tile(picture, number, LARGEST, 2)[5, 5].astype(int).sum() for number in (1, 2, 3)]
    assert colours[0] < colours[1] < colours[2]


def test_many_maps_are_small_and_wide_ones_keep_their_shape() -> None:
    many = sheet(np.zeros((4000, 2, 2), np.float32), np.zeros((3, 4, 4), np.float32), "title")
    assert many.shape[1] == 64 * (SMALLEST + GAP) + GAP
    wide = sheet(np.zeros((3, 2, 8), np.float32), np.zeros((3, 4, 16), np.float32), "title")
    assert wide.shape[:2] == (TITLE + 2 * (LARGEST // 4 + GAP + CAPTION) + GAP, 2 * (LARGEST + GAP) + GAP)


def test_what_a_map_stands_for_is_written_below_it(folder: Path) -> None:
    maps, black = np.zeros((3, 4, 4), np.float32), np.zeros((3, 4, 4), np.float32)
    plain, named = sheet(maps, black, "title"), sheet(maps, black, "title", ["cat", "", "dog"])
    assert named.shape[0] == plain.shape[0] + 2 * CAPTION
    below = [
        named[TITLE + row * (LARGEST + GAP + 2 * CAPTION) + LARGEST :][:CAPTION, GAP + column * (LARGEST + GAP) :][:, :60]
        for row, column in ((0, 1), (1, 0), (1, 1))
    ]
    assert [(line < 128).any() for line in below] == [True, False, True]
    draw(folder / "tiny.cfg", folder / "tiny.weights", folder / "0.png", -1, folder / "out.png", device="numpy")
    picture = cv2.imread(str(folder / "out.png"))
    assert picture is not None
    assert picture.shape[0] == TITLE + 4 * (LARGEST + GAP + 2 * CAPTION) + GAP
