"""What all heads find in a batch after suppression: every backend gives what NumPy's operations, one by one, say."""

from __future__ import annotations

import numpy as np
import pytest

from darkpy.backends.base_heads import GaussianDecode, YoloPoint
from darkpy.backends.base_yolo import YoloDecode
from darkpy.boxes import Kept, Suppression
from darkpy.errors import InputError
from tests import test_backends_detection, test_backends_gaussian_yolo, test_backends_region
from tests.backends import BACKENDS, backend, fresh

OTHERS = [name for name in BACKENDS if name != "numpy"]
ANCHORS = np.array([(10, 14), (20, 18), (30, 40)], float)
PLAIN = Suppression(0.45)


def head(pictures: int, side: int, classes: int, seed: int = 0, steps: int = 0, new_coords: bool = True):
    """A head's output and settings; with ``steps`` values come in so few steps that many are equal."""
    generator = np.random.default_rng(seed)
    output = generator.uniform(0, 1, (pictures, len(ANCHORS), 5 + classes, side, side))
    if steps:
        output = np.round(output * steps) / steps
    if not new_coords:
        output[:, :, 2:4] = output[:, :, 2:4] * 2 - 1
    settings = YoloDecode(ANCHORS, classes, 64, 64, new_coords)
    return output.reshape(pictures, -1, side, side).astype(np.float32), settings


def find(device, heads, thresh=0.3, suppression=PLAIN, shares=None) -> list[Kept]:
    outputs, settings = zip(*heads)
    shares = np.ones((len(outputs[0]), 2)) if shares is None else np.array(shares)
    return device.detections(list(outputs), list(settings), shares, thresh, suppression)


def same(found: list[Kept], expected: list[Kept], tolerance: float = 0.0) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.class_ids.tolist() == theirs.class_ids.tolist()
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    "suppression",
    [PLAIN, Suppression(0.0), Suppression(0.3, "greedynms"), Suppression(0.2, "diounms", 0.8), Suppression(1.0)],
    ids=str,
)
def test_heads_and_pictures_together(name, suppression):
    """Equal boxes and probabilities among them; the pictures lie differently in the input."""
    heads = [head(3, 4, 3, seed=1, steps=4), head(3, 7, 3, seed=2, steps=4)]
    heads[0][0][1] = heads[1][0][1] = 0  # nothing in this picture
    shares = [(1, 1), (0.5, 1), (1, 0.3)]
    expected = find(backend("numpy"), heads, 0.2, suppression, shares)
    assert len(expected[0].boxes) > 20 and len(expected[1].boxes) == 0 and len(expected[2].boxes) > 20
    same(find(backend(name), heads, 0.2, suppression, shares), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_boxes_with_exponents(name):
    heads = [head(2, 6, 2, new_coords=False)]
    same(find(backend(name), heads), find(backend("numpy"), heads), 1e-6)


def gaussian_head(pictures: int, side: int, point: YoloPoint):
    """Rather certain ones."""
    output = test_backends_gaussian_yolo.random_output(pictures, len(ANCHORS), side, side, seed=4)
    output.reshape(pictures, len(ANCHORS), -1, side, side)[:, :, 1:8:2] *= 0.1
    return output, GaussianDecode(ANCHORS, 3, 64, 64, point=point)


def region_head(pictures: int, kind: str, **options):
    """The output as the forward pass gives it, some of it sure."""
    settings = test_backends_region.settings_for(**test_backends_region.KINDS[kind], **options)
    x = 3 * test_backends_region.random_input(pictures, 5, 6, seed=5)
    return test_backends_region.output_of("numpy", x, settings), settings


def detection_head(pictures: int, **options):
    """As after a convolution of 5 x 5 positions, whose channels lie last on a GPU."""
    settings = test_backends_detection.settings_for(**options)
    return test_backends_detection.random_output(pictures, settings).reshape(pictures, -1, 5, 5), settings


OTHER_HEADS = {
    **{f"gaussian {point.name}": [gaussian_head(3, 6, point)] for point in YoloPoint},
    "gaussian beside yolo": [head(3, 4, 3, new_coords=False), gaussian_head(3, 6, YoloPoint.CENTER)],
    "region": [region_head(3, "plain")],
    "region softmax": [region_head(3, "softmax"), region_head(3, "softmax", classfix=-1)],
    "region tree": [region_head(3, "tree", classfix=-1)],
    "detection": [detection_head(3), detection_head(3, sqrt=True)],
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("thresh", [0.1, 0.55])
@pytest.mark.parametrize("kind", OTHER_HEADS)
def test_other_heads(name, kind, thresh):
    """The pictures lie differently in the input. A tree tells classes above one half, whatever the threshold."""
    shares = [(1, 1), (0.5, 1), (1, 0.3)]
    expected = find(backend("numpy"), OTHER_HEADS[kind], thresh, PLAIN, shares)
    assert all(len(kept.boxes) > 2 for kept in expected)
    same(find(backend(name), OTHER_HEADS[kind], thresh, PLAIN, shares), expected, 2e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_more_boxes_of_a_class_than_are_sorted_at_once(name):
    heads = [head(1, 30, 1, seed=3)]
    assert len(ANCHORS) * 30 * 30 > 2048
    for suppression in (PLAIN, Suppression(0.95)):
        same(find(backend(name), heads, -1.0, suppression), find(backend("numpy"), heads, -1.0, suppression))


@pytest.mark.parametrize("name", OTHERS)
def test_boxes_that_are_no_numbers_stand_side_by_side(name):
    output, settings = head(1, 4, 2, seed=5)
    values = output.reshape(len(ANCHORS), 7, 4, 4)
    values[0, :2] = np.nan
    values[1, 2] = np.inf
    values[2, 2:4] = 0
    values[:, 5:] = np.maximum(values[:, 5:], 0.5)
    values[0, 5, 0, 0] = np.nan
    with np.errstate(invalid="ignore"):
        same(find(backend(name), [(output, settings)]), find(backend("numpy"), [(output, settings)]))


@pytest.mark.cuda
@pytest.mark.parametrize("name", [name for name in OTHERS if name != "numba"])
def test_room_grows_and_all_is_done_again(name):
    device = fresh(name)
    device._device.candidates, device._device.results = 8, 2
    heads = [head(2, 5, 3)]
    same(find(device, heads), find(backend("numpy"), heads))
    candidates, results = device._device.candidates, device._device.results
    assert candidates > 8 and results > 2
    same(find(device, heads), find(backend("numpy"), heads))
    assert (device._device.candidates, device._device.results) == (candidates, results)


@pytest.mark.cuda
@pytest.mark.parametrize("name", [name for name in OTHERS if name != "numba"])
def test_the_host_waits_once(name, monkeypatch):
    device = fresh(name)._device
    outputs, settings = zip(head(2, 5, 3), head(2, 3, 3))
    arrays = [device.asarray(output) for output in outputs]
    copied = []
    to_host = device.to_host
    monkeypatch.setattr(device, "to_host", lambda array: copied.append(array.shape) or to_host(array))
    found = device.detections(arrays, list(settings), np.ones((2, 2)), 0.3, PLAIN)
    assert len(copied) == 1 and all(len(kept.boxes) for kept in found)


@pytest.mark.parametrize("name", BACKENDS)
def test_an_unknown_kind_is_refused(name):
    with pytest.raises(InputError, match="softnms"):
        find(backend(name), [head(1, 2, 1)], suppression=Suppression(0.4, "softnms"))  # type: ignore[arg-type]
