"""What a call on the CPU allocates: by torch's own events, to the byte, and beside torch."""

from __future__ import annotations

import ctypes
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch.profiler import ProfilerActivity, profile

from ..common.garbage import gc_paused

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
# Python's own objects in a call of torch stay below this.
OBJECTS_BYTES = 256 * 1024
# What the kernel's counters of pages and torch's per-thread buffers can be off by.
RESIDENT_BYTES = 4 * 2**20


class Allocations(NamedTuple):
    """Bytes that are still held after a call, and the most that were held at once during it."""

    held_bytes: int
    peak_bytes: int


def allocations(call: Callable[[], Any]) -> Allocations:
    """Call once and return what torch's allocator gave meanwhile, exact to the byte."""
    with gc_paused(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    results = trace.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return Allocations(held, most)


def untracked_bytes(call: Callable[[], Any], tracked: int) -> int:
    """Return the bytes that a call is seen to hold beyond torch's own, or 0.

    Python's tracemalloc sees NumPy and all of Python, the growth of the resident set C and Numba,
    from about 4 MiB on.
    """
    tracemalloc.start()
    try:
        call()
        traced = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    resident = _resident_growth(call) - tracked
    found = [traced if traced > OBJECTS_BYTES else 0]
    found.append(resident if resident > RESIDENT_BYTES + tracked // 10 else 0)
    return max(found)


def _resident_growth(call: Callable[[], Any]) -> int:
    """Return by how much the resident set grows at most during a call; 0 where unknown."""
    if not CLEAR_REFS.exists():
        return 0
    ctypes.CDLL(None).malloc_trim(0)  # or the call would be served from what was freed before
    with gc_paused():
        CLEAR_REFS.write_text("5")  # the high-water mark starts again from what is resident now
        before = _status_bytes("VmRSS")
        call()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    line = next(one for one in STATUS.read_text().splitlines() if one.startswith(name))
    return int(line.split()[1]) * 1024
