"""Numbers and squares at random: kernels/random.cu. Other ones than the CPU's."""

from __future__ import annotations

import numpy as np

from darkpy.backends.base import BLOCKS_GROWN, MOST_DROPPED
from darkpy.backends.cuda.array import DeviceArray
from darkpy.backends.cuda.launching import THREADS
from darkpy.backends.cuda.memory import MemoryOperations


class RandomOperations(MemoryOperations):
    """What they depend on beside seed and place lies in the device's memory, so that recorded work finds it there.

    device_clock: what :meth:`set_clock` was told, 64 bits.
    """

    def __init__(self, index: int = 0, precision: str = "fp32") -> None:
        super().__init__(index, precision)
        self.device_clock = self.zeros((1,), np.uint64)
        self._progress = self.zeros((1,), np.float64)
        self._shows_progress = False

    def set_clock(self, time: int) -> None:
        """See :meth:`Backend.set_clock`."""
        if time != self.clock:
            super().set_clock(time)
            self._set(self.device_clock, time)

    def set_progress(self, progress: float) -> None:
        """See :meth:`Backend.set_progress`; the device is told once it has asked."""
        if self._shows_progress and progress != self.progress:
            self._set(self._progress, progress)
        super().set_progress(progress)

    def _set(self, memory: DeviceArray, number: float) -> None:
        """Let a number of 8 bytes on the device be this one, in the order of the stream."""
        for place, word in enumerate(np.array([number], memory.dtype).view(np.uint32).tolist()):
            self._driver.memset_d32_async(memory.address + 4 * place, word, 1, self.stream)

    def uniform(self, seed: int, place: int, out: DeviceArray) -> None:
        """See :meth:`Backend.uniform`."""
        if not out.is_dense:
            raise ValueError("random numbers are drawn for arrays without gaps")
        grid = self.blocks_for(-(-out.size // 4))
        self.launch("random", "uniform", grid, THREADS, out, out.size, seed, place, self.device_clock)

    def drop_blocks(
        self, seed: int, place: int, mask: DeviceArray, shares: DeviceArray, probability: float, side: float
    ) -> None:
        """See :meth:`Backend.drop_blocks`."""
        if not self._shows_progress:
            self.refuse_to_record("the device is told the progress of the training for the first time")
            self._shows_progress = True
            self._set(self._progress, self.progress)
        n, channels, height, width = mask.shape
        corners = self.scratch((n, channels), np.int32)
        blocks = (height, width, side, BLOCKS_GROWN, self._progress)
        self.launch(
            "random", "choose_blocks", n, THREADS,
            corners, shares, channels, *blocks, probability, MOST_DROPPED, seed, place, self.device_clock,
        )  # fmt: skip
        grid, block, rows, _, stride, _ = self.over_channels(mask, by_four=False)
        self.launch("random", "cover_blocks", grid, block, corners, mask, stride, rows, channels, *blocks)
