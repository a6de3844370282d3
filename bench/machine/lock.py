"""One run at a time on a machine: two that time at once would time each other."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..common.errors import UserError

LOCK_VARIABLE = "MLR_BENCH_LOCK"
POLL_S = 0.5  # a process that waits takes next to nothing from the one that measures


@contextmanager
def exclusive_machine(say: Callable[[str], None]) -> Iterator[None]:
    """Hold the machine; wait while another process holds it.

    The lock is the system's own and vanishes with its process: one that is killed leaves none, but
    its file.
    """
    # Of this machine, as a home on a network may not be.
    own = Path(tempfile.gettempdir(), f"mlr-timing-{os.getuid()}.lock")
    path = Path(os.environ.get(LOCK_VARIABLE) or own)
    lock = FileLock(path, mode=0o600, poll_interval=POLL_S)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            number = ""
            with suppress(FileNotFoundError):  # that one is ending
                number = path.read_text(errors="replace")[:20]
            who = f"process {number}" if number.isdecimal() else "another process"
            say(f"two runs at once would time each other: waiting for that of {who} to end")
            lock.acquire()
        with suppress(OSError):  # the number is for those who wait to read, no more
            path.write_text(str(os.getpid()))
    except OSError as error:
        raise UserError(
            f"runs of one machine take turns by locking a file; {path} cannot be locked "
            f"({error.strerror}); name another in {LOCK_VARIABLE}"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            if path == own:  # while it is held: whoever then locks a file that is gone tries again
                path.unlink()
        lock.release()
