"""The paired ratio: two calls timed in alternating short batches of one process, in random order.

The shorter the batches, the less the machine changes between neighbours: in the same time, 15
blocks of 1 ms batches vary half as much from process to process as 6 blocks of 5 ms.
"""

import math
import random
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..common.garbage import gc_paused
from ..machine.host import Call
from .timing import TimedBatch, repeats_in_a_row, time_batch, warm_up

BLOCKS_PER_SAMPLE = 15
BUDGET_S = 0.25
LONGEST_WARMED_S = 0.01  # a call up to this long is made once more, before each batch of it


class PairedRatio(NamedTuple):
    """Log-ratios of two calls' times, one for each ABBA block of neighbouring batches.

    A block holds both calls twice, as f g g f or g f f g, so that a drift over the block cancels;
    around a very slow call it is g f g. The blocks of one process are not independent of each
    other: they make one value, `log_ratio`, and what that is worth is seen over processes.
    """

    log_ratios: list[float]  # ln(time of f ÷ time of g), one a block, in the order measured
    log_ratio: float  # their median
    f_median_s: float  # of one call, over the batches
    g_median_s: float
    cpu_utilisation: float  # CPU seconds of all threads per second of f's batches


class TimedTarget(Protocol):
    """A call made ready for batches, here or in another process."""

    about_s: float
    calls: int  # of a batch, those that are not timed included

    def time_batch(self) -> TimedBatch:
        """Time one batch."""


class LocalTarget:
    """A call of this process made ready for batches; see `TimedTarget`.

    As many calls as a batch times are made before it and not timed: they pay for the caches that
    the other call has filled, which costs a call of 50 µs half its time at first, and a tenth for
    ten calls more. Long calls need none.
    """

    def __init__(self, call: Call, device: str, about_s: float | None = None) -> None:
        self.call, self.device = call, device
        self.about_s = warm_up(call, device) if about_s is None else about_s
        self.repeats = repeats_in_a_row(call, self.about_s, device)
        self.warmup_calls = self.repeats if self.about_s < LONGEST_WARMED_S else 0
        self.calls = self.repeats + self.warmup_calls

    def time_batch(self) -> TimedBatch:
        """Time one batch."""
        return time_batch(self.call, self.repeats, self.device, self.warmup_calls)


def paired_ratio(
    f: Call, g: Call, device: str, *, f_seconds: float | None = None, **options: Any
) -> PairedRatio:
    """Time f against g in alternating short batches of one process, in random order.

    Two calls timed one after the other drift apart with the machine; neighbouring batches do not.
    """
    return interleave(LocalTarget(f, device, f_seconds), LocalTarget(g, device), **options)


def interleave(
    f: TimedTarget,
    g: TimedTarget,
    *,
    blocks: int = BLOCKS_PER_SAMPLE,
    budget_s: float = BUDGET_S,
    seed: int = 0,
    refresh: Callable[[int], None] | None = None,
) -> PairedRatio:
    """Time batches of f and g in ABBA blocks, each in random order.

    Blocks are measured until there are `blocks` of them or the budget is spent, at least one; a
    call that spends the budget by itself is timed once between two batches of the other. `refresh`
    is called before each block with its number, to give both calls other inputs.
    """
    order = random.Random(seed)
    log_ratios: list[float] = []
    of_f: list[float] = []
    of_g: list[float] = []
    spent = cpu_s = 0.0
    with gc_paused():
        while len(log_ratios) < blocks and (spent < budget_s or not log_ratios):
            if refresh is not None:
                refresh(len(log_ratios))
            abba = (f, g, g, f) if order.random() < 0.5 else (g, f, f, g)
            first_f, first_g = len(of_f), len(of_g)
            for target in (g, f, g) if f.about_s > budget_s else abba:
                seconds, cpu_seconds = target.time_batch()
                (of_f if target is f else of_g).append(seconds)
                spent += seconds * target.calls
                cpu_s += cpu_seconds if target is f else 0.0
            ratio = statistics.mean(of_f[first_f:]) / statistics.mean(of_g[first_g:])
            log_ratios.append(math.log(ratio))
    log_ratio, f_s, g_s = (statistics.median(values) for values in (log_ratios, of_f, of_g))
    return PairedRatio(log_ratios, log_ratio, f_s, g_s, cpu_s / max(sum(of_f), 1e-12))
