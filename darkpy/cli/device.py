"""The flags that say what to compute on, the same for every command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from darkpy.cli.command import Function, OptionalChoice, without_effect


def device_options(function: Function) -> Function:
    """``--device``, and Darknet's ``-i 0`` and ``-nogpu``; the command gets ``device``, the one to be used."""
    return _with_device(function, is_long=False)


def device_options_of_long_work(function: Function) -> Function:
    """The same for a command that computes for long: why it does so on the CPU, or on which GPU, is worth a line.

    The line goes to standard error, unless the command is ``quiet``.
    """
    return _with_device(function, is_long=True)


def _with_device(function: Function, *, is_long: bool) -> Function:
    @functools.wraps(function)
    def command(*arguments: Any, device: str, gpu_index: int | None, nogpu: bool, **given: Any) -> Any:
        chosen, notice, ignored = _chosen(device, gpu_index, nogpu)
        for line in (ignored, notice if is_long else ""):
            if line and not given.get("quiet"):
                click.echo(line, err=True)
        return function(*arguments, device=chosen, **given)

    decorated: Callable[..., Any] = command
    for decorator in reversed(
        [
            click.option(
                "--device",
                metavar="NAME",
                default="auto",
                show_default=True,
                help="cpu, gpu, gpu:1, numba, numpy or emulated. auto: DARKPY_DEVICE, else a GPU if there is one.",
            ),
            click.option("--nogpu", is_flag=True, hidden=True),
            click.option("-i", "--gpu-index", type=int, hidden=True),
            without_effect("--gpus", because="this computes on one device", value=True),
            without_effect("--benchmark-layers", because="darkpy net time does that"),
        ]
    ):
        decorated = decorator(decorated)
    return decorated  # type: ignore[return-value]  # click's decorators keep what they are given


def precision_option(name: str, help: str) -> Callable[[Function], Function]:
    """``--amp`` or ``--half``; the command gets ``precision``, ``fp32`` without the option."""

    def or_exact(ctx: click.Context, parameter: click.Parameter, given: str | None) -> str:
        return given or "fp32"

    return click.option(
        name, "precision", cls=OptionalChoice, values=("fp16", "bf16", "tf32"), callback=or_exact, help=help
    )


def _chosen(device: str, gpu_index: int | None, nogpu: bool) -> tuple[str, str, str]:
    """The device to be used, what there is to say about the choice, and about a flag that has no effect.

    -i names a GPU by habit, also where there is none: then it has no effect. ``--device gpu`` insists on one.
    """
    from darkpy import backends

    if nogpu:
        device = "cpu" if device == "auto" else device
    elif gpu_index is not None and device == "auto":
        from darkpy.backends.cuda.device import why_not

        reason = why_not(gpu_index)
        if reason is None:
            return f"gpu:{gpu_index}", "", ""
        return backends.choose("cpu").device, "", f"-i has no effect: {reason}"
    choice = backends.choose(device)
    return choice.device, choice.notice, ""
