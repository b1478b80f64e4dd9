"""What all work on pictures in threads needs: how many threads, and seeds that do not depend on them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

# What random numbers are for: a word of every seed, so that no two uses share their numbers.
ORDER, SAMPLE, SIZE, SHAPES, DIGITS, MIX, SEQUENCE, SPLIT, ANCHORS = 1, 2, 3, 4, 5, 6, 7, 8, 9

T = TypeVar("T")
R = TypeVar("R")

_MOST_THREADS = 8  # more only wait for Python's lock


def generator(*seed: int) -> np.random.Generator:
    """A random generator for one purpose: the same numbers for the same words, unrelated ones for others."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))


def thread_count() -> int:
    """Threads worth having for pictures: as many as this process has processors, at most 8."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        processors = os.cpu_count() or 1
    return min(processors, _MOST_THREADS)


def in_background(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """Results in the order of the items, up to ``ahead`` of them computed before they are asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
