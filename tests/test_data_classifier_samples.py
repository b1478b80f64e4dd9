"""Batches for a classifier: the same whatever the number of threads, and from wherever a run goes on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpy.data.classification import open_classification
from darkpy.data.classifier_augmentation import ClassifierAugmentation
from darkpy.data.classifier_samples import ClassifierSamples
from darkpy.data.loader import Loader
from tests.tiny_classes import write_folders

AUGMENTATION = ClassifierAugmentation(8, 12, angle=10, aspect=1.2, flip=True, hue=0.1, exposure=1.5, mixup=4, blur=3)


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "colours", train=5, val=1)


def batches(source: Path, count: int = 6, augmentation: ClassifierAugmentation = AUGMENTATION, **options: Any) -> list:
    """Pictures, truth and indices of the first batches."""
    dataset = open_classification(source)
    options = {"workers": 0, **options}
    with Loader(
        dataset, augmentation, batch=4, size_at=lambda iteration: (8, 8), samples=ClassifierSamples, **options  # type: ignore[arg-type]
    ) as loader:
        return [(batch.x.copy(), np.array(batch.truth), batch.indices) for batch in islice(loader, count)]


def assert_equal(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert one[2] == other[2]


@pytest.mark.parametrize("workers", [1, 3])
def test_samples_do_not_depend_on_the_number_of_threads(colours: Path, workers: int) -> None:
    assert_equal(batches(colours, workers=workers), batches(colours))


def test_samples_do_not_depend_on_where_a_run_began(colours: Path) -> None:
    assert_equal(batches(colours, 2, start=4), batches(colours)[4:])


def test_another_seed_gives_other_samples(colours: Path) -> None:
    one, other = batches(colours, 1, seed=1)[0], batches(colours, 1, seed=2)[0]
    assert not np.array_equal(one[0], other[0])


def test_an_epoch_shows_every_picture_once_and_the_next_one_differently(colours: Path) -> None:
    made = batches(colours, 30)
    indices = [index for _, _, chosen in made for index in chosen]
    assert sorted(indices[:15]) == sorted(indices[15:30]) == list(range(15))
    assert indices[:15] != indices[15:30]


def test_a_picture_looks_different_in_every_epoch(colours: Path) -> None:
    seen: dict[int, list[np.ndarray]] = {}
    for x, _, chosen in batches(colours, 12, ClassifierAugmentation(8, 12, exposure=1.5)):
        for sample, index in zip(x, chosen):
            seen.setdefault(index, []).append(sample)
    assert all(not np.array_equal(*samples[:2]) for samples in seen.values() if len(samples) > 1)
    assert max(map(len, seen.values())) > 1


def test_truth_is_the_class_of_the_picture(colours: Path) -> None:
    plain = ClassifierAugmentation(8, 8)
    dataset = open_classification(colours)
    for x, truth, indices in batches(colours, 8, plain):
        assert x.dtype == truth.dtype == np.float32
        np.testing.assert_array_equal(truth, np.eye(3)[dataset.class_ids[indices]])
        # The brightest channel says which class it is.
        strongest = x.mean(axis=(2, 3)).argmax(axis=1)
        names = [dataset.names[class_id] for class_id in dataset.class_ids[indices]]
        assert [("red", "green", "blue")[channel] for channel in strongest] == names


def test_blended_truth_is_of_the_blended_pictures(colours: Path) -> None:
    mixed = [truth for _, truth, _ in batches(colours, 20, ClassifierAugmentation(8, 8, mixup=1))]
    rows = np.concatenate(mixed)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    assert set(np.unique(rows)) == {0, 0.5, 1}
    # Half of the samples are blends, of which a third are of one class.
    assert 0.2 < (rows == 0.5).any(axis=1).mean() < 0.5


def test_smoothed_truth(colours: Path) -> None:
    _, truth, _ = batches(colours, 1, ClassifierAugmentation(8, 8, label_smooth_eps=0.3))[0]
    np.testing.assert_allclose(np.sort(truth, axis=1), [[0.15, 0.15, 0.7]] * 4, rtol=1e-6)


def test_a_picture_that_cannot_be_read_is_replaced_and_reported(colours: Path) -> None:
    (colours / "train/red/2.png").write_bytes(b"no picture")
    told: list[str] = []
    made = batches(colours, 8, report=lambda problem: told.append(str(problem)))
    assert len(told) == 1
    assert "train/red/2.png" in told[0]
    broken = open_classification(colours).pictures.index(colours / "train/red/2.png")
    assert all(broken not in chosen for _, _, chosen in made)
