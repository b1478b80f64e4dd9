"""Kernels from ``kernels/*.cu``: compiled by nvcc when first used, kept on disk, their arguments checked.

A file is compiled anew for each type of the numbers of pictures, what it calls ``element``: see kernels/element.cuh.

What is compiled is found again by everything that went into it: the source with what it includes, the options, the
type, the architecture, the compiler's version. The folder is ``~/.cache/darkpy``, or where ``DARKPY_CACHE`` says.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from darkpy import resources
from darkpy.backends.cuda.device import Gpu, open_gpu
from darkpy.errors import DarkpyError, InputError
from darkpy.files import atomic_write

OPTIONS = ("-O3", "-std=c++17", "-lineinfo")

#: The types that ``element`` can be, by NumPy's name, and what tells the compiler so.
ELEMENTS = {"float32": (), "float16": ("-DELEMENT_FLOAT16",), "bfloat16": ("-DELEMENT_BFLOAT16",)}

#: Codes of a kernel's argument types, as Python's struct module has them.
TYPES = {"int": "i", "unsigned": "I", "float": "f", "double": "d", "long long": "q", "unsigned long long": "Q"}

#: Bytes of shared memory that every kernel may have.
MOST_SHARED = 48 << 10

_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)')
_DEFINED = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]((?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
# nvcc: path(12): error: ...; g++: path:12:3: error: ...
_ERROR = re.compile(r"^(?P<file>[^\s(:]+)[(:](?P<line>\d+)\)?[:\d]*:? +(?:fatal )?error *:? *(?P<text>.*)$", re.M)


class KernelError(DarkpyError):
    """A kernel cannot be compiled, loaded or called so."""


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    given = os.environ.get("DARKPY_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkpy"


def find_nvcc() -> str:
    """The compiler: on the path, in CUDA's folder, or from NVIDIA's packages; InputError if there is none."""
    found = shutil.which("nvcc")
    if found:
        return found
    folders = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    folders.append(Path("/usr/local/cuda"))
    package = importlib.util.find_spec("nvidia")
    for place in package.submodule_search_locations or [] if package else []:
        folders += sorted(Path(place).glob("cu*"))
    for folder in folders:
        if (folder / "bin" / "nvcc").is_file():
            return str(folder / "bin" / "nvcc")
    raise InputError(
        "the GPU's kernels are compiled when first used, and nvcc is not found: install the CUDA toolkit "
        "(or pip install nvidia-cuda-nvcc nvidia-cuda-cccl), or set CUDA_HOME to its folder"
    )


@cache
def compiler_version(nvcc: str) -> str:
    """What ``nvcc --version`` says."""
    return subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def release(version: str) -> str:
    """The number in that: ``13.0``."""
    found = re.search(r"release (\d+\.\d+)", version)
    return found.group(1) if found else "unknown"


def sources(path: Path) -> dict[Path, str]:
    """A kernel file and all it includes, with their texts."""
    found: dict[Path, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found[file] = file.read_text()
            waiting += [file.parent / name for name in _INCLUDE.findall(found[file])]
    return found


@dataclass(frozen=True)
class Signature:
    """What a kernel takes.

    codes: of its arguments, pointers ``P``, others as in :data:`TYPES`. pointed: for each argument the type that it
    points to, "" for a number.
    """

    codes: str
    pointed: tuple[str, ...]

    @cached_property
    def elements(self) -> tuple[int, ...]:
        """Which arguments point to ``element``."""
        return tuple(place for place, kind in enumerate(self.pointed) if kind == "element")

    @cached_property
    def floats(self) -> tuple[int, ...]:
        """Which arguments point to float."""
        return tuple(place for place, kind in enumerate(self.pointed) if kind == "float")


@lru_cache(maxsize=64)
def signatures(text: str) -> dict[str, Signature]:
    """What each kernel in a source takes; a macro of the same file may stand for all of it."""
    text = _COMMENT.sub(" ", text)
    defined = {name: value.replace("\\\n", " ") for name, value in _DEFINED.findall(text)}
    found = {}
    for name, arguments in _KERNEL.findall(text):
        arguments = defined.get(arguments.strip(), arguments)
        given = [argument for argument in arguments.split(",") if argument.strip()]
        found[name] = Signature("".join(_code(argument) for argument in given), tuple(map(_pointed, given)))
    return found


def _code(argument: str) -> str:
    if "*" in argument:
        return "P"
    kind = _type(argument)
    if kind not in TYPES:
        raise KernelError(f"{argument.strip()!r}: a kernel takes pointers and {', '.join(TYPES)}")
    return TYPES[kind]


def _pointed(argument: str) -> str:
    return _type(argument.replace("*", " ")) if "*" in argument else ""


def _type(argument: str) -> str:
    words = [word for word in argument.split() if word not in ("const", "__restrict__")]
    return " ".join(words[:-1])


def compile_file(path: Path, architecture: str, nvcc: str | None = None, element: str = "float32") -> bytes:
    """The machine code of a kernel file for an architecture and a type of elements, from the cache where it is there.

    Raises :class:`KernelError` with file, line and message of every error.
    """
    nvcc = nvcc or find_nvcc()
    digest = hashlib.sha256()
    for part in (architecture, *OPTIONS, *ELEMENTS[element], compiler_version(nvcc)):
        digest.update(part.encode() + b"\0")
    for file, text in sorted(sources(path).items()):
        digest.update(file.name.encode() + b"\0" + text.encode() + b"\0")
    kept = cache_folder() / "kernels" / f"{path.stem}-{element}-{architecture}-{digest.hexdigest()[:24]}.cubin"
    try:
        return kept.read_bytes()
    except OSError:
        code = _compile(path, architecture, nvcc, ELEMENTS[element])
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(kept) as target:
        target.write(code)
    return code


def compile_all(
    architecture: str,
    elements: Sequence[str] = tuple(ELEMENTS),
    progress: Callable[[int, int], None] | None = None,
    nvcc: str | None = None,
) -> int:
    """Compile all kernel files for types of elements, as many at a time as there are cores; returns how many there are.

    progress: called with (done, total). Raises :class:`KernelError` for the first file that cannot be compiled.
    """
    paths = sorted(resources.folder("kernels").glob("*.cu"))
    jobs = [(path, element) for element in elements for path in paths if element == "float32" or _has_elements(path)]
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    try:
        futures = [pool.submit(compile_file, path, architecture, nvcc, element) for path, element in jobs]
        for done, future in enumerate(as_completed(futures)):
            future.result()
            if progress is not None:
                progress(done + 1, len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)
    return len(jobs)


def _has_elements(path: Path) -> bool:
    return any(signature.elements for signature in signatures(path.read_text()).values())


def _compile(path: Path, architecture: str, nvcc: str, defined: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="darkpy-") as folder:
        result = Path(folder) / "kernels.cubin"
        command = [nvcc, "-cubin", "-arch", architecture, *OPTIONS, *defined, "-o", str(result), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and result.is_file():
            return result.read_bytes()
    raise KernelError(_what_failed(path, architecture, nvcc, done.stdout + done.stderr))


def _what_failed(path: Path, architecture: str, nvcc: str, output: str) -> str:
    number = release(compiler_version(nvcc))
    if "Unsupported gpu architecture" in output:
        return (
            f"{nvcc} of CUDA {number} cannot compile for this GPU ({architecture}): install another CUDA toolkit (13 "
            "or newer for the newest GPUs, 12 for those before sm_75) and set CUDA_HOME to its folder"
        )
    if "nv/target" in output:  # what CUDA's headers of 16-bit numbers include is in a package of its own
        return f"{nvcc} of CUDA {number} has no header nv/target: pip install nvidia-cuda-cccl of the same version"
    errors = [f"{found['file']}:{found['line']}  {found['text']}" for found in _ERROR.finditer(output)]
    return "\n".join(errors) or f"{path}  cannot be compiled by {nvcc} of CUDA {number}:\n{output.strip()}"


@cache
def kernels_of(index: int) -> Kernels:
    """The kernels of the GPU of that number, the same for all who ask."""
    return Kernels(open_gpu(index))


class Kernels:
    """The kernels of one GPU, compiled and loaded when first asked for."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self._signatures: dict[str, dict[str, Signature]] = {}
        self._modules: dict[tuple[str, str], Any] = {}
        self._functions: dict[tuple[str, str, str], Any] = {}
        self._allowed: dict[Any, int] = {}

    def signature(self, file: str, name: str) -> Signature:
        """What kernel ``name`` of ``kernels/<file>.cu`` takes."""
        known = self._signatures.get(file)
        if known is None:
            known = self._signatures[file] = signatures(self._path(file).read_text())
        found = known.get(name)
        if found is None:
            raise KernelError(f'kernels/{file}.cu has no extern "C" __global__ void {name}(...)')
        return found

    def function(self, file: str, name: str, element: str = "float32") -> Any:
        """That kernel, for elements of a type of :data:`ELEMENTS`, ready to be called by PyCUDA."""
        found = self._functions.get((file, name, element))
        if found is None:
            codes = self.signature(file, name).codes
            found = self._module(file, element).get_function(name)
            found.prepare(codes)
            self._functions[file, name, element] = found
        return found

    def allow_shared(self, function: Any, nbytes: int) -> None:
        """Let a kernel have so many bytes of dynamic shared memory; more than 48 KB have to be asked for."""
        if nbytes > MOST_SHARED and self._allowed.get(function, 0) < nbytes:
            import pycuda.driver as driver

            function.set_attribute(driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, nbytes)
            self._allowed[function] = nbytes

    def _module(self, file: str, element: str) -> Any:
        if (file, element) not in self._modules:
            path = self._path(file)
            code = compile_file(path, self.gpu.architecture, element=element)
            self._modules[file, element] = self._load(path, code)
        return self._modules[file, element]

    @staticmethod
    def _path(file: str) -> Path:
        return resources.folder("kernels") / f"{file}.cu"

    def _load(self, path: Path, code: bytes) -> Any:
        import pycuda.driver as driver

        try:
            return driver.module_from_buffer(code)
        except driver.Error as error:
            made_by = release(compiler_version(find_nvcc()))
            raise KernelError(
                f"{path}  compiled by CUDA {made_by} for {self.gpu.architecture}, and the driver, which runs up to "
                f"CUDA {self.gpu.driver}, refuses it: install a newer driver, or CUDA toolkit {self.gpu.driver} and "
                f"set CUDA_HOME ({error})"
            ) from error
