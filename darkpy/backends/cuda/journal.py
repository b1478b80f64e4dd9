"""Results that stay on the device until the host asks, and what keeps NaN away from the parameters: kernels/journal.cu.

The alarm is a number on the device: 0 while everything is finite, then what was not. Sums of losses and the check of
the gradients set it, optimizers do nothing while it is set, and the host, when it reads of it, resets it. A second
number beside it is for one update alone, which a loss scale leaves out: see loss_scale.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import MemoryOperations
from darkpy.backends.journal import Journal, Pending, Result, check_finite
from darkpy.backends.loss_scale import LossScale
from darkpy.errors import NotFinite

#: What the alarm says, as ``enum Alarm`` in kernels/journal.cu has it.
WHAT = {1: "loss", 2: "gradient"}

#: What sums are counted in.
FIGURE = np.dtype(np.float64)

#: Figures on a page of a journal.
PAGE = 1024


class Figures(Pending[Result]):
    """Sums on the device, and what makes a result of them on the host."""

    def __init__(self, sums: DeviceArray, finish: Callable[[np.ndarray], Result]) -> None:
        self.sums = sums
        self.finish = finish

    def read(self) -> Result:
        """See :meth:`Pending.read`; whoever reads it by itself sees himself what is not finite."""
        found = self.sums.backend.to_host(self.sums)
        self.sums.backend.reset_alarm()
        return self.finish(found)


class JournalOperations(MemoryOperations):
    """Sums in double precision, and the alarm."""

    @cached_property
    def alarm(self) -> DeviceArray:
        """The alarm, and whether the present update is left out, (2,), int32."""
        return self.zeros((2,), np.int32)

    @cached_property
    def pages(self) -> list[np.ndarray]:
        """Host memory that the device writes to by itself, for journals in turn."""
        return []

    def reset_alarm(self) -> None:
        """All is well again."""
        self.fill(self.alarm, 0)

    def journal(self) -> Journal:
        """See :meth:`Backend.journal`."""
        return LateJournal(self)

    def figures(self, finish: Callable[[np.ndarray], Result], *shares: DeviceArray) -> Figures[Result]:
        """Add up the blocks' shares of sums, each (blocks, sums), and make a result of all sums together."""
        columns = [share.shape[1] for share in shares]
        sums = self.scratch((sum(columns),), FIGURE)
        first = 0
        for share, count in zip(shares, columns):
            out = sums[first : first + count]
            self.launch("journal", "add_up", count, THREADS, share, share.shape[0], count, out, self.alarm)
            first += count
        return Figures(sums, finish)

    def watch(self, gradients: DeviceArray, alarm: DeviceArray) -> None:
        """Set a number of the alarm if one of them is NaN or infinite."""
        rows, columns, (stride,) = self.rows_of(gradients)
        grid = self.blocks_for(rows * columns)
        self.launch("journal", "watch", grid, THREADS, gradients, stride, rows, columns, alarm)


class LateJournal(Journal):
    """The device writes figures and alarm down, in the order of the stream; the host reads them when they are there."""

    backend: JournalOperations

    def __init__(self, backend: JournalOperations) -> None:
        super().__init__(backend)
        self._pages: list[np.ndarray] = []
        self._end = PAGE
        self._entries: list[tuple[np.ndarray, tuple[int, int]]] = []  # the alarm as it was after these pictures
        self._loss_scale: tuple[LossScale, np.ndarray] | None = None  # and its values after this update
        self._written = backend.gpu.event()

    def __del__(self) -> None:
        self._give_back()

    def add(self, losses: Sequence[Any], pictures: tuple[int, int]) -> None:
        """See :meth:`Journal.add`."""
        check_finite(losses, pictures)
        self.passes.append([self._noted(loss) for loss in losses])
        self._note_alarm(pictures)

    def check(self, gradients: DeviceArray, pictures: tuple[int, int], loss_scale: LossScale) -> None:
        """See :meth:`Journal.check`; nothing is to be added afterwards."""
        if loss_scale.is_used:
            loss_scale.judge(gradients)
            self._loss_scale = loss_scale, self._note(loss_scale.values)
        else:
            self.backend.watch(gradients, self.backend.alarm)
        self._note_alarm(pictures)
        self._written.record(self.backend.stream)

    @property
    def is_known(self) -> bool:
        """See :meth:`Journal.is_known`."""
        return bool(self._written.query())

    def wait(self) -> None:
        """See :meth:`Journal.wait`: for the device to have come so far."""
        if not self.is_known:
            self._written.synchronize()

    def read(self) -> list[list[Any]]:
        """See :meth:`Journal.read`."""
        if self._pages:
            self.wait()
            self._check_alarm()
            if self._loss_scale is not None:
                loss_scale, place = self._loss_scale
                loss_scale.learn(place.view(np.float32))
            self.passes = [[self._finished(loss) for loss in losses] for losses in self.passes]
            self._give_back()
        return self.passes

    def _check_alarm(self) -> None:
        for place, pictures in self._entries:
            what = int(place.view(np.int32)[0])
            if what:
                self.backend.reset_alarm()
                raise NotFinite(WHAT[what], pictures)

    def _noted(self, loss: Any) -> Any:
        """The loss, or where its figures will be and what makes a result of them."""
        return (self._note(loss.sums), loss.finish) if isinstance(loss, Figures) else loss

    @staticmethod
    def _finished(noted: Any) -> Any:
        if not isinstance(noted, tuple):
            return noted
        place, finish = noted
        return finish(place.copy())

    def _note_alarm(self, pictures: tuple[int, int]) -> None:
        self._entries.append((self._note(self.backend.alarm), pictures))

    def _note(self, array: DeviceArray) -> np.ndarray:
        """Where a copy of the array as it is now will be."""
        count = -(-array.nbytes // FIGURE.itemsize)
        if self._end + count > PAGE:
            pages = self.backend.pages
            self._pages.append(pages.pop() if pages else self.backend.pinned((PAGE,), FIGURE))
            self._end = 0
        place = self._pages[-1][self._end : self._end + count]
        self._end += count
        self.backend.copy_to_pinned(array, place)
        return place

    def _give_back(self) -> None:
        # What the device still has to write there comes before all that a later journal lets it write.
        self.backend.pages.extend(self._pages)
        self._pages = []
