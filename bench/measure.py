"""The only file that touches clocks and allocators: time, paired ratio, peak memory."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from mlr import Kernel, Problem

Call = Callable[[], Any]

SLICE_S = 0.005  # neighbouring slices of 5 ms differ by 3-4 % on a shared machine, longer ones more
MAX_REPEATS = 1_000_000


def clock_for(device: str) -> Callable[[], float]:
    """Return a host clock in seconds that waits for the device before it is read.

    Launches inside a timed round still overlap; only its two ends wait. On the CPU there is
    nothing to wait for.
    """
    if device.startswith("cuda"):
        return cuda_clock
    return time.perf_counter


def cuda_clock() -> float:
    """Read the host clock, in seconds, once the current CUDA device is idle."""
    torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep the garbage collector out of what is timed."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def warm_up(call: Call, device: str, seconds: float = 0.02, at_least: int = 1) -> float:
    """Call until warm and return the seconds of the fastest call."""
    clock, fastest, spent, done = clock_for(device), math.inf, 0.0, 0
    while done < at_least or (spent < seconds and done < MAX_REPEATS):
        start = clock()
        call()
        elapsed = clock() - start
        fastest, spent, done = min(fastest, elapsed), spent + elapsed, done + 1
    return fastest


def seconds_per_call(call: Call, device: str, slices: int = 7) -> float:
    """Return the seconds of one call: the fastest of a few slices of many calls each."""
    repeats = _repeats(warm_up(call, device))
    with gc_paused():
        return min(_slice(call, repeats, device) for _ in range(slices))


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """Log-ratios of two calls' times, one for each quad of neighbouring slices.

    A quad holds both calls twice, as f g g f or g f f g, so that a drift over the quad cancels;
    around a very slow call it is g f g.
    """

    log_ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Time of f over time of g: the exponential of the median log-ratio."""
        return math.exp(statistics.median(self.log_ratios))


def paired_ratio(
    f: Call,
    g: Call,
    device: str,
    *,
    f_seconds: float | None = None,
    quads: int = 6,
    budget_s: float = 0.25,
    seed: int = 0,
) -> PairedRatio:
    """Time f against g in alternating short slices of one process, in random order.

    Two calls timed one after the other drift apart with the machine; neighbouring slices do not.
    The first call of every slice is made but not timed: it pays for the caches of the other.
    Calls longer than a slice make one timed call each and need no such start. Quads are taken
    until there are `quads` of them or the budget is spent, at least one; a call that spends the
    budget by itself stands once between two slices of the other.

    Args:
        f: The one call.
        g: The other.
        device: The device of both.
        f_seconds: About how long f takes, if it is warm and that is known.
        quads: How many quads to take.
        budget_s: Seconds after which no other quad is begun.
        seed: Seed of the order.
    """
    order = random.Random(seed)
    f_seconds = warm_up(f, device) if f_seconds is None else f_seconds
    repeats = {f: _repeats(f_seconds), g: _repeats(warm_up(g, device))}
    log_ratios: list[float] = []
    deadline = time.perf_counter() + budget_s
    with gc_paused():
        while len(log_ratios) < quads:
            turns = (f, g, g, f) if order.random() < 0.5 else (g, f, f, g)
            spent: dict[Call, list[float]] = {f: [], g: []}
            for call in (g, f, g) if f_seconds > budget_s else turns:
                spent[call].append(_slice(call, repeats[call], device))
            log_ratios.append(math.log(statistics.mean(spent[f]) / statistics.mean(spent[g])))
            if time.perf_counter() > deadline:
                break
    return PairedRatio(tuple(log_ratios))


def _repeats(seconds: float) -> int:
    return min(MAX_REPEATS, max(1, int(SLICE_S / max(seconds, 1e-9))))


def _slice(call: Call, repeats: int, device: str) -> float:
    clock = clock_for(device)
    if repeats > 1:
        call()
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def peak_bytes(kernel: Kernel, problem: Problem) -> int:
    """Measure the peak memory of one call, in bytes, beyond the problem's inputs.

    Outputs and parameters count, and so does what the kernel keeps from binding: a buffer made
    there is held during every call. On the CPU the figure is exact to the byte, from the
    allocator's own events; on CUDA to its blocks of 512 bytes. Allocations that do not go through
    torch are not seen.
    """
    _touch_inputs(problem)
    if problem.case.device.startswith("cuda"):
        return _cuda_peak(kernel, problem)
    return _cpu_peak(kernel, problem)


def _touch_inputs(problem: Problem) -> None:
    """Make every input before memory is counted, and drop parameters an earlier binding left."""
    problem.__dict__.pop("weight", None)
    problem.__dict__.pop("bias", None)
    names = {"gradient": ("x", "delta"), "step": ("x", "y", "start"), "fit": ("dataset", "start")}
    for name in names[problem.case.stage]:
        getattr(problem, name)


def _cpu_peak(kernel: Kernel, problem: Problem) -> int:
    bound: list[Call] = []
    kept, _ = _cpu_events(lambda: bound.append(kernel.bind(problem)))
    peaks = []
    for _ in range(2 if problem.case.stage == "step" else 1):  # a step may keep what its next needs
        held, peak = _cpu_events(bound[0])
        peaks.append(kept + peak)
        kept += held
    return max(peaks)


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


def _cuda_peak(kernel: Kernel, problem: Problem) -> int:
    torch.cuda.synchronize()
    gc.collect()
    before = torch.cuda.memory_allocated()
    call = kernel.bind(problem)
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
