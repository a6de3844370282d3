"""Whether a call does its work each time that it is timed, or only where it may be watched.

What is looked at are calls of the very loop that times, right after the timing, on inputs that
change in nothing but a number of theirs: how long they take, and what they return.
"""

import math
from collections.abc import Mapping
from typing import Any

from mlr import Problem
from mlr.alteration import time_on_changed_inputs

from ..common.garbage import gc_paused
from ..machine.devices import Call
from .side_effects import WrongResultError
from .timing import fastest_call, time_batch

MAX_SLOWDOWN = 3.0  # a changed input costs an honest call little more than the processor's caches
CHANGED_S = 0.01  # of calls on changed inputs; of a longer call one
LONG_CALL_S = 0.5  # a call so long is made once and no more to be checked after its timing
MAX_TRIES = 3  # to tell work that was left out from a machine that was busy meanwhile
ALONE_S = 2e-5  # how much longer a call may take that follows on other work
AS_TIMED_S = 0.3  # of calls before another try, as many as the timing made


def require_work(problem: Problem, call: Call, timed_s: float) -> None:
    """Raise `WrongResultError` if a call is far faster, or wrong, on inputs that it has seen.

    To be asked right after the timing, of which `timed_s` is the time of a call. A short call may
    take long by itself: that alone asks for another try, after as many calls as the timing made.
    """
    device = problem.case.device

    def time_call(kept: list[Any] | None = None) -> float:
        return time_batch(call, 1, device, kept=kept).seconds

    for again in range(MAX_TRIES):
        if again or timed_s < CHANGED_S:  # a kernel may count the calls on the same inputs
            spent_s = AS_TIMED_S if again else CHANGED_S
            timed_s = min(timed_s, fastest_call(call, device, spent_s))
        with gc_paused():
            redrawn, count = again > 0 or timed_s >= LONG_CALL_S, int(CHANGED_S / timed_s)
            found = time_on_changed_inputs(problem, time_call, timed_s, count, redrawn)
        if found.check.reason is not None:
            raise WrongResultError(f"on inputs that changed after timing: {found.check.reason}")
        seen_s = found.seen_s if again else min(found.seen_s, timed_s + ALONE_S)
        if found.changed_s <= MAX_SLOWDOWN * seen_s:
            return
    factor = found.changed_s / max(seen_s, 1e-9)
    raise WrongResultError(f"keeps results: {factor:.1f} times slower on inputs that changed")


def require_one_time(call: Call, device: str, taken: Mapping[str, Any], alone_s: float) -> None:
    """Raise `WrongResultError` if a call is far faster in a loop that times than it is alone."""
    names = ("median_s", "paired_s", "cold_s")
    fastest_s = min((taken[name] for name in names if name in taken), default=math.inf)
    limit_s = MAX_SLOWDOWN * fastest_s
    if alone_s > limit_s and (alone_s := fastest_call(call, device)) > limit_s:
        factor = alone_s / fastest_s
        raise WrongResultError(f"is {factor:.1f} times faster while it is timed than by itself")
