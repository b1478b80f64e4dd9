"""A GPU for tests, where there is none: a stand-in for NVIDIA's driver library, one for nvcc, and PyCUDA built for them.

:func:`start` makes the process see two such GPUs. PyCUDA is the real one, and so is all of darkpy: only the library
it calls and the compiler it runs are replaced, of which NVIDIA's, where it is, still makes PTX (ptx.py). Everything is
built once and kept in ``.hostcuda/`` at the root of the checkout. Linux only; needs g++ and CUDA's cuda.h.

What the stand-in finds that a GPU would hide: accesses outside an allocation (each ends at a page that cannot be
touched), shared memory read before it is written, threads that do not all come to a barrier, lanes missing from a warp
operation, races in shared memory, and with ``HOSTCUDA_ORDER=1`` (or 2, 3, ...) missing barriers of other kinds, by
running threads in another order.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".hostcuda"
PYCUDA = "pycuda==2026.1"
SOURCES = ("driver.cpp", "fibers.cpp", "memory.cpp")
HEADERS = ("fibers.h", "memory.h", "runtime.h")
# longjmp between stacks is what fibers do; the fortified one refuses.
COMPILE = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-Wl,-soname,libcuda.so.1"]


def cuda_root() -> Path | None:
    """The CUDA toolkit's folder, if it has cuda.h."""
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    nvcc = real_nvcc()
    if nvcc is not None:
        candidates.append(str(nvcc.resolve().parents[1]))
    return next((Path(c) for c in candidates if c and (Path(c) / "include" / "cuda.h").is_file()), None)


def real_nvcc() -> Path | None:
    """NVIDIA's compiler, if it is here."""
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/cuda/bin"]:
        path = Path(folder) / "nvcc"
        if path.is_file() and path.resolve() != HERE / "nvcc":
            return path
    return None


@cache
def reason_not_to() -> str | None:
    """Why there can be no stand-in here; None if there can."""
    if not sys.platform.startswith("linux"):
        return "the stand-in GPU needs Linux"
    if shutil.which("g++") is None:
        return "the stand-in GPU needs g++"
    if cuda_root() is None:
        return "the stand-in GPU needs CUDA's cuda.h; none under CUDA_HOME or /usr/local/cuda"
    if not (_site() / "pycuda").is_dir():
        return "the stand-in GPU has not been built: make dev-cuda"
    return None


@cache
def start() -> None:
    """Let this process use the stand-in; to be called before PyCUDA is imported."""
    ctypes.CDLL(str(_library()), mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(_site()))
    os.environ.update(_settings())


def environment() -> dict[str, str]:
    """What another process needs in its environment, to use the stand-in from its start."""
    return {
        **os.environ,
        **_settings(),
        "LD_LIBRARY_PATH": _before("LD_LIBRARY_PATH", _library().parent),
        "PYTHONPATH": _before("PYTHONPATH", _site()),
    }


def waits() -> int:
    """How often the host has waited for the stand-in so far."""
    return int(ctypes.CDLL("libcuda.so.1").hostcuda_waits())


def launches() -> int:
    """How many kernels and graphs were launched on the stand-in so far."""
    return int(ctypes.CDLL("libcuda.so.1").hostcuda_launches())


def _settings() -> dict[str, str]:
    """Where darkpy finds the compiler and keeps what it compiles; no pool, so that every array ends at a guard."""
    return {"PATH": _before("PATH", HERE), "DARKPY_CACHE": str(KEPT / "cache"), "DARKPY_CUDA_POOL": "0"}


def _before(variable: str, folder: Path) -> str:
    found = [part for part in os.environ.get(variable, "").split(os.pathsep) if part and part != str(folder)]
    return os.pathsep.join([str(folder), *found])


# Building it ---------------------------------------------------------------------------------------------------


def build() -> None:
    """Build PyCUDA for this Python, unless it is there; takes two to four minutes."""
    if (_site() / "pycuda").is_dir():
        return
    root = cuda_root()
    if root is None:
        raise SystemExit("needs CUDA's cuda.h")
    library = _library()
    with _locked():
        if (_site() / "pycuda").is_dir():
            return
        folder = KEPT / "build"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "download", "--no-deps", "--no-build-isolation", "--no-binary", "pycuda", "-d", str(folder), PYCUDA])
        (archive,) = folder.glob("*.tar.gz")
        _run(["tar", "xzf", str(archive), "-C", str(folder)])
        (source,) = (path for path in folder.iterdir() if path.is_dir())
        (source / "siteconf.py").write_text(
            f'CUDA_ENABLE_CURAND = False\nCUDA_ROOT = "{root}"\nCUDADRV_LIB_DIR = ["{library.parent}"]\n'
            # Else the linker drops the library, and the extension cannot be imported anywhere.
            'LDFLAGS = ["-Wl,--no-as-needed"]\n'
        )
        target = folder / "site"
        fast = {**os.environ, "CFLAGS": "-O1 -w"}
        _run([*pip, "install", "--no-build-isolation", "--no-deps", "--target", str(target), str(source)], env=fast)
        _run([*pip, "install", "--target", str(target), "--no-deps", "pytools", "platformdirs", "mako", "siphash24",
              "typing_extensions", "markupsafe"])  # fmt: skip
        target.rename(_site())
        shutil.rmtree(folder)
    _library.cache_clear()  # it also has what PyCUDA asks for


def _site() -> Path:
    return KEPT / f"site-{PYCUDA.replace('==', '-')}-{sysconfig.get_config_var('SOABI')}"


@cache
def _library() -> Path:
    """The stand-in for the driver library; compiled anew whenever its source has changed."""
    root = cuda_root()
    assert root is not None
    extensions = sorted(_site().glob("pycuda/_driver*.so"))
    digest = hashlib.sha256(str(extensions).encode())
    for name in (*SOURCES, *HEADERS):
        digest.update((HERE / name).read_bytes())
    library = KEPT / f"driver-{digest.hexdigest()[:16]}" / "libcuda.so.1"
    if library.exists():
        return library
    with _locked():
        if library.exists():
            return library
        folder = library.parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        unfinished = folder / "unfinished.so"
        command = [*COMPILE, f"-I{root / 'include'}", "-o", str(unfinished), *(str(HERE / name) for name in SOURCES)]
        _run([*command, "-ldl"])
        missing = _undefined(extensions) - _symbols(unfinished, "--defined-only")
        if missing:
            rest = folder / "rest.cpp"
            rest.write_text("".join(f'extern "C" int {name}() {{ return 801; }}\n' for name in sorted(missing)))
            _run([*command, str(rest), "-ldl"])
        (folder / "libcuda.so").symlink_to("libcuda.so.1")
        unfinished.rename(library)
    return library


def _undefined(extensions: list[Path]) -> set[str]:
    """The driver's functions that PyCUDA's extension asks for."""
    names = set().union(*(_symbols(path, "--undefined-only") for path in extensions)) if extensions else set()
    return {name for name in names if name.startswith("cu") and name[2].isupper()}


def _symbols(path: Path, which: str) -> set[str]:
    lines = subprocess.run(["nm", "-D", which, str(path)], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[-1] for line in lines}


def _run(command: list[str], **options) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


@contextmanager
def _locked() -> Iterator[None]:
    """One process builds, others wait."""
    KEPT.mkdir(exist_ok=True)
    with (KEPT / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
