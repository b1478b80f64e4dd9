"""Work gone through without doing it, to know how much memory it takes for a moment.

While it is rehearsed nothing is launched, copied or allocated: in the driver's place stands something that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from darkpy.backends.cuda.capture import NotRepeatable
from darkpy.backends.cuda.memory import ALIGNMENT, MemoryOperations


class CountingDriver:
    """Also in that of the pool, from which it counts what is taken; all else is left out.

    now, most: bytes that are taken, and the most that were.
    """

    def __init__(self, driver: Any) -> None:
        self.MemoryError = driver.MemoryError
        self.now = self.most = 0
        self._next_address = ALIGNMENT

    def mem_alloc(self, nbytes: int) -> int:
        """As the driver's, for lasting arrays: an address that is nowhere."""
        address = self._next_address
        self._next_address += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return address

    def allocate(self, nbytes: int) -> Counted:
        """As the pool's."""
        self.now += nbytes
        self.most = max(self.most, self.now)
        return Counted(self, self.mem_alloc(nbytes), nbytes)

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
        try:
            for step in work:
                with suppress(NotRepeatable):
                    step()
        finally:
            vars(self).clear()
            vars(self).update(before)
        return counting.most
