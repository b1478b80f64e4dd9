"""How fast pictures are loaded, and whether the training waits for them: python scripts/bench_loader.py [CFG] [DATA].

Two figures:

- pictures per second of darkpy's loader, beside the same steps written with plain OpenCV calls in a pool of as many
  threads: decode, widen the border with the mean colour or cut, resize, mirror, change the colours in HSV, float32
  planes. The plain version has no boxes, checks no labels, reports no damaged files and puts nothing in order. Once
  with decoded pictures kept in memory, as in all epochs but the first, and once decoding every time.
- the time a training step waits for its pictures, as the trainer measures it (column ``waited`` of ``results.csv``).

Both loaders take turns, so that a busy machine slows both; the median of the turns counts. The processor time of a
picture, all threads together, depends less on what else the machine does. Half of the batches with mosaic or mixup are
single pictures.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from darkpy.data.augmentation import Augmentation
from darkpy.data.loader import Loader
from darkpy.data.workers import thread_count
from darkpy.training import TrainingSettings
from darkpy.training.callback import Callback, Record
from darkpy.training.preparation import Prepared, detection_heads, prepare
from darkpy.training.trainer import Trainer

AHEAD = 2  # batches made ahead of the one in use
PLAIN: dict[str, Any] = {"mosaic": False, "mixup": 0, "cutmix": False, "blur": 0, "gaussian_noise": 0}
MIXED: dict[str, dict[str, Any]] = {
    "mosaic": {"mosaic": True},
    "mixup": {"mixup": 1},
    "blur and noise": {"blur": 1, "gaussian_noise": 20},
}


@click.command()
@click.argument("cfg", default="shapes.cfg")
@click.argument("data", required=False)
@click.option("--workers", type=int, help="Threads of either loader. [as many as processors]")
@click.option("--batches", default=20, show_default=True, help="Batches of a turn.")
@click.option("--turns", default=5, show_default=True, help="Turns of each loader.")
@click.option("--iterations", default=60, show_default=True, help="Training steps to measure; 0 for none.")
def main(cfg: str, data: str | None, workers: int | None, batches: int, turns: int, iterations: int) -> None:
    """Measure the loader on a cfg and its data set."""
    threads = thread_count() if workers is None else workers
    settings = TrainingSettings(cfg=cfg, data=data, workers=threads, measure=False)
    job = prepare(settings, click.echo)
    network = job.network
    print(f"{job.config.path}  {job.data}  {len(job.train_set):,} pictures, {network.width}x{network.height}, "
          f"batches of {network.options.batch}; {threads} threads, {os.cpu_count()} processors, {loads()}")  # fmt: skip
    for cached in (True, False):
        where = "decoded pictures in memory" if cached else "decoding every time"
        print(f"  {where:28}{race(job, threads, cached, batches, turns)}")
    for name, keys in MIXED.items():
        print(f"  {name:28}{alone(job, keys, threads, batches)}")
    if iterations:
        print(waiting(job, iterations))


def loads() -> str:
    """How busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f}"


@dataclass(frozen=True)
class Speed:
    """Pictures per second, and the processor time of each in milliseconds, all threads together."""

    rate: float
    work: float

    def __str__(self) -> str:
        return f"{self.rate:7,.0f} pictures/s {self.work:5.2f} ms CPU"


def race(job: Prepared, threads: int, cached: bool, batches: int, turns: int) -> str:
    """Both loaders by turns: the medians, and the ratio of the work."""
    network = job.network
    with ours(job, PLAIN, threads, cached) as loader:
        supplies = loader, plain(job, augmentation_of(job, PLAIN), threads, cached)
        found: tuple[list[Speed], list[Speed]] = ([], [])
        for _ in range(turns):
            for speeds, supply in zip(found, supplies):
                speeds.append(measured(supply, batches, network.options.batch))
    darkpy, opencv = (
        Speed(*(statistics.median(getattr(speed, name) for speed in speeds) for name in ("rate", "work")))
        for speeds in found
    )
    ratios = f"ratio {darkpy.rate / opencv.rate:.2f}, of CPU {darkpy.work / opencv.work:.2f}"
    return f"{darkpy}   plain OpenCV {opencv}   {ratios}"


def alone(job: Prepared, keys: dict[str, Any], threads: int, batches: int) -> str:
    """darkpy's loader with other keys of [net]."""
    with ours(job, {**PLAIN, **keys}, threads, True) as loader:
        return str(measured(loader, batches, job.network.options.batch))


def measured(supply: Iterator[object], batches: int, batch: int) -> Speed:
    """The speed of some batches; those made ahead while others had their turn do not count."""
    for _ in islice(supply, AHEAD):
        pass
    began, worked = time.perf_counter(), time.process_time()
    for _ in islice(supply, batches):
        pass
    pictures = batches * batch
    return Speed(pictures / (time.perf_counter() - began), 1000 * (time.process_time() - worked) / pictures)


def augmentation_of(job: Prepared, keys: dict[str, Any]) -> Augmentation:
    """As the trainer's, but for these keys."""
    return Augmentation.from_options(replace(job.network.options, **keys), detection_heads(job.network)[-1].options)


def ours(job: Prepared, keys: dict[str, Any], threads: int, cached: bool) -> Loader:
    """darkpy's loader as the trainer has it, but for these keys; pictures to be cached are there already."""
    network = job.network
    size = (network.width, network.height)
    loader = Loader(
        job.train_set,
        augmentation_of(job, keys),
        batch=network.options.batch,
        size_at=lambda iteration: size,
        channels=network.channels,
        workers=threads,
        cache_bytes=None if cached else 0,
        options=replace(network.options, **keys),
    )
    for _ in islice(loader, epoch(job) if cached else 0):
        pass
    return loader


def epoch(job: Prepared) -> int:
    """Batches in which every picture comes once."""
    return -(-len(job.train_set) // job.network.options.batch)


def plain(job: Prepared, augmentation: Augmentation, threads: int, cached: bool) -> Iterator[object]:
    """The same steps with OpenCV's functions, a picture at a time in a pool, two batches ahead."""
    pictures = job.train_set.pictures
    width, height, batch = job.network.width, job.network.height, job.network.options.batch
    cache = {index: cv2.imread(str(path)) for index, path in enumerate(pictures)} if cached else {}
    rng = np.random.default_rng(0)
    room = [np.empty((batch, 3, height, width), np.float32) for _ in range(1 + AHEAD)]
    waiting: deque[list[Future[None]]] = deque()

    def load(index: int, chances: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        image = cache[index] if cached else cv2.imread(str(pictures[index]))
        plain_augment(image, augmentation, chances, width, height, out)

    with ThreadPoolExecutor(threads) as pool:
        for number in count():
            slot = room[number % len(room)]
            chosen = rng.integers(len(pictures), size=batch)
            waiting.append([pool.submit(load, int(index), rng.random(8), out) for index, out in zip(chosen, slot)])
            if len(waiting) > AHEAD:
                for future in waiting.popleft():
                    future.result()
                yield slot


def plain_augment(
    image: NDArray[np.uint8],
    augmentation: Augmentation,
    chances: NDArray[np.float64],
    width: int,
    height: int,
    out: NDArray[np.float32],
) -> None:
    """Darknet's steps for one picture as one would write them with cv2."""
    rows, columns = image.shape[:2]
    sides = np.array([columns, columns, rows, rows])
    left, right, top, bottom = (((2 * chances[:4] - 1) * augmentation.jitter) * sides).astype(int).tolist()
    part = image[max(top, 0) : rows - max(bottom, 0), max(left, 0) : columns - max(right, 0)]
    margins = (max(-top, 0), max(-bottom, 0), max(-left, 0), max(-right, 0))
    part = cv2.copyMakeBorder(part, *margins, cv2.BORDER_CONSTANT, value=cv2.mean(image))
    sample = cv2.resize(part, (width, height))
    if augmentation.flip and chances[4] < 0.5:
        sample = cv2.flip(sample, 1)
    hsv = cv2.cvtColor(sample, cv2.COLOR_BGR2HSV)
    hue, saturation, value = cv2.split(hsv)
    hue = cv2.add(hue, 179 * augmentation.hue * (2 * chances[5] - 1))
    saturation = cv2.multiply(saturation, 1 + (augmentation.saturation - 1) * chances[6])
    value = cv2.multiply(value, 1 + (augmentation.exposure - 1) * chances[7])
    sample = cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB)
    out[:] = sample.transpose(2, 0, 1).astype(np.float32) / 255


class Waits(Callback):
    """Keeps the time of every step and the part of it that was waited."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.ends: list[float] = []

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Remember."""
        self.waited.append(record.waited)
        self.ends.append(time.perf_counter())


def waiting(job: Prepared, iterations: int) -> str:
    """What share of its steps a training waits; the first epoch, in which pictures are decoded, by itself."""
    waits = Waits()
    with job.loader(lambda problem: None) as loader:
        trainer = Trainer(job.network, loader, [waits])
        trainer.last_iteration = job.network.iteration + iterations
        trainer.run()
    steps = np.diff(waits.ends)
    waited = np.array(waits.waited[1:])
    lines = []
    for name, part in (("first epoch", slice(0, epoch(job))), ("later", slice(epoch(job), None))):
        if len(steps[part]):
            share = 100 * waited[part].sum() / steps[part].sum()
            lines.append(f"  training, {name:18} {1000 * np.median(steps[part]):8,.0f} ms a step   waits {share:.2f} %")
    return "\n".join([*lines, f"  {loads()} at the end"])


if __name__ == "__main__":
    main()
