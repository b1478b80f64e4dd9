"""PyTorch's side of the benchmark: a process in which PyTorch has the GPU."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch._dynamo
from subjects import random_boxes
from torch import nn
from torch_loss import YoloLoss, packed
from torch_peer import Peer

from darkpy.backends.cuda.clock import BUSY_BYTES, BUSY_TIMES, kernel_seconds
from darkpy.errors import DarkpyError
from gpu_bench import timing
from gpu_bench.jobs import KernelJob, Limits, NetworkJob, Speed

WAYS = ("eager", "graph", "compile")
"""How PyTorch runs a network: as it is written, captured whole in a CUDA graph, or by torch.compile (with graphs)."""

MOST_OBJECTS = 32
SIDE = 8192  # of the products that measure the device's limits
RATE = 1e-9  # of updates: pictures of noise are nothing to learn from


class TorchSide:
    """Answers what the script asks; device such as ``cuda:0``, or ``cpu`` to try the script itself."""

    def __init__(self, device: str, is_smoke: bool) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise DarkpyError(f"PyTorch {torch.__version__} finds no GPU")
        self.device = torch.device(device)
        self.on_gpu = self.device.type == "cuda"
        self.is_smoke = is_smoke
        self.clock = EventClock(self.device, BUSY_BYTES >> 16 if is_smoke else BUSY_BYTES)
        torch.backends.cudnn.benchmark = True
        if self.on_gpu:
            torch.cuda.set_device(self.device)
            # Libraries and their handles take memory when first used; none of it belongs to a network.
            picture = torch.zeros(1, 8, 16, 16, device=self.device, requires_grad=True)
            torch.nn.functional.conv2d(picture, torch.zeros(8, 8, 3, 3, device=self.device)).sum().backward()

    def describe(self) -> dict[str, str]:
        """Versions."""
        cudnn = torch.backends.cudnn.version()
        return {"PyTorch": f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}"}

    # Limits ----------------------------------------------------------------------------------------------------

    def limits(self) -> Limits:
        """What this device reaches: a large copy, and square products of random matrices by cuBLAS."""
        side = 64 if self.is_smoke else SIDE
        source = torch.rand(1 << 20 if self.is_smoke else 1 << 29, device=self.device)
        target = torch.empty_like(source)
        copying = kernel_seconds(self.clock, [partial(target.copy_, source)], 0.2)
        bandwidth = 2 * source.numel() * source.element_size() / copying
        rates = {}
        for precision in ("fp16", "tf32", "fp32"):
            choose(precision)
            a, b = (torch.randn(side, side, device=self.device, dtype=dtype_for(precision)) for _ in range(2))
            out = torch.empty_like(a)
            seconds = kernel_seconds(self.clock, [partial(torch.mm, a, b, out=out)], 0.3)
            rates[precision] = 2.0 * side**3 / seconds
        how = f"measured: a copy of {source.nbytes >> 20} MiB, products of {side} x {side} matrices by PyTorch"
        return Limits(bandwidth, rates, how)

    # Networks --------------------------------------------------------------------------------------------------

    def network(self, job: NetworkJob, way: str) -> dict[int, Speed | str]:
        """A network from bytes in the host's memory: to its heads' output there, or to the end of an update."""
        choose(job.precision)
        found = timing.of_batches(job, partial(self._network, way))
        self._free_memory()  # the other side may need it
        return found

    def _network(self, way: str, job: NetworkJob, batch: int) -> Speed:
        before = self._free_memory()
        torch.manual_seed(0)
        peer = Peer(job.subject.config(batch))
        step = (Training if job.training else Inference)(peer, batch, job.precision, way, self.device)
        try:
            seconds = timing.of_calls(self.clock, step, job.seconds)
            return Speed(seconds, before - self._free_memory(collect=False) if self.on_gpu else None)
        finally:
            del step, peer
            if way == "compile":
                torch.compiler.reset()

    def _free_memory(self, collect: bool = True) -> int:
        if not self.on_gpu:
            return 0
        if collect:
            gc.collect()
            torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.device)[0]

    # Convolutions ----------------------------------------------------------------------------------------------

    def kernel(self, job: KernelJob) -> float:
        """Seconds of one pass of a convolution, channels last."""
        choose(job.precision)
        copies = timing.copies_for(job.convolution.bytes(job.precision), job.l2)
        return kernel_seconds(self.clock, [self._pass(job) for _ in range(copies)], job.seconds)

    def _pass(self, job: KernelJob) -> Callable[[], Any]:
        c, g = job.convolution, job.convolution.geometry
        options = {"device": self.device, "dtype": dtype_for(job.precision)}
        x, out, weights = (
            (scale * torch.randn(shape, **options)).contiguous(memory_format=torch.channels_last)
            for shape, scale in ((c.input_shape, 1.0), (c.output_shape, 1.0), (c.weights_shape, 0.05))
        )
        strides, padding, dilation = [g.stride_y, g.stride_x], [g.padding] * 2, [g.dilation] * 2
        numbers = (strides, padding, dilation, False, [0, 0], g.groups)
        if job.operation == "forward":
            return partial(torch.ops.aten.convolution, x, weights, None, *numbers)
        mask = [job.operation == "backward_input", job.operation == "backward_weights", False]
        return partial(torch.ops.aten.convolution_backward, out, x, weights, None, *numbers, mask)


def choose(precision: str) -> None:
    """How float32 is multiplied."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def dtype_for(precision: str) -> torch.dtype:
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)


class Inference:
    """A forward pass: batch normalisation folded into the weights, which are of 16 bits in fp16 and bf16."""

    def __init__(self, peer: Peer, batch: int, precision: str, way: str, device: torch.device) -> None:
        peer.eval().fold()
        dtype = dtype_for(precision)
        self.peer: Any = Heads(peer, dtype).to(device=device, dtype=dtype, memory_format=torch.channels_last)
        self.uploads = Uploads(random_pictures(batch, peer))
        (self.x,) = self.uploads.targets(device)
        if way == "compile":
            torch._dynamo.mark_static_address(self.x)  # written in place: a graph need not copy it first
            self.peer = torch.compile(self.peer, mode="reduce-overhead")
        self.run = captured(self.compute, device) if way == "graph" else self.compute

    @torch.inference_mode()
    def compute(self) -> torch.Tensor:
        """The last head's output."""
        return self.peer(self.x)[-1]

    def __call__(self) -> torch.Tensor:
        """Upload, compute, download."""
        self.uploads.bring()
        return self.run().cpu()


class Training:
    """Forward, loss, backward, update: SGD in one kernel, and with fp16 a loss scale that adapts, without waiting."""

    def __init__(self, peer: Peer, batch: int, precision: str, way: str, device: torch.device) -> None:
        _, height, width = peer.input_shape
        cost = Cost(peer.train(), YoloLoss(peer.heads, width, height))
        self.cost: Any = cost.to(device=device, memory_format=torch.channels_last)
        if way == "compile":
            self.cost = torch.compile(self.cost, mode="reduce-overhead")
        generator = np.random.default_rng(0)
        truth = packed([random_boxes(generator, peer.heads[0].classes) for _ in range(batch)], MOST_OBJECTS)
        self.uploads = Uploads(random_pictures(batch, peer), torch.from_numpy(truth))
        self.x, self.truth = self.uploads.targets(device)
        if way == "compile":
            for given in (self.x, self.truth):  # see above
                torch._dynamo.mark_static_address(given)
        is_half = precision in ("fp16", "bf16")
        self.casts = partial(torch.autocast, device.type, dtype_for(precision)) if is_half else nullcontext
        on_gpu = device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16" and on_gpu)
        options = peer.options
        self.optimizer = torch.optim.SGD(
            peer.parameters(), lr=RATE, momentum=options.momentum, weight_decay=options.decay, fused=on_gpu or None
        )
        self.run = captured(self.step, device) if way == "graph" else self.step

    def step(self) -> None:
        """One update."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.casts():
            cost = self.cost(self.x, self.truth)
        self.scaler.scale(cost).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def __call__(self) -> None:
        """Upload, update."""
        self.uploads.bring()
        self.run()


class Heads(nn.Module):
    """A network that takes bytes."""

    def __init__(self, peer: Peer, dtype: torch.dtype) -> None:
        super().__init__()
        self.peer, self.dtype = peer, dtype

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The outputs of all heads."""
        return self.peer(x.to(self.dtype) / 255)


class Cost(nn.Module):
    """A network and its loss."""

    def __init__(self, peer: Peer, loss: YoloLoss) -> None:
        super().__init__()
        self.peer, self.loss = peer, loss

    def forward(self, x: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """The cost of the batch, whose pictures are bytes."""
        return self.loss(self.peer(x.float() / 255), truth)


def captured(call: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """The call as a CUDA graph."""
    if device.type != "cuda":
        raise DarkpyError("there are no CUDA graphs without a GPU")
    # As PyTorch's guide has it: a few calls on a stream beside, then the capture.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def random_pictures(batch: int, peer: Peer) -> torch.Tensor:
    """Bytes, channels last in memory, as they are wanted on the device."""
    pictures = torch.randint(256, (batch, *peer.input_shape), dtype=torch.uint8)
    return pictures.contiguous(memory_format=torch.channels_last)


class Uploads:
    """Brings tensors to the device: from pinned memory, in a second stream, while it computes on the last ones."""

    def __init__(self, *sources: torch.Tensor) -> None:
        self.sources = sources
        self.on_gpu = False

    def targets(self, device: torch.device) -> list[torch.Tensor]:
        """Where they are found after :meth:`bring`, always the same places."""
        self.on_gpu = device.type == "cuda"
        if self.on_gpu:
            self.sources = tuple(source.pin_memory() for source in self.sources)
            self.stream = torch.cuda.Stream()
            self.berths = [
                ([source.to(device) for source in self.sources], torch.cuda.Event(), torch.cuda.Event())
                for _ in range(2)
            ]
        self.found = [source.to(device, copy=True) for source in self.sources]
        return self.found

    def bring(self) -> None:
        """Once more."""
        if not self.on_gpu:
            for target, source in zip(self.found, self.sources):
                target.copy_(source)
            return
        self.berths.reverse()
        berth, arrived, left = self.berths[0]
        self.stream.wait_event(left)
        with torch.cuda.stream(self.stream):
            for place, source in zip(berth, self.sources):
                place.copy_(source, non_blocking=True)
            arrived.record()
        arrived.wait()
        for target, place in zip(self.found, berth):
            target.copy_(place)
        left.record()


class EventClock:
    """Events of PyTorch's stream, on the CPU the time of day; see darkpy's Clock."""

    def __init__(self, device: torch.device, busy_bytes: int) -> None:
        self.on_gpu = device.type == "cuda"
        self.busy = torch.empty(busy_bytes // 4, device=device)

    def mark(self) -> Any:
        """An event."""
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Between events."""
        if not self.on_gpu:
            return [after - before for before, after in pairwise(marks)]
        marks[-1].synchronize()
        return [1e-3 * before.elapsed_time(after) for before, after in pairwise(marks)]

    def occupy(self) -> None:
        """Fill memory."""
        for _ in range(BUSY_TIMES):
            self.busy.zero_()
