"""The only file that touches clocks: time, paired ratio, what a device does meanwhile.

The clocks are bound when this file is imported, before any user's kernel: a kernel that puts
another in `time` moves no number.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter, process_time, sleep
from typing import Any, NamedTuple, Protocol

import torch

from ..common.garbage import gc_paused

Call = Callable[[], Any]

# The shorter the slices, the less the machine changes between neighbours: in the same time, 15
# quads of 1 ms slices vary half as much from process to process as 6 quads of 5 ms.
SLICE_S = 0.001
QUADS = 15
BUDGET_S = 0.25
LONGEST_LEAD_S = 0.01  # a call up to this long is made once more, before each slice of it
MAX_REPEATS = 1_000_000
COLD_REPEATS = 20  # calls of each device time, hot and cold


def clock_for(device: str) -> Callable[[], float]:
    """Return a host clock in seconds that waits for the device before it is read.

    Launches inside a timed round still overlap; only its two ends wait. On the CPU there is
    nothing to wait for.
    """
    if device.startswith("cuda"):
        return cuda_clock
    return perf_counter


def wall_clock() -> float:
    """Read the host clock, in seconds."""
    return perf_counter()


def cuda_clock() -> float:
    """Read the host clock, in seconds, once the current CUDA device is idle."""
    torch.cuda.synchronize()
    return perf_counter()


@dataclass
class Spent:
    """Seconds that a case took, by what they were spent on; `on` adds to one of them."""

    warm_up_s: float = 0.0
    timing_s: float = 0.0
    checking_s: float = 0.0
    memory_s: float = 0.0

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Add the time inside to `what`: warm_up, timing, checking or memory."""
        start = perf_counter()
        try:
            yield
        finally:
            name = f"{what}_s"
            setattr(self, name, getattr(self, name) + perf_counter() - start)


def warm_up(call: Call, device: str, seconds: float = 0.02) -> float:
    """Call until warm and return the seconds of the fastest call.

    The first call may load libraries and start threads for longer than all others take: it does
    not count, neither towards `seconds` nor as the fastest.
    """
    call()
    return fastest_call(call, device, seconds)


def fastest_call(call: Call, device: str, seconds: float = 0.02) -> float:
    """Call for so long, once at least, and return the seconds of the fastest call."""
    clock, fastest, spent, done = clock_for(device), math.inf, 0.0, 0
    while not done or (spent < seconds and done < MAX_REPEATS):
        start = clock()
        call()
        elapsed = clock() - start
        fastest, spent, done = min(fastest, elapsed), spent + elapsed, done + 1
    return fastest


def seconds_per_call(call: Call, device: str, slices: int = 15) -> float:
    """Return the seconds of one call: the fastest of some slices of many calls each."""
    repeats = repeats_of(warm_up(call, device))
    with gc_paused():
        return min(time_slice(call, repeats, device).seconds for _ in range(slices))


class Slice(NamedTuple):
    """One call's seconds in a slice of calls, and the CPU seconds it took in all threads."""

    seconds: float
    cpu_seconds: float


def time_slice(call: Call, repeats: int, device: str, lead: int = 0) -> Slice:
    """Time so many calls in a row, after `lead` calls that are not timed."""
    clock = clock_for(device)
    for _ in range(lead):
        call()
    cpu, start = process_time(), clock()
    for _ in range(repeats):
        call()
    seconds = clock() - start
    return Slice(seconds / repeats, (process_time() - cpu) / repeats)


def time_parts(parts: Sequence[Call], repeats: int, device: str) -> list[list[float]]:
    """Make so many calls in a row, and return the seconds of each part of each of them."""
    clock, found = clock_for(device), []
    for _ in range(repeats):
        times = [clock()]
        for part in parts:
            part()
            times.append(clock())
        found.append([after - before for before, after in pairwise(times)])
    return found


@dataclass(frozen=True, slots=True)
class PairedRatio:
    """Log-ratios of two calls' times, one for each quad of neighbouring slices.

    A quad holds both calls twice, as f g g f or g f f g, so that a drift over the quad cancels;
    around a very slow call it is g f g. The quads of one process are not independent of each other:
    they make one value, `log_ratio`, and what that is worth is seen over processes.

    Attributes:
        log_ratios: ln(time of f ÷ time of g), one a quad, in the order taken.
        f_seconds: Seconds of one call of f in each slice of it.
        g_seconds: The same of g.
        f_busy: CPU seconds of all threads per second of f's slices.
    """

    log_ratios: tuple[float, ...]
    f_seconds: tuple[float, ...] = field(default=())
    g_seconds: tuple[float, ...] = field(default=())
    f_busy: float = math.nan

    @property
    def log_ratio(self) -> float:
        """The median over the quads."""
        return statistics.median(self.log_ratios)

    @property
    def f_median_s(self) -> float:
        """Seconds of one call of f: the median over its slices."""
        return statistics.median(self.f_seconds)

    @property
    def g_median_s(self) -> float:
        """Seconds of one call of g: the median over its slices."""
        return statistics.median(self.g_seconds)

    @property
    def ratio(self) -> float:
        """Time of f over time of g: the exponential of the median log-ratio."""
        return math.exp(self.log_ratio)


class Sliced(Protocol):
    """A call made ready for slices, here or in another process.

    Attributes:
        about_s: About how long it takes.
        calls: How many calls a slice makes, its lead included.
    """

    about_s: float
    calls: int

    def slice(self) -> Slice:
        """Time one slice."""
        ...


class Ready:
    """A call of this process made ready for slices; see `Sliced`.

    As many calls as a slice times are made before it and not timed: they pay for the caches that
    the other call has filled, which costs a call of 50 µs half its time at first, and a tenth for
    ten calls more. Long calls need no such lead.
    """

    def __init__(self, call: Call, device: str, about_s: float | None = None) -> None:
        self.call, self.device = call, device
        self.about_s = warm_up(call, device) if about_s is None else about_s
        self.repeats = repeats_of(self.about_s)
        self.lead = self.repeats if self.about_s < LONGEST_LEAD_S else 0
        self.calls = self.repeats + self.lead

    def slice(self) -> Slice:
        """Time one slice."""
        return time_slice(self.call, self.repeats, self.device, self.lead)


def paired_ratio(
    f: Call,
    g: Call,
    device: str,
    *,
    f_seconds: float | None = None,
    quads: int = QUADS,
    budget_s: float = BUDGET_S,
    seed: int = 0,
    refresh: Callable[[int], None] | None = None,
) -> PairedRatio:
    """Time f against g in alternating short slices of one process, in random order.

    Two calls timed one after the other drift apart with the machine; neighbouring slices do not.

    Args:
        f: The one call.
        g: The other.
        device: The device of both.
        f_seconds: About how long f takes, if it is warm and that is known.
        quads: As of `in_turns`, and so on.
        budget_s: As of `in_turns`.
        seed: As of `in_turns`.
        refresh: As of `in_turns`.
    """
    ready = Ready(f, device, f_seconds), Ready(g, device)
    return in_turns(*ready, quads=quads, budget_s=budget_s, seed=seed, refresh=refresh)


def in_turns(
    f: Sliced,
    g: Sliced,
    *,
    quads: int = QUADS,
    budget_s: float = BUDGET_S,
    seed: int = 0,
    refresh: Callable[[int], None] | None = None,
) -> PairedRatio:
    """Take slices of f and g in turns, in random order.

    Quads are taken until there are `quads` of them or the budget is spent, at least one; a call
    that spends the budget by itself stands once between two slices of the other.

    Args:
        f: The one call.
        g: The other.
        quads: How many quads to take.
        budget_s: Seconds of slices and their leads after which no other quad is begun.
        seed: Seed of the order.
        refresh: Called before each quad with its number, to give both calls other inputs.
    """
    order = random.Random(seed)
    log_ratios: list[float] = []
    of_f: list[Slice] = []
    of_g: list[Slice] = []
    spent = 0.0
    with gc_paused():
        while len(log_ratios) < quads and (spent < budget_s or not log_ratios):
            if refresh is not None:
                refresh(len(log_ratios))
            turns = (f, g, g, f) if order.random() < 0.5 else (g, f, f, g)
            mine: list[Slice] = []
            others: list[Slice] = []
            for one in (g, f, g) if f.about_s > budget_s else turns:
                (mine if one is f else others).append(one.slice())
                spent += (mine if one is f else others)[-1].seconds * one.calls
            log_ratios.append(math.log(_mean_s(mine) / _mean_s(others)))
            of_f += mine
            of_g += others
    busy = sum(one.cpu_seconds for one in of_f) / max(sum(one.seconds for one in of_f), 1e-12)
    return PairedRatio(tuple(log_ratios), _seconds(of_f), _seconds(of_g), busy)


def _mean_s(slices: list[Slice]) -> float:
    return statistics.mean(one.seconds for one in slices)


def _seconds(slices: list[Slice]) -> tuple[float, ...]:
    return tuple(one.seconds for one in slices)


def repeats_of(seconds: float, slice_s: float = SLICE_S) -> int:
    """Return how many calls, of so many seconds each, fill a slice."""
    return min(MAX_REPEATS, max(1, int(slice_s / max(seconds, 1e-9))))


def cost_of_change(call: Call, touch: Call, feign: Call, device: str, times: int = 15) -> float:
    """Return how many times longer a call takes after its input changed than after it did not.

    About 1 for a call that does its work; far more for one that keeps what it found for inputs it
    has seen. The median over pairs of single calls, taken in turns.

    Args:
        call: The call.
        touch: Changes the call's input a little, in place.
        feign: As much work on other memory; the input stays as it was.
        device: The device of the call.
        times: How many pairs.
    """
    clock = clock_for(device)
    ratios = []
    with gc_paused():
        for turn in range(times):
            taken = {}
            for before in (touch, feign) if turn % 2 else (feign, touch):
                call()
                before()
                start = clock()
                call()
                taken[before] = clock() - start
            ratios.append(taken[touch] / max(taken[feign], 1e-9))
    return statistics.median(ratios)


def busy_while_idle(seconds: float = 0.05) -> float:
    """Sleep, and return the CPU seconds per second that other threads of this process took."""
    cpu, start = process_time(), perf_counter()
    sleep(seconds)
    return (process_time() - cpu) / (perf_counter() - start)


class DeviceTime(NamedTuple):
    """Seconds of one call on a CUDA device, by its own events, and the launch gap.

    Attributes:
        device_hot_s: With the inputs in the L2 cache, if they fit.
        device_cold_s: With the L2 cache overwritten before each call.
        launch_gap_s: Wall time of one call beyond its device time.
    """

    device_hot_s: float
    device_cold_s: float
    launch_gap_s: float


def device_time(call: Call, device: str, wall_s: float) -> DeviceTime | None:
    """Return the device time of a call, hot and cold, or None on the CPU.

    The cache is overwritten by writing twice its size, before the event that starts the clock.

    Args:
        call: A warm call.
        device: The device.
        wall_s: Seconds of one call by the host's clock.
    """
    if not device.startswith("cuda"):
        return None
    size = int(torch.cuda.get_device_properties(device).L2_cache_size)
    flush = torch.empty(2 * size, dtype=torch.uint8, device=device)
    hot = _event_seconds(call, lambda: None)
    cold = _event_seconds(call, flush.zero_)
    return DeviceTime(hot, cold, max(0.0, wall_s - hot))


def _event_seconds(call: Call, before: Call) -> float:
    pairs = []
    torch.cuda.synchronize()
    for _ in range(COLD_REPEATS):
        before()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return float(statistics.median(start.elapsed_time(end) / 1_000 for start, end in pairs))
