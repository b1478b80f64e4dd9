from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.numpy.tiles import TILE
from tests.backends import BACKENDS, assert_close, backend, random

SIZES = pytest.mark.parametrize("size", [1, 1000, 2 * TILE + 5])


@SIZES
@pytest.mark.parametrize("name", BACKENDS)
def test_sgd(name, size):
    parameters, velocity = random((size,), 0), np.zeros(size, np.float32)
    exact, exact_velocity = parameters.astype(np.float64), np.zeros(size)
    for step in range(3):
        gradients = random((size,), 1 + step)
        exact_velocity = 0.9 * exact_velocity - (gradients + 0.02 * exact)
        exact += 0.05 * exact_velocity
        backend(name).sgd_step(parameters, gradients, velocity, rate=0.05, momentum=0.9, decay=0.02)
        assert_close(velocity, exact_velocity)
        assert_close(parameters, exact)


@pytest.mark.parametrize("name", BACKENDS)
def test_sgd_on_a_view_leaves_the_rest(name):
    parameters, gradients, velocity = (random((100,), seed) for seed in range(3))
    before = parameters.copy(), velocity.copy()
    part = slice(30, 60)
    backend(name).sgd_step(parameters[part], gradients[part], velocity[part], 0.1, 0.9, 0.0)
    for now, then in zip((parameters, velocity), before, strict=True):
        assert (now[:30] == then[:30]).all()
        assert (now[60:] == then[60:]).all()
        assert (now[part] != then[part]).all()


@SIZES
@pytest.mark.parametrize("name", BACKENDS)
def test_adam(name, size):
    parameters = random((size,), 0)
    first, second = np.zeros(size, np.float32), np.zeros(size, np.float32)
    exact, exact_first, exact_second = parameters.astype(np.float64), np.zeros(size), np.zeros(size)
    for step in range(1, 4):
        gradients = random((size,), step)
        g = gradients + 0.02 * exact
        exact_first = 0.9 * exact_first + 0.1 * g
        exact_second = 0.999 * exact_second + 0.001 * g**2
        corrected = exact_first / (1 - 0.9**step), exact_second / (1 - 0.999**step)
        exact -= 0.01 * corrected[0] / (np.sqrt(corrected[1]) + 1e-4)
        backend(name).adam_step(parameters, gradients, first, second, 0.01, 0.9, 0.999, 1e-4, 0.02, step)
        assert_close(first, exact_first)
        assert_close(second, exact_second, 5e-6)
        assert_close(parameters, exact, 1e-5)


@pytest.mark.parametrize("name", BACKENDS)
def test_fold_batchnorm(name):
    b = backend(name)
    x = random((2, 4, 3, 3), 9)
    scales, biases, mean = (random((4,), seed) for seed in range(3))
    variance = random((4,), 3) ** 2
    expected, out_scale, out_bias = np.empty_like(x), np.empty(4, np.float32), np.empty(4, np.float32)
    b.batchnorm_forward_inference(x, expected, scales, biases, mean, variance)
    b.fold_batchnorm(scales, biases, mean, variance, out_scale, out_bias)
    assert_close(x * out_scale[:, None, None] + out_bias[:, None, None], expected.astype(np.float64), 5e-6)


@pytest.mark.parametrize("name", BACKENDS)
def test_running_is_a_context(name):
    with backend(name).running():
        pass
