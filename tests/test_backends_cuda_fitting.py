"""Pictures of any size become an input on the device as on the host; test_backends_cuda_pictures.py has the rest."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends import create
from darkpy.backends.cuda import pictures
from darkpy.data.pictures import Placement, network_input
from darkpy.network import Network
from tests.backends import why_no_gpu

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]

SIZES = [(13, 9), (7, 50), (40, 24), (1, 1), (24, 40)]


def images(channels: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (height, width, channels), np.uint8) for width, height in SIZES]


@pytest.mark.parametrize("letter_box", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_bit_for_bit_as_on_the_host(monkeypatch, letter_box, channels):
    """Larger, smaller and as large as the network; fetched two or three at a time."""
    monkeypatch.setattr(pictures, "MOST_BYTES", 3000)
    width, height = 40, 24
    given = images(channels)
    frames = [Placement.fit(*size, width, height, letter_box).frame for size in SIZES]
    device = create("cuda")
    for _ in range(2):
        found = device.to_host(device.fitted_pictures(given, frames, height, width))
        expected = np.concatenate([network_input(image, width, height, letter_box) for image in given])
        np.testing.assert_array_equal(found, expected)
        given = given[::-1]
        frames = frames[::-1]


def test_berths_are_no_larger_than_planned(monkeypatch):
    """Unless a picture alone is: it is fetched by itself."""
    monkeypatch.setattr(pictures, "PICTURE_BYTES", 1000)
    monkeypatch.setattr(pictures, "MOST_BYTES", 3500)
    frame = (0, 0, 8, 8)
    small, middle, large = (np.zeros((1, nbytes // 3, 3), np.uint8) for nbytes in (600, 1050, 3600))

    def largest(given):
        device = create("cuda")
        device.fitted_pictures(given, [frame] * len(given), 8, 8)
        return max(berth.memory.nbytes for berth in device._berths)

    def planned(count):
        device = create("cuda")
        return (device.own_memory(8 * 8 * 3 * count, 0, count) - device.own_memory(0, 0)) // 2

    assert [planned(count) for count in (1, 2, 3, 4, 5)] == [1000, 2000, 3000, 3500, 5 * 8 * 8 * 3 * 4]
    assert largest([small] * 3) == 1800 <= planned(3)
    assert largest([middle] * 3) == 2100 <= planned(3)
    assert largest([small] * 8) == 3000 <= planned(8)
    assert largest([small, large]) == 3600 > planned(2)


def test_a_network_looks_at_them(tmp_path):
    """Without fetching anything; what it sees, and finds, is what it is given."""
    path = tmp_path / "net.cfg"
    path.write_text("[net]\nchannels=3\nwidth=40\nheight=24\n[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n")
    network = Network.from_cfg(path, batch=5, device="gpu")
    fetched = []
    to_host = network.backend.to_host
    network.backend.to_host = lambda array: fetched.append(array) or to_host(array)  # type: ignore[method-assign]
    network.look_at(images(), letter_box=True)
    assert not fetched
    found = np.asarray(network.output)
    x = np.concatenate([network_input(image, 40, 24, True) for image in images()])
    np.testing.assert_array_equal(found, network.forward(x))
