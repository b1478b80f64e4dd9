"""Updates under way: losses read late, nothing damaged by what is not finite, and a host that does not wait."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkpy.config.cfg import read_cfg
from darkpy.errors import NotFinite, TrainingError
from darkpy.network import Network
from darkpy.training import Callback, Outcome, Record, Trainer
from darkpy.training.trainer import AHEAD
from tests import hostcuda
from tests.backends import BACKENDS, ON_REAL_GPU, why_no_gpu
from tests.tiny_job import write_cfg

on_gpu = [pytest.mark.cuda, pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")]
on_stand_in = pytest.mark.skipif(ON_REAL_GPU, reason="the stand-in counts how often it is waited for")

CLASSIFIER = """\
[net]
batch=4
subdivisions=2
width=8
height=8
channels=3
learning_rate=.1
max_batches=9
adam=1

[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=mish

[dropout]
probability=.3

[avgpool]

[connected]
output=5
activation=linear

[softmax]
groups=1
"""


def detector(folder: Path, device: str, **cfg: float) -> Network:
    return Network(read_cfg(write_cfg(folder, **cfg)), training=True, device=device)


def classifier(folder: Path, device: str) -> Network:
    path = folder / "classes.cfg"
    path.write_text(CLASSIFIER)
    return Network(read_cfg(path), training=True, device=device)


RARE = """\
[net]
batch=4
subdivisions=2
width=32
height=32
channels=3
learning_rate=.001
max_batches=9

[convolutional]
filters=8
size=8
stride=8
activation=mish

[normalization]
alpha=.1

[dropout]
probability=.3
dropblock=1
dropblock_size_abs=3

[local]
filters=6
size=3
pad=1
activation=leaky

[l2norm]

[convolutional]
filters=14
size=1
activation=linear

[yolo]
mask=0,1
anchors=8,8, 16,16
classes=2
num=2

[route]
layers=-3

[contrastive]
yolo_layer=-2
"""


def rare(folder: Path, device: str) -> Network:
    """Sections that few networks have."""
    path = folder / "rare.cfg"
    path.write_text(RARE)
    return Network(read_cfg(path), training=True, device=device)


def batch(number: int, size: int = 32) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pictures and objects, other ones for every number; as many objects as the number, but for the last picture."""
    rng = np.random.default_rng(number)
    objects = [np.column_stack([rng.integers(0, 2, number), rng.uniform(0.2, 0.8, (number, 4))]) for _ in range(3)]
    return rng.random((4, 3, size, size), np.float32), [*objects, np.zeros((0, 5))]


def views(number: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The same with an identity for every object."""
    x, truth = batch(number)
    return x, [np.column_stack([objects, np.arange(len(objects)) // 2]) for objects in truth]


#: Filters of the convolution before a head, and the head.
HEADS = {
    "Gaussian_yolo": (22, "[Gaussian_yolo]\nclasses=2\nnum=2\nanchors=8,8, 16,16\niou_thresh=.2\niou_loss=ciou\n"),
    "region": (14, "[region]\nclasses=2\nnum=2\nanchors=1,1, 2,2\nsoftmax=1\n"),
    "detection": (7, "[detection]\nclasses=2\nside=8\nnum=1\nrandom=1\nsqrt=1\n"),
}


def with_head(folder: Path, head: str) -> Network:
    """A detector with that head, on the GPU."""
    path = write_cfg(folder, filters=HEADS[head][0])
    path.write_text(path.read_text().partition("[yolo]")[0] + HEADS[head][1])
    return Network(read_cfg(path), training=True, device="cuda")


def labels(number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    return rng.random((4, 3, 8, 8), np.float32), np.eye(5, dtype=np.float32)[rng.integers(0, 5, 4)]


def values(network: Network) -> np.ndarray:
    return np.array(network.parameters.values)


KINDS = pytest.mark.parametrize("make, data", [(detector, batch), (classifier, labels), (rare, views)])


@KINDS
@pytest.mark.parametrize("device", BACKENDS)
def test_losses_read_late_are_those_read_at_once(tmp_path: Path, device: str, make: Any, data: Any) -> None:
    late, at_once = make(tmp_path, device), make(tmp_path, device)
    updates = [late.start_update(*data(number)) for number in range(5)]
    expected = [at_once.train_batch(*data(number)) for number in range(5)]
    assert [update.read() for update in updates] == expected
    assert all(update.is_known for update in updates)
    assert (values(late) == values(at_once)).all()
    assert late.heads[-1].loss_parts == at_once.heads[-1].loss_parts


@KINDS
@pytest.mark.parametrize("device", BACKENDS)
def test_nothing_is_updated_from_the_first_bad_loss_on(tmp_path: Path, device: str, make: Any, data: Any) -> None:
    network, other = make(tmp_path, device), make(tmp_path, device)
    updates = []
    with pytest.raises(NotFinite) as caught:  # at once, or when read
        for number in range(4):
            x, truth = data(number)
            if number == 2:
                x[3, 0, 4, 4] = np.nan
            updates.append(network.start_update(x, truth))
        before = values(network)
        for update in updates:
            update.read()
    assert (caught.value.what, caught.value.pictures) == ("loss", (2, 4))
    assert network.iteration == 2
    for number in range(2):
        other.train_batch(*data(number))
    assert (values(network) == values(other)).all()
    if device == "cuda":
        assert (before == values(other)).all(), "before anybody knew"
    # And it goes on from there.
    assert network.train_batch(*data(7)) == other.train_batch(*data(7))
    assert (values(network) == values(other)).all()


@pytest.mark.parametrize("device", BACKENDS)
def test_nothing_is_updated_by_a_bad_gradient(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKPY_CUDA_GRAPHS", "0")  # a graph would not notice what is done to the layer
    network = detector(tmp_path, device)
    network.train_batch(*batch(1))
    before = values(network)
    backward = network.layers[0].backward

    def spoil(*arguments: Any) -> None:
        backward(*arguments)
        network.backend.fill(network.layers[0].grad_biases[1:2], math.inf)

    monkeypatch.setattr(network.layers[0], "backward", spoil)
    with pytest.raises(NotFinite) as caught:
        network.train_batch(*batch(2))
    assert (caught.value.what, caught.value.pictures) == ("gradient", (0, 4))
    assert network.iteration == 1
    assert (values(network) == before).all()


class TestWaiting:
    pytestmark = [*on_gpu, on_stand_in]

    @KINDS
    def test_updates_do_not_wait_until_they_are_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, data: Any
    ) -> None:
        network = make(tmp_path, "cuda")
        network.train_batch(*data(1))
        monkeypatch.setenv("HOSTCUDA_BUSY", "1")
        before = hostcuda.waits()
        updates = [network.start_update(*data(number)) for number in range(5)]
        assert hostcuda.waits() == before
        assert not any(update.is_known for update in updates)
        updates[-1].wait()
        assert all(math.isfinite(update.read()) for update in updates)
        assert hostcuda.waits() == before + 1, "those before the last one are there then"

    @pytest.mark.parametrize("head", HEADS)
    def test_no_head_is_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
        """One by one, while it is recorded, and launched as one."""
        network = with_head(tmp_path, head)
        monkeypatch.setenv("HOSTCUDA_BUSY", "1")
        before = hostcuda.waits()
        updates = [network.start_update(*batch(number)) for number in range(4)]
        assert hostcuda.waits() == before
        losses = [update.read() for update in updates]
        assert len(set(losses)) == 4 and all(math.isfinite(loss) for loss in losses)

    def test_a_pass_that_is_read_at_once_leaves_no_alarm(self, tmp_path: Path) -> None:
        network = detector(tmp_path, "cuda")
        x, truth = batch(1)
        x[0] = np.nan
        network.forward(x[:2])
        assert math.isnan(network.loss(truth[:2]))
        before = values(network)
        network.train_batch(*batch(2))
        assert (values(network) != before).any()


class Batches:
    """The batches of :func:`batch`; that of one iteration has a NaN in its third picture."""

    def __init__(self, bad: int | None = None, can_repeat: bool = True) -> None:
        self.bad = bad
        if can_repeat:
            self.again = self.make

    def __iter__(self) -> Any:
        iteration = 0
        while True:
            yield self.make(iteration)
            iteration += 1

    def make(self, iteration: int) -> Any:
        x, truth = batch(iteration)
        if iteration == self.bad:
            x[2, 1, 3, 3] = np.nan
        return type("Batch", (), {"x": x, "truth": truth, "sources": [(10 * iteration + place,) for place in range(4)]})


class Patient(Callback):
    """Does not mind when it is told, but for some iterations."""

    def __init__(self, due: tuple[int, ...] = ()) -> None:
        self.due = due
        self.records: list[Record] = []
        self.told_at: list[int] = []
        self.updates: list[int] = []

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        return iteration in self.due

    def after_update(self, trainer: Trainer, iteration: int) -> None:
        self.updates.append(iteration)

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        self.records.append(record)
        self.told_at.append(trainer.network.iteration)


class TestTrainer:
    pytestmark = [*on_gpu, on_stand_in]

    @pytest.fixture
    def busy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOSTCUDA_BUSY", "1")

    def test_callbacks_are_told_of_every_iteration_some_of_them_late(self, tmp_path: Path, busy: None) -> None:
        network = detector(tmp_path, "cuda", max_batches=AHEAD + 9)
        callback, expected = Patient(due=(4,)), Patient(due=tuple(range(99)))
        assert Trainer(network, Batches(), [callback]).run() is Outcome.FINISHED
        Trainer(detector(tmp_path, "cuda", max_batches=AHEAD + 9), Batches(), [expected]).run()
        assert callback.updates == list(range(1, AHEAD + 10))
        assert callback.told_at[:4] == [4] * 4
        half = AHEAD // 2
        assert callback.told_at[4:] == [AHEAD + 4] * half + [AHEAD + 9] * (half + 5)
        for record, other in zip(callback.records, expected.records, strict=True):
            for name in ("iteration", "loss", "average", "box", "objectness", "classification", "rate", "width"):
                assert getattr(record, name) == getattr(other, name), name

    def test_a_training_waits_when_a_loss_is_read_only(self, tmp_path: Path, busy: None) -> None:
        network = detector(tmp_path, "cuda", max_batches=4 * AHEAD)
        before = hostcuda.waits()
        Trainer(network, Batches(), [Patient()]).run()
        # At iterations 10, 15, ... 35, and at the end.
        assert hostcuda.waits() - before == 6 + 1

    @pytest.mark.parametrize("can_repeat", [True, False])
    def test_pictures_and_iteration_of_a_bad_loss_are_named_later(
        self, tmp_path: Path, busy: None, can_repeat: bool
    ) -> None:
        network, other = (detector(tmp_path, "cuda", max_batches=99) for _ in range(2))
        callback = Patient()
        pictures = "picture 32" if can_repeat else "picture 32, picture 33"
        place = "; the pictures themselves have such values" if can_repeat else ""
        message = rf"^iteration 4: the loss is NaN or infinite{place}; the pictures: {pictures}\. "
        with pytest.raises(TrainingError, match=message):
            Trainer(network, Batches(3, can_repeat), [callback]).run()
        assert [record.iteration for record in callback.records] == [1, 2, 3]
        assert callback.updates[-1] > 4
        assert network.iteration == 3
        for number in range(3):
            other.train_batch(*batch(number))
        assert (values(network) == values(other)).all()
