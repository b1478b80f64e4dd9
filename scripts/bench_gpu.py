"""Time and memory of darkpy on a GPU, beside PyTorch on the same one: python scripts/bench_gpu.py [--json FILE].

Parts, in the order of importance; what the time does not suffice for is left out, and listed:

- limits: what the device can do, measured by a large copy and large products of matrices.
- inference: networks at batch 1, 8 and 64. training: one update. Both begin with 8-bit pictures in pinned memory of
  the host, which are brought to the device while it works on the last ones.
- kernels: every distinct convolution of some networks, forward, gradient of the input, gradient of the weights.
- compile: inference and training once more with PyTorch's torch.compile, which takes a minute and more for each.

PyTorch builds its networks from the same cfgs (torch_peer.py), channels last, cuDNN with its own search for the fastest
algorithm, 16-bit weights or autocast; as written ("eager"), as one CUDA graph ("graph"), by torch.compile ("compile").
darkpy is compared with the fastest of them. It computes as it comes.

How: either side has a process of its own, and works while the other sleeps. What fails there (no memory, an error on
the device, too long) is noted with its reason, the process is begun anew if it must, and the next job follows. Times
are between CUDA events, medians, after a warm-up. Results are written after every job, so that a run that is cut off
has left what it found.

``--check`` compares the outputs of both sides' networks instead. ``--smoke`` tries the script itself with tiny
settings; on a machine without a GPU too, where PyTorch takes the CPU and darkpy the stand-in of tests/hostcuda (run it
in the environment that ``tests.hostcuda.environment()`` gives).
"""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import click
from gpu_bench.jobs import (
    PRECISIONS,
    Convolution,
    KernelJob,
    NetworkJob,
    Speed,
    Subject,
    convolutions,
)
from gpu_bench.report import OURS, PEER, Entry, Results, page
from subjects import ROOT
from workers import Failed, Worker

from darkpy.errors import DarkpyError
from darkpy.files import atomic_write

PARTS = ("limits", "inference", "training", "kernels", "compile")
LONGEST = 150.0  # seconds that one job may take
SHORTEST_LEFT = 15.0  # with less time left nothing is begun
SUBJECTS = (
    Subject("yolov4-tiny", ROOT / "cfg" / "yolov4-tiny.cfg"),
    Subject("yolov4", ROOT / "cfg" / "yolov4.cfg", 416),
    Subject("yolov7", ROOT.parent / "shared" / "zoo" / "yolov7.cfg"),
    Subject("yolov3-tiny", ROOT / "cfg" / "yolov3-tiny.cfg"),
)
WITH_KERNELS = ("yolov4-tiny", "yolov4", "yolov7")
TRAINING_BATCH = 64
LARGEST_INPUT = 512  # sides above it train with half the batch
KERNEL_BATCH = 16


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
        _, height, width = network_size(job.subject)
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


def network_size(subject: Subject) -> tuple[int, int, int]:
    """Channels, height, width."""
    values = {entry.key: int(entry.value) for entry in subject.config().net.entries if entry.key in ("width", "height")}
    return 3, values["height"], values["width"]


def network_jobs(
    subjects: Sequence[Subject], precisions: Sequence[str], training: bool, seconds: float, batches: tuple[int, ...]
) -> Iterator[NetworkJob]:
    """The first precision of all networks first."""
    for precision in precisions:
        for subject in subjects:
            sizes = batches
            if training and max(network_size(subject)) > LARGEST_INPUT:
                sizes = tuple(max(1, batch // 2) for batch in batches)
            yield NetworkJob(subject, training, sizes, precision, seconds)


def kernel_jobs(
    shapes: Sequence[Convolution], precisions: Sequence[str], seconds: float, l2: int
) -> Iterator[KernelJob]:
    """What takes longest first."""
    for shape in shapes:
        for precision in precisions:
            for operation in shape.passes:
                yield KernelJob(shape, operation, precision, seconds, l2)


def find_subjects(names: Sequence[str], side: int) -> list[Subject]:
    """The networks asked for: names, or paths of cfg files; all by default."""
    known = {subject.name: subject for subject in SUBJECTS}
    found = []
    for name in names or known:
        subject = known.get(name) or Subject(Path(name).stem, Path(name))
        if subject.cfg.is_file():
            found.append(Subject(subject.name, subject.cfg, side or subject.side))
        elif names:
            raise click.BadParameter(f"{name!r} is neither a cfg file nor one of {', '.join(known)}: no {subject.cfg}")
        else:
            click.echo(f"{name}: left out, there is no {subject.cfg}")
    return found


def check(subjects: Sequence[Subject], device: str) -> None:
    """Compare the networks' outputs; they are to agree within the rounding of float32."""
    try:
        from torch_peer import largest_difference
    except ImportError as error:
        raise click.ClickException(f"the comparison needs PyTorch: {error}") from None
    worst = 0.0
    for subject in subjects:
        difference = largest_difference(subject.config(), device)
        worst = max(worst, difference)
        click.echo(f"{subject.name}: outputs differ by {difference:.2g} of the largest value")
    if not worst < 1e-4:
        raise click.ClickException("the two sides do not compute the same")


def default_parts(is_smoke: bool) -> tuple[str, ...]:
    return PARTS[:-1] if is_smoke else PARTS


@click.command()
@click.option("--network", "names", multiple=True, metavar="NAME", help="A network of the list, or a cfg; repeatable.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this; may be repeated.")
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS), help="Only this; repeatable.")
@click.option(
    "--seconds", default=0.5, show_default=True, help="How long each call is repeated; kernels a tenth of it."
)
@click.option("--budget", default=570.0, show_default=True, help="Seconds for everything.")
@click.option("--size", default=0, help="Side of the input, instead of the network's own.")
@click.option("--batch", "batches", multiple=True, type=int, help="Instead of 1, 8, 64 and of training's; repeatable.")
@click.option("--device", default=0, show_default=True, help="Number of the GPU.")
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Where to write all figures.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the page.")
@click.option("--check", "only_check", is_flag=True, help="Compare outputs instead of measuring.")
@click.option("--smoke", is_flag=True, help="Try the script itself: tiny settings, PyTorch on the CPU if need be.")
def main(
    names: tuple[str, ...],
    parts: tuple[str, ...],
    precisions: tuple[str, ...],
    seconds: float,
    budget: float,
    size: int,
    batches: tuple[int, ...],
    device: int,
    target: Path | None,
    markdown: Path | None,
    only_check: bool,
    smoke: bool,
) -> None:
    """Time and memory of darkpy on this machine's GPU, beside PyTorch."""
    subjects = find_subjects(names, size or (32 if smoke else 0))
    if only_check:
        try:
            check(subjects, f"gpu:{device}")
        except DarkpyError as error:
            raise click.ClickException(str(error)) from None
        return
    chosen = parts or default_parts(smoke)
    seconds = 0.001 if smoke else seconds
    sides = {OURS: Side(partial(darkpy_side, f"gpu:{device}", smoke))}
    if importlib.util.find_spec("torch") is not None:
        sides[PEER] = Side(partial(torch_side, torch_device(device, smoke), smoke))
    bench = Bench(sides, budget, target)
    if PEER not in sides:
        bench.note("PyTorch: torch is not installed in this environment")
    bench.results.environment |= {"date": str(date.today()), "Python": platform.python_version()}
    try:
        measure(bench, subjects, chosen, precisions or PRECISIONS, seconds, batches or ((1,) if smoke else ()))
    finally:
        bench.close()
        bench.save()
        text = page(bench.results)
        if markdown is not None:
            markdown.write_text(text, encoding="utf-8")
        click.echo(f"\n{text}")
    if OURS not in bench.sides or not any(e.who == OURS and not e.reason for e in bench.results.entries):
        raise click.ClickException("darkpy was not measured")


def torch_device(index: int, smoke: bool) -> str:
    if smoke:
        import torch

        if not torch.cuda.is_available():
            return "cpu"
    return f"cuda:{index}"


def measure(
    bench: Bench,
    subjects: Sequence[Subject],
    parts: Sequence[str],
    precisions: Sequence[str],
    seconds: float,
    batches: tuple[int, ...],
) -> None:
    """All parts asked for, in their order."""
    bench.describe()
    inference = list(network_jobs(subjects, precisions, False, seconds, batches or (1, 8, 64)))
    training = list(network_jobs(subjects, precisions, True, seconds, batches or (TRAINING_BATCH,)))
    if "limits" in parts:
        bench.find_limits()
    if "inference" in parts:
        bench.networks(inference, ("eager", "graph"))
    if "training" in parts:
        bench.networks(training, ("eager", "graph"))
    if "kernels" in parts:
        chosen = [subject for subject in subjects if subject.name in WITH_KERNELS] or subjects
        shapes = convolutions(chosen, min(batches, default=KERNEL_BATCH))
        l2 = 0
        if OURS in bench.sides:
            try:
                l2 = bench.ask(OURS, "cache_bytes")
            except Failed as failed:
                bench.note(f"cache: {failed}")
        bench.kernels(kernel_jobs(shapes, precisions, seconds / 10, l2))
    if "compile" in parts:
        for job in [job for pair in zip(training, inference) for job in pair]:
            bench.networks([job], ("compile",), with_ours=False)


if __name__ == "__main__":
    main()
