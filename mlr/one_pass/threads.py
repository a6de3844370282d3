"""Threads that sleep until compiled code is handed to them, by a lock."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from threading import Lock, Thread

from .compile import Function


def run_in_threads(code: Function, own: int, others: list[int]) -> None:
    """Call a function in this thread, and in another for each of the other addresses.

    Calls from several threads at once wait for one another.
    """
    if not others:
        code(own)
        return
    # A fork has none of its parent's threads, and so needs its own.
    lock, helpers = _helpers(os.getpid(), len(others))
    with lock:
        try:
            for helper, other in zip(helpers, others, strict=True):
                helper.start_call(code, other)
            code(own)
            for helper in helpers:
                helper.done.acquire()
        except BaseException:  # an interrupt: which of them were given work is not known
            dropped, helpers[:] = helpers[:], [_Helper() for _ in helpers]
            for helper in dropped:
                helper.end()
            raise


class _Helper(Thread):
    """A thread that sleeps until it is given a call; it does not hold up the end of the process."""

    def __init__(self) -> None:
        super().__init__(name="mlr-one-pass", daemon=True)
        self._given, self.done, self._ended = Lock(), Lock(), False
        self._given.acquire()
        self.done.acquire()
        self.start()

    def start_call(self, code: Function, address: int) -> None:
        """Have a function called; `done` can be acquired once it has returned."""
        self._code, self._address = code, address
        self._given.release()

    def end(self) -> None:
        """Finish the call that is being made, if any, and end the thread."""
        self._ended = True
        with suppress(RuntimeError):  # it has been given a call that it has not begun
            self._given.release()
        self.join()

    def run(self) -> None:
        """Make one call after another."""
        while True:
            self._given.acquire()
            if self._ended:
                return
            self._code(self._address)
            self.done.release()


@cache
def _helpers(process: int, count: int) -> tuple[Lock, list[_Helper]]:
    return Lock(), [_Helper() for _ in range(count)]
