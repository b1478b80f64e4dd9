from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from darkpy import backends
from darkpy.config.cfg import parse_cfg, read_cfg
from darkpy.config.net import NetOptions
from darkpy.config.options import parse_options
from darkpy.optimizers import Adam, Sgd, create_optimizer, learning_rate
from tests.conftest import SHARED

TABLES = sorted(path.stem for path in (SHARED / "golden_lr").glob("*.csv")) if SHARED.is_dir() else []


def net_options(text: str) -> NetOptions:
    section = parse_cfg(f"[net]\nwidth=8\nheight=8\nchannels=3\n{text}\n[convolutional]\n", "t.cfg").net
    problems: list = []
    options = parse_options(NetOptions, section, problems, [])
    assert options is not None, problems
    return options


@pytest.mark.parametrize("name", TABLES)
def test_learning_rate_equals_darknets_table(shared, name):
    problems: list = []
    options = parse_options(NetOptions, read_cfg(shared / "golden_lr" / f"{name}.cfg").net, problems, [])
    assert options is not None, problems
    text = (shared / "golden_lr" / f"{name}.csv").read_text()
    rows = list(csv.reader(text.splitlines()))[1:]
    assert len(rows) > 50
    for iteration, rate in rows:
        assert learning_rate(options, int(iteration)) == pytest.approx(float(rate), rel=1e-5, abs=1e-12), iteration


def test_random_policy_depends_on_seed_and_iteration_only():
    options = net_options("policy=random\nlearning_rate=0.1\npower=1\nmax_batches=10")
    rates = [learning_rate(options, i, seed=3) for i in range(20)]
    assert rates == [learning_rate(options, i, seed=3) for i in range(20)]
    assert len(set(rates)) == 20
    assert all(0 <= rate <= 0.1 for rate in rates)
    assert rates != [learning_rate(options, i, seed=4) for i in range(20)]


def test_steps_apply_in_order_and_stop_at_the_first_not_reached():
    options = net_options("policy=steps\nlearning_rate=1\nsteps=10,20\nscales=.5,.1\nmax_batches=100")
    assert [learning_rate(options, i) for i in (9, 10, 19, 20)] == pytest.approx([1, 0.5, 0.5, 0.05])


class Vectors:
    """Parameters of one layer, split into a part that decays and one that does not."""

    def __init__(self, options, size=6):
        rng = np.random.default_rng(0)
        self.values = rng.normal(size=size)
        self.gradients = rng.normal(size=size)
        self.options = options

    def segments(self, iteration, burn_in):
        return [
            SimpleNamespace(start=0, stop=4, rate_scale=0.5, decay=True),
            SimpleNamespace(start=4, stop=6, rate_scale=1.0, decay=False),
        ]


def test_sgd_is_darknets_formula_over_two_updates():
    options = net_options("batch=4\nmomentum=.9\ndecay=.01\nlearning_rate=.1")
    vectors = Vectors(options)
    optimizer = Sgd(options, backends.create("numpy", np.float64), 6)
    w, g, updates = vectors.values.copy(), vectors.gradients.copy(), np.zeros(6)
    scale, decay = np.array([0.5] * 4 + [1.0] * 2), np.array([0.01] * 4 + [0.0] * 2)
    for _ in range(2):
        optimizer.update(vectors, 0.1, 1)
        # Darknet keeps momentum in the update buffer: decay, step, then shrink it for the next pass.
        updates = updates - g - decay * 4 * w
        w = w + 0.1 * scale / 4 * updates
        updates = updates * 0.9
    np.testing.assert_allclose(vectors.values, w, rtol=1e-12)


def test_gradients_are_divided_by_the_mini_batches_of_a_sequence_too():
    """Darknet's update_batch: two subdivisions in one sequence count as twice the pictures, for the decay as well."""
    results = []
    for text in ("batch=4\nsubdivisions=4\nsequential_subdivisions=2", "batch=8"):
        options = net_options(f"{text}\nmomentum=.9\ndecay=.01\nlearning_rate=.1")
        vectors = Vectors(options)
        Sgd(options, backends.create("numpy", np.float64), 6).update(vectors, 0.1, 1)
        results.append(vectors.values)
    assert np.array_equal(*results)


def test_adam_is_darknets_formula_over_two_updates():
    options = net_options("batch=4\nadam=1\nB1=.8\nB2=.99\neps=1e-6\ndecay=.01\nlearning_rate=.1")
    vectors = Vectors(options)
    optimizer = create_optimizer(options, backends.create("numpy", np.float64), 6)
    assert isinstance(optimizer, Adam)
    w, m, v = vectors.values.copy(), np.zeros(6), np.zeros(6)
    scale = np.array([0.5] * 4 + [1.0] * 2)
    for step in (1, 2):
        optimizer.update(vectors, 0.1, step)
        g = -vectors.gradients - 0.01 * 4 * w
        m, v = 0.8 * m + 0.2 * g, 0.99 * v + 0.01 * g * g
        w = w + 0.1 * scale * (m / (1 - 0.8**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-6)
    np.testing.assert_allclose(vectors.values, w, rtol=1e-10)
