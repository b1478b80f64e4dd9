from __future__ import annotations

import gc
import signal
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpy.config.net import NetOptions
from darkpy.data.augmentation import Augmentation
from darkpy.data.dataset import Dataset
from darkpy.data.loader import Loader, default_cache_bytes, multi_scale
from darkpy.data.opening import open_dataset
from darkpy.errors import DataError, Problem

PICTURES = 10
FULL = Augmentation(jitter=0.2, resize=1.3, flip=True, hue=0.1, saturation=1.5, exposure=1.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of one colour each, brighter from one to the next, with one box of the class of their number."""
    root = tmp_path_factory.mktemp("pictures")
    for index in range(PICTURES):
        image = np.full((24, 32, 3), 20 * index + 30, np.uint8)
        image[8:16, 8:24] = (index, 255 - index, 90)
        cv2.imwrite(str(root / f"{index}.png"), image)
        (root / f"{index}.txt").write_text(f"{index} .5 .5 .5 .333333\n")
    return root


def dataset(folder: Path, **options) -> Dataset:
    paths = sorted(folder.glob("*.png"))
    return Dataset("test", [str(number) for number in range(PICTURES)], paths, **options)


def sizes(iteration: int) -> tuple[int, int]:
    return [(32, 24), (16, 16), (48, 32)][iteration % 3]


def batches(data: Dataset, count: int, **options) -> list:
    """The first batches, copied, as comparable values."""
    options = {"batch": 4, "size_at": sizes, "seed": 7, "workers": 0, **options}
    with Loader(data, options.pop("augmentation", FULL), **options) as loader:
        return [
            (batch.iteration, batch.x.copy(), [boxes.copy() for boxes in batch.truth], list(batch.indices))
            for batch in islice(loader, count)
        ]


def assert_equal(left: list, right: list) -> None:
    assert [(item[0], item[3]) for item in left] == [(item[0], item[3]) for item in right]
    for (_, x1, truth1, _), (_, x2, truth2, _) in zip(left, right, strict=True):
        assert np.array_equal(x1, x2)
        assert all(np.array_equal(a, b) for a, b in zip(truth1, truth2, strict=True))


# What is delivered --------------------------------------------------------------------------------------------


def test_batches(folder):
    with Loader(dataset(folder), Augmentation.none(), batch=3, size_at=sizes, workers=1) as loader:
        for iteration, batch in enumerate(islice(loader, 5)):
            width, height = sizes(iteration)
            assert batch.iteration == iteration
            assert batch.x.shape == (3, 3, height, width) and batch.x.dtype == np.float32
            assert batch.x.flags.c_contiguous and batch.x.min() >= 0 and batch.x.max() <= 1
            for sample, boxes, index in zip(batch.x, batch.truth, batch.indices, strict=True):
                assert sample[0, 0, 0] == np.float32(20 * index + 30) / np.float32(255)
                assert np.allclose(boxes, [[index, 0.5, 0.5, 0.5, 1 / 3]], atol=1e-5)


def test_colour_planes_are_rgb(folder):
    data = Dataset("one", ["x"] * PICTURES, [folder / "3.png"])
    ((_, x, _, _),) = batches(data, 1, batch=1, augmentation=Augmentation.none())
    assert (x[0, :, 12, 16] * 255).round().tolist() == [90, 252, 3]


def test_grey(folder):
    ((_, x, _, _),) = batches(dataset(folder), 1, channels=1)
    assert x.shape == (4, 1, 24, 32)


def test_every_picture_once_an_epoch_in_a_new_order(folder):
    seen = [index for batch in batches(dataset(folder), 10, batch=3) for index in batch[3]]
    epochs = [seen[:10], seen[10:20], seen[20:30]]
    assert all(sorted(epoch) == list(range(PICTURES)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_without_shuffle_the_order_is_the_lists(folder):
    seen = [index for batch in batches(dataset(folder), 6, batch=4, shuffle=False) for index in batch[3]]
    assert seen == [number % PICTURES for number in range(24)]


def test_a_picture_is_augmented_anew_in_each_epoch(folder):
    data = Dataset("one", ["x"] * PICTURES, [folder / "3.png"])
    first, second = batches(data, 2, batch=1, size_at=lambda iteration: (32, 24))
    assert not np.array_equal(first[1], second[1])


def test_pictures_are_augmented_independently(folder):
    data = Dataset("twice", ["x"] * PICTURES, [folder / "3.png"] * 2)
    ((_, x, _, _),) = batches(data, 1, batch=2)
    assert not np.array_equal(x[0], x[1])


def test_batch_larger_than_the_data_set(folder):
    ((_, x, _, indices),) = batches(dataset(folder), 1, batch=25)
    assert len(x) == 25 and sorted(Counter(indices).values()) == [2] * 5 + [3] * 5


def test_difficult_objects_are_not_learned(folder, tmp_path):
    hard = tmp_path / "hard.txt"
    hard.write_text("9 .5 .5 .2 .2\n")
    data = dataset(folder, difficult={folder / "2.png": hard})
    for _, _, truth, indices in batches(data, 3, augmentation=Augmentation.none()):
        assert [boxes[:, 0].tolist() for boxes in truth] == [[index] for index in indices]
    assert data.difficult(2).tolist() == [False, True]


# What samples depend on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_do_not_change_samples(folder, workers):
    assert_equal(batches(dataset(folder), 7, workers=workers), batches(dataset(folder), 7, workers=0))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 30), st.integers(1, 7), st.integers(0, 3), st.integers(0, 2**31))
def test_a_run_taken_up_again_goes_on(folder, start, batch, workers, seed):
    data = dataset(folder)
    whole = batches(data, start + 2, batch=batch, seed=seed)
    assert_equal(batches(data, 2, batch=batch, seed=seed, start=start, workers=workers), whole[start:])


@pytest.mark.parametrize("cache_bytes", [0, 24 * 32 * 3 * 4, None])
def test_cache_does_not_change_samples(folder, cache_bytes):
    expected = batches(dataset(folder), 8, cache_bytes=0)
    assert_equal(batches(dataset(folder), 8, cache_bytes=cache_bytes, workers=2), expected)


def test_cache_keeps_pictures_up_to_its_size(folder, monkeypatch):
    import darkpy.data.samples as module

    reads = Counter()

    def counted(path, channels):
        reads[path.name] += 1
        return read(path, channels)

    read = module.read_picture
    monkeypatch.setattr(module, "read_picture", counted)
    batches(dataset(folder), 3, batch=PICTURES, cache_bytes=24 * 32 * 3 * 4)
    assert sorted(reads.values()) == [1] * 4 + [3] * 6


def test_seed_changes_everything(folder):
    first, second = batches(dataset(folder), 2, seed=1), batches(dataset(folder), 2, seed=2)
    assert first[0][3] != second[0][3]
    assert not np.array_equal(first[0][1], second[0][1])


def test_memory_is_used_again(folder):
    with Loader(dataset(folder), FULL, batch=4, size_at=lambda iteration: (32, 32), workers=2) as loader:
        places = [batch.x.ctypes.data for batch in islice(loader, 12)]
    assert len(set(places)) == 3 and places == places[:3] * 4


def test_a_batch_stays_until_the_next_is_taken(folder):
    expected = batches(dataset(folder), 3)
    with Loader(dataset(folder), FULL, batch=4, size_at=sizes, seed=7, workers=2) as loader:
        for batch, (_, x, _, _) in zip(islice(loader, 3), expected):
            time.sleep(0.05)  # the threads have made all they can by now
            assert np.array_equal(batch.x, x)


def test_pictures_of_many_channels(tmp_path):
    """They come from NumPy files that a list names."""
    image = np.arange(24 * 32 * 5, dtype=np.uint32).reshape(24, 32, 5).astype(np.uint8)
    np.save(tmp_path / "0.npy", image)
    (tmp_path / "0.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "train.txt").write_text("0.npy\n")
    data = open_dataset(tmp_path / "train.txt", names=["x"])
    options = {"channels": 5, "batch": 1, "size_at": lambda iteration: (32, 24)}
    ((_, x, (boxes,), _),) = batches(data, 1, augmentation=Augmentation.none(), **options)
    assert np.array_equal((x[0] * 255).round(), image.transpose(2, 0, 1)) and len(boxes) == 1
    with pytest.raises(DataError, match="none of its pictures can be used"):
        batches(data, 1, batch=1)


# Mixed pictures, views, sequences -----------------------------------------------------------------------------

NETS = {
    "mosaic": NetOptions(batch=8, mosaic=True, max_batches=100),
    "mixup": NetOptions(batch=8, mixup=1),
    "contrastive": NetOptions(batch=8, subdivisions=2, mixup=1, contrastive=True),
    "track": NetOptions(batch=8, subdivisions=2, time_steps=2, sequential_subdivisions=1, track=True, mosaic=True),
}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_mixed_samples_depend_on_nothing_else_either(folder, options, workers):
    """Neither on the threads, nor on the cache, nor on where a run was taken up again."""
    data = dataset(folder)
    whole = batches(data, 6, batch=8, options=options, cache_bytes=0)
    assert_equal(batches(data, 4, batch=8, options=options, workers=workers, start=2), whole[2:])


def test_mosaic_brings_objects_of_other_pictures(folder):
    options = {"options": NETS["mosaic"], "augmentation": Augmentation.none()}
    found = batches(dataset(folder), 12, batch=8, **options)
    mixed = [any(len(boxes) > 1 for boxes in truth) for _, _, truth, _ in found]
    assert 2 <= sum(mixed) <= 10
    for (_, _, truth, indices), is_mixed in zip(found, mixed):
        if is_mixed:
            assert any(set(boxes[:, 0]) - {index} for boxes, index in zip(truth, indices))
        else:
            assert [boxes[0, 0] for boxes in truth] == indices


def test_samples_name_all_pictures_they_are_made_of(folder):
    """Each picture has an object of a class of its own, so that the boxes tell where they are from."""
    options = {"options": NETS["mosaic"], "workers": 0}
    with Loader(dataset(folder), Augmentation.none(), batch=8, size_at=lambda iteration: (32, 32), **options) as loader:
        made = list(islice(loader, 12))
        assert {len(source) for batch in made for source in batch.sources} == {1, 4}
        for iteration in range(12):
            _, boxes, source = loader.sample(iteration, 3)
            assert set(boxes[:, 0]) <= set(source) and loader.again(iteration).sources[3] == source


def test_contrastive_gives_both_views_of_an_object_the_same_number(folder):
    ((_, x, truth, indices),) = batches(dataset(folder), 1, batch=8, options=NetOptions(batch=8, contrastive=True))
    assert indices[::2] == indices[1::2]
    identities = [boxes[:, 5].tolist() for boxes in truth]
    assert identities[::2] == identities[1::2] == [[4000 * index] for index in indices[::2]]
    assert not np.array_equal(x[0], x[1])  # the zoom differs


def test_without_contrastive_objects_have_no_number(folder):
    ((_, _, truth, _),) = batches(dataset(folder), 1, batch=8, options=NetOptions(batch=8))
    assert {boxes.shape for boxes in truth} == {(1, 5)}


def test_frames_of_a_sequence_are_changed_alike(folder):
    """The pictures differ by their colour only, so the objects of all frames must be at one place."""
    options = NetOptions(batch=8, time_steps=4, track=True)
    ((_, _, truth, indices),) = batches(dataset(folder), 1, batch=8, options=options)
    for column in range(2):
        frames = [truth[column + 2 * step][:, 1:] for step in range(4)]
        assert all(np.array_equal(boxes, frames[0]) for boxes in frames)
        steps = np.diff(indices[column::2]) % PICTURES
        assert len(set(steps.tolist())) == 1 and steps[0] in (1, 2)
    assert not np.array_equal(truth[0][:, 1:], truth[1][:, 1:])


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_broken_pictures_are_replaced_in_mixed_samples_too(broken, options):
    for _, x, truth, indices in batches(broken, 6, batch=8, options=options):
        assert 4 not in indices and np.isfinite(x).all()
        assert not any((boxes[:, 0] == 4).any() for boxes in truth)


# Broken pictures and labels -----------------------------------------------------------------------------------


@pytest.fixture
def broken(folder, tmp_path) -> Dataset:
    """Ten pictures: number 4 is cut short, number 7 has a bad line among its labels."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "4.png").write_bytes((folder / "4.png").read_bytes()[:50])
    (tmp_path / "7.txt").write_text("7 .5 .5 .5 .333333\n99 .5 .5 .5 .5\n")
    return dataset(tmp_path)


@pytest.mark.parametrize("workers", [0, 3])
def test_broken_pictures_are_reported_once_and_replaced(broken, workers):
    reported: list[Problem] = []
    options = {"batch": PICTURES, "size_at": sizes, "seed": 7, "workers": workers}
    with Loader(broken, Augmentation.none(), report=reported.append, **options) as loader:
        seen = [list(batch.indices) for batch in islice(loader, 4)]
        found = list(loader.problems)
    assert found == reported and len(reported) == 2
    assert {Path(problem.where.split(":")[0]).name for problem in found} == {"4.png", "7.txt"}
    for epoch in seen:
        assert 4 not in epoch and len(set(epoch)) == 9
    assert seen == [item[3] for item in batches(broken, 4, batch=PICTURES, augmentation=Augmentation.none())]


def test_problems_known_before_are_not_repeated(broken):
    for index in range(len(broken)):
        broken.boxes(index)
    assert len(broken.problems) == 1
    with Loader(broken, FULL, batch=PICTURES, size_at=sizes, workers=0) as loader:
        next(loader)
        assert [Path(problem.where).name for problem in loader.problems] == ["4.png"]


def test_reports_come_from_the_thread_that_takes_batches(broken):
    threads = set()
    report = lambda problem: threads.add(threading.current_thread())  # noqa: E731
    with Loader(broken, FULL, batch=PICTURES, size_at=sizes, workers=2, report=report) as loader:
        list(islice(loader, 2))
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("workers", [0, 2])
def test_no_usable_picture_is_an_error(tmp_path, workers):
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths:
        path.write_bytes(b"")
    data = Dataset("broken", ["x"], paths)
    with Loader(data, FULL, batch=2, size_at=sizes, workers=workers) as loader:
        for _ in range(2):
            with pytest.raises(DataError, match="none of its pictures can be used"):
                next(loader)
        assert len(loader.problems) == 3


def test_damaged_xml_is_replaced_too(folder, tmp_path):
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes((folder / f"{index}.png").read_bytes())
    (tmp_path / "0.xml").write_text("<annotation>")
    (tmp_path / "1.txt").write_text("1 .5 .5 .5 .5\n")
    with Loader(dataset(tmp_path), FULL, batch=4, size_at=sizes, workers=0) as loader:
        assert next(loader).indices == [1] * 4
        assert "not valid xml" in loader.problems[0].message


def test_what_is_not_applied_is_said_once(folder):
    augmentation = Augmentation(not_applied=("cutmix",))
    reported: list[Problem] = []
    with Loader(dataset(folder), augmentation, batch=2, size_at=sizes, workers=0, report=reported.append) as loader:
        list(islice(loader, 3))
    assert [problem.message for problem in reported] == ["cutmix: not applied here; training goes on without"]


@pytest.mark.parametrize("options", [{"batch": 0}, {"start": -1}])
def test_impossible_arguments(folder, options):
    with pytest.raises(ValueError, match="batch must be at least 1"):
        Loader(dataset(folder), FULL, **{"batch": 1, "size_at": sizes, **options})


def test_empty_data_set():
    with pytest.raises(DataError, match="has no pictures"):
        Loader(Dataset("empty", ["x"], []), FULL, batch=1, size_at=sizes)


# Threads ------------------------------------------------------------------------------------------------------


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("darkpy-loader")]


def test_close_ends_the_threads(folder):
    threads = cv2.getNumThreads()
    loader = Loader(dataset(folder), FULL, batch=4, size_at=sizes, workers=3)
    next(loader)
    assert len(loader_threads()) == 3
    loader.close()
    loader.close()
    assert loader_threads() == [] and list(loader) == []
    assert cv2.getNumThreads() == threads


def test_a_forgotten_loader_ends_its_threads(folder):
    loader = Loader(dataset(folder), FULL, batch=4, size_at=sizes, workers=2)
    next(loader)
    del loader
    gc.collect()
    assert loader_threads() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_the_threads_reach_the_consumer(folder, workers):
    def size_at(iteration: int) -> tuple[int, int]:
        if iteration == 2:
            raise RuntimeError("no size for this one")
        return 32, 32

    with Loader(dataset(folder), FULL, batch=4, size_at=size_at, workers=workers) as loader:
        with pytest.raises(RuntimeError, match="no size for this one"):
            for _ in range(5):
                next(loader)
        with pytest.raises(RuntimeError, match="no size for this one"):
            next(loader)
    assert loader_threads() == []


@pytest.fixture
def ctrl_c_interrupts():
    """A test run started in the background inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupt_while_waiting(folder, monkeypatch, ctrl_c_interrupts):
    import _thread

    import darkpy.data.samples as module

    waiting, interrupted = threading.Event(), threading.Event()

    def slow(path, channels):
        if not interrupted.is_set():
            waiting.wait(10)
            _thread.interrupt_main()  # as Ctrl-C
            interrupted.wait(10)
        return read(path, channels)

    read = module.read_picture
    monkeypatch.setattr(module, "read_picture", slow)
    with Loader(dataset(folder), FULL, batch=2, size_at=sizes, workers=1) as loader:
        with pytest.raises(KeyboardInterrupt):
            waiting.set()
            next(loader)
        interrupted.set()
        assert next(loader).iteration == 0  # nothing was lost: the trainer may still want to finish
    assert loader_threads() == []


def test_waited_counts_what_the_consumer_waits(folder, monkeypatch):
    import darkpy.data.samples as module

    read = module.read_picture

    def slow(path, channels):
        time.sleep(0.02)
        return read(path, channels)

    monkeypatch.setattr(module, "read_picture", slow)
    with Loader(dataset(folder), FULL, batch=5, size_at=sizes, workers=1) as loader:
        assert loader.waited == 0
        next(loader)
        assert loader.waited > 0


def test_default_cache_is_modest():
    assert 0 < default_cache_bytes() <= 1 << 30


# Multi-scale --------------------------------------------------------------------------------------------------


def test_fixed_size():
    assert {multi_scale(416, 320, 0)(iteration) for iteration in range(100)} == {(416, 320)}


def test_multi_scale_as_darknet():
    size_at = multi_scale(416, 416, 1, max_batches=5000)
    found = [size_at(iteration) for iteration in range(5000)]
    # The largest first, so that a lack of memory shows, and at the end: round(1.4 * 416 / 32 + 1) * 32.
    assert found[:10] == [(608, 608)] * 10 and found[4910:] == [(608, 608)] * 90
    for start in range(0, 5000, 10):
        assert len(set(found[start : start + 10])) == 1
    widths = {width for width, _ in found}
    # round(416 / 1.4 / 32 + 1) * 32 is 320.
    assert widths == set(range(320, 609, 32))
    assert all(width == height for width, height in found)


def test_multi_scale_depends_on_the_iteration_alone():
    first, second = multi_scale(608, 512, 1.2, seed=3), multi_scale(608, 512, 1.2, seed=3)
    expected = [first(iteration) for iteration in range(300)]
    assert [second(iteration) for iteration in reversed(range(300))] == expected[::-1]
    other = multi_scale(608, 512, 1.2, seed=4)
    assert [other(iteration) for iteration in range(300)] != expected


@given(
    st.integers(32, 1000), st.integers(32, 1000), st.floats(0.4, 2), st.sampled_from([16, 32]), st.integers(0, 100000)
)
def test_multi_scale_stays_within_its_first_size(width, height, random, step, iteration):
    size_at = multi_scale(width, height, random, step)
    largest = size_at(0)
    size = size_at(iteration)
    assert size[0] <= max(largest[0], width) and size[1] <= max(largest[1], height)
    assert size == (width, height) or (size[0] % step == 0 and size[1] % step == 0)
    assert min(size) >= step
