from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from darkpy import backends
from darkpy.cli.command import Command
from darkpy.cli.device import device_options, device_options_of_long_work

NOTICE = "computing on the CPU: no driver\n"


def said(decorator: Any, *arguments: str) -> tuple[str, str]:
    """The device a command gets, and what is on standard error."""

    @click.command(cls=Command)
    @click.option("--quiet", is_flag=True)
    @decorator
    def command(device: str, quiet: bool) -> None:
        click.echo(device)

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0
    return result.stdout.strip(), result.stderr


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    def choose(device: str = "auto") -> backends.Choice:
        return backends.Choice("numpy", NOTICE.strip() if device == "auto" else "")

    monkeypatch.setattr(backends, "choose", choose)
    monkeypatch.setattr("darkpy.backends.cuda.device.why_not", lambda index=0: "no driver")


def test_only_long_work_says_why_it_is_on_the_cpu():
    assert said(device_options_of_long_work) == ("numpy", NOTICE)
    assert said(device_options) == ("numpy", "")
    assert said(device_options_of_long_work, "--quiet") == said(device_options_of_long_work, "-nogpu") == ("numpy", "")


@pytest.mark.parametrize("decorator", [device_options, device_options_of_long_work])
def test_a_gpu_that_is_not_there_is_told_to_whoever_names_one(decorator):
    assert said(decorator, "-i", "0") == ("numpy", "-i has no effect: no driver\n")
