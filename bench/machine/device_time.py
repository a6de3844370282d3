"""The time that calls keep an accelerator busy, by its own events and without any of the host's.

An event tells when a device came past it. Where the device waits for the host to launch the next
piece of work, the time between two events is the host's. So a kernel that spins blocks the stream
until all calls are launched, as NVIDIA's NVBench does, and the first event is asked afterwards
whether the device had passed it already.
"""

import statistics
from collections.abc import Callable, Sequence
from time import perf_counter  # bound before any user's kernel could put another in its place
from typing import Any, NamedTuple

import torch

from ..common.garbage import gc_paused

Call = Callable[[], Any]
ROUNDS = 5
BUDGET_S = 0.25  # of the calls of all rounds; one round is made in any case
# How many of the calls are made, and for how many times the host's launching of them the stream is
# blocked. A stream takes about a thousand launches: of a call with many, few calls fit.
ATTEMPTS: tuple[tuple[int | None, int], ...] = ((None, 3), (None, 12), (1, 12))
HEAD_START_S = 1e-4  # beyond that: for the events, and a host that is slow once
LONGEST_BLOCK_S = 0.1  # a call with more launches than that takes fills the stream
PROBE_CYCLES = 1_000_000  # 0.6 ms of an H100
# Two events with nothing between them are a microsecond or two apart: of a call that ran elsewhere,
# as on a stream of its own, they tell nothing.
LEAST_S = 5e-6


class _Launched(NamedTuple):
    """Seconds of some calls on a stream that is not blocked."""

    host_s: float  # until the last was launched
    done_s: float  # until all were done


def device_seconds(
    calls: Sequence[Call], module: Any, prepare: Call = lambda: None
) -> float | None:
    """Return the seconds that one of some warm calls, made in a row, keeps a device busy.

    Args:
        calls: What is made between two events, about 20 times so that their resolution, of half a
            microsecond, does not count. One of many launches may be made once instead.
        module: That of the device's type, as `torch.get_device_module` returns it.
        prepare: Called before the stream is blocked.

    Returns:
        None where the device does not tell: its module has no kernel that spins, a call waits for
        the device, as one that reads a result does, or the call's work is on another stream.

    Source: NVBench, `blocking_kernel`.
    """
    if not hasattr(module, "_sleep"):
        return None
    for most, longer in ATTEMPTS:
        some = calls[:most]
        with gc_paused():
            launched = _launch(some)
            block_s = longer * launched.host_s + HEAD_START_S
            if block_s > LONGEST_BLOCK_S:
                continue
            cycles = int(block_s * _cycles_per_s(module))
            found: list[float] = []
            rounds = min(ROUNDS, max(1, int(BUDGET_S / max(launched.done_s, 1e-9))))
            while len(found) < rounds:
                if (seconds := _between_events(some, module, prepare, cycles)) is None:
                    break
                found.append(seconds)
        if found:
            seconds = statistics.median(found)
            return seconds / len(some) if seconds >= LEAST_S else None
    return None


def _launch(calls: Sequence[Call]) -> _Launched:
    torch.accelerator.synchronize()
    start = perf_counter()
    for call in calls:
        call()
    launched = perf_counter()
    torch.accelerator.synchronize()
    return _Launched(launched - start, perf_counter() - start)


def _cycles_per_s(module: Any) -> float:
    """Return how many cycles of the spinning kernel make a second, at the clock of now."""
    for _ in range(2):  # the first may load the kernel
        start, end = module.Event(enable_timing=True), module.Event(enable_timing=True)
        start.record()
        module._sleep(PROBE_CYCLES)
        end.record()
        torch.accelerator.synchronize()
    return PROBE_CYCLES / max(float(start.elapsed_time(end)) / 1_000, 1e-6)


def _between_events(calls: Sequence[Call], module: Any, prepare: Call, cycles: int) -> float | None:
    """Return the seconds of all calls, or None if the device began before the last was launched."""
    start, end = module.Event(enable_timing=True), module.Event(enable_timing=True)
    torch.accelerator.synchronize()
    prepare()
    module._sleep(cycles)
    start.record()
    for call in calls:
        call()
    end.record()
    had_begun = start.query()
    torch.accelerator.synchronize()
    return None if had_begun else float(start.elapsed_time(end)) / 1_000
