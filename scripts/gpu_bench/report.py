"""What was measured, as a file of figures and as a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from gpu_bench.jobs import PRECISIONS, Limits

OURS, PEER = "darkpy", "PyTorch"


@dataclass(frozen=True)
class Entry:
    """One figure, or the reason why there is none.

    part: inference, training or kernels. what: a network, or a convolution. way: how PyTorch ran it. operations:
    floating point operations of a kernel, shortest: seconds that the device's limits allow it; uses: networks that have
    it, and how often.
    """

    part: str
    what: str
    batch: int
    precision: str
    who: str
    way: str = ""
    size: str = ""
    operation: str = ""
    seconds: float = 0.0
    memory: int | None = None
    operations: float = 0.0
    shortest: float | None = None
    uses: tuple[tuple[str, int], ...] = ()
    reason: str = ""

    @property
    def row(self) -> tuple[str, ...]:
        """What both sides measure alike."""
        return self.what, self.size, str(self.batch), self.precision, self.operation


@dataclass
class Results:
    """Everything of a run; remarks: parts that were left out, and why."""

    environment: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    entries: list[Entry] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """For a file."""
        return asdict(self)

    def add(self, earlier: dict[str, Any]) -> None:
        """What such a file says."""
        self.environment |= earlier["environment"]
        if earlier["limits"]["bandwidth"]:
            self.limits = Limits(**earlier["limits"])
        for entry in earlier["entries"]:
            self.entries.append(Entry(**{**entry, "uses": tuple((name, count) for name, count in entry["uses"])}))
        self.remarks += [remark for remark in earlier["remarks"] if remark not in self.remarks]


TITLE = "# darkpy on a GPU, beside PyTorch\n\nWritten by `scripts/bench_gpu.py`, which explains how.\n"


def page(results: Results) -> str:
    """Markdown."""
    parts = [
        "# darkpy on a GPU, beside PyTorch\n\nWritten by `scripts/bench_gpu.py`, which explains how.\n",
        facts(results),
    ]
    parts += [networks(results, part) for part in ("inference", "training")]
    parts += [sums(results), kernels(results), reasons(results)]
    return "\n".join(part for part in parts if part)


def facts(results: Results) -> str:
    limits = results.limits
    lines = [f"- {name}: {value}" for name, value in results.environment.items()]
    rates = ", ".join(f"{name} {rate / 1e12:,.1f} TFLOP/s" for name, rate in limits.rates.items())
    known = f"memory {limits.bandwidth / 1e12:.2f} TB/s" if limits.bandwidth else "memory unknown"
    lines.append(f"- limits ({limits.source}): {known}{', ' if rates else ''}{rates}")
    return "\n".join(lines) + "\n"


HEADINGS = {
    "inference": (
        "## Inference\n\nFrom 8-bit pictures in pinned memory of the host to the last head's output there, all heads "
        "decoded, batch normalisation folded on both sides. Median time of a call.\n"
    ),
    "training": (
        "## Training\n\nOne update from 8-bit pictures and boxes in the host's memory, nothing loaded from disk or "
        "augmented. PyTorch: autocast, SGD in one kernel, a [yolo] loss of the same kind and about the same work (not "
        "the same numbers). MB: taken of the memory of the device from before the network was built to after its last "
        "update, without the context.\n"
    ),
}


def networks(results: Results, part: str) -> str:
    """One row for each network, batch and precision: darkpy beside PyTorch's best."""
    rows = by_row(entry for entry in results.entries if entry.part == part)
    if not rows:
        return ""
    columns = [
        "network",
        "size",
        "batch",
        "precision",
        "darkpy ms",
        "pictures/s",
        "MB",
        "PyTorch ms",
        "pictures/s",
        "MB",
    ]
    lines = [HEADINGS[part], *header([*columns, "by", "ratio"], left=4)]
    for (what, size, batch, precision, _), entries in rows.items():
        ours, peer = best(entries, OURS), best(entries, PEER)
        cells = [what, size, batch, precision]
        for entry in (ours, peer):
            cells += [milliseconds(entry), per_second(entry), megabytes(entry)]
        lines.append(table_row([*cells, peer.way if peer else "", ratio(ours, peer)]))
    return "\n".join(lines) + "\n\nratio: darkpy's time / PyTorch's.\n"


def sums(results: Results) -> str:
    """For each network the time of all its convolutions together, each as often as it occurs."""
    rows = by_row(entry for entry in results.entries if entry.part == "kernels")
    totals: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for entries in rows.values():
        ours, peer = best(entries, OURS), best(entries, PEER)
        if ours is None or peer is None:
            continue
        for network, count in ours.uses:
            total = totals[network, ours.precision, ours.operation]
            total[0] += count * ours.seconds
            total[1] += count * peer.seconds
            total[2] += count * ours.operations
    if not totals:
        return ""
    text = (
        "## Convolutions of a network together\n\nOf those that both sides have measured, each as often as it occurs.\n"
    )
    columns = ["network", "precision", "pass", "darkpy ms", "TFLOP/s", "PyTorch ms", "TFLOP/s", "ratio"]
    lines = [text, *header(columns, left=3)]
    order = sorted(totals, key=lambda key: (key[0], PRECISIONS.index(key[1])))
    for key in order:
        ours_time, peer_time, operations = totals[key]
        times = [
            f"{1e3 * ours_time:.3f}",
            rate(operations, ours_time),
            f"{1e3 * peer_time:.3f}",
            rate(operations, peer_time),
        ]
        lines.append(table_row([*key, *times, f"{ours_time / peer_time:.2f}"]))
    return "\n".join(lines) + "\n"


def kernels(results: Results) -> str:
    """Every convolution, precision and pass."""
    rows = by_row(entry for entry in results.entries if entry.part == "kernels")
    rows = {row: entries for row, entries in rows.items() if any(entry.seconds for entry in entries)}
    if not rows:
        return ""
    text = (
        "## Convolutions one by one\n\nChannels x height x width of the input, kernel/stride, filters. Medians between "
        "events, calls queued behind other work, on arrays that outgrow the cache. Share: of what the limits above "
        "allow, the larger of operations / rate and bytes / bandwidth. Gradients of weights are float32 in darkpy, of "
        "the arrays' type in PyTorch.\n\n<details><summary>The table</summary>\n"
    )
    columns = [
        "convolution",
        "batch",
        "precision",
        "pass",
        "darkpy us",
        "TFLOP/s",
        "share",
        "PyTorch us",
        "TFLOP/s",
        "share",
    ]
    lines = [text, *header([*columns, "ratio"], left=4)]
    for (what, _, batch, precision, operation), entries in rows.items():
        cells = [what, batch, precision, operation]
        ours, peer = best(entries, OURS), best(entries, PEER)
        for entry in (ours, peer):
            cells += [micros(entry), rate(entry.operations, entry.seconds) if entry else "-", share(entry)]
        lines.append(table_row([*cells, ratio(ours, peer)]))
    return "\n".join(lines) + "\n\n</details>\n"


def reasons(results: Results) -> str:
    """What is missing, and why; the same reason once."""
    found: dict[str, list[str]] = defaultdict(list)
    for entry in results.entries:
        if entry.reason:
            name = " ".join(part for part in (entry.who, entry.way, entry.part, entry.precision) if part)
            found[f"{name}: {entry.reason}"].append(entry.what)
    lines = [f"- {reason} ({', '.join(dict.fromkeys(places))})" for reason, places in found.items()]
    lines += [f"- {remark}" for remark in results.remarks]
    return "\n".join(["## Not measured\n", *lines]) + "\n" if lines else ""


# Rows ----------------------------------------------------------------------------------------------------------


def by_row(entries: Iterable[Entry]) -> dict[tuple[str, ...], list[Entry]]:
    found: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.row].append(entry)
    return found


def best(entries: Iterable[Entry], who: str) -> Entry | None:
    measured = [entry for entry in entries if entry.who == who and not entry.reason]
    return min(measured, key=lambda entry: entry.seconds, default=None)


def header(columns: list[str], left: int) -> list[str]:
    return [table_row(columns), table_row(["---"] * left + ["--:"] * (len(columns) - left))]


def table_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def cell(text: Callable[[Entry], str]) -> Callable[[Entry | None], str]:
    return lambda entry: "-" if entry is None else text(entry)


milliseconds = cell(lambda entry: f"{1e3 * entry.seconds:,.3f}")
micros = cell(lambda entry: f"{1e6 * entry.seconds:,.1f}")
per_second = cell(lambda entry: f"{entry.batch / entry.seconds:,.0f}")
megabytes = cell(lambda entry: "-" if entry.memory is None else f"{entry.memory / 1e6:,.0f}")
share = cell(lambda entry: "-" if entry.shortest is None else f"{100 * entry.shortest / entry.seconds:.0f} %")


def rate(operations: float, seconds: float) -> str:
    return f"{operations / seconds / 1e12:,.2f}"


def ratio(ours: Entry | None, peer: Entry | None) -> str:
    return "-" if ours is None or peer is None else f"{ours.seconds / peer.seconds:.2f}"
