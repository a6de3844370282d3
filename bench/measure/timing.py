"""The time of one call: warm-up, and batches of calls."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ..common.garbage import gc_paused
from ..machine.devices import Call, device_of
from .clock import cpu_clock

BATCH_S = 0.001
MAX_REPEATS = 1_000_000


def warm_up(call: Call, device: str, seconds: float = 0.02) -> float:
    """Call until warm and return the seconds of the fastest call.

    The first call may load libraries and start threads for longer than all others take: it does
    not count, neither towards `seconds` nor as the fastest.
    """
    call()
    return fastest_call(call, device, seconds)


def fastest_call(call: Call, device: str, seconds: float = 0.02) -> float:
    """Call for so long, once at least, and return the seconds of the fastest call."""
    clock, fastest, spent, done = device_of(device).clock, math.inf, 0.0, 0
    while not done or (spent < seconds and done < MAX_REPEATS):
        start = clock()
        call()
        elapsed = clock() - start
        fastest, spent, done = min(fastest, elapsed), spent + elapsed, done + 1
    return fastest


def seconds_per_call(call: Call, device: str, batches: int = 15) -> float:
    """Return the seconds of one call: the fastest of some batches of many calls each."""
    repeats = repeats_of(warm_up(call, device))
    with gc_paused():
        return min(time_batch(call, repeats, device).seconds for _ in range(batches))


class TimedBatch(NamedTuple):
    """One call's seconds in a batch of calls, and the CPU seconds it took in all threads."""

    seconds: float
    cpu_seconds: float


def time_batch(call: Call, repeats: int, device: str, warmup_calls: int = 0) -> TimedBatch:
    """Time so many calls in a row, after others that are not timed."""
    clock = device_of(device).clock
    for _ in range(warmup_calls):
        call()
    cpu, start = cpu_clock(), clock()
    for _ in range(repeats):
        call()
    seconds = clock() - start
    return TimedBatch(seconds / repeats, (cpu_clock() - cpu) / repeats)


def time_parts(parts: Sequence[Call], repeats: int, device: str) -> list[list[float]]:
    """Make so many calls in a row, and return the seconds of each part of each of them."""
    clock, found = device_of(device).clock, []
    for _ in range(repeats):
        times = [clock()]
        for part in parts:
            part()
            times.append(clock())
        found.append([after - before for before, after in pairwise(times)])
    return found


def repeats_of(seconds: float, batch_s: float = BATCH_S) -> int:
    """Return how many calls, of so many seconds each, fill a batch."""
    return min(MAX_REPEATS, max(1, int(batch_s / max(seconds, 1e-9))))


def input_change_slowdown(
    call: Call, mutate: Call, control: Call, device: str, pairs: int = 15
) -> float:
    """Return how many times longer a call takes after its input changed than after it did not.

    About 1 for a call that does its work; far more for one that keeps what it found for inputs it
    has seen. The median over pairs of single calls, each order in turn. `mutate`
    changes the input in place, `control` does as much work on other memory.
    """
    clock = device_of(device).clock
    ratios = []
    with gc_paused():
        for pair in range(pairs):
            seconds = {}
            for before in (mutate, control) if pair % 2 else (control, mutate):
                call()
                before()
                start = clock()
                call()
                seconds[before] = clock() - start
            ratios.append(seconds[mutate] / max(seconds[control], 1e-9))
    return statistics.median(ratios)
