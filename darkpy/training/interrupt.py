"""Signals that wait for the end of the iteration."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

STOP = (signal.SIGINT, signal.SIGTERM)
SAVE = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Windows has neither."""

STOPPING = b"\nstopping after this iteration; Ctrl-C again stops at once\n"
SAVING = b"\nsaving after this iteration\n"


class Interrupt:
    """Within ``with Interrupt() as interrupt``, signals ask the training for something.

    The first Ctrl-C or SIGTERM, which job schedulers send, sets ``requested``; the second raises KeyboardInterrupt.
    SIGHUP and SIGUSR1 ask for the weights to be saved. ``signal`` is the number of the one that asked for the end.
    Outside the main thread signals cannot be caught; then nothing is changed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._save = False
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the training is to end."""
        return self.signal is not None

    @property
    def name(self) -> str:
        """What asked for the end, in a word; empty if nothing did."""
        if self.signal is None:
            return ""
        return "Ctrl-C" if self.signal == signal.SIGINT else signal.Signals(self.signal).name

    @property
    def save_requested(self) -> bool:
        """Whether saving was asked for, and is still to be done."""
        return self._save

    def take_save_request(self) -> bool:
        """Whether saving was asked for since the last call."""
        wanted, self._save = self._save, False
        return wanted

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (*STOP, *SAVE)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number in SAVE:
            self._save = True
            _say(SAVING)
            return
        if self.requested:
            raise KeyboardInterrupt
        self.signal = number
        _say(STOPPING)


def _say(notice: bytes) -> None:
    # Not print: the signal may have come in the middle of one.
    with suppress(OSError):
        os.write(2, notice)
