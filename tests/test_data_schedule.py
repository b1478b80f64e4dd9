from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.config.net import NetOptions
from darkpy.data.schedule import Recipe, Schedule


def batch(schedule: Schedule, iteration: int) -> list[Recipe]:
    return [schedule.recipe(iteration, place) for place in range(schedule.batch)]


def schedule(count: int = 50, **keys) -> Schedule:
    options = NetOptions(**keys)
    steps = options.time_steps
    return Schedule(count, options.batch * steps, seed=3, options=options)


# Epochs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"mosaic": True}, {"mixup": 1}, {"contrastive": True, "subdivisions": 2}])
def test_every_picture_comes_first_once_an_epoch(keys):
    plan = schedule(12, batch=8, **keys)
    views = 2 if "contrastive" in keys else 1
    iterations = 12 * views // 8 * 3 + 3
    firsts = [recipe.indices[0] for iteration in range(iterations) for recipe in batch(plan, iteration)][::views]
    for epoch in range(2):
        assert sorted(firsts[12 * epoch : 12 * (epoch + 1)]) == list(range(12))
    assert firsts[:12] != firsts[12:24]


def test_without_options_or_shuffle():
    plan = Schedule(5, 4, shuffle=False)
    assert [recipe.indices for iteration in range(2) for recipe in batch(plan, iteration)] == [
        (number % 5,) for number in range(8)
    ]


# Mixing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys, pictures",
    [
        ({}, 1),
        ({"mixup": 1}, 2),
        ({"mixup": 2}, 1),
        ({"mixup": 3}, 4),
        ({"mixup": 4}, 4),
        ({"cutmix": True}, 1),
        ({"mosaic": True}, 4),
        ({"mosaic": True, "mixup": 1}, 4),
        ({"mosaic": True, "cutmix": True}, 4),
    ],
)
def test_pictures_of_a_sample(keys, pictures):
    plan = schedule(batch=4, **keys)
    counts = Counter(plan.pictures(iteration) for iteration in range(200))
    assert set(counts) == {1, pictures}
    if pictures > 1:
        assert 70 <= counts[1] <= 130


def test_a_batch_is_mixed_as_a_whole():
    plan = schedule(batch=16, mosaic=True)
    for iteration in range(20):
        assert {len(recipe.indices) for recipe in batch(plan, iteration)} == {plan.pictures(iteration)}


def test_close_mosaic_leaves_the_end_unmixed():
    plan = schedule(batch=4, mosaic=True, max_batches=100, close_mosaic=30)
    mixed = [plan.pictures(iteration) == 4 for iteration in range(100)]
    assert any(mixed[60:70]) and not any(mixed[70:])
    assert [plan.pictures(iteration) == 4 for iteration in range(70)] == mixed[:70]
    open_end = schedule(batch=4, mosaic=True, max_batches=100)
    assert [open_end.pictures(iteration) == 4 for iteration in range(70)] == mixed[:70]
    assert any(open_end.pictures(iteration) == 4 for iteration in range(70, 100))


def test_other_pictures_of_a_mosaic_are_any():
    plan = schedule(6, batch=8, mosaic=True)
    others = Counter(index for iteration in range(60) for recipe in batch(plan, iteration) for index in recipe.indices[1:])
    assert set(others) == set(range(6)) and max(others.values()) < 2 * min(others.values())


# Views --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jit_flip", [False, True])
@pytest.mark.parametrize("color", [False, True])
def test_views_of_a_picture_are_neighbours(jit_flip, color):
    plan = schedule(batch=8, subdivisions=2, contrastive=True, contrastive_jit_flip=jit_flip, contrastive_color=color)
    recipes = batch(plan, 0)
    for first, second in zip(recipes[::2], recipes[1::2]):
        assert first.indices == second.indices and first.rng.random() != second.rng.random()
        same = (first.chances.pictures == second.chances.pictures).all(axis=0)
        assert same[[0, 1, 2, 3, 6]].all() == (not jit_flip)
        assert same[7:12].all() == (not color)
        assert not same[[4, 5, 12, 13]].any()
    assert len({recipe.indices for recipe in recipes}) == 4


def test_pairs_stay_within_an_odd_mini_batch():
    """The last one of each mini-batch is alone then."""
    recipes = batch(schedule(batch=6, subdivisions=2, contrastive=True), 0)
    indices = [recipe.indices[0] for recipe in recipes]
    assert indices[0] == indices[1] and indices[3] == indices[4] and len(set(indices)) == 4


# Sequences ----------------------------------------------------------------------------------------------------


def frames(plan: Schedule, iteration: int) -> np.ndarray:
    """Pictures (subdivisions, time_steps, sequences of a mini-batch)."""
    assert plan.options is not None
    indices = [recipe.indices[0] for recipe in batch(plan, iteration)]
    return np.reshape(indices, (plan.options.subdivisions, plan.options.time_steps, -1))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 10**6),
)
def test_sequences_go_on_over_steps_and_subdivisions(columns, subdivisions, parts, steps, speed, iteration):
    plan = schedule(
        30,
        batch=columns * subdivisions,
        subdivisions=subdivisions,
        sequential_subdivisions=parts,
        time_steps=steps,
        augment_speed=speed,
        track=True,
    )
    found = frames(plan, iteration)
    assert found.shape == (subdivisions, steps, columns)
    length = subdivisions // min(parts, subdivisions)
    for first in range(0, subdivisions, length):
        for column in range(columns):
            # One sequence: all frames of a column in as many mini-batches as follow each other.
            jumps = np.diff(found[first : first + length, :, column].ravel()) % 30
            assert len(set(jumps.tolist())) <= 1 and all(1 <= jump <= speed for jump in jumps)


def test_sequences_begin_anywhere_with_any_speed():
    plan = schedule(20, batch=4, subdivisions=2, time_steps=3, augment_speed=3, track=True)
    found = np.stack([frames(plan, iteration) for iteration in range(100)])
    assert set(found[:, :, 0].ravel()) == set(range(20))
    assert set(((found[:, :, 1] - found[:, :, 0]) % 20).ravel()) == {1, 2, 3}


def test_all_frames_of_a_sequence_are_changed_alike():
    plan = schedule(batch=4, subdivisions=2, sequential_subdivisions=1, time_steps=3, track=True, mosaic=True)
    recipes = batch(plan, 0)
    by_column = [recipes[column::2] for column in range(2)]
    for column in by_column:
        assert len(column) == 6
        for recipe in column:
            assert np.array_equal(recipe.chances.pictures, column[0].chances.pictures)
            assert np.array_equal(recipe.chances.meeting, column[0].chances.meeting)
        assert len({recipe.rng.random() for recipe in column}) == 6
    assert not np.array_equal(by_column[0][0].chances.pictures, by_column[1][0].chances.pictures)


def test_the_other_pictures_of_a_mosaic_are_sequences_too():
    plan = schedule(batch=2, time_steps=3, track=True, mosaic=True)
    iteration = next(number for number in range(50) if plan.pictures(number) == 4)
    column = np.array([recipe.indices for recipe in batch(plan, iteration)[::2]])
    jumps = np.diff(column, axis=0) % 50
    assert jumps.shape == (2, 4) and len(set(jumps.ravel().tolist())) == 1


def test_views_of_a_sequence():
    plan = schedule(batch=4, time_steps=2, track=True, contrastive=True)
    recipes = batch(plan, 0)
    assert [recipe.indices for recipe in recipes[::2]] == [recipe.indices for recipe in recipes[1::2]]
    second = recipes[1], recipes[5]  # two steps of the second view
    assert np.array_equal(second[0].chances.pictures, second[1].chances.pictures)
    assert not np.array_equal(second[0].chances.pictures, recipes[0].chances.pictures)


def test_sequences_grow_with_seq_scales():
    plan = schedule(
        40, batch=4, subdivisions=4, time_steps=2, augment_speed=1, track=True,
        policy="steps", steps=(10, 20), scales=(1.0, 1.0), seq_scales=(0.5, 0.5),
    )  # fmt: skip
    for iteration, length in ((0, 1), (9, 1), (10, 2), (20, 4)):
        column = frames(plan, iteration)[:, :, 0].ravel()
        breaks = np.flatnonzero(np.diff(column) % 40 != 1) + 1
        assert breaks.tolist() == list(range(2 * length, 8, 2 * length))
