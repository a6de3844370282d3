"""The only file that touches allocators: the peak of one call, what it keeps, what torch misses."""

from __future__ import annotations

import ctypes
import gc
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from mlr import Kernel, Problem

from ..common.garbage import gc_paused
from .side_effects import leaving
from .timing import Call

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
# Python's own objects in a call of torch stay below this.
OBJECTS_BYTES = 256 * 1024
# What the kernel's counters of pages and torch's per-thread buffers can be off by.
RESIDENT_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Memory:
    """What one call holds.

    Attributes:
        peak_bytes: The most held at once beyond the inputs. Outputs and parameters count, and so
            does what the kernel keeps from binding.
        leak_bytes: What one more call leaves behind after its result is dropped.
        outside_bytes: At least so much is held at peak that did not come from torch; 0 where
            nothing was seen.
    """

    peak_bytes: int
    leak_bytes: int
    outside_bytes: int


def weigh(kernel: Kernel, problem: Problem) -> Memory:
    """Measure what one call holds, in bytes.

    On the CPU the peak is exact to the byte, from the allocator's own events; on CUDA to its blocks
    of 512 bytes. What is allocated outside torch is seen by Python's tracemalloc (NumPy and all of
    Python) and by the growth of the resident set (C, Numba), from about 4 MiB on.
    """
    touch_inputs(problem)
    if problem.case.device.startswith("cuda"):
        return _on_cuda(kernel, problem)
    return _on_cpu(kernel, problem)


def peak_bytes(kernel: Kernel, problem: Problem) -> int:
    """Measure the peak memory of one call, in bytes, beyond the problem's inputs."""
    return weigh(kernel, problem).peak_bytes


def touch_inputs(problem: Problem) -> None:
    """Make every input before memory is counted, and drop parameters an earlier binding left."""
    problem.__dict__.pop("weight", None)
    problem.__dict__.pop("bias", None)
    problem.twin()


def _on_cpu(kernel: Kernel, problem: Problem) -> Memory:
    bound: list[Call] = []
    kept, _ = _cpu_events(lambda: bound.append(leaving(kernel.bind(problem))))
    peaks, leak = [], 0
    # A step may keep what its next needs; what it keeps after that is a leak.
    for _ in range(2 if problem.case.stage == "step" else 1):
        leak, peak = _cpu_events(bound[0])
        peaks.append(kept + peak)
        kept += leak
    peak = max(peaks)
    return Memory(peak, max(leak, 0), _outside_torch(bound[0], peak))


def _cpu_events(call: Call) -> tuple[int, int]:
    """Return the bytes still held after a call and the most held at once during it."""
    with gc_paused(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    results = trace.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return held, most


def _outside_torch(call: Call, torch_peak: int) -> int:
    """Return the bytes that a call is seen to hold beyond torch's own, or 0."""
    tracemalloc.start()
    try:
        call()
        traced = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    resident = _resident_growth(call) - torch_peak
    found = [traced if traced > OBJECTS_BYTES else 0]
    found.append(resident if resident > RESIDENT_BYTES + torch_peak // 10 else 0)
    return max(found)


def _resident_growth(call: Call) -> int:
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


def _on_cuda(kernel: Kernel, problem: Problem) -> Memory:
    torch.cuda.synchronize()
    gc.collect()
    before = torch.cuda.memory_allocated()
    call = leaving(kernel.bind(problem))
    call()
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    return Memory(peak, max(torch.cuda.memory_allocated() - held, 0), 0)


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error is an allocator's: Python's, CUDA's, or that of torch on the CPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
