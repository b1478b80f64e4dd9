"""Time and memory of darkpy on a GPU, beside PyTorch on the same one: python scripts/bench_gpu.py [--json FILE].

Parts, in the order of importance; what the time does not suffice for is left out, and listed:

- limits: what the device can do, measured by a large copy and large products of matrices.
- inference: networks at batch 1, 8 and 64. training: one update. Both begin with 8-bit pictures in pinned memory of
  the host, which are brought to the device while it works on the last ones.
- kernels: every distinct convolution of some networks, forward, gradient of the input, gradient of the weights.
- compile: inference and training once more with PyTorch's torch.compile, which takes a minute and more for each.

Networks are run in fp16 before the kernels and, if there is time, in tf32 and fp32 at the end. Two goes of ten minutes
each hold most of it: all parts but the last with ``--json a.json``, then ``--part compile --json b.json``; ``--show
a.json --show b.json --markdown FILE`` makes one page of both.

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
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path

import click
from gpu_bench.jobs import PRECISIONS, Subject
from gpu_bench.report import OURS, PEER, Results, page
from gpu_bench.run import Bench, Side, Wanted, darkpy_side, measure, torch_side
from subjects import ROOT

from darkpy.errors import DarkpyError

PARTS = ("limits", "inference", "training", "kernels", "compile")
SUBJECTS = (
    Subject("yolov4-tiny", ROOT / "cfg" / "yolov4-tiny.cfg"),
    Subject("yolov4", ROOT / "cfg" / "yolov4.cfg", 416),
    Subject("yolov7", ROOT.parent / "shared" / "zoo" / "yolov7.cfg"),
    Subject("yolov3-tiny", ROOT / "cfg" / "yolov3-tiny.cfg"),
)


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
        try:
            difference = largest_difference(subject.config(), device)
        except DarkpyError as error:
            raise click.ClickException(str(error)) from None
        worst = max(worst, difference)
        click.echo(f"{subject.name}: outputs differ by {difference:.2g} of the largest value")
    if not worst < 1e-4:
        raise click.ClickException("the two sides do not compute the same")


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
@click.option(
    "--show",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure nothing: the page of such a file of figures; repeatable.",
)
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
    show: tuple[Path, ...],
    only_check: bool,
    smoke: bool,
) -> None:
    """Time and memory of darkpy on this machine's GPU, beside PyTorch."""
    if show:
        results = Results()
        for file in show:
            results.add(json.loads(file.read_text(encoding="utf-8")))
        publish(results, markdown)
        return
    subjects = find_subjects(names, size or (32 if smoke else 0))
    if only_check:
        check(subjects, f"gpu:{device}")
        return
    wanted = Wanted(
        subjects=subjects,
        parts=parts or (PARTS[:-1] if smoke else PARTS),
        precisions=precisions or PRECISIONS,
        seconds=0.001 if smoke else seconds,
        batches=batches or ((1,) if smoke else ()),
    )
    bench = Bench(find_sides(device, smoke), budget, target)
    bench.results.environment |= {"date": str(date.today()), "Python": platform.python_version()}
    if PEER not in bench.sides:
        bench.note("PyTorch: torch is not installed in this environment")
    try:
        measure(bench, wanted)
    finally:
        bench.close()
        bench.save()
        publish(bench.results, markdown)
    if set(wanted.parts) - {"limits", "compile"} and not any(
        entry.who == OURS and not entry.reason for entry in bench.results.entries
    ):
        raise click.ClickException("darkpy was not measured")


def find_sides(device: int, smoke: bool) -> dict[str, Side]:
    """darkpy's, and PyTorch's where it is installed."""
    sides = {OURS: Side(partial(darkpy_side, f"gpu:{device}", smoke))}
    if importlib.util.find_spec("torch") is not None:
        sides[PEER] = Side(partial(torch_side, torch_device(device, smoke), smoke))
    return sides


def torch_device(index: int, smoke: bool) -> str:
    if smoke:
        import torch

        if not torch.cuda.is_available():
            return "cpu"
    return f"cuda:{index}"


def publish(results: Results, markdown: Path | None) -> None:
    """Show the page, and write it where it was asked for."""
    text = page(results)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")
    click.echo(f"\n{text}")


if __name__ == "__main__":
    main()
