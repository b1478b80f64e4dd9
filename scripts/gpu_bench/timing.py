"""Medians of times that the device itself took down.

A clock has ``mark()``, a note in the device's queue of work, ``seconds(marks)``, the times between neighbouring notes
once all is done, and ``occupy()``, which gives the device a few milliseconds of other work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Protocol

LAUNCHES = 10
"""Of a kernel between two notes: a note is exact to half a microsecond."""

WARM_UP = 3
FEWEST = 5


class Clock(Protocol):
    """See above."""

    def mark(self) -> Any:
        """A note in the queue."""
        ...

    def seconds(self, marks: Sequence[Any]) -> list[float]:
        """Times between notes; waits for the last."""
        ...

    def occupy(self) -> None:
        """Other work, which also drives everything else out of the cache."""
        ...


def of_calls(clock: Clock, call: Callable[[], Any], seconds: float) -> float:
    """Median time from the end of one call to the end of the next, with the host's part in it."""
    for _ in range(WARM_UP):
        call()
    marks = [clock.mark()]
    began = time.perf_counter()
    while len(marks) <= FEWEST or time.perf_counter() - began < seconds:
        call()
        marks.append(clock.mark())
        if len(marks) % 64 == 0:
            clock.seconds(marks[-2:])  # else the host might run far ahead
    return median(clock.seconds(marks))


def of_kernels(clock: Clock, calls: Sequence[Callable[[], Any]], seconds: float) -> float:
    """Median time of a call without the host's part: calls are queued up behind other work.

    calls: the same work on different arrays, taken in turn, so that none finds its input in the cache.
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
    return median(found)


def copies_for(nbytes: int, l2: int) -> int:
    """Sets of arrays of so many bytes that together outgrow the cache twice, within reason."""
    return max(1, min(8, -(-2 * l2 // max(nbytes, 1))))
