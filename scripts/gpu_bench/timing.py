"""Medians of times that the device itself took down; of kernels see darkpy.backends.cuda.clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from workers import in_words

from darkpy.backends.cuda.clock import Clock
from gpu_bench.jobs import NetworkJob, Speed

WARM_UP = 3
FEWEST = 5


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


def of_batches(job: NetworkJob, measure: Callable[[NetworkJob, int], Speed]) -> dict[int, Speed | str]:
    """What one batch size after the other gave, or why it gave nothing."""
    found: dict[int, Speed | str] = {}
    for batch in job.batches:
        try:
            found[batch] = measure(job, batch)
        except Exception as error:  # no memory, most likely: the smaller ones are measured
            found[batch] = in_words(error)
    return found


def copies_for(nbytes: int, l2: int) -> int:
    """Sets of arrays of so many bytes that together outgrow the cache twice, within reason."""
    return max(1, min(8, -(-2 * l2 // max(nbytes, 1))))
