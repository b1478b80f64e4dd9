"""The loop and its callbacks, with a network of its own so that every number is known."""

from __future__ import annotations

import csv
import io
import math
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from darkpy import weights
from darkpy.config.cfg import read_cfg
from darkpy.errors import DataError, TrainingError
from darkpy.network import Network
from darkpy.training import Callback, Outcome, Record, Trainer
from darkpy.training.chart import Chart, Curves, draw_chart, loss_top
from darkpy.training.chart import _top as chart_top
from darkpy.training.checkpoint import Checkpoint
from darkpy.training.csv_log import CsvLog
from darkpy.training.evaluator import Evaluator, copy_parameters, iterations_between
from darkpy.training.interrupt import Interrupt
from darkpy.training.progress import Progress
from darkpy.training.run_folder import RunFolder
from darkpy.training.state import State
from darkpy.training.trainer import loss_parts
from tests.tiny_job import write_cfg


@dataclass
class FakeBatch:
    x: np.ndarray
    truth: Sequence[np.ndarray]
    sources: Sequence[Sequence[int]]


class Batches:
    """The same batch again and again."""

    def __init__(self, size: int = 32) -> None:
        self.closed = False
        self.size = size

    def __iter__(self) -> Iterator[FakeBatch]:
        truth = [np.array([[0, 0.5, 0.5, 0.4, 0.4]], np.float32)] * 4
        while True:
            yield FakeBatch(np.full((4, 3, self.size, self.size), 0.5, np.float32), truth, [(3,), (1, 2, 1), (2,), (0,)])

    def close(self) -> None:
        self.closed = True


class Notes(Progress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, line: str) -> None:
        self.messages.append(line)


class Recorder(Callback):
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.outcome: Outcome | None = None

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        self.records.append(record)

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        self.outcome = outcome


def evaluation(value: float) -> Any:
    return SimpleNamespace(scores={"mAP@50": value})


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(read_cfg(write_cfg(tmp_path)), training=True, device="numpy")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create("tiny", tmp_path / "run")


def losses_of(network: Network, values: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the head's loss be these values in both mini-batches of each iteration; all else is computed."""
    remaining = iter([value for value in values for _ in range(2)])
    [head] = network.heads
    compare = head.compare

    def replaced() -> float:
        compare()
        return next(remaining)

    monkeypatch.setattr(head, "compare", replaced)


def test_trains_to_max_batches_and_closes_the_batches(network: Network) -> None:
    recorder, batches = Recorder(), Batches()
    before = np.array(network.parameters.values)
    assert Trainer(network, batches, [recorder]).run() is Outcome.FINISHED
    assert [record.iteration for record in recorder.records] == [1, 2, 3, 4, 5, 6]
    assert network.seen == 6 * 4
    assert recorder.outcome is Outcome.FINISHED
    assert batches.closed
    assert not np.array_equal(before, network.parameters.values)


def test_goes_on_where_the_network_is(network: Network) -> None:
    network.seen = 4 * 4
    recorder = Recorder()
    Trainer(network, Batches(), [recorder]).run()
    assert [record.iteration for record in recorder.records] == [5, 6]


def test_a_finished_network_is_left_alone(network: Network) -> None:
    network.seen = 6 * 4
    recorder = Recorder()
    assert Trainer(network, Batches(), [recorder]).run() is Outcome.FINISHED
    assert recorder.records == []


def test_loss_is_per_picture_and_averaged_as_in_darknet(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    losses_of(network, [20, 10, 10, 10, 10, 10], monkeypatch)  # of mini-batches of two pictures
    recorder = Recorder()
    Trainer(network, Batches(), [recorder]).run()
    assert [record.loss for record in recorder.records[:3]] == [10, 5, 5]
    assert [record.average for record in recorder.records[:3]] == pytest.approx([10, 9.5, 9.05])


def test_parts_add_up_to_the_loss_of_a_single_mini_batch(network: Network) -> None:
    batch = next(iter(Batches()))
    network.forward(batch.x[:2])
    cost = network.loss(batch.truth[:2])
    parts = loss_parts(network)
    assert sum(part or 0 for part in parts) == pytest.approx(cost / 2)


def test_heads_without_parts_have_none() -> None:
    assert loss_parts(SimpleNamespace(heads=[object()])) == (None, None, None)  # type: ignore[arg-type]


def test_records_have_rate_size_and_speed(network: Network) -> None:
    recorder = Recorder()
    Trainer(network, Batches(), [recorder]).run()
    assert [record.rate for record in recorder.records[:3]] == pytest.approx([0.0005, 0.001, 0.001])
    last = recorder.records[-1]
    assert (last.width, last.height) == (32, 32)
    assert last.images_per_second == pytest.approx(4 / last.seconds_per_iteration)
    assert last.seconds >= recorder.records[0].seconds > 0
    assert 0 < last.waited < last.seconds


def test_time_for_which_a_device_is_waited_counts(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds for every update that is waited for, on a clock of its own; evaluating does not count."""
    now = [0.0]
    monkeypatch.setattr("darkpy.training.trainer.time", SimpleNamespace(perf_counter=lambda: now[0]))
    start = network.start_update

    class Slow:
        is_known = False

        def __init__(self, *arguments: Any) -> None:
            self.update = start(*arguments)

        def wait(self) -> None:
            now[0] += 0 if self.is_known else 10
            self.is_known = True

        def read(self) -> float:
            return self.update.read()

    class Evaluate(Callback):
        def after_iteration(self, trainer: Trainer, record: Record) -> None:
            now[0] += 1000

    monkeypatch.setattr(network, "start_update", Slow)
    recorder = Recorder()
    Trainer(network, Batches(), [Evaluate(), recorder]).run()
    assert [record.seconds_per_iteration for record in recorder.records] == pytest.approx([10] * 6)


def test_the_network_takes_the_size_of_the_batches(network: Network) -> None:
    Trainer(network, Batches(size=64)).run()
    assert (network.width, network.height) == (64, 64)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training(
    network: Network, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_of(network, [4, 4, bad], monkeypatch)
    recorder, batches = Recorder(), Batches()
    pictures = [f"img/{number}.jpg" for number in range(4)]
    trainer = Trainer(network, batches, [recorder], pictures=pictures)
    # Of the four samples of the batch, those of the first mini-batch; of a mixed one all pictures.
    message = r"iteration 3: the loss is NaN or infinite; the pictures: img/3.jpg, img/1.jpg \+ img/2.jpg\. .*learning_rate.*burn_in"
    with pytest.raises(TrainingError, match=message):
        trainer.run()
    assert recorder.outcome is Outcome.FAILED
    assert len(recorder.records) == 2
    assert batches.closed


def test_the_layer_with_bad_weights_is_named(network: Network) -> None:
    network.parameters.write(network.layers[2], "weights", np.full((14, 8, 1, 1), np.nan))
    with pytest.raises(TrainingError, match=r"the weights of layer 2 \[convolutional\] \(.*tiny.cfg:25\) are not finite"):
        Trainer(network, Batches()).run()


def test_the_layer_and_the_picture_with_bad_outputs_are_named(network: Network) -> None:
    def spoil(x: Any, *, training: bool) -> None:
        network.layers[1].output[...] = 1
        network.layers[1].output[1, 3] = np.inf

    network.layers[1].forward = spoil  # type: ignore[method-assign]
    place = r"the first bad values are in the output of layer 1 \[maxpool\] \(.*tiny.cfg:21\)"
    with pytest.raises(TrainingError, match=rf"iteration 1: the loss is NaN.*{place}.*pictures: picture 1 \+ picture 2\."):
        Trainer(network, Batches()).run()


def test_pictures_with_bad_values_are_named(network: Network) -> None:
    batch = next(iter(Batches()))
    batch.x[3, 0, 5, 5] = np.nan
    with pytest.raises(TrainingError, match=r"the pictures themselves have such values.*pictures: picture 0\."):
        Trainer(network, [batch]).run()


def test_a_bad_gradient_changes_nothing_and_its_layer_is_named(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = network.layers[0].backward

    def spoil(*arguments: Any) -> None:
        backward(*arguments)
        network.layers[0].grad_weights[0, 0, 0, 0] = np.nan  # type: ignore[attr-defined]

    monkeypatch.setattr(network.layers[0], "backward", spoil)
    before = np.array(network.parameters.values)
    with pytest.raises(TrainingError, match=r"the gradient is NaN.*begins in layer 0 \[convolutional\] \(.*cfg:13\)"):
        Trainer(network, Batches()).run()
    assert np.array_equal(network.parameters.values, before)
    assert network.iteration == 0


def test_unusable_input_found_on_the_way_is_a_failure_of_the_training(network: Network) -> None:
    def batches() -> Iterator[FakeBatch]:
        yield next(iter(Batches()))
        raise DataError("none of its pictures can be used", where="x")

    with pytest.raises(TrainingError, match="after iteration 1: x  none of its pictures"):
        Trainer(network, batches()).run()


def test_an_interrupt_completes_the_iteration(network: Network) -> None:
    class PressCtrlC(Callback):
        def after_iteration(self, trainer: Trainer, record: Record) -> None:
            if record.iteration == 2:
                os.kill(os.getpid(), signal.SIGINT)

    recorder = Recorder()
    with Interrupt() as interrupt:
        outcome = Trainer(network, Batches(), [PressCtrlC(), recorder], interrupt).run()
    assert outcome is Outcome.STOPPED
    assert recorder.outcome is Outcome.STOPPED
    assert [record.iteration for record in recorder.records] == [1, 2]


def test_every_started_callback_is_finished_even_if_one_fails(network: Network) -> None:
    class Fails(Callback):
        def finish(self, trainer: Trainer, outcome: Outcome) -> None:
            raise RuntimeError("disk full")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="disk full"):
        Trainer(network, Batches(), [Fails(), recorder]).run()
    assert recorder.outcome is Outcome.FAILED, "later callbacks hear of it"


# Log


def test_results_are_a_line_per_iteration(network: Network, folder: RunFolder) -> None:
    class Measure(Callback):
        def after_iteration(self, trainer: Trainer, record: Record) -> None:
            record.evaluation = evaluation(0.75) if record.iteration == 4 else None

    Trainer(network, Batches(), [Measure(), CsvLog(folder.results)]).run()
    with folder.results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "iteration", "loss", "average_loss", "box", "objectness", "classification",
        "learning_rate", "images_per_second", "width", "height", "map", "waited", "seconds",
    ]  # fmt: skip
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row["map"] for row in rows] == ["", "", "", "0.750000", "", ""]
    assert all(float(row["loss"]) > 0 and float(row["box"]) > 0 for row in rows)


def test_results_can_be_read_while_training(network: Network, folder: RunFolder) -> None:
    seen: list[int] = []

    class Look(Callback):
        def after_iteration(self, trainer: Trainer, record: Record) -> None:
            seen.append(len(folder.results.read_text().splitlines()))

    Trainer(network, Batches(), [CsvLog(folder.results), Look()]).run()
    assert seen == [2, 3, 4, 5, 6, 7]


# Checkpoints


def test_last_kept_and_final_weights(network: Network, folder: RunFolder) -> None:
    Trainer(network, Batches(), [Checkpoint(folder, Notes(), every=4, keep_every=3)]).run()
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "3.weights", "6.weights", "final.weights", "last.weights", "state.npz",
    ]  # fmt: skip
    again = Network(network.config, training=True, device="numpy")
    again.load_weights(folder.weights("final"))
    assert again.iteration == 6
    assert np.array_equal(again.parameters.values, network.parameters.values)


def test_last_weights_are_saved_every_so_often(network: Network, folder: RunFolder) -> None:
    saved: list[int] = []

    class Look(Callback):
        def after_iteration(self, trainer: Trainer, record: Record) -> None:
            saved.append(weights.read_header(folder.weights("last")).seen // 4)

    Trainer(network, Batches(), [Checkpoint(folder, Notes(), every=4), Look()]).run()
    assert saved == [0, 0, 0, 4, 4, 4]


def test_a_failure_keeps_the_last_good_weights(
    network: Network, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_of(network, [4, 4, math.nan], monkeypatch)
    checkpoint = Checkpoint(folder, Notes(), every=2)
    with pytest.raises(TrainingError):
        Trainer(network, Batches(), [checkpoint]).run()
    assert sorted(path.name for path in folder.path.iterdir()) == ["last.weights", "state.npz"]
    assert checkpoint.saved == 2
    assert weights.read_header(folder.weights("last")).seen == 2 * 4


def test_weights_that_are_not_finite_are_not_saved(
    network: Network, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_of(network, [4] * 6, monkeypatch)

    class Spoil(Callback):
        def after_iteration(self, trainer: Trainer, record: Record) -> None:
            if record.iteration == 4:
                trainer.network.parameters.values[-1] = np.inf

    message = r"iteration 4: the weights or running statistics of layer 2 .* are not finite and are not saved"
    with pytest.raises(TrainingError, match=message):
        Trainer(network, Batches(), [Spoil(), Checkpoint(folder, Notes(), every=2)]).run()
    good = Network(network.config, training=True, device="numpy")
    good.load_weights(folder.weights("last"))
    assert good.iteration == 2
    assert np.isfinite(good.parameters.values).all()


def test_a_save_that_fails_leaves_the_weights_before(
    network: Network, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(folder, Notes(), every=1)
    trainer = Trainer(network, Batches(), [checkpoint])
    network.seen = 4
    checkpoint.after_iteration(trainer, SimpleNamespace(iteration=1))  # type: ignore[arg-type]
    before = folder.weights("last").read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    network.seen = 8
    with pytest.raises(TrainingError, match=r"run/state.npz  cannot be written: No space left on device"):
        checkpoint.after_iteration(trainer, SimpleNamespace(iteration=2))  # type: ignore[arg-type]
    assert folder.weights("last").read_bytes() == before
    names = sorted(path.name for path in folder.path.iterdir())
    assert names == ["last.weights", "state.npz"], "no temporary file stays"
    assert State.load(folder.state).seen == 4


# Evaluation


class Measured:
    """An evaluation function with results given beforehand, that keeps what it was asked."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.networks: list[np.ndarray] = []

    def __call__(self, network: Network, progress: Any) -> Any:
        self.networks.append(np.array(network.parameters.values))
        progress(1, 1)
        return evaluation(self.values.pop(0))


def evaluator(network: Network, folder: RunFolder, measured: Measured, **options: int) -> Evaluator:
    inference = Network(network.config, device="numpy")
    return Evaluator(inference, measured, folder, Notes(), **options)  # type: ignore[arg-type]


def test_evaluates_every_so_often_and_at_the_end(network: Network, folder: RunFolder) -> None:
    measured, recorder = Measured(0.2, 0.5, 0.4), Recorder()
    callback = evaluator(network, folder, measured, every=2)
    network.options = network.options.__class__(**{**vars(network.options), "max_batches": 5})
    Trainer(network, Batches(), [callback, recorder]).run()
    assert [record.iteration for record in recorder.records if record.evaluation] == [2, 4, 5]
    assert (callback.best, callback.best_iteration) == (0.5, 4)
    best = Network(network.config, device="numpy")
    best.load_weights(folder.weights("best"))
    assert best.iteration == 4
    assert np.array_equal(measured.networks[1], best.parameters.values)


def test_does_not_evaluate_before_the_end_of_burn_in(network: Network, folder: RunFolder) -> None:
    recorder = Recorder()
    callback = evaluator(network, folder, Measured(0.1, 0.1), every=2, not_before=5)
    Trainer(network, Batches(), [callback, recorder]).run()
    assert [record.iteration for record in recorder.records if record.evaluation] == [5, 6]


def test_an_equal_result_later_is_the_better_one(network: Network, folder: RunFolder) -> None:
    callback = evaluator(network, folder, Measured(0.5, 0.5, 0.1), every=2)
    Trainer(network, Batches(), [callback]).run()
    assert callback.best_iteration == 4


def test_an_interrupt_ends_an_evaluation(network: Network, folder: RunFolder) -> None:
    def slow(network: Network, progress: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        progress(1, 400)
        raise AssertionError("the evaluation goes on")

    recorder = Recorder()
    callback = Evaluator(Network(network.config, device="numpy"), slow, folder, Notes(), every=2)
    with Interrupt() as interrupt:
        assert Trainer(network, Batches(), [callback, recorder], interrupt).run() is Outcome.STOPPED
    assert callback.last is None
    assert [record.evaluation for record in recorder.records] == [None, None]


def test_interval_is_four_epochs_but_at_least_a_hundred() -> None:
    assert iterations_between(SimpleNamespace(batch=64), 118_000) == 7375  # type: ignore[arg-type]
    assert iterations_between(SimpleNamespace(batch=16), 292) == 100  # type: ignore[arg-type]


def test_parameters_are_copied_with_statistics_and_count(network: Network) -> None:
    batch = next(iter(Batches()))
    network.train_batch(batch.x, batch.truth)
    inference = Network(network.config, device="numpy", seed=5)
    copy_parameters(network, inference)
    assert np.array_equal(inference.parameters.values, network.parameters.values)
    assert np.array_equal(inference.parameters.statistics, network.parameters.statistics)
    assert inference.seen == 4
    inference.parameters.values[0] += 1
    assert inference.parameters.values[0] != network.parameters.values[0], "a copy, not a view"


# Chart


def curves(count: int = 50) -> Curves:
    made = Curves("tiny.cfg", 100, 20.0, scores={"mAP@50": [(20, 0.4), (40, 0.6)]})
    for iteration in range(1, count + 1):
        made.iterations.append(iteration)
        made.losses.append(30 / iteration)
        made.averages.append(31 / iteration)
    return made


def colors(path: Path) -> set[tuple[int, int, int]]:
    image = cv2.imread(str(path))
    assert image is not None
    assert image.shape == (620, 1100, 3)
    packed = np.unique(image.astype(int) @ (1, 1 << 8, 1 << 16)).tolist()
    return {(colour & 255, colour >> 8 & 255, colour >> 16) for colour in packed}


def test_chart_shows_loss_and_precision(tmp_path: Path) -> None:
    loss, precision = (0x97, 0x6F, 0x2A), (0x3D, 0x55, 0xC8)
    draw_chart(curves(), tmp_path / "chart.png")
    assert {loss, precision} <= colors(tmp_path / "chart.png")
    without = curves()
    without.scores.clear()
    draw_chart(without, tmp_path / "loss.png")
    assert loss in colors(tmp_path / "loss.png")
    assert precision not in colors(tmp_path / "loss.png")


def test_top_of_the_chart_hides_little() -> None:
    course = Curves("", 100, 20.0, list(range(100)), [], [30.0] * 20 + [5.0] * 80)
    assert chart_top(course) == 20.0  # the cfg's
    course.averages = [30.0] * 60 + [18.0] * 40
    assert chart_top(course) == 36.0  # most of it lies above that
    course.averages = [5.0] * 100
    assert chart_top(course) == 6.0
    assert loss_top([5.0] * 60 + [1e18] * 5) == 30.0  # what was before it exploded is still seen
    assert loss_top([np.inf, np.nan]) == loss_top([0.0]) == 1.0


@pytest.mark.parametrize("count", [1, 9000])
def test_chart_of_very_short_and_long_trainings(count: int, tmp_path: Path) -> None:
    draw_chart(curves(count), tmp_path / "chart.png")
    assert colors(tmp_path / "chart.png")


def test_chart_is_redrawn_in_the_background_and_at_the_end(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkpy.training.chart.SECONDS", 0.0)
    drawn: list[tuple[str, int]] = []

    def draw(curves: Curves, path: Path) -> None:
        import threading

        drawn.append((threading.current_thread().name, len(curves.iterations)))

    monkeypatch.setattr("darkpy.training.chart.draw_chart", draw)
    Trainer(network, Batches(), [Chart(tmp_path / "chart.png", "tiny")]).run()
    assert drawn[0][0] == "darkpy-chart"
    assert drawn[-1] == ("MainThread", 6)


def test_no_chart_of_nothing(network: Network, tmp_path: Path) -> None:
    network.seen = 6 * 4
    Trainer(network, Batches(), [Chart(tmp_path / "chart.png", "tiny")]).run()
    assert not (tmp_path / "chart.png").exists()


def test_plain_stream_of_a_trainer_has_no_control_characters(network: Network) -> None:
    from darkpy.training.progress import create_progress

    stream = io.StringIO()
    Trainer(network, Batches(), [create_progress(stream)]).run()
    assert stream.getvalue().count("\n") == 2
    assert all(character == "\n" or character.isprintable() for character in stream.getvalue())
