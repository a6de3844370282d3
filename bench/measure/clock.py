"""The host's clocks, and what is read off them without calling a kernel.

They are bound when this file is imported, before any user's kernel: a kernel that puts another in
`time` moves no number. A clock that waits for a device is the device's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, process_time, sleep

wall_clock = perf_counter  # in seconds
cpu_clock = process_time  # CPU seconds of all threads of this process


@dataclass
class PhaseTimer:
    """Seconds that a benchmark took, by its phases; `on` adds to one of them."""

    warm_up_s: float = 0.0
    timing_s: float = 0.0
    checking_s: float = 0.0
    memory_s: float = 0.0

    @contextmanager
    def on(self, phase: str) -> Iterator[None]:
        """Add the time inside to a phase: warm_up, timing, checking or memory."""
        start = wall_clock()
        try:
            yield
        finally:
            name = f"{phase}_s"
            setattr(self, name, getattr(self, name) + wall_clock() - start)


def background_cpu_usage(seconds: float = 0.05) -> float:
    """Sleep, and return the CPU seconds per second that other threads of this process took."""
    cpu, start = cpu_clock(), wall_clock()
    sleep(seconds)
    return (cpu_clock() - cpu) / (wall_clock() - start)
