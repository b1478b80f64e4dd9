"""``darkpy gpu``."""

from __future__ import annotations

import re
import sys

import pytest
from click.testing import CliRunner

from darkpy.backends.cuda import compiler
from darkpy.cli.main import cli
from tests.backends import ON_REAL_GPU, why_no_gpu

on_gpu = pytest.mark.skipif(why_no_gpu() is not None, reason=why_no_gpu() or "")


def test_without_a_gpu_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    result = CliRunner().invoke(cli, ["gpu", "info"])
    assert result.exit_code == 2
    assert "no GPU can be used: PyCUDA is not installed: pip install darkpy-detector[cuda]" in result.stderr
    assert result.stdout == ""


@pytest.mark.cuda
@on_gpu
def test_info() -> None:
    result = CliRunner().invoke(cli, ["gpu", "info"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("gpu:0\n  name          ")
    assert re.search(r"^  architecture  sm_\d+a?, \d+ multiprocessors, [\d.]+ [MG]Hz$", result.stdout, re.M)
    assert re.search(r"^  memory        [\d.]+ \wB free of [\d.]+ \wB, [\d.]+ \wB/s$", result.stdout, re.M)
    assert re.search(r"^  nvcc          \S*nvcc of CUDA \d+\.\d+$", result.stdout, re.M)
    assert ON_REAL_GPU or "gpu:1\n" in result.stdout, "the stand-in has two"


@pytest.mark.cuda
@on_gpu
def test_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(compiler, "compile_file", lambda path, architecture, nvcc, element: asked.append(element))
    result = CliRunner().invoke(cli, ["gpu", "compile"])
    assert result.exit_code == 0, result.stderr
    assert set(asked) == set(compiler.ELEMENTS)
    assert re.fullmatch(rf"{len(asked)} files for sm_\d+a?, in \S+\n", result.stdout)
    result = CliRunner().invoke(cli, ["gpu", "compile", "--device", "numpy"])
    assert result.exit_code == 2
    assert "numpy is no GPU; such a one is gpu:0" in result.stderr


@pytest.mark.cuda
@on_gpu
def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    monkeypatch.setattr(compiler.Path, "is_file", lambda self: False)
    result = CliRunner().invoke(cli, ["gpu", "info"])
    assert result.exit_code == 0, result.stderr
    assert "nvcc is not found: install the CUDA toolkit" in result.stdout
