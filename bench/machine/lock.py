"""One run at a time on a machine: two that time at once would time each other."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..common.errors import UserError

LOCK_VARIABLE = "MLR_TIMING_LOCK"


def lock_path() -> Path:
    """Return the file that is locked: `MLR_TIMING_LOCK`, or one of this user among the temporary.

    It is of this machine, as a home on a network may not be.
    """
    if named := os.environ.get(LOCK_VARIABLE):
        return Path(named)
    return Path(tempfile.gettempdir(), f"mlr-timing-{os.getuid()}.lock")


@contextmanager
def turn(say: Callable[[str], None]) -> Iterator[None]:
    """Hold this machine's turn; wait for it while another process has it.

    The lock is the system's own and vanishes with its process: one that is killed leaves none.

    Args:
        say: Called with one line before it waits.

    Raises:
        UserError: The file cannot be locked.
    """
    path = lock_path()
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unlockable(path, error) from error
    try:
        try:
            _wait(lock, say)
        except OSError as error:
            raise _unlockable(path, error) from error
        with suppress(OSError):  # the number is for those who wait to read, no more
            os.truncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def _wait(lock: int, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        number = os.pread(lock, 20, 0).decode(errors="replace")
        whose = f"process {number}" if number.isdecimal() else "another process"
        say(f"two runs at once would time each other: waiting for that of {whose} to end")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _unlockable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"runs of one machine take turns by locking a file; {path} cannot be locked "
        f"({error.strerror}); name another in {LOCK_VARIABLE}"
    )
