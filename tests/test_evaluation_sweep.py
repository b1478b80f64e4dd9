from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkpy.data.dataset import Dataset
from darkpy.evaluation import evaluate
from darkpy.evaluation.sweep import Looked, sweep
from darkpy.network import Network
from tests.backends import why_no_gpu
from tests.tiny_job import write_cfg, write_pictures

NAMES = ["bright", "dark"]
REGION = "[region]\nanchors=1,1, 2,2\nclasses=2\nnum=2\ncoords=4\nsoftmax=1\n"
DETECTION = "[connected]\noutput=126\nactivation=linear\n\n[detection]\nclasses=2\nside=3\nnum=2\nsqrt=1\n"


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DARKPY_NUMBA", "0")
    write_pictures(tmp_path / "pictures", 5)
    return tmp_path / "pictures"


def data_set(folder: Path) -> Dataset:
    return Dataset("drawn", NAMES, sorted(folder.glob("*.png")))


def network(folder: Path, head: str = "", width: int = 64, height: int = 32, device: str = "numpy") -> Network:
    """A small network with random weights; the head of the tiny job, or another one."""
    text = write_cfg(folder).read_text()
    text = text.replace("width=32", f"width={width}").replace("height=32", f"height={height}")
    if head:
        text = text[: text.index("[convolutional]\nfilters=14" if "[detection]" in head else "[yolo]")] + head
    if "[detection]" in head:
        text = text.replace("output=126", f"output={9 * (2 + 2 * 5)}")
    (folder / "net.cfg").write_text(text)
    net = Network.from_cfg(folder / "net.cfg", device=device, seed=3, batch=2)
    net.backend.scaled_copy(net.parameters.values, net.parameters.values, 0.2)  # without running statistics everything is far too large
    return net


def rows_of(looked: Looked, *, turned: bool = False) -> np.ndarray:
    """Boxes, objectness and probabilities as rows, of the mirror image if ``turned``."""
    assert looked.found is not None
    rows = np.column_stack([looked.found.boxes, looked.found.objectness, looked.found.probabilities])
    if turned:
        rows[:, 0] = 1 - rows[:, 0]
    return rows


def same_rows(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether each row of both has its like in the other, in whatever order."""
    if one.shape != other.shape:
        return False
    distance = np.abs(one[:, None] - other[None]).max(axis=2)
    return bool(distance.min(axis=0).max() < 1e-4 and distance.min(axis=1).max() < 1e-4)


@pytest.mark.parametrize("head", ["", REGION, DETECTION])
@pytest.mark.parametrize("letter_box", [False, True])
def test_with_mirror_images_a_mirrored_picture_gives_the_mirrored_boxes(pictures, head, letter_box):
    net = network(pictures.parent, head)
    mirrored = pictures.parent / "mirrored"
    mirrored.mkdir()
    for path in pictures.glob("*.png"):
        cv2.imwrite(str(mirrored / path.name), cv2.imread(str(path))[:, ::-1])
        (mirrored / path.name).with_suffix(".txt").write_text("")
    options = {"thresh": 0.005, "letter_box": letter_box}
    plain = [list(sweep(net, data_set(folder), **options)) for folder in (pictures, mirrored)]
    both = [list(sweep(net, data_set(folder), tta=True, **options)) for folder in (pictures, mirrored)]
    for straight, other in zip(*both):
        assert len(rows_of(straight)) > 3
        assert same_rows(rows_of(straight), rows_of(other, turned=True))
    # It makes a difference, that is, the network itself is not symmetric.
    assert not same_rows(rows_of(plain[0][0]), rows_of(plain[1][0], turned=True))


def test_the_mean_is_that_of_both_pictures(pictures):
    """A picture that is its own mirror image, seen by a network that is not: both halves of the mean are known."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[:, :20] = np.random.default_rng(0).integers(0, 255, (30, 20, 3))
    image[:, 20:] = image[:, 19::-1]
    for path in pictures.glob("*.png"):
        cv2.imwrite(str(path), image)
    net = network(pictures.parent)
    one = next(sweep(net, data_set(pictures), thresh=-1.0)).found
    both = next(sweep(net, data_set(pictures), thresh=-1.0, tta=True)).found
    assert one is not None and both is not None
    turned = one.objectness.reshape(8, 16, 2)[:, ::-1].reshape(-1)
    np.testing.assert_allclose(both.objectness, (one.objectness + turned) / 2, rtol=1e-5)
    turned = one.boxes.reshape(8, 16, 2, 4)[:, ::-1].reshape(-1, 4) * [-1, 1, 1, 1] + [1, 0, 0, 0]
    np.testing.assert_allclose(both.boxes, (one.boxes + turned) / 2, rtol=1e-4, atol=1e-6)


def test_a_real_network_gives_the_same_numbers_for_any_batch(pictures):
    net = network(pictures.parent)
    results = [evaluate(net, data_set(pictures), batch=batch) for batch in (1, 2, 3, 5)]
    assert len(results[0].predictions) > 100
    for result in results[1:]:
        assert result.to_dict() == results[0].to_dict()


def test_labels_need_not_be_read(pictures):
    for path in pictures.glob("*.txt"):
        path.unlink()
    (pictures / "0.xml").write_text("<broken")
    dataset = data_set(pictures)
    assert [looked.problem is None for looked in sweep(network(pictures.parent), dataset, thresh=0.1)][:2] == [False, True]
    dataset = data_set(pictures)
    looking = list(sweep(network(pictures.parent), dataset, thresh=0.1, labelled=False))
    assert all(looked.found is not None for looked in looking) and dataset.problems == []
    assert [looked.index for looked in looking] == list(range(5)) and (looking[0].width, looking[0].height) == (40, 30)


@pytest.mark.parametrize("tta", [False, True])
def test_suppression_may_be_left_out(pictures, tta):
    net = network(pictures.parent)
    counts = []
    for nms in (0, 0.3):
        looked = next(sweep(net, data_set(pictures), thresh=0.01, nms=nms, tta=tta))
        assert looked.found is None and looked.kept is not None
        counts.append(len(looked.kept.boxes))
    looked = next(sweep(net, data_set(pictures), thresh=0.01, tta=tta))
    assert looked.found is not None and looked.kept is None
    assert 0 < counts[1] < counts[0] == np.count_nonzero(looked.found.probabilities)


@pytest.mark.cuda
@pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")
@pytest.mark.parametrize("letter_box", [False, True])
@pytest.mark.parametrize("nms", [None, 0.45])
def test_the_gpu_finds_the_same(pictures, nms, letter_box):
    """It resizes the pictures and suppresses boxes itself; one picture cannot be read."""
    (pictures / "1.png").write_bytes(b"no picture")
    found = []
    for device in ("numpy", "gpu"):
        net = network(pictures.parent, device=device)
        found.append(list(sweep(net, data_set(pictures), thresh=0.05, nms=nms, letter_box=letter_box)))
    for one, other in zip(*found, strict=True):
        assert (one.index, one.width, one.height, one.problem) == (other.index, other.width, other.height, other.problem)
        ours, theirs = (looked.found or looked.kept or () for looked in (one, other))
        assert len(ours) == len(theirs) and (one.index == 1 or len(ours[0]) > 10)
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
