"""How many threads a process may have here, by its CPU affinity and its cgroups' quota."""

import os
from contextlib import suppress
from pathlib import Path

import psutil

CGROUPS, GROUP_OF_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def usable() -> tuple[int, int]:
    """Return how many physical cores and logical processors this process may keep busy at once."""
    has_affinity = hasattr(os, "sched_getaffinity")  # macOS has none
    processors = os.sched_getaffinity(0) if has_affinity else range(psutil.cpu_count() or 1)
    try:
        cores = len({Path(SIBLINGS.format(one)).read_text() for one in processors})
    except OSError:  # not on Linux, or without /sys
        cores = min(len(processors), psutil.cpu_count(logical=False) or len(processors))
    quota = max(1.0, _quota())
    return int(min(cores, quota)), int(min(len(processors), quota))


def _quota() -> float:
    """Return the processors' worth of time that the groups of this process, and those above, allow.

    A group's limit and its period are in `cpu.max` (cgroup v2), or each in a file of its own (v1).
    """
    least = float("inf")
    with suppress(OSError):  # not on Linux
        for line in GROUP_OF_PROCESS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            group = CGROUPS.joinpath("cpu" if controllers else "", path.lstrip("/"))
            while "cpu" in (controllers or "cpu").split(",") and group.is_relative_to(CGROUPS):
                least, group = min(least, _limit(group)), group.parent
    return least


def _limit(group: Path) -> float:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # ValueError: a quota of "max" is no number
            quota, period = map(float, " ".join((group / n).read_text() for n in names).split())
            return quota / period if quota > 0 else float("inf")
    return float("inf")
