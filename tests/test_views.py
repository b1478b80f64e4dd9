"""What of a picture a classifier looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpy.classification import score_pictures
from darkpy.data.pictures import network_input, read_picture
from darkpy.errors import ConfigError, InputError
from darkpy.network import Network
from darkpy.views import View, centre_input
from tests.tiny_classes import write_cfg, write_picture

IMAGE = np.random.default_rng(0).integers(0, 256, (28, 35, 3), dtype=np.uint8)


def test_ten_crops_are_corners_and_middle_of_a_larger_square_and_their_mirror_images() -> None:
    (crops,) = View(crops=10).inputs(IMAGE, 14, 14)
    square = centre_input(IMAGE, 16, 16)
    expected = [square[:, :, y : y + 14, x : x + 14] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    np.testing.assert_array_equal(crops[:5], np.concatenate(expected))
    np.testing.assert_array_equal(crops[5:], crops[:5, :, :, ::-1])


def test_scales_show_all_of_a_picture_and_its_mirror_image() -> None:
    small, large = View(scales=(14, 56)).inputs(IMAGE, 8, 8)
    assert small.shape == (2, 3, 14, 17) and large.shape == (2, 3, 56, 70)
    np.testing.assert_array_equal(large[0], network_input(IMAGE, 70, 56)[0])
    np.testing.assert_array_equal(large[1], large[0, :, :, ::-1])


def test_stretched() -> None:
    (pixels,) = View(stretch=True).inputs(IMAGE, 9, 12)
    np.testing.assert_array_equal(pixels, network_input(IMAGE, 9, 12))


@pytest.mark.parametrize("options", [{"crops": 5}, {"scales": (0,)}, {"crops": 10, "stretch": True}])
def test_views_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        View(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("view", [View(), View(crops=10), View(scales=(8, 24)), View(stretch=True)])
@pytest.mark.parametrize("batch", [1, 3])
def test_scores_are_the_mean_of_all_that_is_seen(tmp_path: Path, view: View, batch: int) -> None:
    network = Network.from_cfg(write_cfg(tmp_path), device="numpy", batch=2, seed=3)
    paths = [write_picture(tmp_path / f"{number}.png", number, seed=number) for number in range(3)]
    found = [picture.scores for picture in score_pictures(network, paths, batch, view=view)]
    assert (network.width, network.height) == (8, 8)
    for path, scores in zip(paths, found):
        seen = []
        for pixels in view.inputs(read_picture(path), 8, 8):
            network.resize(pixels.shape[3], pixels.shape[2])
            seen += [network.forward(pixels[place : place + 1]).reshape(-1).copy() for place in range(len(pixels))]
        network.resize(8, 8)
        assert len(seen) == view.count
        np.testing.assert_allclose(scores, np.mean(seen, axis=0), rtol=1e-5)


def test_a_network_of_one_size_takes_no_scales(tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path)
    cfg.write_text(cfg.read_text().replace("[avgpool]", "[connected]\noutput=3\nactivation=linear"))
    network = Network.from_cfg(cfg, device="numpy")
    with pytest.raises(ConfigError, match="it cannot take"):
        list(score_pictures(network, [write_picture(tmp_path / "a.png", 0)], 1, view=View(scales=(24,))))
