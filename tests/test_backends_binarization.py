from __future__ import annotations

import numpy as np
import pytest

from tests.backends import BACKENDS, backend, random


@pytest.mark.parametrize("name", BACKENDS)
def test_binarize_writes_to_a_view(name):
    b = backend(name)
    x = random((2, 3, 4, 4), 0)
    x[0, 0, 0, 0] = 0.0
    out = np.full((2, 3, 6, 6), 7, np.float32)
    b.binarize(x, out[:, :, 1:5, 1:5])
    assert (out[:, :, 1:5, 1:5] == np.where(x > 0, 1, -1)).all()
    assert out[0, 0, 1, 1] == -1
    assert (out[:, :, 0] == 7).all() and (out[:, :, :, 5] == 7).all()


@pytest.mark.parametrize("name", BACKENDS)
def test_binarize_filters(name):
    b = backend(name)
    weights = np.array([[[[1.0, -2.0]], [[3.0, 0.0]]], [[[-0.5, -0.5]], [[0.5, -0.5]]]], np.float32)
    out = np.empty_like(weights)
    b.binarize_filters(weights, out)
    assert out.reshape(2, 4).tolist() == [[1.5, -1.5, 1.5, -1.5], [-0.5, -0.5, 0.5, -0.5]]
