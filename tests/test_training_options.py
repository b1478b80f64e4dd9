"""What can be asked of a run: early stopping, limits, averages, frozen layers, rollbacks, fewer subdivisions."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from darkpy import weights
from darkpy.config.cfg import read_cfg
from darkpy.config.net import NetOptions
from darkpy.errors import InputError, OutOfMemory, TrainingError
from darkpy.network import Network
from darkpy.training import Callback, Outcome, Record, Trainer, TrainingResult, TrainingSettings, resume, train
from darkpy.training.checkpoint import Checkpoint
from darkpy.training.ema import Ema, has_effect
from darkpy.training.interrupt import Interrupt
from darkpy.training.json_log import read_log
from darkpy.training.memory import fewest_subdivisions
from darkpy.training.progress import ProgressLines
from darkpy.training.run_folder import RunFolder
from darkpy.training.state import State
from darkpy.training.time_limit import TimeLimit
from tests.test_training_trainer import Batches, Notes
from tests.tiny_job import write_cfg, write_job


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job, as working folder; nothing is drawn."""
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("darkpy.training.chart.draw_chart", lambda curves, path: None)
    return tmp_path


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(read_cfg(write_cfg(tmp_path)), training=True, device="numpy")


def run(**settings: Any) -> tuple[TrainingResult, str]:
    """Train; the result and what was printed."""
    stream = io.StringIO()
    settings = {"cfg": "tiny.cfg", "device": "numpy", "workers": 1, **settings}
    return train(TrainingSettings(**settings), ProgressLines(stream)), stream.getvalue()


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def scores(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let evaluations give these results, one after the other."""
    left = list(values)

    def evaluate(network: Network, **options: Any) -> Any:
        return SimpleNamespace(scores={"mAP@50": left.pop(0)})

    monkeypatch.setattr("darkpy.training.preparation.evaluate", evaluate)


# Early stopping


def test_training_ends_when_nothing_gets_better(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cfg(job, max_batches=40)
    scores(monkeypatch, 0.1, 0.3, 0.2, 0.3, 0.4, 0.4, 0.1, 0.2, 0.5)
    result, printed = run(every=2, patience=3)
    assert (result.outcome, result.iteration, result.best) == (Outcome.FINISHED, 16, 0.4)
    assert "ended at iteration 16: no better result in 3 evaluations, the best is that of iteration 12" in printed
    assert weights.read_header(result.folder / "final.weights").seen == 16 * 4
    assert weights.read_header(result.folder / "best.weights").seen == 12 * 4, "of equals the last"
    assert status(result.folder)["state"] == "finished"


def test_patience_is_counted_across_interruptions(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cfg(job, max_batches=40)
    scores(monkeypatch, 0.4, 0.1, 0.2, 0.3, 0.2, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
    run(every=2, patience=3, out="run", time_limit=0)
    result = resume("run", time_limit=1000)
    assert (result.iteration, result.best) == (8, 0.4)
    with pytest.raises(InputError, match="run  ended after 3 evaluations without a better result.*larger --patience"):
        resume("run")
    assert resume("run", patience=5).iteration == 22, "five after the best, which is that of iteration 12"


# Time limit


def test_the_time_limit_stops_and_does_not_begin_an_evaluation(job: Path) -> None:
    result, printed = run(time_limit=0, every=1, out="my run")
    assert (result.outcome, result.iteration, result.signal) == (Outcome.STOPPED, 1, None)
    assert result.evaluation is None
    assert "stopped at iteration 1 by the time limit of 0:00" in printed
    assert "to go on: darkpy detector train --resume 'my run'\n" in printed
    assert "how it went: darkpy report 'my run'\n" in printed
    assert status(result.folder)["state"] == "stopped"
    assert status(result.folder)["reason"] == "the time limit of 0:00"


def test_the_time_limit_lets_the_last_iteration_be_finished(network: Network) -> None:
    network.options = replace(network.options, max_batches=1)
    assert Trainer(network, Batches(), [TimeLimit(0, time.perf_counter())]).run() is Outcome.FINISHED


# Signals


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1"])
def test_a_signal_saves_and_training_goes_on(name: str, network: Network, tmp_path: Path) -> None:
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"no {name} on this system")

    class Send(Callback):
        def after_iteration(self, trainer: Trainer, record: Record) -> None:
            if record.iteration == 3:
                os.kill(os.getpid(), number)

    class Look(Callback):
        def __init__(self) -> None:
            self.saved: list[int | None] = []

        def after_iteration(self, trainer: Trainer, record: Record) -> None:
            self.saved.append(checkpoint.saved)

    notes, look = Notes(), Look()
    checkpoint = Checkpoint(RunFolder(tmp_path / "run"), notes)
    with Interrupt() as interrupt:
        outcome = Trainer(network, Batches(), [Send(), checkpoint, look], interrupt).run()
    assert outcome is Outcome.FINISHED
    assert look.saved == [0, 0, 3, 3, 3, 3]
    assert notes.messages == [f"it 3  saved {tmp_path / 'run/last.weights'}"]
    assert State.load(tmp_path / "run/state.npz").outcome == "finished"


# Moving average


class Values(Callback):
    """Keeps the parameters after each update, before and after what other callbacks do to them."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []

    def after_update(self, trainer: Trainer, iteration: int) -> None:
        self.values.append(np.array(trainer.network.parameters.values))


def test_the_average_follows_darknets_schedule(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.training.ema.TAIL", 2)
    network.options = replace(network.options, max_batches=10)
    ema, before, after = Ema(0.75, 10), Values(), Values()
    Trainer(network, Batches(), [before, ema, after]).run()
    average = before.values[4]  # begins at iteration 5
    for iteration in (6, 7):
        average = np.float32(0.75) * average + np.float32(0.25) * before.values[iteration - 1]
    changed = [not np.array_equal(*pair) for pair in zip(before.values, after.values)]
    assert changed == [False] * 7 + [True] + [False] * 2, "applied at iteration 8, two before the end"
    np.testing.assert_allclose(after.values[7], average, rtol=1e-6)
    np.testing.assert_array_equal(ema.average, after.values[7])
    assert not np.array_equal(network.parameters.values, ema.average), "training goes on from there"


def test_the_average_is_saved_and_the_network_stays_as_it_is(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkpy.training.ema.TAIL", 1)
    folder, ema = RunFolder(tmp_path / "run"), Ema(0.9, 6)
    Trainer(network, Batches(), [ema, Checkpoint(folder, Notes(), every=4, ema=ema)]).run()
    saved = Network(network.config, training=True, device="numpy")
    saved.load_weights(folder.weights("ema"))
    np.testing.assert_array_equal(saved.parameters.values, ema.average)
    np.testing.assert_array_equal(saved.parameters.statistics, network.parameters.statistics)
    saved.load_weights(folder.weights("last"))
    np.testing.assert_array_equal(saved.parameters.values, network.parameters.values)


def test_a_short_training_has_no_average(job: Path) -> None:
    assert not has_effect(0.9, 2000)
    assert has_effect(0.9, 2002)
    assert not has_effect(0.0, 9000)
    cfg = job / "tiny.cfg"
    cfg.write_text(cfg.read_text().replace("batch=4\n", "batch=4\nema_alpha=.9\n", 1))
    result, printed = run(measure=False)
    assert "tiny.cfg:3  ema_alpha has no effect" in printed
    assert not (result.folder / "ema.weights").exists()


def test_a_loss_scale_is_for_16_bits(job: Path) -> None:
    cfg = job / "tiny.cfg"
    cfg.write_text(cfg.read_text().replace("batch=4\n", "batch=4\nloss_scale=128\n", 1))
    assert "tiny.cfg:3  loss_scale has no effect: gradients are float32" in run(measure=False)[1]


# Frozen layers


def test_frozen_layers_stay_bit_for_bit(job: Path) -> None:
    start = Network.from_cfg("tiny.cfg", device="numpy")
    start.parameters.statistics[...] = np.linspace(0.5, 1.5, len(start.parameters.statistics))
    start.save_weights("start.weights")
    result, printed = run(weights="start.weights", freeze=2, measure=False)
    assert "the first 2 layers stay as they are" in printed
    trained = Network.from_cfg("tiny.cfg", result.folder / "final.weights", device="numpy")
    for name in ("weights", "biases", "scales", "rolling_mean", "rolling_variance"):
        before, after = (network.parameters.read(network.layers[0], name) for network in (start, trained))
        assert np.array_equal(before, after), name
    assert not np.array_equal(start.layers[2].weights, trained.layers[2].weights)  # type: ignore[attr-defined]


def test_frozen_layers_use_their_running_statistics(tmp_path: Path) -> None:
    config = read_cfg(write_cfg(tmp_path))
    frozen = Network(config, training=True, freeze=1, device="numpy")
    inference = Network(config, batch=2, keep_outputs=True, device="numpy")
    for network in (frozen, inference):
        network.parameters.statistics[...] = 0.7
    batch = next(iter(Batches()))
    for network in (frozen, inference):
        network.forward(batch.x[:2])
    np.testing.assert_allclose(frozen.layers[0].output, inference.layers[0].output, rtol=1e-6)
    assert frozen.layers[2].is_updated
    assert not frozen.layers[0].is_updated


def test_all_layers_cannot_be_frozen(job: Path) -> None:
    with pytest.raises(InputError, match=r"tiny.cfg  --freeze 3 leaves nothing to train of 4 layers"):
        run(freeze=3)
    assert not Path("runs").exists()


# Rollback


def spoil(monkeypatch: pytest.MonkeyPatch, *iterations: int, above: float = 0.0) -> None:
    """Let weights be bad at these iterations while the factor on the rate is greater than ``above``."""
    gather = Network.gather_gradients

    def spoiled(self: Network, *arguments: Any) -> float:
        if self.iteration + 1 in iterations and self.rate_scale > above:
            self.layers[2].biases[0] = np.nan  # type: ignore[attr-defined]
        return gather(self, *arguments)

    monkeypatch.setattr(Network, "gather_gradients", spoiled)


def test_rollback_goes_back_and_halves_the_rate(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cfg(job, max_batches=12)
    with (job / "tiny.data").open("a") as file:
        file.write("savelast=4\n")
    spoil(monkeypatch, 7, above=0.3)
    result, printed = run(data="tiny.data", on_nan="rollback", every=3)
    assert (result.outcome, result.iteration) == (Outcome.FINISHED, 12)
    assert printed.count("iteration 7: the loss is NaN or infinite; the weights of layer 2 [convolutional]") == 2
    assert "rollback 1 of 3: back to iteration 4, with 0.5 of the learning rate" in printed
    assert "rollback 2 of 3: back to iteration 0, with 0.25 of the learning rate" in printed
    rows = list(read_log(result.folder / "log.jsonl"))
    assert [row["iteration"] for row in rows] == list(range(1, 13))
    assert [row["learning_rate"] for row in rows[2:7]] == pytest.approx([0.00025] * 5)
    state = State.load(result.folder / "state.npz")
    assert (state.rollbacks, state.rate_scale) == (2, 0.25)
    assert status(result.folder)["state"] == "finished"


def test_rollback_has_a_limit(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, 3)
    stream = io.StringIO()
    settings = TrainingSettings("tiny.cfg", device="numpy", on_nan="rollback", measure=False)
    with pytest.raises(TrainingError, match="iteration 3: the loss is NaN or infinite"):
        train(settings, ProgressLines(stream))
    assert [f"rollback {number} of 3: back to iteration 0" in stream.getvalue() for number in (1, 2, 3)] == [True] * 3
    assert status(Path("runs/tiny-1"))["state"] == "failed"
    assert "NaN" in status(Path("runs/tiny-1"))["reason"]


def test_a_rollback_is_remembered_when_a_run_is_resumed(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        spoil(patch, 2, above=0.6)
        whole, _ = run(on_nan="rollback", out="whole", measure=False)
        again = Network.gather_gradients

        def kill(self: Network, *arguments: Any) -> float:
            if self.iteration == 4:
                raise KeyboardInterrupt
            return again(self, *arguments)

        patch.setattr(Network, "gather_gradients", kill)
        with pytest.raises(KeyboardInterrupt):
            run(on_nan="rollback", out="parts", measure=False)
    assert status(Path("parts"))["reason"] == "ended at once"
    resume("parts")
    assert Path("parts/final.weights").read_bytes() == Path("whole/final.weights").read_bytes()
    assert whole.outcome is Outcome.FINISHED


# Memory and subdivisions


def test_the_fewest_subdivisions_that_fit(network: Network) -> None:
    options = replace(network.options, batch=12, subdivisions=6)
    assert fewest_subdivisions(network, options, 10**12) == 1
    assert fewest_subdivisions(network, options, network.memory_plan(4).total) == 3
    assert fewest_subdivisions(network, options, network.memory_plan(5).total) == 3, "12 is no multiple of 5"
    assert fewest_subdivisions(network, options, network.memory_plan(4).total + 9, beside=10) == 4
    assert fewest_subdivisions(network, options, 1000) is None


def test_what_passes_take_for_a_moment_has_to_fit_too(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(network.options, batch=12, subdivisions=6)
    most = network.memory_plan(4).total
    monkeypatch.setattr("darkpy.training.memory.scratch_memory", lambda network, batch: 1000 * batch)
    assert fewest_subdivisions(network, options, most + 4000) == 3
    assert fewest_subdivisions(network, options, most + 3999) == 4
    assert fewest_subdivisions(network, options, most + 4009, beside=10) == 4


@pytest.mark.parametrize("pictures, subdivisions", [(4, 1), (2, 2), (1, 4)])
def test_auto_subdivisions(job: Path, pictures: int, subdivisions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cfg(job, random=1)
    network = Network(read_cfg("tiny.cfg"), training=True, keep_gradients=False, device="numpy")
    network.resize(64, 64)
    needed = network.memory_plan(pictures).total + 3 * 4 * 4 * 3 * 64 * 64
    monkeypatch.setattr("darkpy.training.preparation.available_memory", lambda: needed)
    result, printed = run(auto_subdivisions=True, measure=False)
    assert f"subdivisions={subdivisions} is the fewest that fits into memory" in printed
    assert yaml.safe_load((result.folder / "args.yaml").read_text())["subdivisions"] == subdivisions
    assert (result.folder / "tiny.cfg").read_bytes() == (job / "tiny.cfg").read_bytes()


def test_a_resumed_run_keeps_its_subdivisions(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(auto_subdivisions=True, out="whole", measure=False)
    run(auto_subdivisions=True, out="parts", measure=False, time_limit=0)
    network = Network(read_cfg("tiny.cfg"), training=True, keep_gradients=False, device="numpy")
    enough_for_two = network.memory_plan(2).total + 3 * 4 * 4 * 3 * 32 * 32
    with monkeypatch.context() as patch:
        patch.setattr("darkpy.training.preparation.available_memory", lambda: enough_for_two)
        with pytest.raises(OutOfMemory, match="batch=4 subdivisions=1"):
            resume("parts")
    resume("parts", time_limit=1000)
    assert Path("parts/final.weights").read_bytes() == Path("whole/final.weights").read_bytes()


def test_the_forecast_covers_all_sizes_of_multi_scale_training(job: Path) -> None:
    write_cfg(job, random=1, max_batches=140)
    network = Network(read_cfg("tiny.cfg"), training=True, keep_gradients=False, device="numpy")
    from darkpy.training.preparation import size_at

    sizes = [size_at(network, 0)(iteration) for iteration in range(0, 140, 10)]
    assert len(set(sizes)) > 1
    network.resize(*sizes[0])
    most = network.memory_plan().total
    for size in sizes:
        network.resize(*size)
        assert network.memory_plan().total <= most, size


def test_time_steps_are_counted_once(tmp_path: Path) -> None:
    from darkpy.training.memory import check_memory
    from darkpy.training.preparation import net_options

    path = write_cfg(tmp_path)
    path.write_text(path.read_text().replace("batch=4\n", "batch=4\ntime_steps=3\n", 1))
    network = Network(read_cfg(path), training=True, device="numpy")
    options: NetOptions = net_options(network.config)
    assert network.batch == 2 * 3
    assert check_memory(network, options, None) == network.memory_plan().total


# TensorBoard


def events(folder: Path) -> list[Any]:
    """The events in TensorBoard's files: records of a length, its checksum, the bytes and theirs."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[12 + length + 4 :]
    return found


def test_tensorboard_files(job: Path) -> None:
    pytest.importorskip("tensorboardX")
    result, _ = run(tensorboard=True, every=3, time_limit=0)
    resume(result.folder, time_limit=1000)
    found = events(result.folder / "tensorboard")
    values = [(event.step, value.tag, value.simple_value) for event in found for value in event.summary.value]
    assert [step for step, tag, _ in values if tag == "loss/loss"] == [1, 2, 3, 4, 5, 6]
    assert [step for step, tag, _ in values if tag == "scores/mAP_50"] == [3, 6]
    logged = [row["loss"] for row in read_log(result.folder / "log.jsonl")]
    assert [value for _, tag, value in values if tag == "loss/loss"] == pytest.approx(logged)
    assert [event.step for event in found if event.session_log.status == event.session_log.START] == [2]


def test_without_the_package_it_is_said_before_anything_is_started(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.training.tensorboard.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'darkpy-detector\[tensorboard\]'"):
        run(tensorboard=True)
    assert not Path("runs").exists()


def test_tensorboard_is_not_imported_unless_asked_for(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    result, _ = run(measure=False)
    assert result.outcome is Outcome.FINISHED
    assert not (result.folder / "tensorboard").exists()
