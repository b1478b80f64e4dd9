"""Work gone through without doing it, to know how much memory it takes.

While it is rehearsed nothing is launched, copied or allocated: in the driver's place stands something that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from darkpy.backends.cuda.capture import NotRepeatable
from darkpy.backends.cuda.memory import ALIGNMENT, MemoryOperations


class CountingDriver:
    """Also in the pool's and the parcels' place; it counts what is taken, all else is left out.

    now, most: bytes that are taken for a moment, and the most that were. lasting: those of lasting arrays, which count
    while ``is_counting``.
    """

    def __init__(self, driver: Any) -> None:
        self.MemoryError = driver.MemoryError
        self.now = self.most = self.lasting = 0
        self.is_counting = False
        self._next_address = ALIGNMENT

    def mem_alloc(self, nbytes: int) -> int:
        """As the driver's, for lasting arrays."""
        self.lasting += nbytes if self.is_counting else 0
        return self._address(nbytes)

    def allocate(self, nbytes: int) -> Counted:
        """As the pool's."""
        self.now += nbytes
        self.most = max(self.most, self.now)
        return Counted(self, self._address(nbytes), nbytes)

    def _address(self, nbytes: int) -> int:
        """One that is nowhere."""
        address = self._next_address
        self._next_address += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return address

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


class Counted:
    """Memory that counts as long as it lives."""

    def __init__(self, driver: CountingDriver, address: int, nbytes: int) -> None:
        self._driver = driver
        self._address = address
        self._nbytes = nbytes

    def __int__(self) -> int:
        return self._address

    def __del__(self) -> None:
        self._driver.now -= self._nbytes


class RehearsalOperations(MemoryOperations):
    """Forecasts."""

    def rehearsed(self, work: Iterable[Callable[[], Any]]) -> int:
        """See :meth:`Backend.rehearsed`."""
        before = dict(vars(self))
        counting = CountingDriver(self._driver)
        self._driver = self._pool = counting
        self._parcels: Any = counting
        self._kept_constants, self._rehearses = {}, True
        self.partials(1)  # own_memory() counts them
        results = []
        try:
            for step in work:
                counting.is_counting = True
                with suppress(NotRepeatable):
                    results.append(step())
                counting.is_counting = False
        finally:
            vars(self).clear()
            vars(self).update(before)
        return counting.most + counting.lasting
