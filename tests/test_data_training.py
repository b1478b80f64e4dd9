"""The loader at work: what a cfg says of its pictures reaches the network, and it can learn from it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from darkpy.data.pictures import network_input, read_picture
from darkpy.detection import raw_detections
from darkpy.evaluation.sweep import sweep
from darkpy.network import Network
from darkpy.training import TrainingSettings
from darkpy.training.preparation import Prepared, prepare
from tests import tiny_job

CRNN = """\
[crnn]
batch_normalize=1
size=3
pad=1
output=8
hidden=4
activation=leaky

"""

CONV_LSTM = """\
[conv_lstm]
batch_normalize=1
size=3
pad=1
output=8
activation=linear

"""

CONTRASTIVE = """
[route]
layers=-2

[contrastive]
yolo_layer=-2
"""


def prepared(folder: Path, keys: str, before_head: str = "", after: str = "") -> Prepared:
    cfg = tiny_job.write_job(folder)
    text = cfg.read_text().replace("max_batches=6\n", f"max_batches=6\n{keys}")
    text = text.replace("[convolutional]\nfilters=14", f"{before_head}[convolutional]\nfilters=14") + after
    cfg.write_text(text)
    settings = TrainingSettings(cfg=cfg, data=folder / "data" / "tiny.yaml", device="numpy", workers=0, measure=False)
    return prepare(settings, lambda line: None)


def train(job: Prepared, iterations: int) -> tuple[list[float], list]:
    """Losses and batches of the first iterations."""
    losses, seen = [], []
    with job.loader(lambda problem: None) as loader:
        for batch in islice(loader, iterations):
            losses.append(job.network.train_batch(batch.x, batch.truth))
            seen.append((batch.x.copy(), list(batch.truth), list(batch.indices)))
    return losses, seen


@pytest.mark.parametrize(
    "keys",
    ["mosaic=1", "mosaic=1\nletter_box=1", "mixup=1", "blur=1\ngaussian_noise=30", "angle=20\nrotate_boxes=1"],
)
def test_augmentation_reaches_the_network(tmp_path, keys):
    losses, seen = train(prepared(tmp_path, f"{keys}\n"), 4)
    _, without = train(prepared(tmp_path, ""), 4)
    assert np.isfinite(losses).all()
    assert [indices for _, _, indices in seen] == [indices for _, _, indices in without]
    assert any(not np.array_equal(x, other) for (x, _, _), (other, _, _) in zip(seen, without))


def test_angle_alone_changes_nothing(tmp_path):
    """As in Darknet: published files have it, and their networks were trained without."""
    _, seen = train(prepared(tmp_path, "angle=30\n"), 1)
    _, without = train(prepared(tmp_path, ""), 1)
    assert np.array_equal(seen[0][0], without[0][0])


def test_contrastive_learns_from_two_views(tmp_path):
    job = prepared(tmp_path, "contrastive=1\ncontrastive_jit_flip=1\n", after=CONTRASTIVE)
    losses, seen = train(job, 3)
    assert np.isfinite(losses).all()
    head = job.network.layers[-1]
    assert head.name == "contrastive" and np.asarray(head.grad_output).any()
    assert all(indices[::2] == indices[1::2] for _, _, indices in seen)


@pytest.mark.parametrize("layer", [CRNN, CONV_LSTM], ids=["crnn", "conv_lstm"])
def test_recurrent_detectors_learn_from_sequences(tmp_path, layer):
    keys = "track=1\ntime_steps=3\naugment_speed=1\nsequential_subdivisions=1\n"
    job = prepared(tmp_path, keys, before_head=layer)
    before = job.network.parameters.values.copy()
    losses, seen = train(job, 3)
    assert np.isfinite(losses).all() and job.network.iteration == 3
    # Every parameter of the recurrent layer has learned.
    for slot in job.network.parameters.slots:
        assert (job.network.parameters.values != before)[slot.start : slot.stop].any(), slot.parameter.name
    for x, truth, indices in seen:
        assert len(x) == len(truth) == 4 * 3
        # Two subdivisions of two sequences and three steps; each sequence goes on in the second one.
        columns = np.reshape(indices, (6, 2)).T
        assert all((np.diff(column) % 6 == 1).all() for column in columns)


def test_recurrent_detectors_are_measured_frame_by_frame(tmp_path):
    """Each picture is seen with what is remembered of the ones before, whatever the batch and whatever was before."""
    job = prepared(tmp_path, "", before_head=CRNN)
    network = Network(job.config, batch=4, device="numpy", seed=1)
    expected = []
    for picture in job.train_set.pictures:
        network.forward(network_input(read_picture(picture), 32, 32))
        expected.append(raw_detections(network, 0, 0.0))
    for batch in (4, 1, 4):
        for looked, (boxes, objectness, _) in zip(sweep(network, job.train_set, thresh=0.0, batch=batch), expected):
            assert looked.found is not None
            assert np.array_equal(looked.found.objectness, objectness) and np.array_equal(looked.found.boxes, boxes)
    assert not np.array_equal(expected[0][1], expected[1][1])


def test_the_published_tracker_trains_on_a_list_of_frames(shared, tmp_path):
    """In shorter sequences and at a smaller size."""
    pictures = tiny_job.write_pictures(tmp_path / "frames", 30)
    for picture in pictures:
        labels = picture.with_suffix(".txt")
        labels.write_text(f"0{labels.read_text()[1:]}")
    (tmp_path / "train.txt").write_text("".join(f"{path}\n" for path in pictures))
    text = (shared / "zoo" / "yolov3-tiny_occlusion_track.cfg").read_text()
    changes = {"batch=8": "batch=1", "subdivisions=4": "subdivisions=1", "time_steps=20": "time_steps=4", "=416": "=32"}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    cfg = tmp_path / "track.cfg"
    cfg.write_text(text)
    (tmp_path / "track.yaml").write_text("train: train.txt\nnames: [square]\n")
    settings = TrainingSettings(cfg=cfg, data=tmp_path / "track.yaml", device="numpy", workers=0, measure=False)
    job = prepare(settings, lambda line: None)
    losses, ((x, _, indices),) = train(job, 1)
    assert np.isfinite(losses).all() and x.shape == (4, 3, 32, 32)
    jumps = np.diff(indices) % 30
    assert len(set(jumps.tolist())) == 1 and jumps[0] in (1, 2, 3)
