"""What there is to know about the GPUs of this machine and the compiler for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from darkpy.backends.cuda import plan_table
from darkpy.backends.cuda.compiler import cache_folder, compiler_version, find_nvcc, release
from darkpy.backends.cuda.device import Gpu, open_gpu, why_not
from darkpy.errors import InputError


@dataclass(frozen=True)
class Description:
    """A GPU and its limits.

    clock: of its processors, in Hz. bandwidth: of its memory, bytes a second, 0 where the driver does not say. free:
    bytes of its memory that nobody has taken. cache: bytes of the cache before the memory. shared_memory: bytes that a
    block may have, registers: of 4 bytes, for a block. plans: where measured plans are kept, tuned: how many there are.
    """

    gpu: Gpu
    clock: float
    bandwidth: float
    free: int
    cache: int
    shared_memory: int
    registers: int
    threads: int
    plans: Path
    tuned: int


@dataclass(frozen=True)
class Compiler:
    """nvcc: where it is and of which CUDA; or, without it, ``problem``: what to do.

    kept: the folder of the compiled kernels; files, nbytes: how many there are and how big they are.
    """

    path: str
    version: str
    problem: str
    kept: Path
    files: int
    nbytes: int


def describe_gpus() -> list[Description]:
    """Every GPU, opened; raises :class:`~darkpy.errors.InputError` that says why there is none."""
    reason = why_not()
    if reason is not None:
        raise InputError(f"no GPU can be used: {reason}")
    import pycuda.driver as driver

    return [_describe(open_gpu(index)) for index in range(driver.Device.count())]


def _describe(gpu: Gpu) -> Description:
    import pycuda.driver as driver

    device, names = driver.Device(gpu.index), driver.device_attribute
    gpu.context.push()
    try:
        free = driver.mem_get_info()[0]
    finally:
        gpu.context.pop()
    # Clocks come in kHz, the width of the way to the memory in bits; data goes at both edges of its clock.
    memory_clock = 1e3 * device.get_attribute(names.MEMORY_CLOCK_RATE)
    return Description(
        gpu=gpu,
        clock=1e3 * device.get_attribute(names.CLOCK_RATE),
        bandwidth=2 * memory_clock * device.get_attribute(names.GLOBAL_MEMORY_BUS_WIDTH) / 8,
        free=free,
        cache=device.get_attribute(names.L2_CACHE_SIZE),
        shared_memory=device.get_attribute(names.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
        registers=device.get_attribute(names.MAX_REGISTERS_PER_BLOCK),
        threads=device.get_attribute(names.MAX_THREADS_PER_MULTIPROCESSOR),
        plans=plan_table.path_for(gpu),
        tuned=len(plan_table.load(gpu)),
    )


def describe_compiler() -> Compiler:
    """The compiler, and what it has compiled so far."""
    path = version = problem = ""
    try:
        path = find_nvcc()
        version = release(compiler_version(path))
    except InputError as error:
        problem = str(error)
    kept = cache_folder() / "kernels"
    sizes = [file.stat().st_size for file in kept.glob("*.cubin")]
    return Compiler(path, version, problem, kept, len(sizes), sum(sizes))
