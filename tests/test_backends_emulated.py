"""The backend that rounds as a GPU does; what it has in common with one is tested beside it: see ROUNDING_DEVICES."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from darkpy.backends import create
from darkpy.backends.base import ConvolutionGeometry
from darkpy.cli.main import cli
from darkpy.errors import InputError
from darkpy.network import Network
from tests.backends import random
from tests.tiny_job import write_cfg, write_job

POINTWISE = ConvolutionGeometry(1)
SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "compare_precisions.py"


def convolved(precision: str, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """In the precision, and back in float32."""
    backend = create("emulated", precision=precision)
    out = backend.empty((len(x), len(weights), *x.shape[2:]), backend.activation_dtype)
    backend.convolution_forward(backend.asarray(x, backend.activation_dtype), weights, out, POINTWISE)
    return np.asarray(out, np.float32)


def test_fp32_is_the_cpu_s_own(tmp_path: Path) -> None:
    found = []
    for device in ("cpu", "emulated"):
        network = Network.from_cfg(write_cfg(tmp_path), training=True, device=device)
        truth = [np.array([[1, 0.5, 0.5, 0.3, 0.3]], np.float32)] * 4
        found.append([network.train_batch(random((4, 3, 32, 32)), truth) for _ in range(3)])
    assert found[0] == found[1]


def test_operands_of_tf32_have_ten_bits_and_ties_go_away_from_zero() -> None:
    tie = 1 + 2.0**-11
    x = np.array([tie, -tie, tie - 2.0**-20, np.inf], np.float32).reshape(1, 1, 2, 2)
    found = convolved("tf32", x, np.full((1, 1, 1, 1), 3 + 2.0**-12, np.float32)).ravel()
    step = 1 + 2.0**-10
    np.testing.assert_array_equal(found, np.float32(3) * np.array([step, -step, 1, np.inf], np.float32))


def test_what_is_too_large_for_fp16_is_infinite() -> None:
    """65520 lies in the middle between the largest number, 65504, and the one that would come next."""
    x = np.array([[2, 2, -4, 0], [15, 16, 0, 3]], np.float32).reshape(1, 2, 2, 2)
    found = convolved("fp16", x, np.array([32752, 1], np.float32).reshape(1, 2, 1, 1)).ravel()
    np.testing.assert_array_equal(found, [65504, np.inf, -np.inf, 3])


def test_a_convolution_with_a_shortcut_is_rounded_once() -> None:
    backend = create("emulated", precision="fp16")
    one = np.ones((1, 1, 1, 1), np.float32)
    x, residual = (backend.asarray(value * one, np.float16) for value in (1 + 3 * 2.0**-10, -1.0))
    out, weights = backend.empty(x.shape, np.float16), one * (1 + 3 * 2.0**-10)
    backend.convolution_residual_forward(x, weights, out, residual, POINTWISE)
    exact = (1 + 3 * 2.0**-10) ** 2 - 1
    assert out.item() == np.float16(exact) != np.float16(np.float16(1 + exact) - 1)


def test_arrays_given_twice_and_views_with_gaps() -> None:
    backend: Any = create("emulated", precision="fp16")
    wide = random((2, 4, 5, 6), dtype=np.float16)
    before = wide.copy()
    part = wide[:, 1:3]
    backend.add_forward(part, part, part, "relu")
    np.testing.assert_array_equal(part, np.maximum(2 * before[:, 1:3], 0))
    np.testing.assert_array_equal(wide[:, [0, 3]], before[:, [0, 3]])
    x, both = np.full((1, 1, 2, 2), 3, np.float16), np.full((1, 1, 2, 2), 7, np.float16)
    backend.multiply_backward(x, x, x, both[:], both[:], (False, True))
    np.testing.assert_array_equal(both, 9 + 9)


def test_it_computes_in_float32() -> None:
    with pytest.raises(InputError, match="a GPU computes in float32, not float64"):
        create("emulated", np.float64)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job as working folder, for the plain CPU backend."""
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    write_job(tmp_path, max_batches=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_trains_with_it(job: Path) -> None:
    command = ["detector", "train", "tiny.cfg", "--amp", "--device", "emulated", "--no-report", "--workers", "0"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "emulated backend" in result.output
    assert '"loss_scale"' in Path("runs/tiny-1/log.jsonl").read_text()


def test_the_script_compares_precisions(job: Path) -> None:
    pytest.importorskip("ml_dtypes")
    arguments = ["tiny.cfg", "--seeds", "4", "--out", "compared"]
    result = CliRunner().invoke(runpy.run_path(str(SCRIPT))["main"], arguments, catch_exceptions=False)
    rows = [line.strip("| ").split(" | ") for line in result.output.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["precision", "---", "fp32", "tf32", "fp16", "bf16"]
    assert len({row[6] for row in rows[2:]}) > 1
    assert rows[4][4].isdecimal()
    assert Path("compared/tiny-bf16-4/final.weights").exists()
