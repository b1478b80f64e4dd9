"""A run of the benchmark: which jobs, in which order, within the time there is, and what came of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from workers import Failed, Worker

from darkpy.files import atomic_write
from gpu_bench.jobs import KernelJob, NetworkJob, Speed, Subject, convolutions
from gpu_bench.report import OURS, PEER, Entry, Results

LONGEST = 150.0  # seconds that one job may take
SHORTEST_LEFT = 15.0  # with less time left nothing is begun
BATCHES = (1, 8, 64)
TRAINING_BATCH = 64
LARGEST_INPUT = 512  # sides above it train with half the batch
KERNEL_BATCH = 16
WITH_KERNELS = ("yolov4-tiny", "yolov4", "yolov7")


@dataclass(frozen=True)
class Wanted:
    """What to measure; batches: instead of the usual ones."""

    subjects: Sequence[Subject]
    parts: Sequence[str]
    precisions: Sequence[str]
    seconds: float
    batches: tuple[int, ...] = ()


def darkpy_side(device: str, is_smoke: bool) -> Any:
    from gpu_bench.darkpy_side import DarkpySide

    return DarkpySide(device, is_smoke)


def torch_side(device: str, is_smoke: bool) -> Any:
    from gpu_bench.torch_side import TorchSide

    return TorchSide(device, is_smoke)


class Side:
    """One of the two, in its process, which is begun when needed, and anew after it has ended."""

    def __init__(self, make: Any) -> None:
        self.make = make
        self.worker: Worker | None = None

    def ask(self, method: str, *arguments: Any, seconds: float) -> Any:
        """See :meth:`Worker.ask`."""
        self.worker = self.worker or Worker(self.make)
        try:
            return self.worker.ask(method, *arguments, seconds=seconds)
        except Failed as failed:
            if not failed.is_alive:
                self.end()
            self.end_if_broken(failed.reason)
            raise

    def end_if_broken(self, reason: str) -> None:
        """End the process if the reason is an error of the driver: nothing in it can use the device any more."""
        if re.search(r"CUDA error|CUDA out of memory|\bcu[A-Z]\w+ failed|illegal", reason):
            self.end()

    def end(self) -> None:
        """End the process."""
        if self.worker is not None:
            self.worker.end()
            self.worker = None


class Bench:
    """A run: the sides, the time left, and what was found."""

    def __init__(self, sides: dict[str, Side], budget: float, target: Path | None) -> None:
        self.sides, self.target = sides, target
        self.end = time.monotonic() + budget
        self.results = Results()

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def ask(self, who: str, method: str, *arguments: Any) -> Any:
        """An answer; raises :class:`Failed` with the reason why there is none."""
        if self.left < SHORTEST_LEFT:
            raise Failed("left out, the time was up", is_alive=True)
        return self.sides[who].ask(method, *arguments, seconds=min(LONGEST, self.left))

    def describe(self) -> None:
        """Who takes part, and is ready; a side that cannot is left out."""
        for who in list(self.sides):
            try:
                self.results.environment |= self.ask(who, "describe")
            except Failed as failed:
                self.note(f"{who} is left out: {failed}")
                self.sides.pop(who).end()
        if OURS in self.sides:
            began = time.monotonic()
            try:
                count = self.ask(OURS, "compile")
                click.echo(f"compiled {count} files of kernels in {time.monotonic() - began:.0f} s")
            except Failed as failed:
                self.note(f"compiling darkpy's kernels: {failed}")

    def find_limits(self) -> None:
        """From PyTorch's largest products, else from darkpy's knowledge of the device."""
        for who in (PEER, OURS):
            if who in self.sides:
                try:
                    self.results.limits = self.ask(who, "limits")
                    return
                except Failed as failed:
                    self.note(f"limits, {who}: {failed}")

    def cache_bytes(self) -> int:
        """What the arrays of a kernel are to outgrow."""
        if OURS not in self.sides:
            return 0
        try:
            return self.ask(OURS, "cache_bytes")
        except Failed as failed:
            self.note(f"the size of the cache: {failed}")
            return 0

    def note(self, remark: str) -> None:
        """Something to be said at the end too."""
        self.results.remarks.append(remark)
        click.echo(remark)

    def networks(self, jobs: Iterable[NetworkJob], ways: Sequence[str], with_ours: bool = True) -> None:
        """Both sides of every job, one behind the other."""
        for job in jobs:
            for who, way in [(OURS, "")] * with_ours + [(PEER, way) for way in ways]:
                if who in self.sides:
                    self.network(job, who, way)

    def network(self, job: NetworkJob, who: str, way: str) -> None:
        """One side of a job."""
        part = "training" if job.training else "inference"
        height, width = network_size(job.subject)
        common = {"part": part, "what": job.subject.name, "size": f"{width} x {height}", "precision": job.precision}
        try:
            found: dict[int, Speed | str] = self.ask(who, "network", job, *([way] if way else []))
        except Failed as failed:
            found = dict.fromkeys(job.batches, failed.reason)
        for batch, speed in found.items():
            if isinstance(speed, Speed):
                entry = Entry(**common, batch=batch, who=who, way=way, seconds=speed.seconds, memory=speed.memory)
            else:
                entry = Entry(**common, batch=batch, who=who, way=way, reason=first_line(speed))
                self.sides[who].end_if_broken(speed)
            self.add(entry)

    def kernels(self, jobs: Iterable[KernelJob]) -> None:
        """Both sides of every job, one behind the other."""
        for job in jobs:
            for who in self.sides:
                self.kernel(job, who)

    def kernel(self, job: KernelJob, who: str) -> None:
        """One side of a job."""
        c = job.convolution
        common = {"part": "kernels", "what": c.describe(), "batch": c.input_shape[0], "precision": job.precision}
        common |= {"who": who, "operation": job.operation, "uses": c.uses, "operations": c.operations}
        try:
            seconds = self.ask(who, "kernel", job)
        except Failed as failed:
            self.add(Entry(**common, reason=first_line(failed.reason)))
            return
        self.add(Entry(**common, seconds=seconds, shortest=c.shortest(job.precision, self.results.limits)))

    def add(self, entry: Entry) -> None:
        """Keep, show and save."""
        self.results.entries.append(entry)
        said = entry.reason or f"{1e3 * entry.seconds:.3f} ms"
        words = (entry.who, entry.way, entry.precision, entry.part, entry.operation)
        name = " ".join(word for word in words if word)
        click.echo(f"{self.left:4.0f} s left  {name}, {entry.what}, batch {entry.batch}: {said}")
        self.save()

    def save(self) -> None:
        """All so far, if a file was asked for."""
        if self.target is not None:
            with atomic_write(self.target) as file:
                file.write(json.dumps(self.results.as_json(), indent=1).encode())

    def close(self) -> None:
        """End the processes."""
        for side in self.sides.values():
            side.end()


def first_line(reason: str) -> str:
    return reason.splitlines()[0][:200] if reason else "no reason given"


def network_size(subject: Subject) -> tuple[int, int]:
    """Height, width."""
    values = {entry.key: int(entry.value) for entry in subject.config().net.entries if entry.key in ("width", "height")}
    return values["height"], values["width"]


# The parts -------------------------------------------------------------------------------------------------------


def measure(bench: Bench, wanted: Wanted) -> None:
    """All parts asked for: what matters most with the first precision, convolutions, then the rest."""
    bench.describe()
    if "limits" in wanted.parts:
        bench.find_limits()
    first, others = wanted.precisions[:1], wanted.precisions[1:]
    measure_networks(bench, wanted, first)
    if "kernels" in wanted.parts:
        bench.kernels(kernel_jobs(wanted, bench.cache_bytes()))
    if "compile" in wanted.parts:
        # One batch size at a time: each is compiled anew.
        jobs = [replace(job, batches=(batch,)) for job in network_jobs(wanted, first) for batch in job.batches]
        bench.networks(sorted(jobs, key=lambda job: not job.training), ("compile",), with_ours=False)
    measure_networks(bench, wanted, others)


def measure_networks(bench: Bench, wanted: Wanted, precisions: Sequence[str]) -> None:
    for job in network_jobs(wanted, precisions):
        if ("training" if job.training else "inference") in wanted.parts:
            bench.networks([job], ("eager", "graph"))


def network_jobs(wanted: Wanted, precisions: Sequence[str]) -> Iterator[NetworkJob]:
    """Inference and training of each network."""
    for precision in precisions:
        for subject in wanted.subjects:
            yield NetworkJob(subject, False, wanted.batches or BATCHES, precision, wanted.seconds)
            half = 2 if max(network_size(subject)) > LARGEST_INPUT else 1
            batches = tuple(max(1, batch // half) for batch in wanted.batches or (TRAINING_BATCH,))
            yield NetworkJob(subject, True, batches, precision, wanted.seconds)


def kernel_jobs(wanted: Wanted, l2: int) -> Iterator[KernelJob]:
    """The convolutions that take most operations first."""
    chosen = [subject for subject in wanted.subjects if subject.name in WITH_KERNELS] or wanted.subjects
    for shape in convolutions(chosen, min(wanted.batches, default=KERNEL_BATCH)):
        for precision in wanted.precisions:
            for operation in shape.passes:
                yield KernelJob(shape, operation, precision, wanted.seconds / 10, l2)
