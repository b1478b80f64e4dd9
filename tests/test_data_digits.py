"""The built-in digits."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.config.data_files import read_data
from darkpy.data.classification import open_classification
from darkpy.data.digits import DigitsOptions, ensure_digits, is_complete, stratified_split, write_digits
from darkpy.errors import ConfigError, DataError
from darkpy.resources import find


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pictures_are_those_of_scikit_learn() -> None:
    found = pytest.importorskip("sklearn.datasets").load_digits()
    notices: list[str] = []
    train = open_classification("digits.yaml", "train", notify=notices.append)
    val = open_classification("digits.yaml", "val", notify=notices.append)
    assert notices == ["writing scikit-learn's handwritten digits into data/digits"], "only once"
    assert (len(train), len(val), train.names) == (1437, 360, list("0123456789"))
    assert val.counts().min() >= 34
    assert val.counts().max() <= 38
    seen = set()
    for dataset in (train, val):
        for path, class_id in zip(dataset.pictures, dataset.class_ids):
            number = int(path.stem)
            seen.add(number)
            assert found.target[number] == class_id
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert image is not None
            np.testing.assert_allclose(image / 255 * 16, found.images[number], atol=0.04)
    assert seen == set(range(1797))


def test_other_options_split_anew() -> None:
    pytest.importorskip("sklearn.datasets")
    pictures = []
    for options in (DigitsOptions(val=100), DigitsOptions(val=100, seed=2)):
        write_digits(Path("digits"), options)
        assert is_complete(Path("digits"), options)
        assert not is_complete(Path("digits"), DigitsOptions())
        val = open_classification("digits", "val")
        assert (len(val), len(open_classification("digits", "train"))) == (100, 1697)
        pictures.append(set(val.pictures))
    assert pictures[0] != pictures[1]


def test_stratified_split() -> None:
    class_ids = np.repeat([0, 1, 2], [100, 50, 10])
    chosen = stratified_split(class_ids, 32, seed=1)
    assert np.bincount(class_ids[chosen]).tolist() == [20, 10, 2]
    np.testing.assert_array_equal(chosen, stratified_split(class_ids, 32, seed=1))
    assert not np.array_equal(chosen, stratified_split(class_ids, 32, seed=2))


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="scikit-learn, which is not installed: pip install scikit-learn"):
        open_classification("digits.yaml", notify=lambda line: None)
    assert not Path("data").exists()


@pytest.mark.parametrize(
    "text, message",
    [
        ("digits:\n  folder: 3\n  sed: 1\n", "folder: expected a folder, not 3\nx.yaml:2  digits: there is no option 'sed'"),
        ("digits:\n  val: 3\n", "digits: val: expected 10 to 1000 pictures, not 3"),
        ("digits:\n  seed: -1\n", "digits: seed: expected at least 0, not -1"),
        ("names: [a, b]\n", "x.yaml:2  names: the classes are the digits, 0 to 9 in this order"),
    ],
)
def test_wrong_descriptions(text: str, message: str) -> None:
    Path("x.yaml").write_text(f"format: digits\n{text}")
    with pytest.raises(ConfigError) as caught:
        open_classification("x.yaml")
    assert message in str(caught.value)


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    pytest.importorskip("sklearn.datasets")
    Path("data").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        ensure_digits(read_data(find("data", "digits.yaml")), lambda line: None)
