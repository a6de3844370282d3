"""The host's clocks, and the time of one call: warm-up, and batches of calls.

The clocks are bound when this file is imported, before any user's kernel: a kernel that puts
another in `time` moves no number. A clock that waits for a device is the device's own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter, process_time, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

from ..common.garbage import gc_paused
from ..machine.host import Call, device_of

if TYPE_CHECKING:
    from mlr import Problem

BATCH_S = 0.001
FASTEST_S = 0.015  # of the batches whose fastest counts, if that is two or more
DEVICE_CALLS = 20  # between two events of a device, which resolve half a microsecond
DEVICE_S = 0.02  # of longer calls fewer
MAX_REPEATS = 1_000_000
wall_clock = perf_counter  # in seconds
cpu_clock = process_time  # CPU seconds of all threads of this process


class PhaseTimer(dict[str, float]):
    """Seconds that a benchmark took, by its phases; `on` adds to one of them."""

    @contextmanager
    def on(self, phase: str) -> Iterator[None]:
        """Add the time inside to a phase: warm_up, timing, checking or memory."""
        start = wall_clock()
        try:
            yield
        finally:
            name = f"{phase}_s"
            self[name] = self.get(name, 0.0) + wall_clock() - start


def background_cpu_usage(seconds: float = 0.05) -> float:
    """Sleep, and return the CPU seconds per second that other threads of this process took."""
    cpu, start = cpu_clock(), wall_clock()
    sleep(seconds)
    return (cpu_clock() - cpu) / (wall_clock() - start)


def first_call(bind: "Callable[[Problem], Call]", problem: "Problem") -> tuple[Call, float]:
    """Bind a kernel and call it once; return the call, and the seconds that both took."""
    device = device_of(problem.case.device)
    device.load_libraries(problem.case.dtype)
    start = device.clock()
    call = bind(problem)
    call()
    return call, device.clock() - start


def warm_up(call: Call, device: str, seconds: float = 0.02) -> float:
    """Call until warm and return the seconds of the fastest call.

    The first call may load libraries and start threads for longer than all others take: it does
    not count, neither towards `seconds` nor as the fastest.
    """
    call()
    return fastest_call(call, device, seconds)


def fastest_call(call: Call, device: str, seconds: float = 0.01) -> float:
    """Call for so long, once at least, and return the seconds of the fastest call."""
    clock, fastest, spent, done = device_of(device).clock, math.inf, 0.0, 0
    while not done or (spent < seconds and done < MAX_REPEATS):
        start = clock()
        call()
        elapsed = clock() - start
        fastest, spent, done = min(fastest, elapsed), spent + elapsed, done + 1
    return fastest


def seconds_per_call(call: Call, device: str) -> float:
    """Return the seconds of one call: the fastest of some batches, of few where it is long."""
    about_s = warm_up(call, device)
    batches = max(2, int(FASTEST_S / max(about_s, BATCH_S)))
    with gc_paused():
        repeats = repeats_in_a_row(call, about_s, device)
        times = [time_batch(call, repeats, device).seconds for _ in range(batches)]
    return min(about_s, *times)


class TimedBatch(NamedTuple):
    """One call's seconds in a batch of calls, and the CPU seconds it took in all threads."""

    seconds: float
    cpu_seconds: float


def time_batch(
    call: Call, repeats: int, device: str, warmup_calls: int = 0, kept: list[Any] | None = None
) -> TimedBatch:
    """Time so many calls in a row, after others that are not timed; may keep the last result."""
    clock = device_of(device).clock
    for _ in range(warmup_calls):
        call()
    cpu, start = cpu_clock(), clock()
    for _ in range(repeats - 1):
        call()
    if kept is None:
        call()
    else:
        kept.append(call())
    seconds = clock() - start
    return TimedBatch(seconds / repeats, (cpu_clock() - cpu) / repeats)


class RecordingCall:
    """A call made by the loop that times; it keeps the last result, and the fastest's seconds."""

    def __init__(self, call: Call, device: str) -> None:
        self.call, self.device, self.seconds = call, device, math.inf
        self.results: list[Any] = []  # one at most

    def __call__(self) -> Any:
        """Call it, and return what it returned."""
        self.results.clear()
        batch = time_batch(self.call, 1, self.device, kept=self.results)
        self.seconds = min(self.seconds, batch.seconds)
        return self.results[0]


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


def repeats_in_a_row(call: Call, about_s: float, device: str, batch_s: float = BATCH_S) -> int:
    """Return how many calls, of so many seconds each, fill a batch; a batch tells of short ones.

    On an accelerator one call that is waited for takes longer than calls in a row, which overlap.
    """
    repeats = repeats_of(about_s, batch_s)
    if repeats > 1 and not device_of(device).is_host:
        repeats = repeats_of(time_batch(call, repeats, device).seconds, batch_s)
    return repeats


def device_times(
    call: Call,
    device: str,
    wall_s: float,
    cold_calls: Sequence[Call] = (),
    evict: Call | None = None,
) -> dict[str, Any]:
    """Return the columns of the time that a warm call keeps the device itself busy, where it tells.

    Hot is with the inputs in the last cache as far as they fit, cold that of calls on inputs of
    their own after all were evicted. The launch gap is `wall_s`, the time of one of many calls in a
    row, beyond the hot one. It is below 0 by noise, or else the two contradict each other.
    """
    of, count = device_of(device), min(DEVICE_CALLS, repeats_of(wall_s, DEVICE_S))
    if (hot_s := of.device_time([call] * count)) is None:
        return {}
    found: dict[str, Any] = {"device_hot_s": hot_s, "launch_gap_s": wall_s - hot_s}
    if evict is None:
        return found
    found["device_cold_s"] = of.device_time(cold_calls[:count], evict)
    return found | {"persisting_lines_reset": of.reset_persisting_lines()}
