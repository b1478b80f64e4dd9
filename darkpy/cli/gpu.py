"""``darkpy gpu``: the GPUs of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from darkpy.cli.command import Command, Group

if TYPE_CHECKING:
    from darkpy.backends.cuda.information import Compiler, Description


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


def _show(title: str, facts: list[tuple[str, str]]) -> None:
    click.echo(title)
    for label, value in facts:
        click.echo(f"  {label:14}{value}")


def _gpu_facts(found: Description) -> list[tuple[str, str]]:
    from darkpy.training.text import quantity

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
    ]


def _compiler_facts(found: Compiler) -> list[tuple[str, str]]:
    from darkpy.training.text import plural, quantity

    nvcc = found.problem or f"{found.path} of CUDA {found.version}"
    return [
        ("nvcc", nvcc),
        ("compiled", f"{plural(found.files, 'file')}, {quantity(found.nbytes, 'B')}, in {found.kept}"),
    ]
