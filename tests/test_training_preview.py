from __future__ import annotations

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from darkpy.cli.main import cli
from darkpy.data.dataset import Dataset
from darkpy.drawing import class_color
from darkpy.errors import ConfigError, InputError
from darkpy.training import TrainingSettings
from darkpy.training.preparation import prepare
from darkpy.training.preview import preview, sheet, write
from tests import tiny_job

SIDE, TIMES, GAP = 32, 13, 6
CELL = SIDE * TIMES


def settings(folder, **changes):
    cfg = tiny_job.write_job(folder)
    keys = {"data": folder / "data" / "tiny.yaml", "seed": 3, "device": "numpy", "workers": 0, "measure": False}
    return TrainingSettings(cfg=cfg, **{**keys, **changes})


def cell(page: np.ndarray, row: int, column: int) -> np.ndarray:
    """One picture of a sheet of squares, a pixel of the sample each: uint8 (32, 32, 3)."""
    top, left = (GAP + place * (CELL + GAP) for place in (row, column))
    return page[top : top + CELL, left : left + CELL][TIMES // 2 :: TIMES, TIMES // 2 :: TIMES]


def test_it_shows_the_samples_of_the_training(tmp_path):
    chosen = settings(tmp_path)
    page = preview(chosen, 6, iteration=2)
    assert page.shape == (2 * CELL + 3 * GAP, 3 * CELL + 4 * GAP, 3) and page.dtype == np.uint8
    job = prepare(chosen, lambda line: None)
    job.network.seen = 2 * job.network.options.batch
    with job.loader(lambda problem: None) as loader:
        for row in range(2):
            batch = next(loader)
            for column in range(3):
                expected = np.rint(batch.x[column][::-1].transpose(1, 2, 0) * 255)
                # All but what lies under the boxes and their names.
                assert (cell(page, row, column) == expected).all(axis=2).mean() > 0.3


def test_boxes_are_where_their_objects_are(tmp_path, monkeypatch):
    """With nothing but a resize the label file says where."""
    monkeypatch.setattr("darkpy.training.preparation.Augmentation.from_options", lambda *_: _plain())
    chosen = settings(tmp_path)
    page = preview(chosen, 1)
    job = prepare(chosen, lambda line: None)
    with job.loader(lambda problem: None) as loader:
        _, truth, (index,) = loader.sample(0, 0)
    assert isinstance(job.train_set, Dataset)
    assert np.allclose(truth, job.train_set.boxes(index), atol=1e-6)
    kind, x, y, w, h = truth[0]
    # A line in the colour of the class just inside the lower and the right edge.
    top, bottom = (GAP + CELL * (y + sign * h / 2) for sign in (-1, 1))
    left, right = (GAP + CELL * (x + sign * w / 2) for sign in (-1, 1))
    lower, outer = page[round(bottom) - 2, round((left + right) / 2)], page[round((top + bottom) / 2), round(right) - 2]
    assert lower.tolist() == outer.tolist() == list(class_color(int(kind)))


def _plain():
    from darkpy.data.augmentation import Augmentation

    return Augmentation.none()


def test_pictures_of_a_sheet_may_differ_in_size():
    pictures = [np.full((height, width, 3), height, np.uint8) for height, width in ((10, 20), (30, 5), (8, 8))]
    page = sheet(pictures, 2)
    assert page.shape == (30 + 8 + 3 * GAP, 20 + 5 + 3 * GAP, 3)
    assert (page[GAP : GAP + 10, GAP : GAP + 20] == 10).all() and (page[:GAP] == 255).all()
    assert (page[2 * GAP + 30 :, GAP : GAP + 8][:8] == 8).all()


def test_a_detector_is_needed(tmp_path):
    chosen = settings(tmp_path)
    path = tmp_path / "tiny.cfg"
    path.write_text(path.read_text().split("[yolo]")[0])
    with pytest.raises(ConfigError, match="it is no detector"):
        preview(chosen, 1)


def test_writing_says_what_is_wrong(tmp_path):
    page = np.zeros((4, 4, 3), np.uint8)
    for name in ("x.unknown", "x"):
        with pytest.raises(InputError, match="use .jpg or .png"):
            write(page, tmp_path / name)
    (tmp_path / "x.png").mkdir()
    with pytest.raises(InputError, match="cannot be written: "):
        write(page, tmp_path / "x.png")


def test_the_command(tmp_path, monkeypatch):
    tiny_job.write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["data", "preview", "tiny.cfg", "--count", "4", "-out", "sheet.png"])
    assert result.exit_code == 0, result.output
    assert result.output == "4 samples from iteration 0 on are in sheet.png\n"
    assert cv2.imread("sheet.png").shape == (2 * CELL + 3 * GAP, 2 * CELL + 3 * GAP, 3)


@pytest.mark.parametrize("arguments, message", [(["data"], "no .cfg file"), (["tiny.cfg", "x.weights"], "do not change")])
def test_the_command_refuses(tmp_path, monkeypatch, arguments, message):
    tiny_job.write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["data", "preview", *arguments])
    assert result.exit_code == 2 and message in result.output
