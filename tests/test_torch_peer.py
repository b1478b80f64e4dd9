"""The PyTorch networks that the benchmarks compare with: they compute what darkpy computes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from darkpy.config.cfg import Entry, parse_cfg, read_cfg
from tests.conftest import SHARED

ROOT = Path(__file__).resolve().parents[1]

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/torch_peer.py cannot be tested")
sys.path.insert(0, str(ROOT / "scripts"))

from torch_loss import YoloLoss, complete_overlaps, overlaps, packed  # noqa: E402
from torch_peer import Peer, Unsupported, largest_difference  # noqa: E402


def at(side: int, path: Path):
    config = read_cfg(path)
    others = [entry for entry in config.net.entries if entry.key not in ("width", "height")]
    entries = (Entry("width", str(side), 1), Entry("height", str(side), 1), *others)
    return replace(config, net=replace(config.net, entries=entries))


@pytest.mark.parametrize(
    "path", [ROOT / "cfg" / "yolov3-tiny.cfg", ROOT / "cfg" / "yolov4-tiny.cfg", ROOT / "cfg" / "yolov4.cfg",
             SHARED / "zoo" / "yolov7.cfg"], ids=lambda path: path.stem)  # fmt: skip
def test_the_outputs_are_darkpys(path):
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    assert largest_difference(at(64, path)) < 1e-5


def test_what_has_no_counterpart_is_named():
    text = "[net]\nwidth=8\nheight=8\nchannels=3\n[avgpool]\n"
    with pytest.raises(Unsupported, match=r"no counterpart of \[avgpool\]"):
        Peer(parse_cfg(text))


def test_overlaps():
    a, b = torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([[0.6, 0.5, 0.2, 0.2]])
    assert overlaps(a, a).item() == pytest.approx(1)
    assert overlaps(a, b).item() == pytest.approx(1 / 3)
    assert complete_overlaps(a, b).item() == pytest.approx(1 / 3 - 0.01 / (0.09 + 0.04))


@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov4-tiny"])
def test_the_loss_teaches_a_network(name):
    """A few steps on one object make the cost fall, and the place of the object become an object."""
    torch.manual_seed(0)
    peer = Peer(at(64, ROOT / "cfg" / f"{name}.cfg")).train()
    loss = YoloLoss(peer.heads, 64, 64)
    pictures = torch.rand(2, 3, 64, 64)
    truth = torch.from_numpy(packed([np.array([[3, 0.4, 0.6, 0.9, 0.9]], np.float32), np.zeros((0, 5))], 4))
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.01, momentum=0.9)
    costs = []
    for _ in range(12):
        optimizer.zero_grad()
        cost = loss(peer(pictures), truth)
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    assert np.isfinite(costs).all()
    assert costs[-1] < costs[0] / 2


def test_folding_batch_normalisation_changes_nothing():
    torch.manual_seed(0)
    peer = Peer(at(64, ROOT / "cfg" / "yolov4-tiny.cfg"))
    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    peer.eval()
    pictures = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before = peer(pictures)
        peer.fold()
        after = peer(pictures)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in peer.modules())
    for a, b in zip(before, after):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_benchmark_s_side_of_pytorch():
    """On the CPU: every job gives a time, or a reason; graphs are for GPUs."""
    from gpu_bench.jobs import KernelJob, NetworkJob, Subject, convolutions
    from gpu_bench.torch_side import TorchSide

    side = TorchSide("cpu", True)
    subject = Subject("yolov4-tiny", ROOT / "cfg" / "yolov4-tiny.cfg", 32)
    for training in (False, True):
        found = side.network(NetworkJob(subject, training, (2,), "fp32", 0.0), "eager")
        assert found[2].seconds > 0
        refused = side.network(NetworkJob(subject, training, (2,), "fp32", 0.0), "graph")
        assert refused == {2: "there are no CUDA graphs without a GPU"}
    c = convolutions([subject], 1)[0]
    assert all(side.kernel(KernelJob(c, name, "fp32", 0.0, 0)) > 0 for name in c.passes)
