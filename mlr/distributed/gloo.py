"""Gloo's network threads, which must not take the cores from those that compute."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")
_NETWORK = "gloo_tcp_loop"  # what gloo calls its threads that read from sockets


def let_others_run_first() -> None:
    """Have gloo's network threads run only where no other thread wants the core.

    While a message waits for a worker that still computes, gloo's thread polls for it without a
    pause, on a core that computing threads then wait for, on Linux for a tick of its clock (4 ms at
    250 Hz). Policy `SCHED_IDLE` lets every other thread take the core from it at once. It needs no
    privilege. On other systems than Linux, and where a sandbox forbids it, nothing changes.

    To be called once the process group is formed. Source: sched(7), "SCHED_IDLE: Scheduling very
    low priority jobs".
    """
    for thread in network_threads():
        with suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


def network_threads() -> list[int]:
    """Return the thread ids of gloo's network threads in this process; none where unknown."""
    found = []
    for task in _TASKS.glob("*"):
        with suppress(OSError):  # it has ended meanwhile
            if (task / "comm").read_text().strip() == _NETWORK:
                found.append(int(task.name))
    return found
