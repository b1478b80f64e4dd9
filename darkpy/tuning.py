"""Finding the fastest kernel for every convolution of a network on this GPU: ``darkpy gpu tune``.

Which kernel is chosen without it is arithmetic (:func:`default_plan`); here all candidates are run and the fastest is
written down in a table that goes before it (:mod:`darkpy.backends.cuda.plan_table`).
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from darkpy import resources
from darkpy.backends.cuda import plan_table
from darkpy.backends.cuda.clock import DeviceClock, kernel_seconds
from darkpy.backends.cuda.convolution_plans import Plan, candidates, default_plan
from darkpy.backends.cuda.plan_table import Key, Measured
from darkpy.config.cfg import read_cfg
from darkpy.errors import InputError
from darkpy.network import Network
from darkpy.timing import synthetic_truth

Call = Callable[[], Any]

HOPELESS = 1.5
"""A candidate so many times slower than the best before it is measured once."""


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    measured: the fastest plan for each convolution. uses: how often each of them occurs in a pass of the network.
    kernels: candidates that were run. skipped: convolutions whose arrays lie in a way that could not be made again.
    path: the table.
    """

    path: Path
    batch: int
    training: bool
    gpu: str
    precision: str
    measured: dict[Key, Measured]
    uses: Counter[Key]
    kernels: int
    skipped: int

    @property
    def seconds(self) -> float:
        """Of all convolutions of a pass of the network, with the fastest plans."""
        return sum(count * self.measured[key].seconds for key, count in self.uses.items() if key in self.measured)

    @property
    def default_seconds(self) -> float:
        """The same with the plans that are taken where nothing was measured."""
        return sum(
            count * self.measured[key].default_seconds for key, count in self.uses.items() if key in self.measured
        )


def tune(
    cfg: str | Path,
    *,
    batch: int | None = None,
    training: bool = False,
    device: str = "gpu",
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
    timer: Callable[[Call, float], float] | None = None,
) -> Tuned:
    """Measure the candidates for every convolution of a cfg and add the fastest to the table.

    batch: pictures at a time (default 1; in training the cfg's mini-batch). progress: called with (done, total)
    convolutions. timer: seconds of a call that launches kernels, and is hopeless beyond so many; the device's clock by
    default.

    Raises :class:`~darkpy.errors.InputError` where the device is no GPU.
    """
    network = _network(cfg, batch, training, device, precision)
    backend: Any = network.backend
    pictures, uses = network.batch, _asked_for(network)
    del network  # its memory is for the arrays of single convolutions
    gc.collect()
    timer = timer or _device_timer(backend)
    measured: dict[Key, Measured] = {}
    kernels = 0
    with backend.running():
        for done, key in enumerate(uses):
            plans = candidates(*key, backend.limits)
            call = _call_for(backend, key)
            if call is not None:
                measured[key] = _fastest(backend, key, plans, partial(timer, call))
                kernels += len(plans)
            if progress is not None:
                progress(done + 1, len(uses))
    path = plan_table.save(backend.gpu, measured)
    return Tuned(
        path=path,
        batch=pictures,
        training=training,
        gpu=backend.gpu.name,
        precision=backend.precision,
        measured=measured,
        uses=uses,
        kernels=kernels,
        skipped=len(uses) - len(measured),
    )


def _network(cfg: str | Path, batch: int | None, training: bool, device: str, precision: str) -> Network:
    config = read_cfg(resources.find("cfg", cfg))
    described = Network(config, training=training, device=device, plan_only=True)
    if not hasattr(described.backend, "plans"):
        raise InputError(f"there is nothing to tune on {described.backend.name}: kernels are chosen on a GPU only")
    if training and batch is not None:
        batch *= described.options.subdivisions
    return Network(config, batch=batch, training=training, keep_gradients=False, device=device, precision=precision)


def _asked_for(network: Network) -> Counter[Key]:
    """Every plan that a pass of the network asks for, and how often."""
    x = np.random.default_rng(0).uniform(0, 1, (network.batch, *network.graph.input_shape)).astype(np.float32)
    with _listening(network.backend) as asked, np.errstate(all="ignore"):
        if network.training:
            network.forward(x, synthetic_truth(network))
            network.backward()
        else:
            network.forward(x)
    return asked


@contextmanager
def _listening(backend: Any) -> Iterator[Counter[Key]]:
    """Counts the plans that the backend looks up."""
    plans, asked = backend.plans, Counter[Key]()
    backend.plans = _Listener(plans, asked)
    try:
        yield asked
    finally:
        backend.plans = plans


class _Listener(dict[Key, Plan]):
    """A table of plans that notes what is looked up."""

    def __init__(self, plans: dict[Key, Plan], asked: Counter[Key]) -> None:
        super().__init__(plans)
        self.asked = asked

    def get(self, key: Key, default: Any = None) -> Any:
        """As of any dictionary."""
        self.asked[key] += 1
        return super().get(key, default)


def _fastest(backend: Any, key: Key, plans: list[Plan], timer: Callable[[float], float]) -> Measured:
    """Run every plan; the table of the backend holds the fastest afterwards."""
    usual = default_plan(*key, backend.limits)
    times: dict[Plan, float] = {}
    # The usual plan first, so that the others have something to be measured against.
    for plan in dict.fromkeys([usual, *plans]):
        backend.plans[key] = plan
        times[plan] = timer(HOPELESS * min(times.values(), default=float("inf")))
    best = min(times, key=lambda plan: times[plan])
    backend.plans[key] = best
    return Measured(best, times[best], times[usual])


def _call_for(backend: Any, key: Key) -> Call | None:
    """A call that asks for just this plan: its operation on new arrays. None if no arrays are found that do."""
    for gap in (0, 1):
        call = _operation(backend, key, gap)
        with _listening(backend) as asked:
            call()
        if list(asked) == [key]:
            return call
    return None


def _operation(backend: Any, key: Key, gap: int) -> Call:
    """The operation on arrays of the shape's, which have so many channels more between their positions."""
    operation, _, shape = key
    g = shape.geometry
    x = _random(backend, (shape.batch, shape.channels, shape.height, shape.width), gap)
    out = _random(backend, (shape.batch, shape.filters, shape.out_height, shape.out_width), gap)
    weights = _random(backend, (shape.filters, shape.channels // g.groups, g.size, g.size), 0, backend.dtype)
    arguments = {
        "forward": (x, weights, out),
        "backward_input": (out, weights, x),
        "backward_weights": (x, out, weights),
    }[operation]
    return partial(getattr(backend, f"convolution_{operation}"), *arguments, g)


def _random(backend: Any, shape: tuple[int, ...], gap: int, dtype: Any = None) -> Any:
    """Random numbers; zeros would cost a GPU less power, and so less time."""
    n, channels, *rest = shape
    array = backend.empty((n, channels + gap, *rest), dtype or backend.activation_dtype)
    some = np.random.default_rng(0).standard_normal((1, channels + gap, *rest)).astype(np.float32) / 8
    for picture in range(n):
        backend.copy(some, array[picture : picture + 1])
    return array[:, :channels]


def _device_timer(backend: Any) -> Callable[[Call, float], float]:
    clock = DeviceClock(backend)
    return lambda call, hopeless: kernel_seconds(clock, [call], hopeless=hopeless)
