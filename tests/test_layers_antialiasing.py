"""``antialiasing=`` of [convolutional] and [maxpool]: stride 1, then a blur that keeps every stride-th value."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.layers.antialiasing import Blur
from tests import layer_checks
from tests.backends import backend
from tests.gradients import check_gradient


def blurred(x: np.ndarray, kind: int, stride: int) -> np.ndarray:
    if kind == 1:
        x, kernel = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), np.outer([1, 2, 1], [1, 2, 1]) / 16
    else:
        kernel = np.ones((2, 2)) / 4
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape, (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("ncyxij,ij->ncyx", windows, kernel)


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "section",
    [
        "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n",
        "[convolutional]\nfilters=4\nsize=3\nbatch_normalize=1\nactivation=mish\n",
        "[maxpool]\nsize=2\n",
    ],
)
def test_the_layer_at_stride_1_then_the_blur(section, stride, kind):
    sharp = layer_checks.network(section + "stride=1\n")
    soft = layer_checks.network(section + f"stride={stride}\nantialiasing={kind}\n")
    x = layer_checks.pictures(sharp, 2)
    expected = blurred(np.array(sharp.forward(x)), kind, stride)
    assert soft.layers[0].output_shape == expected.shape[1:]
    np.testing.assert_allclose(soft.forward(x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [1, 2])
def test_gradient_of_the_blur(kind):
    blur = Blur(backend("numpy", np.float64), kind, 2, 1, (3, 6, 5))
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 5))

    def forward(sharp):
        out = np.empty((2, *blur.shape))
        blur.forward(sharp, out)
        return out

    def backward(grad):
        found = np.full_like(x, np.nan)
        blur.backward(np.ascontiguousarray(grad), found)
        return [found]

    check_gradient(forward, [x], backward)


def test_a_flat_picture_stays_flat_inside():
    built = layer_checks.network("[maxpool]\nsize=2\nstride=2\nantialiasing=1\n", (1, 8, 8))
    out = np.asarray(built.forward(np.ones((2, 1, 8, 8))))
    assert (out[:, :, 1:-1, 1:-1] == 1).all() and out[0, 0, 0, 0] == 9 / 16  # zeros are around it
