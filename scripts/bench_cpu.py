"""Time and memory of darkpy on the CPU, beside PyTorch: python scripts/bench_cpu.py [--network NAME] [--layers].

What is measured, each by the same clock around one call:

- forward: one picture through the network at inference. darkpy: ``net.forward(x)``, heads decoded. PyTorch: the same
  network in eval mode under ``inference_mode``; nothing is traced, fused or compiled, and its heads decode nothing.
- training step: forward, backward and SGD update of a whole batch in one part. darkpy: ``net.train_batch`` with the
  loss of the [yolo] heads on random truth, about 12 boxes per picture. PyTorch: the sum of squares of the heads' inputs
  in place of that loss. Neither loads nor augments pictures.

PyTorch's network is built from the same cfg, with all cores as threads, once in each memory layout. Where torch is not
installed, or has no counterpart of a section, its columns say so.

How: every column of a row is a process of its own, so that its peak memory is its own (``ru_maxrss``: interpreter and
libraries included). The processes of a row are started together, and then take turns: only one works at a time while
the others sleep, and who begins changes from round to round. A turn repeats the call for at least 0.3 s and gives the
median; the table shows the median of the turns, the first of which is not counted. Before, one more darkpy process has
done the same and ended, so that no memory or time of Numba's compiler is counted. All processes of a row hold their
memory at the same time: about 4 GB for the largest training step.

The last column is the share of the machine's cores that other programs took while the row was measured (Linux). Where
it is not near 0 the row is not worth quoting: all times are too long, and PyTorch's by far the most, up to ten times
and more, probably because its threads wait for each other at the end of every operation. The ratio then flatters
darkpy.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from subjects import ROOT, in_one_part, random_boxes, version_of
from workers import Failed, Worker

from darkpy.backends import DEVICES
from darkpy.backends.numpy.memory import usable_cores
from darkpy.config.cfg import Config, read_cfg
from darkpy.errors import DarkpyError
from darkpy.layers.base import NETWORK_INPUT, Layer
from darkpy.version import __version__

TURN_SECONDS = 0.3
PAUSE_SECONDS = 0.05  # before a turn: the thread pools of the one before spin for a while, then sleep
TRAINING_BATCH = 8
TABLE_WIDTH = 110  # at least: a figure that is cut off is worse than a line that is
QUIET = 0.05  # a greater share of the cores in other hands disturbs
PEER_RATE = 1e-9  # of PyTorch's updates: the sum of squares is no loss to learn from


@dataclass(frozen=True)
class Subject:
    """A network to measure; ``training_batch`` None stands for the cfg's own."""

    name: str
    cfg: Path
    training_batch: int | None = TRAINING_BATCH


SUBJECTS = (
    Subject("yolov3-tiny", ROOT / "cfg" / "yolov3-tiny.cfg"),
    Subject("yolov4-tiny", ROOT / "cfg" / "yolov4-tiny.cfg"),
    Subject("bccd-tiny", ROOT.parent / "shared" / "bench" / "bccd-tiny.cfg", training_batch=None),
)


@dataclass(frozen=True)
class Job:
    """One row of the table: a forward pass, or a training step, of ``batch`` pictures."""

    config: Config
    training: bool
    batch: int
    device: str


def jobs_of(subject: Subject, device: str) -> list[Job]:
    """The rows of a network: forward with one picture, and a training step."""
    config = read_cfg(subject.cfg)
    entry = config.net.get("batch")
    batch = subject.training_batch or (int(entry.value) if entry else 1)
    config = in_one_part(config, batch)
    return [Job(config, False, 1, device), Job(config, True, batch, device)]


# darkpy ------------------------------------------------------------------------------------------------------------


def darkpy_network(job: Job) -> Any:
    from darkpy.network import Network

    return Network(job.config, batch=job.batch, training=job.training, keep_gradients=False, device=job.device)


def darkpy_call(job: Job) -> Callable[[], object]:
    """The call to be timed."""
    return call_of(darkpy_network(job), job)


def call_of(network: Any, job: Job) -> Callable[[], object]:
    generator = np.random.default_rng(0)
    x = generator.random((job.batch, network.channels, network.height, network.width), dtype=np.float32)
    if not job.training:
        return partial(network.forward, x)
    truth = [random_boxes(generator, network.classes) for _ in range(job.batch)]
    return partial(network.train_batch, x, truth)


# PyTorch -----------------------------------------------------------------------------------------------------------


def torch_call(job: Job, channels_last: bool) -> Callable[[], object]:
    """The call to be timed."""
    import torch
    from torch_peer import Peer

    torch.manual_seed(0)
    torch.set_num_threads(usable_cores())
    layout = torch.channels_last if channels_last else torch.contiguous_format
    peer = Peer(job.config, decode=False).to(memory_format=layout).train(job.training)
    x = torch.empty((job.batch, *peer.input_shape), memory_format=layout).uniform_()
    if not job.training:
        return torch.inference_mode()(partial(peer, x))
    momentum, decay = peer.options.momentum, peer.options.decay
    optimizer = torch.optim.SGD(peer.parameters(), lr=PEER_RATE, momentum=momentum, weight_decay=decay)

    def step() -> None:
        optimizer.zero_grad()
        sum(head.square().sum() for head in peer(x)).backward()
        optimizer.step()

    return step


# Processes that take turns -----------------------------------------------------------------------------------------

PEERS = ("PyTorch NCHW", "PyTorch channels_last")
COLUMNS: dict[str, Callable[[Job], Callable[[], object]]] = {
    "darkpy": darkpy_call,
    PEERS[0]: partial(torch_call, channels_last=False),
    PEERS[1]: partial(torch_call, channels_last=True),
}


@dataclass(frozen=True)
class Failure:
    """Why a cell of the table is empty."""

    reason: str


@dataclass(frozen=True)
class Measurement:
    """Seconds of a call (median of the turns), and MB that its process had at most."""

    seconds: float
    megabytes: float


class Contestant:
    """A process that makes one call ready, and then repeats it when it is its turn. A context manager."""

    def __init__(self, column: str, job: Job) -> None:
        self.turns: list[float] = []
        self.failure: Failure | None = None
        self.worker = Worker(partial(Call, column, job))

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *error: object) -> None:
        self.worker.end()

    def turn(self) -> None:
        """Let it work for a turn, and wait for the time."""
        time.sleep(PAUSE_SECONDS)
        seconds = self.ask("turn")
        if seconds is not None:
            self.turns.append(seconds)

    def result(self) -> Measurement | Failure:
        """What it measured, the first turn not counted."""
        megabytes = self.ask("memory")
        if self.failure is not None or megabytes is None:
            return self.failure or Failure("it gave no answer")
        return Measurement(statistics.median(self.turns[1:]), megabytes)

    def ask(self, question: str) -> float | None:
        """Its answer, or None if it has failed, now or before."""
        if self.failure is None:
            try:
                return self.worker.ask(question)
            except Failed as failed:
                self.failure = Failure(failed.reason)
        return None


class Call:
    """What a contestant's process holds: one call, ready."""

    def __init__(self, column: str, job: Job) -> None:
        self.call = COLUMNS[column](job)

    def turn(self) -> float:
        """Seconds of a call."""
        return turn_seconds(self.call)

    def memory(self) -> float:
        """Megabytes that the process has had at most."""
        return peak_megabytes()


def turn_seconds(call: Callable[[], object]) -> float:
    """Median time of one call, repeated for TURN_SECONDS."""
    times: list[float] = []
    while sum(times) < TURN_SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


@dataclass(frozen=True)
class Row:
    """What the columns measured, and the share of all cores that other programs took meanwhile (None: unknown)."""

    results: dict[str, Measurement | Failure]
    disturbance: float | None


def measure(job: Job, columns: Sequence[str], runs: int) -> Row:
    """One row: all columns, each in its process, in turns."""
    began = Moment.now()
    results = take_turns(job, columns, runs)
    return Row(results, began.disturbance_since())


def take_turns(job: Job, columns: Sequence[str], runs: int) -> dict[str, Measurement | Failure]:
    with Contestant("darkpy", job) as compiler:
        compiler.turn()
    with ExitStack() as stack:
        contestants = {column: stack.enter_context(Contestant(column, job)) for column in columns}
        order = list(contestants.values())
        for _ in range(1 + runs):
            for contestant in order:
                contestant.turn()
            order.append(order.pop(0))
        return {column: contestant.result() for column, contestant in contestants.items()}


@dataclass(frozen=True)
class Moment:
    """A time by the clock, and the core time that other programs had used by then (None: unknown), in seconds."""

    clock: float
    foreign: float | None

    @classmethod
    def now(cls) -> Moment:
        """Other programs' time is all there was, less that of this process and of its ended children."""
        kernel = Path("/proc/stat")
        if not kernel.is_file():
            return cls(time.perf_counter(), None)
        user, nice, system, _, _, irq, softirq, steal = map(int, kernel.read_text(encoding="utf-8").split()[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), busy - sum(usage.ru_utime + usage.ru_stime for usage in usages))

    def disturbance_since(self) -> float | None:
        """Share of all cores that other programs have taken since; None if it cannot be known."""
        end = Moment.now()
        if self.foreign is None or end.foreign is None:
            return None
        return max(end.foreign - self.foreign, 0.0) / ((end.clock - self.clock) * (os.cpu_count() or 1))


# The tables --------------------------------------------------------------------------------------------------------


def compare(subjects: Sequence[Subject], device: str, runs: int, console: Console) -> list[str]:
    """Print the table; returns why cells of darkpy's column are empty."""
    has_torch = importlib.util.find_spec("torch") is not None
    columns = [column for column in COLUMNS if column not in PEERS or has_torch]
    title = f"median of {runs} turns; MB: peak memory of the process; ratio: darkpy / PyTorch's better layout"
    table = new_table(title, "network", "pass", "batch")
    for column in columns:
        name, _, layout = column.partition(" ")
        table.add_column(f"{name}\n{layout}\nms", justify="right", no_wrap=True, vertical="bottom")
        table.add_column("MB", justify="right", no_wrap=True, vertical="bottom")
    if has_torch:
        table.add_column("ratio", justify="right", vertical="bottom")
    table.add_column("other\nwork", justify="right", vertical="bottom")
    reasons: dict[str, str] = {}
    disturbed = False
    broken = []
    for subject in subjects:
        for job in jobs_of(subject, device):
            what = "training step" if job.training else "forward"
            with console.status(f"{subject.name} {what}"):
                row = measure(job, columns, runs)
            cells = [text for column in columns for text in result_cells(row.results[column])]
            cells += [ratio(row.results)] if has_torch else []
            table.add_row(subject.name, what, str(job.batch), *cells, percent(row.disturbance))
            disturbed |= (row.disturbance or 0.0) > QUIET
            for column, result in row.results.items():
                if isinstance(result, Failure):
                    reasons[f"{subject.name} {what}, {column}"] = result.reason
                    if column not in PEERS:
                        broken.append(result.reason)
    console.print(table)
    if disturbed:
        console.print("Other programs were at work (last column): do not quote such rows; PyTorch suffers most.")
    if not has_torch:
        console.print("PyTorch: left out, torch is not installed in this environment")
    for where, reason in reasons.items():
        console.print(escape(f"{where}: {reason}"))
    return broken


def new_table(title: str, *left: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in left:
        table.add_column(name, no_wrap=True, vertical="bottom")
    return table


def result_cells(result: Measurement | Failure) -> tuple[str, str]:
    if isinstance(result, Failure):
        return "-", "-"
    return milliseconds(result.seconds), f"{result.megabytes:,.0f}"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}" if seconds < 0.1 else f"{1e3 * seconds:,.0f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def ratio(results: dict[str, Measurement | Failure]) -> str:
    """darkpy's time divided by that of PyTorch's better layout."""
    ours = results["darkpy"]
    peers = [result.seconds for column in PEERS if isinstance(result := results.get(column), Measurement)]
    if isinstance(ours, Failure) or len(peers) < len(PEERS):
        return "-"
    value = ours.seconds / min(peers)
    return f"[{'green' if value <= 1 else 'yellow'}]{value:.2f}[/]"


Clock = dict[tuple[int, str], list[float]]


def show_layers(subject: Subject, device: str, runs: int, console: Console) -> None:
    """Print where darkpy's time goes, layer by layer."""
    forward, training = jobs_of(subject, device)
    began = Moment.now()
    with console.status(subject.name):
        layers, inference, _ = layer_times(forward, runs)
        _, step, around = layer_times(training, runs)
    disturbance = began.disturbance_since()
    title = f"{subject.name}: ms of each layer, median of {runs} calls; GFLOP/s as if by the direct method"
    table = new_table(title, "layer", "type", "form", "output")
    for name in ("forward\nbatch 1", "GFLOP/s", f"step, batch {training.batch}\nforward", "backward"):
        table.add_column(name, justify="right", vertical="bottom")
    for layer in layers:
        i = layer.index
        once = inference.get((i, "forward"))
        speed = f"{layer.operations() / once / 1e9:,.0f}" if once and layer.operations() else ""
        times = [cell(once), speed, cell(step.get((i, "forward"))), cell(step.get((i, "backward")))]
        shape = "x".join(map(str, layer.output_shape or ()))
        table.add_row(str(i), layer.name, layer.describe(), shape, *times, end_section=layer is layers[-1])
    passes = ((inference, "forward"), (step, "forward"), (step, "backward"))
    totals = [cell(total(times, name)) for times, name in passes]
    table.add_row("all", "", "", "", totals[0], "", *totals[1:])
    console.print(table)
    parts = ", ".join(f"{name} {milliseconds(seconds)}" for name, seconds in around.items())
    console.print(f"of the step besides, ms: {parts}; other work: {percent(disturbance)}\n")


def layer_times(job: Job, runs: int) -> tuple[list[Layer], dict[tuple[int, str], float], dict[str, float]]:
    """The layers, median seconds by (layer, pass), and those of the network's own parts of a step."""
    network = darkpy_network(job)
    clock: Clock = {}
    for layer in network.layers:
        for name in ("forward", "backward"):
            watch(layer, name, clock, layer.index)
    for name in ("loss", "update", "zero_gradients"):
        watch(network, name, clock, NETWORK_INPUT)
    call = call_of(network, job)
    call()
    clock.clear()
    for _ in range(runs):
        call()
    medians = {key: statistics.median(times) for key, times in clock.items()}
    around = {name: seconds for (index, name), seconds in medians.items() if index == NETWORK_INPUT}
    return network.layers, {key: value for key, value in medians.items() if key[0] != NETWORK_INPUT}, around


def watch(thing: Any, name: str, clock: Clock, index: int) -> None:
    """Put a method that notes its times in the place of a method."""
    method = getattr(thing, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = method(*arguments, **options)
        clock.setdefault((index, name), []).append(time.perf_counter() - started)
        return result

    setattr(thing, name, timed)


def total(times: dict[tuple[int, str], float], name: str) -> float:
    return sum(seconds for (_, what), seconds in times.items() if what == name)


def cell(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:,.2f}"


# The command -------------------------------------------------------------------------------------------------------


def machine() -> str:
    """What the figures were taken on, and how busy it was in the last minute."""
    versions = [f"{name} {version_of(name)}" for name in ("numpy", "numba", "torch")]
    load = f"load {os.getloadavg()[0]:.1f}"
    where = f"{cpu_model()}, {usable_cores()} cores, {load}"
    return f"{where}; darkpy {__version__}, {', '.join(versions)}, Python {platform.python_version()}"


def cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def find_subjects(names: Sequence[str]) -> list[Subject]:
    """The networks asked for: names, or paths of cfg files; all by default."""
    known = {subject.name: subject for subject in SUBJECTS}
    found = []
    for name in names or known:
        subject = known.get(name) or Subject(Path(name).stem, Path(name))
        if subject.cfg.is_file():
            found.append(subject)
        elif names:
            raise click.BadParameter(f"{name!r} is neither a cfg file nor one of {', '.join(known)}: no {subject.cfg}")
    return found


@click.command()
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1), help="Turns that are counted.")
@click.option(
    "--network", "names", multiple=True, metavar="NAME", help="A network of the table, or a cfg file; may be repeated."
)
@click.option("--layers", is_flag=True, help="Times of darkpy's layers instead of the comparison.")
@click.option("--device", default="cpu", show_default=True, type=click.Choice(DEVICES), help="Where darkpy computes.")
def main(runs: int, names: tuple[str, ...], layers: bool, device: str) -> None:
    """Time and peak memory of darkpy on this machine's CPU, beside PyTorch where that is installed."""
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)
    subjects = find_subjects(names)
    console.print(escape(machine()))
    for subject in SUBJECTS:
        if not names and subject not in subjects:
            console.print(f"{subject.name}: left out, there is no {escape(str(subject.cfg))}")
    try:
        if layers:
            for subject in subjects:
                show_layers(subject, device, runs, console)
            return
        broken = compare(subjects, device, runs, console)
    except DarkpyError as error:
        raise click.ClickException(str(error)) from None
    if broken:
        raise click.ClickException("darkpy could not be measured everywhere")


if __name__ == "__main__":
    main()
