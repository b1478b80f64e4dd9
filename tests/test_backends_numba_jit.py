"""Compiled code is the same whether it was compiled just now or is loaded."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("numba")

from numba.core.dispatcher import Dispatcher

from darkpy.backends import numba as package
from tests.tiny_job import environment

MODULES = [import_module(f"{package.__name__}.{module.name}") for module in pkgutil.iter_modules(package.__path__)]

GRADIENT = """
import hashlib
import numpy as np
from darkpy.backends.numba import NumbaBackend

random = np.random.default_rng(0)
x, out, grad = random.standard_normal((3, 4, 16, 32, 32)).astype(np.float32)
vectors = random.random((6, 16)).astype(np.float32)
backend = NumbaBackend()
backend.batchnorm_backward(x, out, grad, *vectors, grad_x=out, activation="leaky")
print(hashlib.sha256(out.tobytes()).hexdigest())
"""


def compiled_functions() -> dict[str, Dispatcher]:
    functions = {name: value for module in MODULES for name, value in vars(module).items()}
    return {name: value for name, value in functions.items() if isinstance(value, Dispatcher)}


def is_entry(function: Dispatcher) -> bool:
    return not function.targetoptions.get("forceinline", False)


@pytest.mark.parametrize("name", sorted(compiled_functions()))
def test_compiled_functions_call_nothing_that_stays_apart(name):
    functions = compiled_functions()
    called = functions[name].py_func.__code__.co_names
    assert [other for other in called if other in functions and is_entry(functions[other])] == []


def test_code_that_was_just_compiled_gives_the_bits_of_code_that_is_loaded(tmp_path: Path):
    env = {**environment(), "NUMBA_CACHE_DIR": str(tmp_path), "DARKPY_NUMBA": "1"}
    command = [sys.executable, "-c", GRADIENT]
    first, second = (
        subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True).stdout for _ in "12"
    )
    assert list(tmp_path.rglob("*.nbc")), "the second process has something to load"
    assert first == second != "" and os.linesep in first
