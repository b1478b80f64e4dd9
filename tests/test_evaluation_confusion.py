"""The confusion matrix as tables and as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from darkpy.evaluation.confusion import confusion_table, draw_confusion, mistakes_table

CONFUSION = np.array([[7, 0, 2], [1, 12, 0], [0, 0, 0]])


def lines(table: object) -> list[list[str]]:
    stream = io.StringIO()
    Console(file=stream, width=100).print(table)
    return [line.split() for line in stream.getvalue().splitlines()]


def test_table_with_short_names() -> None:
    assert lines(confusion_table(CONFUSION, ["cat", "dog", "cow"])) == [
        ["cat", "dog", "cow"],
        ["cat", "7", "·", "2"],
        ["dog", "1", "12", "·"],
        ["cow", "·", "·", "·"],
    ]


def test_table_with_long_names_has_numbers_for_columns() -> None:
    assert lines(confusion_table(CONFUSION, ["[b]cat", "tabby", "hippopotamus"])) == [
        ["0", "1", "2"],
        ["0", "[b]cat", "7", "·", "2"],
        ["1", "tabby", "1", "12", "·"],
        ["2", "hippopotamus", "·", "·", "·"],
    ]


def test_mistakes_are_listed_by_their_number() -> None:
    table = mistakes_table(CONFUSION, ["cat", "dog", "cow"])
    assert lines(table) == [
        ["what", "it", "is", "taken", "for", "times", "of"],
        ["cat", "cow", "2", "9"],
        ["dog", "cat", "1", "13"],
    ]
    assert len(lines(mistakes_table(CONFUSION, ["cat", "dog", "cow"], most=1))) == 2
    assert mistakes_table(np.diag([3, 4]), ["a", "b"]) is None


def colors(path: Path) -> np.ndarray:
    """Pixels as (n, 3), red, green, blue."""
    image = cv2.imread(str(path))
    assert image is not None
    return image.reshape(-1, 3)[:, ::-1].astype(int)


@pytest.mark.parametrize("classes, mistakes", [(1, 0), (12, 0), (12, 4), (40, 4), (300, 4)])
def test_picture(classes: int, mistakes: int, tmp_path: Path) -> None:
    """What is right is blue, what is wrong is red, and there is none of it where nothing is wrong."""
    right = np.eye(classes, dtype=int)
    names = [f"class {number} $x_{number}$ with a name that is rather long" for number in range(classes)]
    matrix = 8 * right + mistakes * np.roll(right, 1, axis=1)
    draw_confusion(matrix, names, "a title\nand a line", tmp_path / "x.png")
    red, _, blue = colors(tmp_path / "x.png").T
    assert ((blue > red + 40) & (blue > 120)).any()
    assert ((red > blue + 30) & (red > 180)).any() == bool(mistakes)


def test_an_empty_matrix_is_drawn(tmp_path: Path) -> None:
    draw_confusion(np.zeros((3, 3), int), ["a", "b", "c"], "nothing", tmp_path / "x.png")
    red, _, blue = colors(tmp_path / "x.png").T
    assert (abs(red - blue) < 30).all()
