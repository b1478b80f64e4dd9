"""Processes that measure: whatever one of them does to itself, the others and the script go on."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from darkpy.errors import DarkpyError


class Failed(Exception):
    """What was asked of a worker has failed; the message is the reason. Whether it can be asked again: ``is_alive``."""

    def __init__(self, reason: str, is_alive: bool) -> None:
        super().__init__(reason, is_alive)  # all of them, for the way between processes
        self.reason = reason
        self.is_alive = is_alive


class Worker:
    """A process that makes an object, and then calls its methods when asked. A context manager.

    make: called in the process, without arguments; to be imported there. If it fails, the first question says so.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        # Forked processes would begin with the memory of this one, and could not use a GPU.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, make), daemon=True)
        self.process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def ask(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        """What the method returns. Raises :class:`Failed`; taking longer than so many seconds ends the process."""
        try:
            self.connection.send((method, arguments))
            if not self.connection.poll(seconds):
                self.end()
                raise Failed(f"took longer than {seconds:.0f} s", is_alive=False)
            answer = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise Failed(f"its process ended with code {self.process.exitcode}", is_alive=False) from None
        if isinstance(answer, Failed):
            raise answer
        return answer[0]


def serve(connection: Connection, make: Callable[[], Any]) -> None:
    """Life of a worker's process: make the object, answer until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    held = broken = None
    try:
        held = make()
    except Exception as error:  # told when it is asked
        broken = in_words(error)
    try:
        while True:
            method, arguments = connection.recv()
            if broken is not None:
                connection.send(Failed(broken, is_alive=False))
                return
            try:
                connection.send((getattr(held, method)(*arguments),))
            except Exception as error:  # whatever it is, it is shown in the place of the figure
                connection.send(Failed(in_words(error), is_alive=True))
    except EOFError:
        return


def in_words(error: Exception) -> str:
    kind = "" if isinstance(error, DarkpyError) else f"{type(error).__name__}: "
    return f"{kind}{error}".strip()
