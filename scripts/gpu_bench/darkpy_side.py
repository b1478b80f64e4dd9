"""darkpy's side of the benchmark: a process in which darkpy has the GPU."""

from __future__ import annotations

import gc
import subprocess
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from subjects import random_boxes

from darkpy import backends
from darkpy.backends.cuda.clock import BUSY_BYTES, DeviceClock, kernel_seconds
from darkpy.backends.cuda.compiler import compile_all
from darkpy.backends.cuda.information import describe_compiler, describe_gpus
from darkpy.network import Network
from darkpy.training.trainer import AHEAD
from darkpy.update import Update
from darkpy.version import __version__
from gpu_bench import timing
from gpu_bench.jobs import KernelJob, Limits, NetworkJob, Speed

#: Multiply-adds in float32 that a multiprocessor begins in a cycle, by compute capability (CUDA C++ Programming Guide,
#: throughput of native arithmetic instructions).
CORES = {"70": 64, "75": 64, "80": 64, "86": 128, "87": 128, "89": 128, "90": 128, "100": 128, "120": 128}


class DarkpySide:
    """Answers what the script asks; device such as ``gpu:0``."""

    def __init__(self, device: str, is_smoke: bool) -> None:
        self.device = device
        self.is_smoke = is_smoke
        self.backend: Any = backends.create(device)
        self.clock = DeviceClock(self.backend, BUSY_BYTES >> 16 if is_smoke else BUSY_BYTES)

    def describe(self) -> dict[str, str]:
        """The device and what computes on it."""
        gpu, compiler = self.backend.gpu, describe_compiler()
        memory = f"{gpu.memory / 1e9:.0f} GB, {gpu.multiprocessors} multiprocessors"
        return {
            "GPU": f"{gpu.name}, {gpu.architecture}, {memory}",
            "driver": driver_version(gpu),
            "nvcc": compiler.version or compiler.problem,
            "darkpy": __version__,
        }

    def cache_bytes(self) -> int:
        """Of the cache between the multiprocessors and the memory."""
        return 0 if self.is_smoke else self._description().cache

    def limits(self) -> Limits:
        """From what the driver says of the device: exact arithmetic only, it tells nothing of tensor cores."""
        found = self._description()
        cores = CORES.get(found.gpu.architecture[3:].rstrip("a"), 0)
        rates = {"fp32": 2.0 * cores * found.gpu.multiprocessors * found.clock} if cores else {}
        return Limits(found.bandwidth, rates, "attributes of the device")

    def _description(self) -> Any:
        return next(found for found in describe_gpus() if found.gpu.index == self.backend.gpu.index)

    def compile(self) -> int:
        """All kernels, so that no job waits for a compiler; how many files there are."""
        return 0 if self.is_smoke else compile_all(self.backend.gpu.architecture, ("float32", "float16"))

    def network(self, job: NetworkJob) -> dict[int, Speed | str]:
        """A network from bytes in the host's memory: to its heads' output there, or to the end of an update."""
        found = timing.of_batches(job, self._network)
        self._free_memory()  # the other side may need it
        return found

    def _network(self, job: NetworkJob, batch: int) -> Speed:
        before = self._free_memory()
        network = build(job, batch, self.device)
        generator = np.random.default_rng(0)
        x = pictures(network, batch, generator)
        call: Callable[[], Any] = partial(network.forward, x)
        if job.training:
            truth = [random_boxes(generator, network.classes) for _ in range(batch)]
            call = Updates(network, x, truth)
        with np.errstate(all="ignore"):
            seconds = timing.of_calls(self.clock, call, job.seconds)
        return Speed(seconds, before - self._free_memory(collect=False))

    def _free_memory(self, collect: bool = True) -> int:
        if collect:
            gc.collect()
            self.backend.gpu.collect()
            pool = getattr(self.backend, "_pool", None)
            if pool is not None:
                pool.free_held()
        return self.backend.free_memory()

    def kernel(self, job: KernelJob) -> float:
        """Seconds of one pass of a convolution."""
        backend: Any = backends.create(self.device, precision=job.precision)
        c = job.convolution
        calls = [convolution_call(backend, job) for _ in range(timing.copies_for(c.bytes(job.precision), job.l2))]
        return kernel_seconds(self.clock, calls, job.seconds)


def driver_version(gpu: Any) -> str:
    """NVIDIA's number for it where nvidia-smi tells, and the newest CUDA it runs."""
    query = [
        "nvidia-smi",
        f"--id={gpu.index}",
        "--query-gpu=driver_version,clocks.max.sm,power.limit",
        "--format=csv,noheader",
    ]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        number, clock, power = told.split(", ")
    except (OSError, ValueError, subprocess.SubprocessError):
        return f"CUDA {gpu.driver}"
    return f"{number}, CUDA {gpu.driver}; at most {clock}, {power}"


def build(job: NetworkJob, batch: int, device: str) -> Network:
    """A network that learns nothing from noise, so that its numbers stay of ordinary size."""
    network = Network(
        job.subject.config(batch),
        batch=batch,
        training=job.training,
        keep_gradients=False,
        device=device,
        precision=job.precision,
    )
    network.rate_scale = 0.0
    for layer in network.layers:
        for parameter in layer.parameters():
            # A network that has seen nothing divides by a variance of 0.
            if parameter.name.endswith("rolling_variance"):
                network.parameters.write(layer, parameter.name, np.ones(parameter.shape))
    return network


def pictures(network: Network, batch: int, generator: np.random.Generator) -> np.ndarray:
    """Bytes, channels last, in memory from which they come to the device fastest; as the loader gives them."""
    channels, height, width = network.graph.input_shape
    memory = network.backend.picture_memory(batch * channels * height * width)
    memory[:] = generator.integers(256, size=memory.size, dtype=np.uint8)
    return memory.reshape(batch, height, width, channels).transpose(0, 3, 1, 2)


class Updates:
    """Updates as a training does them: the loss of each is read when some later ones are under way."""

    def __init__(self, network: Network, x: np.ndarray, truth: list[np.ndarray]) -> None:
        self.network, self.x, self.truth = network, x, truth
        self.under_way: deque[Update] = deque()

    def __call__(self) -> None:
        """Begin one."""
        self.under_way.append(self.network.start_update(self.x, self.truth))
        if len(self.under_way) == AHEAD:
            self.under_way.popleft().read()
        self.network.backend.pictures_taken()


def convolution_call(backend: Any, job: KernelJob) -> Callable[[], Any]:
    """One pass on arrays of its own."""
    c = job.convolution
    x, out = (filled(backend, shape, 1.0, backend.activation_dtype) for shape in (c.input_shape, c.output_shape))
    weights = filled(backend, c.weights_shape, 0.05, backend.dtype)
    operation = getattr(backend, f"convolution_{job.operation}")
    arguments = {
        "forward": (x, weights, out, c.geometry),
        "backward_input": (out, weights, x, c.geometry),
        "backward_weights": (x, out, weights, c.geometry),
    }[job.operation]
    backend.set_workspace(
        backend.convolution_workspace(c.input_shape, c.weights_shape, c.output_shape, c.geometry, True)
    )
    return partial(operation, *arguments)


def filled(backend: Any, shape: tuple[int, ...], scale: float, dtype: Any) -> Any:
    """Random numbers, picture by picture the same; zeros would cost a GPU less power, and so less time."""
    array = backend.empty(shape, dtype)
    some = backend.asarray(np.random.default_rng(0).standard_normal((1, *shape[1:])).astype(np.float32) * scale)
    for picture in range(shape[0]):
        backend.copy(some, array[picture : picture + 1])
    return array
