"""How long each layer takes: ``darkpy net time``, in the manner of ``caffe time``."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpy import resources
from darkpy.config.cfg import read_cfg
from darkpy.errors import ConfigError
from darkpy.layers.heads import ObjectHead
from darkpy.network import Network
from darkpy.plan import MemoryPlan

if TYPE_CHECKING:
    from darkpy.network_passes import Truth

DISTURBED = 1.3
"""A step so many times as long as the sum of its parts is worth a word."""

WARM_UP = 2
"""Passes before the measurement: compiling, touching the memory for the first time."""


@dataclass(frozen=True)
class LayerTime:
    """One layer: seconds of its passes with a whole batch, each the median of all runs.

    forward: of a head with its loss. backward: 0 at inference. operations: floating point operations of the forward
    pass of the batch.
    """

    index: int
    type: str
    geometry: str
    output: tuple[int, int, int]
    operations: float
    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Seconds of both passes."""
        return self.forward + self.backward


@dataclass(frozen=True)
class Timing:
    """A network's layers in time.

    between: seconds of the forward and the backward pass that are spent in no layer. update: of the update of the
    parameters; 0 at inference, as all of backward. step: of a whole pass at inference, of a step with one mini-batch in
    training. All are medians of all runs, so on a machine that is disturbed now and then, now in one layer, now in
    another, a step takes longer than the sum of its parts. memory: what the network planned. process_memory: bytes the
    process has held at most so far, None where the system does not say.
    """

    path: str
    device: str
    threads: int
    batch: int
    rows: tuple[LayerTime, ...]
    between: tuple[float, float]
    update: float
    step: float
    memory: MemoryPlan
    process_memory: int | None

    @property
    def forward(self) -> float:
        """Seconds of the forward pass, the sum of its parts."""
        return sum(row.forward for row in self.rows) + self.between[0]

    @property
    def backward(self) -> float:
        """Seconds of the backward pass, the sum of its parts."""
        return sum(row.backward for row in self.rows) + self.between[1]

    @property
    def total(self) -> float:
        """Seconds of all parts together."""
        return self.forward + self.backward + self.update

    @property
    def is_disturbed(self) -> bool:
        """Whether a step takes so much longer than its parts that something else was running on this machine."""
        return self.step > DISTURBED * self.total

    @property
    def operations(self) -> float:
        """Floating point operations of the forward pass of a batch."""
        return sum(row.operations for row in self.rows)


def measure(
    cfg: str | Path,
    *,
    batch: int | None = None,
    runs: int = 10,
    training: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> Timing:
    """Time the layers of a cfg with random weights, pictures and, in training, truth.

    batch: pictures at a time (default 1; in training the cfg's mini-batch). progress: called with (done, total) runs.

    Raises :class:`~darkpy.errors.ConfigError` with every problem of the cfg, and for training without a loss.
    """
    network = _network(cfg, batch, training, device, precision)
    x = np.random.default_rng(0).uniform(0, 1, (network.batch, *network.graph.input_shape)).astype(np.float32)
    truth = synthetic_truth(network) if training else None
    watch = _StopWatch(network)
    for run in range(WARM_UP + runs):
        if run == WARM_UP:
            watch.times.clear()
        # The numbers are noise, and may overflow on their way through a hundred time steps.
        with np.errstate(all="ignore"):
            watch.timed("forward", lambda: network.forward(x, truth))
            if training:
                watch.timed("backward", network.backward)
                watch.timed("update", lambda: _update(network))
        watch.end_run()
        if progress is not None:
            progress(max(0, run + 1 - WARM_UP), runs)
    return Timing(
        path=network.config.path,
        device=network.backend.name,
        threads=network.backend.threads,
        batch=network.batch,
        rows=tuple(_row(network, index, watch) for index in range(len(network.layers))),
        between=(watch.seconds("between forward"), watch.seconds("between backward")),
        update=watch.seconds("update"),
        step=watch.seconds("step"),
        memory=network.memory_plan(),
        process_memory=peak_memory(),
    )


def peak_memory() -> int | None:
    """The most bytes this process has held in memory; None where the system does not say."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def synthetic_truth(network: Network) -> Truth:
    """Truth that fits the network's heads: two objects in every picture, or the first class."""
    if any(isinstance(head, ObjectHead) for head in network.heads):
        # The last number is the identity, which [contrastive] compares.
        objects = np.array([[0, 0.3, 0.4, 0.2, 0.3, 1], [0, 0.7, 0.6, 0.4, 0.5, 2]], np.float32)
        columns = 6 if any(head.name == "contrastive" for head in network.heads) else 5
        return [objects[:, :columns]] * network.batch
    classes = int(np.prod(network.output.shape[1:]))
    return np.eye(1, classes, dtype=np.float32).repeat(network.batch, axis=0)


def _network(cfg: str | Path, batch: int | None, training: bool, device: str, precision: str) -> Network:
    config = read_cfg(resources.find("cfg", cfg))
    described = Network(config, training=training, device=device, plan_only=True)
    if training and not described.heads:
        message = "has no head with a loss, such as [yolo] or [softmax]: it cannot be trained"
        raise ConfigError(message, where=config.path)
    if training and batch is not None:
        batch *= described.options.subdivisions
    network = Network(
        config, batch=batch, training=training, keep_gradients=False, device=device, precision=precision
    )
    # What is measured does not depend on the weights; learning from noise might lead them to infinity.
    network.options = replace(network.options, learning_rate=0.0, learning_rate_min=0.0)
    for layer in network.layers:
        for parameter in layer.parameters():
            # A network that has seen nothing divides by a variance of 0.
            if parameter.name.endswith("rolling_variance"):
                network.parameters.write(layer, parameter.name, np.ones(parameter.shape))
    return network


def _update(network: Network) -> None:
    network.update()
    network.zero_gradients()


class _StopWatch:
    """Puts a clock around the passes of every layer of a network."""

    def __init__(self, network: Network) -> None:
        self.times: dict[Any, list[float]] = defaultdict(list)
        self.backend = network.backend
        self.probe = network.backend.zeros((1,))
        for layer in network.layers:
            for name in ("forward", "backward", "loss"):
                method = getattr(layer, name, None)
                if method is not None:
                    setattr(layer, name, self._clocked((layer.index, name), method))

    def _clocked(self, key: Any, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: self.timed(key, lambda: method(*arguments, **options))

    def timed(self, key: Any, function: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = function()
        # On a device, reading something back waits until all that came before is done.
        self.backend.to_host(self.probe)
        self.times[key].append(time.perf_counter() - began)
        return result

    def end_run(self) -> None:
        """Note what the run spent in no layer, and in all."""
        last = {key: times[-1] for key, times in self.times.items()}
        for name, inner in (("forward", ("forward", "loss")), ("backward", ("backward",))):
            layers = sum(seconds for key, seconds in last.items() if isinstance(key, tuple) and key[1] in inner)
            self.times[f"between {name}"].append(max(0.0, last.get(name, 0.0) - layers))
        self.times["step"].append(sum(last.get(name, 0.0) for name in ("forward", "backward", "update")))

    def seconds(self, key: Any) -> float:
        return median(self.times.get(key, [0.0]))


def _row(network: Network, index: int, watch: _StopWatch) -> LayerTime:
    layer = network.layers[index]
    assert layer.output_shape is not None
    return LayerTime(
        index=index,
        type=layer.name,
        geometry=layer.describe(),
        output=layer.output_shape,
        operations=layer.operations() * network.batch,
        forward=watch.seconds((index, "forward")) + watch.seconds((index, "loss")),
        backward=watch.seconds((index, "backward")),
    )
