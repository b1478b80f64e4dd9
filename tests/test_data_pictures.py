from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkpy.data.pictures import Placement, network_input, read_picture, resize_reference
from darkpy.errors import DataError

SCALES = {np.uint8: 1, np.uint16: 256}
"""What stands for one of 256 levels."""


def textured(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def test_colours_come_as_rgb(tmp_path):
    image = np.zeros((4, 6, 3), np.uint8)
    image[:] = (10, 20, 200)  # BGR, as OpenCV writes
    read = read_picture(save(tmp_path / "red.png", image))
    assert read.shape == (4, 6, 3) and read.dtype == np.uint8
    assert read[0, 0].tolist() == [200, 20, 10]


def test_one_channel_is_grey(tmp_path):
    image = textured(5, 7)
    read = read_picture(save(tmp_path / "colour.png", image), channels=1)
    assert read.shape == (5, 7, 1)
    assert np.abs(read[:, :, 0].astype(int) - cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)).max() <= 1


def test_grey_pictures_become_colour(tmp_path):
    grey = textured(5, 7, 1)[:, :, 0]
    read = read_picture(save(tmp_path / "grey.png", grey))
    assert np.array_equal(read, np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path, suffix):
    image = textured(5, 7)
    read = read_picture(save(tmp_path / f"deep{suffix}", image.astype(np.uint16) * 257))
    assert np.array_equal(read, image[:, :, ::-1])


def test_transparency_is_dropped(tmp_path):
    image = textured(5, 7, 4)
    assert np.array_equal(read_picture(save(tmp_path / "alpha.png", image)), image[:, :, 2::-1])


def test_palette_pictures(tmp_path):
    # A 2 x 1 PNG with two palette colours, (255, 0, 0) and (0, 0, 255): OpenCV does not write palettes.
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    pixels = zlib.compress(bytes([0, 0, 1]))
    palette = bytes([255, 0, 0, 0, 0, 255])
    parts = [chunk(b"IHDR", header), chunk(b"PLTE", palette), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    path = tmp_path / "palette.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert read_picture(path).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_the_orientation_tag_is_ignored(tmp_path):
    # Tag 0x0112 (orientation) = 6: a viewer would turn the picture by 90 degrees.
    image = textured(8, 16)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert cv2.imread(str(path)).shape == (16, 8, 3), "the tag is not understood, the test proves nothing"
    assert read_picture(path).shape == (8, 16, 3)


def test_names_of_any_alphabet(tmp_path):
    path = tmp_path / "größe 図.png"
    path.write_bytes(cv2.imencode(".png", textured(3, 3))[1].tobytes())
    assert read_picture(path).shape == (3, 3, 3)


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, textured(40, 60))[1].tobytes()


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("missing.jpg", None, "no such picture"),
        ("empty.jpg", b"", "the file is empty"),
        ("half.jpg", encoded(".jpg")[:2000], "cut short after 2,000 bytes"),
        ("half.png", encoded(".png")[:2000], "cut short after 2,000 bytes"),
        ("header.jpg", encoded(".jpg")[:100], "cut short after 100 bytes"),
        ("text.jpg", b"<html>not found</html>", "not a picture"),
        ("float.tif", cv2.imencode(".tif", np.zeros((4, 4, 3), np.float32))[1].tobytes(), "values of type float32"),
        ("half.bmp", encoded(".bmp")[:2000], "damaged"),
    ],
)
def test_broken_files_are_named(tmp_path, name, data, message):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_picture(path)
    assert caught.value.problems[0].where == str(path)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_picture(tmp_path)


@pytest.mark.parametrize("mode, suffix", [("CMYK", ".jpg"), ("CMYK", ".tiff"), ("P", ".gif"), ("LA", ".png"), ("1", ".png")])
def test_other_kinds_of_colour_are_converted(tmp_path, mode, suffix):
    from PIL import Image

    original = Image.fromarray(np.array([[[250, 0, 0], [0, 0, 0]]] * 2, np.uint8).repeat(8, 0).repeat(8, 1))
    path = tmp_path / f"x{suffix}"
    original.convert(mode).save(path)
    red, grey = read_picture(path), read_picture(path, channels=1)
    assert red.shape == (16, 16, 3) and grey.shape == (16, 16, 1)
    expected = np.asarray(original.convert(mode).convert("RGB")).astype(int)
    assert np.abs(red.astype(int) - expected)[:, [0, 1, 2, 13, 14, 15]].max() <= 6
    assert np.abs(grey[:, :, 0].astype(int) - np.asarray(original.convert(mode).convert("L")))[:, 0].max() <= 6


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_four_channels_are_red_green_blue_and_alpha(tmp_path, suffix, dtype):
    image = textured(5, 7, 4).astype(dtype) * SCALES[dtype] + (SCALES[dtype] > 1)
    found = read_picture(save(tmp_path / f"x{suffix}", image), channels=4)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.array_equal(found, textured(5, 7, 4)[:, :, [2, 1, 0, 3]])


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_have_any_number_of_channels_in_their_own_order(tmp_path, channels, dtype):
    image = textured(5, 7, channels)
    np.save(tmp_path / "x.npy", image.astype(dtype) * SCALES[dtype] + (SCALES[dtype] > 1))
    assert np.array_equal(read_picture(tmp_path / "x.npy", channels), image)


def test_an_array_without_a_channel_axis_is_grey(tmp_path):
    np.save(tmp_path / "x.npy", textured(5, 7, 1)[:, :, 0])
    assert np.array_equal(read_picture(tmp_path / "x.npy", 1), textured(5, 7, 1))


@pytest.mark.parametrize(
    "name, array, channels, message",
    [
        ("x.png", textured(3, 3), 4, "has 3 channels, the network takes 4; a .npy file can have any number"),
        ("x.png", textured(3, 3, 1), 2, "has 1 channel, the network takes 2"),
        ("x.npy", textured(3, 3, 5), 3, "has 5 channels, the network takes 3$"),
        ("x.npy", textured(3, 3, 5).astype(np.float32), 5, "has values of type float32; expected uint8 or uint16"),
        ("x.npy", np.zeros((2, 3, 4, 5), np.uint8), 5, r"has an array of shape \(2, 3, 4, 5\); expected"),
        ("x.npy", np.zeros((0, 3, 5), np.uint8), 5, "has an array of shape"),
        ("x.npy", np.array([None]), 5, "cannot be read as a NumPy file"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(tmp_path, name, array, channels, message):
    path = tmp_path / name
    np.save(path, array) if name == "x.npy" else save(path, array)
    with pytest.raises(DataError, match=message) as caught:
        read_picture(path, channels)
    assert caught.value.problems[0].where == str(path)


def test_an_array_cut_short_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", textured(30, 30, 5))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be read as a NumPy file"):
        read_picture(tmp_path / "x.npy", 5)


@pytest.mark.parametrize("name", ["dog", "eagle", "person"])
@pytest.mark.parametrize("letter_box", [False, True])
def test_network_input_is_darknets(shared, name, letter_box):
    expected = np.load(shared / "images" / "input_320" / f"{name}.npz")["letterbox" if letter_box else "resize"]
    image = read_picture(shared / "images" / f"{name}.jpg")
    difference = np.abs(network_input(image, 320, 320, letter_box) - expected)
    # Two JPEG decoders differ by up to 3 levels in single pixels; a resize that is off by a fraction of a pixel
    # differs far more often.
    assert difference.max() <= 3.01 / 255
    assert difference.mean() <= 0.15 / 255


sides = st.integers(1, 70)


@given(sides, sides, sides, sides, st.sampled_from([1, 2, 3, 4, 5]))
def test_fast_resize_equals_the_plain_one(height, width, new_height, new_width, channels):
    image = textured(height, width, channels)
    fast = network_input(image, new_width, new_height)
    assert np.array_equal(fast[0], resize_reference(image, new_width, new_height))


def test_fast_resize_in_several_bands():
    image = textured(411, 523)
    for width, height in ((300, 401), (97, 150), (640, 129)):
        assert np.array_equal(network_input(image, width, height)[0], resize_reference(image, width, height))


def test_resize_written_out_pixel_by_pixel():
    image = textured(5, 7)
    width, height = 9, 4
    step_x, step_y = np.float32(6) / np.float32(8), np.float32(4) / np.float32(3)
    values = image.astype(np.float32) / np.float32(255)
    wide = np.zeros((5, width, 3), np.float32)
    for x in range(width):
        place = np.float32(x) * step_x
        left = int(place)
        share = place - np.float32(left)
        wide[:, x] = (1 - share) * values[:, left] + share * values[:, left + 1] if x < width - 1 else values[:, -1]
    expected = np.zeros((3, height, width), np.float32)
    for y in range(height):
        place = np.float32(y) * step_y
        upper = int(place)
        share = place - np.float32(upper)
        row = (1 - share) * wide[upper] + share * wide[upper + 1] if y < height - 1 else wide[-1]
        expected[:, y] = row.T
    assert np.array_equal(network_input(image, width, height)[0], expected)


@pytest.mark.parametrize("old, new", [(2, 42), (240, 416)])
def test_last_row_and_column_are_the_sources(old, new):
    # Rounding leaves the last position short of the last pixel here; Darknet's last row is black then.
    assert np.float32(new - 1) * (np.float32(old - 1) / np.float32(new - 1)) < old - 1
    image = np.zeros((old, old, 1), np.uint8)
    image[-1], image[:, -1] = 255, 255
    out = network_input(image, new, new)[0, 0]
    assert out[-1, 0] == out[0, -1] == out[-1, -1] == 1


def test_same_size_changes_nothing_but_the_scale():
    image = textured(6, 5)
    expected = image.transpose(2, 0, 1)[np.newaxis].astype(np.float32) / np.float32(255)
    assert np.array_equal(network_input(image, 5, 6), expected)


def test_network_input_into_given_memory():
    image, out = textured(30, 60), np.full((1, 3, 32, 32), 9, np.float32)
    assert network_input(image, 32, 32, letter_box=True, out=out) is out
    assert np.array_equal(out, network_input(image, 32, 32, letter_box=True))


def test_letter_box_fills_with_half():
    out = network_input(np.zeros((10, 20, 3), np.uint8), 32, 32, letter_box=True)
    assert (out[:, :, :8] == 0.5).all() and (out[:, :, 24:] == 0.5).all() and (out[:, :, 8:24] == 0).all()


@pytest.mark.parametrize("size, fitted", [((640, 480), (320, 240)), ((480, 640), (240, 320)), ((1000, 1), (320, 1))])
def test_placement_keeps_the_aspect_ratio(size, fitted):
    place = Placement.fit(*size, 320, 320, letter_box=True)
    assert (place.fitted_width, place.fitted_height) == fitted
    assert place.left == (320 - fitted[0]) // 2 and place.top == (320 - fitted[1]) // 2


def test_boxes_go_back_to_the_picture():
    # A picture twice as wide as high lies in the middle half of a square input.
    place = Placement.fit(200, 100, 64, 64, letter_box=True)
    box = np.array([0.25, 0.5, 0.5, 0.25], np.float32)
    assert place.to_picture(box).tolist() == [0.25, 0.5, 0.5, 0.5]
    assert np.allclose(Placement.fit(200, 100, 64, 64).to_picture(box), box)


@given(
    st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.booleans(),
)
def test_to_input_and_to_picture_are_inverse(size, blocks, letter_box):
    place = Placement.fit(*size, 32 * blocks[0], 32 * blocks[1], letter_box)
    boxes = np.random.default_rng(1).random((5, 4))
    assert np.allclose(place.to_picture(place.to_input(boxes)), boxes)
