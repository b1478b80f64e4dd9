"""scripts/bench_gpu.py: on the stand-in GPU it measures nothing, but does everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import hostcuda
from tests.backends import ON_REAL_GPU, why_no_gpu

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from gpu_bench.jobs import Limits, Subject, convolutions  # noqa: E402
from gpu_bench.report import OURS, PEER, Entry, Results, page  # noqa: E402

TINY = """
[net]
width=16
height=16
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[convolutional]
filters=18
size=1
activation=linear
[yolo]
mask=0,1,2
anchors=4,4, 8,8, 16,16
classes=1
num=3
"""


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.cfg"
    path.write_text(TINY)
    return path


@pytest.mark.cuda
@pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")
def test_every_part_runs(cfg: Path, tmp_path: Path) -> None:
    target, text = tmp_path / "figures.json", tmp_path / "page.md"
    command = [sys.executable, str(ROOT / "scripts" / "bench_gpu.py"), "--smoke", "--network", str(cfg), "--size", "16",
               "--precision", "fp32", "--precision", "fp16", "--json", str(target), "--markdown", str(text)]  # fmt: skip
    environment = dict(os.environ) if ON_REAL_GPU else hostcuda.environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(target.read_text())
    ours = [entry for entry in found["entries"] if entry["who"] == OURS]
    assert [entry["reason"] for entry in ours] == [""] * 14
    parts = Counter((entry["part"], entry["precision"]) for entry in ours)
    assert parts == {(part, precision): count for precision in ("fp32", "fp16")
                     for part, count in (("inference", 1), ("training", 1), ("kernels", 5))}  # fmt: skip
    assert all(entry["seconds"] > 0 for entry in ours)
    assert text.read_text() in done.stdout
    assert "| tiny | 16 x 16 | 1 | fp32 | " in text.read_text()


def test_distinct_convolutions_are_counted(cfg: Path) -> None:
    three_by_three, pointwise = convolutions([Subject("a", cfg), Subject("b", cfg), Subject("c", cfg, 32)], 2)[:2]
    assert [c.uses for c in (three_by_three, pointwise)] == [(("c", 1),)] * 2
    same = convolutions([Subject("a", cfg), Subject("b", cfg)], 2)
    assert [c.uses for c in same] == [(("a", 1), ("b", 1))] * 2
    c = next(c for c in same if c.geometry.size == 3)
    assert c.passes == ("forward", "backward_weights"), "nobody wants the gradient of pictures"
    assert c.operations == 2 * (2 * 16 * 16) * 4 * (3 * 3 * 3)
    assert c.bytes("fp16") == 2 * (2 * 3 * 16 * 16 + 2 * 4 * 16 * 16 + 4 * 3 * 3 * 3)
    # 110,592 operations and 15,760 bytes: a slow memory decides, a fast one does not.
    assert c.shortest("fp32", Limits(1e6, {"fp32": 1e9})) == pytest.approx(4 * 3692 / 1e6)
    assert c.shortest("fp32", Limits(1e12, {"fp32": 1e9})) == pytest.approx(c.operations / 1e9)
    assert c.shortest("tf32", Limits(1e12, {"fp32": 1e9})) is None


def test_the_page_compares_with_the_faster_of_pytorchs_ways() -> None:
    common = {"part": "training", "what": "a", "batch": 10, "precision": "fp16", "size": "8 x 8"}
    kernel = {"part": "kernels", "what": "k", "batch": 1, "precision": "tf32", "operation": "forward", "operations": 1e9}
    results = Results({"GPU": "one"}, Limits(2e12, {"tf32": 1e14}, "a guess"))
    results.entries = [
        Entry(**common, who=OURS, seconds=0.03, memory=5_000_000),
        Entry(**common, who=PEER, way="eager", seconds=0.04),
        Entry(**common, who=PEER, way="graph", seconds=0.02, memory=7_000_000),
        Entry(**common, who=PEER, way="compile", reason="no compiler"),
        Entry(**kernel, who=OURS, seconds=2e-5, shortest=1e-5, uses=(("a", 3),)),
        Entry(**kernel, who=PEER, seconds=1e-5, shortest=1e-5),
    ]
    text = page(results)
    half, other = Results(), Results()  # two runs, written to files and shown together
    half.environment, half.limits, half.entries, other.entries = results.environment, results.limits, results.entries[:2], results.entries[2:]
    joined = Results()
    for part in (half, other):
        joined.add(json.loads(json.dumps(part.as_json())))
    assert page(joined) == text
    assert "- limits (a guess): memory 2.00 TB/s, tf32 100.0 TFLOP/s" in text
    assert "| a | 8 x 8 | 10 | fp16 | 30.000 | 333 | 5 | 20.000 | 500 | 7 | graph | 1.50 |" in text
    assert "| a | tf32 | forward | 0.060 | 50.00 | 0.030 | 100.00 | 2.00 |" in text
    assert "| k | 1 | tf32 | forward | 20.0 | 50.00 | 50 % | 10.0 | 100.00 | 100 % | 2.00 |" in text
    assert "- PyTorch compile training fp16: no compiler (a)" in text
