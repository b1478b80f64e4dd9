"""Time as the device takes it down."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Protocol

LAUNCHES = 10
"""Of a kernel between two notes: a note is exact to half a microsecond."""

FEWEST = 5
"""Times that are measured at least."""

BUSY_BYTES = 256 << 20
BUSY_TIMES = 40


class Clock(Protocol):
    """Notes in a device's queue of work, and other work for it."""

    def mark(self) -> Any:
        """A note in the queue."""

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Times between neighbouring notes; waits for the last."""

    def occupy(self) -> None:
        """A few milliseconds of other work, which also drives everything else out of the cache."""


class DeviceClock:
    """Events in the stream of a GPU's backend. Takes ``busy_bytes`` of its memory."""

    def __init__(self, backend: Any, busy_bytes: int = BUSY_BYTES) -> None:
        import pycuda.driver as driver

        self._event = driver.Event
        self.backend = backend
        self.busy = backend.empty((busy_bytes // 4,))

    def mark(self) -> Any:
        """See :class:`Clock`."""
        event = self._event()
        event.record(self.backend.stream)
        return event

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """See :class:`Clock`."""
        marks[-1].synchronize()
        return [1e-3 * before.time_till(after) for before, after in pairwise(marks)]

    def occupy(self) -> None:
        """See :class:`Clock`."""
        for _ in range(BUSY_TIMES):
            self.backend.fill(self.busy, 0.0)


def kernel_seconds(
    clock: Clock, calls: Sequence[Callable[[], Any]], seconds: float = 0.0, hopeless: float = float("inf")
) -> float:
    """Median time of a call without the host's part: calls are queued up behind other work.

    calls: the same work on different arrays, taken in turn, so that none finds its input in the cache. They are
    repeated for about so many seconds; once only where the first time is longer than ``hopeless``.
    """
    for call in calls:
        call()
    found: list[float] = []
    began, number = time.perf_counter(), 0
    while len(found) < FEWEST or time.perf_counter() - began < seconds:
        clock.occupy()
        first = clock.mark()
        for _ in range(LAUNCHES):
            calls[number % len(calls)]()
            number += 1
        found += [total / LAUNCHES for total in clock.seconds([first, clock.mark()])]
        if found[0] > hopeless:
            break
    return median(found)
