"""Whole trainings, from files to files."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from darkpy.backends.numpy import NumpyBackend
from darkpy.errors import ConfigError, DataError, InputError, OutOfMemory, TrainingError
from darkpy.network import Network
from darkpy.training import Outcome, TrainingResult, TrainingSettings, default_data, train
from darkpy.training.progress import ProgressLines
from tests.tiny_job import write_cfg, write_job


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny job, as working folder."""
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(**settings: Any) -> tuple[TrainingResult, str]:
    """Train; the result and what was printed."""
    stream = io.StringIO()
    settings = {"cfg": "tiny.cfg", "device": "numpy", "workers": 1, **settings}
    return train(TrainingSettings(**settings), ProgressLines(stream)), stream.getvalue()


def rows(result: TrainingResult) -> list[dict[str, str]]:
    with (result.folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder_has_everything(job: Path) -> None:
    result, printed = run(every=4, keep_every=5)
    assert result.outcome is Outcome.FINISHED
    assert result.folder == Path("runs/tiny-1")
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "5.weights", "args.yaml", "best.weights", "chart.png", "final.weights", "last.weights", "log.jsonl",
        "report.html", "results.csv", "state.npz", "status.json", "tiny.cfg",
    ]  # fmt: skip
    assert (result.folder / "tiny.cfg").read_bytes() == (job / "tiny.cfg").read_bytes()
    arguments = yaml.safe_load((result.folder / "args.yaml").read_text())
    assert (arguments["cfg"], arguments["data"], arguments["seed"]) == ("tiny.cfg", "data/tiny.yaml", 0)
    assert [row["iteration"] for row in rows(result)] == ["1", "2", "3", "4", "5", "6"]
    assert [bool(row["map"]) for row in rows(result)] == [False, False, False, True, False, True]
    assert result.best is not None
    assert result.evaluation is not None
    assert result.evaluation.pictures == 2
    for name in ("last", "best", "final"):
        network = Network.from_cfg("tiny.cfg", result.folder / f"{name}.weights", device="numpy")
        assert network.iteration in (4, 6)
    assert "4 layers, 0.00 M parameters" in printed
    assert "train 6 pictures, 6 boxes   val 2   2 classes   memory" in printed
    assert "it 6/6  100 %  loss" in printed
    assert "it 4  mAP@50" in printed
    assert "weights, results.csv and chart.png are in runs/tiny-1" in printed


def test_the_same_seed_gives_the_same_weights_whatever_the_workers(job: Path) -> None:
    weights = []
    for seed, workers in ((3, 0), (3, 2), (4, 2)):
        result, _ = run(seed=seed, workers=workers, measure=False)
        weights.append((result.folder / "final.weights").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_resuming_goes_on_with_iterations_and_pictures(job: Path) -> None:
    write_cfg(job, "half.cfg", max_batches=3)
    first, _ = run(cfg="half.cfg", data="data/tiny.yaml", measure=False)
    assert [row["iteration"] for row in rows(first)] == ["1", "2", "3"]
    resumed, printed = run(weights=first.folder / "last.weights", measure=False)
    assert [row["iteration"] for row in rows(resumed)] == ["4", "5", "6"]
    assert f"going on from {first.folder / 'last.weights'}: 2 layers with weights, iteration 3" in printed
    assert Network.from_cfg("tiny.cfg", resumed.folder / "last.weights", device="numpy").seen == 24


def test_clear_starts_at_the_first_iteration(job: Path) -> None:
    first, _ = run(measure=False)
    again, printed = run(weights=first.folder / "final.weights", clear=True, measure=False)
    assert next(row["iteration"] for row in rows(again)) == "1"
    assert "starting from" in printed


def test_nothing_left_to_train(job: Path) -> None:
    first, _ = run(measure=False)
    with pytest.raises(InputError, match="has done 6 iterations and max_batches=6: nothing is left.*-clear"):
        run(weights=first.folder / "final.weights")
    assert not Path("runs/tiny-2").exists()


def test_weights_of_the_first_layers_are_a_start(job: Path) -> None:
    whole = Network.from_cfg("tiny.cfg", device="numpy")
    from darkpy import weights

    weights.save(whole, job / "tiny.conv.1", upto=1)
    _, printed = run(weights="tiny.conv.1", measure=False)
    assert "starting from tiny.conv.1: 1 layer with weights, iteration 0" in printed


def test_darknets_data_file_says_how_often_and_where_weights_are_saved(job: Path) -> None:
    with (job / "tiny.data").open("a") as file:
        file.write("saveweights=4\n")
    result, _ = run(data="tiny.data")
    assert result.evaluation is not None
    names = ("4", "best", "final", "last")
    assert sorted(path.name for path in Path("backup").iterdir()) == [f"tiny_{name}.weights" for name in names]
    for name in names:
        assert Path(f"backup/tiny_{name}.weights").read_bytes() == (result.folder / f"{name}.weights").read_bytes()


def test_a_backup_folder_that_cannot_be_is_told_and_is_no_failure(job: Path) -> None:
    (job / "backup").touch()
    result, printed = run(data="tiny.data")
    assert result.outcome is Outcome.FINISHED
    assert "tiny.data:5  backup=backup: File exists; weights are saved in the run folder only" in printed


def test_the_first_use_of_a_machine_is_got_over_with_at_any_size(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumpyBackend, "first_use", "compiling")
    write_cfg(job, random=1, max_batches=1)
    result, printed = run(measure=False)
    assert result.outcome is Outcome.FINISHED and "compiling" in printed


def test_multi_scale_changes_the_size_and_measures_at_the_cfgs(job: Path) -> None:
    write_cfg(job, random=1, max_batches=14)
    result, _ = run()
    sizes = [row["width"] for row in rows(result)]
    assert sizes[0] == "64", "the largest size comes first"
    assert result.evaluation is not None


def test_without_any_object_nothing_is_started(job: Path) -> None:
    for path in (job / "pictures").glob("*.txt"):
        path.unlink()
    with pytest.raises(DataError) as caught:
        run()
    first, *_, last = map(str, caught.value.problems)
    assert len(caught.value.problems) == 4 and "0.png  has no label file" in first
    assert last == "data/tiny.yaml  none of its 6 pictures has an object to be learned"
    assert not (job / "runs").exists()


def test_broken_pictures_and_labels_are_reported_and_training_goes_on(job: Path) -> None:
    (job / "pictures/0.png").write_bytes(b"no picture")
    (job / "pictures/1.txt").write_text("0 .5 .5 .2 .2\n7 .5 .5 .2 .2\n")
    with (job / "data/train.txt").open("a") as file:
        file.write("pictures/none.png\n")
    result, printed = run()
    assert result.outcome is Outcome.FINISHED
    problems = (result.folder / "problems.txt").read_text()
    assert "data/train.txt:7" in problems
    assert "pictures/1.txt:2" in problems
    assert "pictures/0.png" in problems
    assert "3 problems with pictures and labels" in printed


def test_without_validation_pictures_nothing_is_measured(job: Path) -> None:
    (job / "data/tiny.yaml").write_text("train: train.txt\nnames: [bright, dark]\n")
    result, printed = run()
    assert result.evaluation is None
    assert not (result.folder / "best.weights").exists()
    assert "without a validation set" in printed
    with pytest.raises(DataError, match="has no val"):
        run(measure=True)


def test_validating_on_the_training_pictures_is_said(job: Path) -> None:
    (job / "data/tiny.yaml").write_text("train: train.txt\nval: train.txt\nnames: [bright, dark]\n")
    _, printed = run()
    assert "the validation pictures are the training pictures" in printed


def test_divergence_names_the_iteration_and_keeps_what_was_saved(job: Path) -> None:
    write_cfg(job, learning_rate=1e18, max_batches=40)
    with pytest.raises(TrainingError, match=r"iteration \d+: the (loss|gradient|weights)"):
        run(measure=False)
    for path in Path("runs/tiny-1").glob("*.weights"):
        network = Network.from_cfg("tiny.cfg", path, device="numpy")
        assert np.isfinite(network.parameters.values).all()


def test_too_little_memory_is_found_before_anything_is_written(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.training.preparation.available_memory", lambda: 300_000)
    with pytest.raises(OutOfMemory, match=r"tiny\.cfg:3  \[net\] training with batch=4 subdivisions=2"):
        run()
    assert not Path("runs").exists()


def test_memory_refused_by_the_system_is_the_same_message(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkpy.backends.numpy import NumpyBackend

    allocate = NumpyBackend.empty

    def refuse(self: Any, shape: Any, dtype: Any = None) -> Any:
        if np.prod(shape) > 100_000:
            raise MemoryError
        return allocate(self, shape, dtype)

    monkeypatch.setattr(NumpyBackend, "empty", refuse)
    monkeypatch.setattr("darkpy.training.preparation.available_memory", lambda: 300_000)
    with pytest.raises(OutOfMemory, match=r"batch=4 subdivisions=2 at 32x32 needs"):
        run()


def test_classes_of_network_and_data_must_agree(job: Path) -> None:
    (job / "data/tiny.yaml").write_text("train: train.txt\nval: val.txt\nnames: [a, b, c]\n")
    with pytest.raises(ConfigError, match=r"tiny\.cfg:33  \[yolo\] classes=2, but data/tiny.yaml has 3"):
        run()
    assert not Path("runs").exists()


def test_max_batches_is_needed(job: Path) -> None:
    write_cfg(job, max_batches=0)
    with pytest.raises(ConfigError, match=r"tiny\.cfg:11  \[net\] needs max_batches"):
        run()


def test_a_classifier_is_no_detector(job: Path) -> None:
    (job / "class.cfg").write_text(
        "[net]\nwidth=8\nheight=8\nchannels=3\nmax_batches=5\n[connected]\noutput=2\n[softmax]\n"
    )
    with pytest.raises(ConfigError, match=r"has no detection head such as \[yolo\]"):
        run(cfg="class.cfg", data="data/tiny.yaml")


def test_default_data_is_found_by_the_name_of_the_cfg(job: Path) -> None:
    assert default_data("cfg/tiny.cfg") == Path("data/tiny.yaml")
    (job / "data/other.data").write_text("classes=1\n")
    assert default_data("other.cfg") == Path("data/other.data")
    assert default_data("shapes.cfg").name == "shapes.yaml"
    with pytest.raises(DataError, match=r"nothing.cfg  no data set is named.*data/nothing.yaml.*--data"):
        default_data("nothing.cfg")
