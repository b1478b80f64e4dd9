from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.errors import ConfigError, InputError
from darkpy.network import Network
from darkpy.summary import summarize
from tests.tiny_job import write_cfg

CONVOLUTION = "[convolutional]\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\nactivation=linear\n"


def test_rows_of_a_small_network(tmp_path: Path) -> None:
    summary = summarize(write_cfg(tmp_path), device="numpy")
    assert summary.input_shape == (3, 32, 32)
    assert [row.type for row in summary.rows] == ["convolutional", "maxpool", "convolutional", "yolo"]
    first, pool, last, head = summary.rows
    assert (first.filters, first.geometry, first.inputs, first.output) == (8, "3x3/2", ((3, 32, 32),), (8, 16, 16))
    assert first.parameters == 8 * 3 * 9 + 4 * 8
    assert first.operations == 2 * 3 * 9 * 8 * 16 * 16
    assert (pool.filters, pool.parameters, pool.operations) == (None, 0, 0)
    assert head.output == last.output == (14, 8, 8)
    assert summary.parameters == first.parameters + 14 * 8 + 14
    assert summary.operations == first.operations + last.operations


def test_receptive_field_follows_windows_strides_and_branches(tmp_path: Path) -> None:
    parts = [
        "[net]\nwidth=256\nheight=256\nchannels=3\n",
        CONVOLUTION.format(filters=4, size=3, stride=2),  # 0: 3
        CONVOLUTION.format(filters=4, size=3, stride=1),  # 1: 3 + 2 * 2
        "[maxpool]\nsize=2\nstride=2\n",  # 2: 7 + 1 * 2
        CONVOLUTION.format(filters=4, size=1, stride=1),  # 3: 9
        "[upsample]\nstride=2\n",  # 4: 9
        "[route]\nlayers=-1,0\n",  # 5: the larger of 9 and 3
        CONVOLUTION.format(filters=4, size=5, stride=1),  # 6: 9 + 4 * 2
    ]
    (tmp_path / "branches.cfg").write_text("\n".join(parts))
    rows = summarize(tmp_path / "branches.cfg", device="numpy").rows
    assert [row.receptive_field for row in rows] == [3, 7, 9, 9, 9, 9, 17]
    assert rows[5].sources == (4, 0)
    assert rows[5].inputs == ((4, 128, 128), (4, 128, 128))


def test_receptive_field_is_at_most_the_input(tmp_path: Path) -> None:
    convolutions = [CONVOLUTION.format(filters=1, size=7, stride=2)] * 3
    (tmp_path / "deep.cfg").write_text("\n".join(["[net]\nwidth=16\nheight=16\nchannels=1\n", *convolutions]))
    assert summarize(tmp_path / "deep.cfg", device="numpy").rows[-1].receptive_field == 16


def test_memory_plans_are_those_of_the_networks(tmp_path: Path) -> None:
    cfg = write_cfg(tmp_path)
    summary = summarize(cfg, device="numpy")
    assert summary.inference == Network.from_cfg(cfg, device="numpy").memory_plan()
    assert (summary.inference.batch, summary.inference.training) == (1, False)
    assert summary.training is not None
    assert (summary.training.batch, summary.training.training) == (2, True)
    larger = summarize(cfg, batch=16, device="numpy")
    assert larger.training is not None
    assert (larger.inference.batch, larger.training.batch) == (16, 16)
    assert larger.training.arena > summary.training.arena
    assert larger.training.optimizer == summary.training.optimizer > 0


def test_a_network_without_a_loss_has_no_plan_for_training(tmp_path: Path) -> None:
    (tmp_path / "plain.cfg").write_text(
        "[net]\nwidth=8\nheight=8\nchannels=3\n" + CONVOLUTION.format(filters=2, size=3, stride=1)
    )
    assert summarize(tmp_path / "plain.cfg", device="numpy").training is None


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch=0"):
        summarize(write_cfg(tmp_path), batch=0)
    with pytest.raises(ConfigError, match=r"filters=15 does not fit the \[yolo\]"):
        summarize(write_cfg(tmp_path, filters=15))
    with pytest.raises(ConfigError, match="did you mean 'tiny.cfg'"):
        summarize(tmp_path / "tinny.cfg")


@pytest.mark.parametrize(
    "cfg, layers, millions, billions", [("yolov3-tiny.cfg", 24, 8.86, 5.56), ("yolov4-tiny.cfg", 38, 6.06, 6.91)]
)
def test_published_networks(cfg: str, layers: int, millions: float, billions: float) -> None:
    summary = summarize(cfg, device="numpy")
    assert len(summary.rows) == layers
    assert summary.parameters / 1e6 == pytest.approx(millions, abs=0.005)
    assert summary.operations / 1e9 == pytest.approx(billions, abs=0.02)
