"""Whether a call does its work each time that it is timed, or only where it may be watched.

Calls are made by the loop that times, right after the timing, on inputs of which a few numbers
have changed. Their results tell of a kernel that does not look at the numbers that changed; how
long they take tells of one that looks at all.
"""

import math
from collections.abc import Mapping
from typing import Any

from mlr import OPERATIONS, Problem
from mlr.alteration import check_on_changed_inputs, time_after_swaps

from ..common.garbage import gc_paused
from ..machine.devices import Call, device_of
from .side_effects import WrongResultError, require_right
from .timing import RecordingCall, fastest_call, repeats_of, time_batch

MAX_SLOWDOWN = 3.0  # a changed input costs an honest call little more than the processor's caches
SHORT_CALL_S = 0.01  # a call below it is made several times on changed inputs, a longer one once
LONG_CALL_S = 0.5  # a call so long is made once and no more to be checked after its timing
PLACES = 3  # of a number that changes: at one of them is perhaps a number that a kernel looks at
BLOCK_BATCHES = 4  # calls of so many batches precede a change, as in a block of the timing
MOST_SWAPS = 15
MAX_TRIES = 3  # to tell work that was left out from a machine that was busy meanwhile
ALONE_S = 2e-5  # how much longer a call may take that follows on other work, or is waited for
AS_TIMED_S = 0.3  # of calls before another try, as many as the timing made


def require_work(problem: Problem, call: Call, timed_s: float) -> None:
    """Raise `WrongResultError` if a call is far faster, or wrong, on inputs that it has seen.

    To be asked right after the timing, of which `timed_s` is the time of a call. A short call may
    take long by itself: that alone asks for another try, after as many calls as the timing made.
    """
    device = problem.case.device
    iterative = OPERATIONS[problem.case.operation].iterative
    swaps = 0 if iterative else min(int(SHORT_CALL_S / timed_s), MOST_SWAPS)
    for again in range(MAX_TRIES):
        seen_s = fastest_call(call, device, AS_TIMED_S) if again else timed_s
        changed_s = require_right_result(problem, call, timed_s)
        if swaps > 1:
            _call_as_timed(call, timed_s)
            with gc_paused():
                before_s, changed_s = time_after_swaps(
                    problem, lambda: time_batch(call, 1, device).seconds, swaps
                )
            seen_s = before_s if again else min(before_s, timed_s + ALONE_S)
        if changed_s <= MAX_SLOWDOWN * seen_s:
            return
    factor = changed_s / max(seen_s, 1e-9)
    raise WrongResultError(f"keeps results: {factor:.1f} times slower on inputs that changed")


def require_right_result(problem: Problem, call: Call, timed_s: float) -> float:
    """Raise `WrongResultError` if a call is wrong on inputs that changed; return its seconds.

    To be asked right after a loop of calls. One that has left out its work there leaves it out once
    more, for a number at a random place is hardly one that it looks at. No time decides.
    """
    timed = RecordingCall(call, problem.case.device)
    for place in range(PLACES if timed_s < SHORT_CALL_S else 1):
        if place:
            _call_as_timed(call, timed_s)
        with gc_paused():
            found = check_on_changed_inputs(problem, timed, resample=timed_s >= LONG_CALL_S)
        require_right(found, "on inputs that changed after timing: ")
    return timed.seconds


def _call_as_timed(call: Call, timed_s: float) -> None:
    """Make as many calls as a block of the timing does: a kernel may count those on one input."""
    for _ in range(BLOCK_BATCHES * repeats_of(timed_s)):
        call()


def require_one_time(call: Call, device: str, taken: Mapping[str, Any], alone_s: float) -> None:
    """Raise `WrongResultError` if a call is far faster in a loop that times than it is alone.

    Alone it is waited for, which costs a call on an accelerator up to `ALONE_S`.
    """
    names = ("median_s", "paired_s", "cold_s")
    fastest_s = min((taken[name] for name in names if name in taken), default=math.inf)
    limit_s = MAX_SLOWDOWN * fastest_s + (0.0 if device_of(device).is_host else ALONE_S)
    if alone_s > limit_s and (alone_s := fastest_call(call, device)) > limit_s:
        factor = alone_s / fastest_s
        raise WrongResultError(f"is {factor:.1f} times faster while it is timed than by itself")
