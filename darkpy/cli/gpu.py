"""``darkpy gpu``: the GPUs of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from darkpy.cli.command import Command, Group
from darkpy.cli.device import precision_option
from darkpy.errors import InputError

if TYPE_CHECKING:
    from darkpy.backends.cuda.device import Gpu
    from darkpy.backends.cuda.information import Compiler, Description
    from darkpy.tuning import Tuned

POSITIVE = click.IntRange(min=1)


@click.group(cls=Group)
def gpu() -> None:
    """See what there is to compute on besides the CPU."""


@gpu.command(cls=Command)
def info() -> None:
    """Show every GPU with its limits and free memory, the compiler, and what it has compiled.

    Where none can be used, it says why, and ends with status 2.
    """
    from darkpy.backends.cuda.information import describe_compiler, describe_gpus

    for description in describe_gpus():
        _show(f"gpu:{description.gpu.index}", _gpu_facts(description))
    _show("compiler", _compiler_facts(describe_compiler()))


@gpu.command("compile", cls=Command)
@click.option("--device", default="gpu", show_default=True, metavar="NAME", help="Such as gpu:1.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def compile_kernels(device: str, quiet: bool) -> None:
    """Compile all kernels now, several at a time.

    Otherwise each is compiled when it is first used, one after the other.
    """
    from darkpy.backends.cuda.compiler import compile_all
    from darkpy.backends.cuda.information import describe_compiler
    from darkpy.cli.output import shown_progress
    from darkpy.text import plural

    opened = _opened(device)
    with shown_progress("compiling", shown=not quiet) as progress:
        count = compile_all(opened.architecture, progress=progress)
    click.echo(f"{plural(count, 'file')} for {opened.architecture}, in {describe_compiler().kept}")


@gpu.command(cls=Command)
@click.argument("cfg", required=False, metavar="CFG")
@click.option("--batch", type=POSITIVE, metavar="N", help="Pictures at a time. [1; training: the cfg's]")
@click.option("--training", is_flag=True, help="The convolutions of a step of training, not only of the forward pass.")
@precision_option("--amp", "Those of networks whose outputs of layers have 16 bits, or of tf32.")
@click.option("--device", default="gpu", show_default=True, metavar="NAME", help="Such as gpu:1.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.option("--clear", is_flag=True, help="Forget what was measured on this GPU.")
def tune(cfg: str | None, device: str, quiet: bool, clear: bool, **options: Any) -> None:
    """Find the fastest kernel for every convolution of a network on this GPU.

    What is found is kept, and used from then on by every network that has such a convolution at that batch and size.
    After another driver or other kernels it must be found again; until then kernels are chosen by rule, as ever.
    """
    if clear:
        _forget(device)
    if cfg is None:
        if not clear:
            raise InputError("tune needs a cfg file, or --clear")
        return
    from darkpy.cli.output import shown_progress
    from darkpy.tuning import tune as measure

    with shown_progress("measuring", shown=not quiet) as progress:
        found = measure(cfg, device=device, progress=progress, **options)
    _show_tuned(cfg, found)


def _opened(device: str) -> Gpu:
    from darkpy.backends import choose
    from darkpy.backends.cuda.device import open_gpu

    chosen = choose(device).device
    if not chosen.startswith("gpu:"):
        raise InputError(f"{device} is no GPU; such a one is gpu:0")
    return open_gpu(int(chosen.partition(":")[2]))


def _forget(device: str) -> None:
    from darkpy.backends.cuda import plan_table

    opened = _opened(device)
    path = plan_table.path_for(opened)
    click.echo(f"removed {path}" if plan_table.clear(opened) else f"there is no {path}")


def _show_tuned(cfg: str, found: Tuned) -> None:
    from darkpy.text import plural

    work = "training" if found.training else "inference"
    click.echo(f"{cfg}   {work}, {plural(found.batch, 'picture')} at a time   {found.gpu}, {found.precision}")
    kinds = plural(len(found.measured), "kind")
    click.echo(f"  {kinds} of convolution, {plural(found.kernels, 'kernel')} measured")
    if found.skipped:
        click.echo(f"  {plural(found.skipped, 'kind')} more could not be measured alone")
    click.echo(
        f"  all convolutions of a pass   {1e3 * found.default_seconds:,.3f} ms by rule, "
        f"{1e3 * found.seconds:,.3f} ms with the fastest kernels"
    )
    click.echo(f"  written to {found.path}")


def _show(title: str, facts: list[tuple[str, str]]) -> None:
    click.echo(title)
    for label, value in facts:
        click.echo(f"  {label:14}{value}")


def _gpu_facts(found: Description) -> list[tuple[str, str]]:
    from darkpy.text import plural, quantity

    gpu = found.gpu
    bandwidth = f", {quantity(found.bandwidth, 'B')}/s" if found.bandwidth else ""
    return [
        ("name", gpu.name),
        ("architecture", f"{gpu.architecture}, {gpu.multiprocessors} multiprocessors, {quantity(found.clock, 'Hz')}"),
        ("memory", f"{quantity(found.free, 'B')} free of {quantity(gpu.memory, 'B')}{bandwidth}"),
        ("cache", quantity(found.cache, "B")),
        ("a block", f"{quantity(found.shared_memory, 'B')} of shared memory, {found.registers:,} registers"),
        ("threads", f"{found.threads:,} on a multiprocessor at a time"),
        ("driver", f"runs programs of CUDA up to {gpu.driver}"),
        ("tuned", f"{plural(found.tuned, 'convolution')}, in {found.plans}"),
    ]


def _compiler_facts(found: Compiler) -> list[tuple[str, str]]:
    from darkpy.text import plural, quantity

    nvcc = found.problem or f"{found.path} of CUDA {found.version}"
    return [
        ("nvcc", nvcc),
        ("compiled", f"{plural(found.files, 'file')}, {quantity(found.nbytes, 'B')}, in {found.kept}"),
    ]
