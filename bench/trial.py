"""One kernel on one case, in order: plan, check, time, ratio, memory, check again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from bench.grid import Planned
from bench.machine import Ceilings, absent, free_bytes
from bench.measure import paired_ratio, peak_bytes, warm_up
from bench.units import format_bytes, format_time
from mlr import Check, Kernel, Problem, check, get_kernel

MEMORY_SHARE = 0.85  # of what is free; the rest is for the interpreter and the page cache
OTHER_SEED = 7_919  # the inputs of the second check

Call = Callable[[], Any]
Timer = Callable[[Call, float], float | None]


@dataclass(slots=True)
class Outcome:
    """What became of one planned case; the columns of a benchmark's `extra_info`."""

    stage: str
    kernel: str
    baseline: str
    device: str
    dtype: str
    batch: int
    in_features: int
    out_features: int
    status: str
    reason: str | None
    predicted_peak_bytes: int
    flops: int
    bytes_moved: int
    max_rel_error: float | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    passes: int = 1
    peak_bytes: int | None = None
    floor_s: float | None = None
    efficiency: float | None = None

    def columns(self) -> dict[str, Any]:
        """Return the columns as plain JSON."""
        return asdict(self)


class UnmeasuredError(Exception):
    """A case that ends without a time: its status, and the reason in one line."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def foretell(planned: Planned, ceilings: Ceilings | None, longest_s: float) -> Outcome:
    """Plan a case: what it should cost, and whether it can be attempted at all.

    The status is `unsupported` or `infeasible`, each with its reason, or `ok` for a case to run.

    Args:
        planned: Kernel and case.
        ceilings: The device's; None where there is no such device.
        longest_s: Seconds that one call may take at the very least.
    """
    kernel, case = planned
    m, n, o = case.sizes
    outcome = Outcome(
        stage=case.stage,
        kernel=kernel.name,
        baseline=kernel.baseline,
        device=case.device,
        dtype=case.dtype,
        batch=m,
        in_features=n,
        out_features=o,
        status="ok",
        reason=None,
        predicted_peak_bytes=kernel.predicted_peak_bytes(case),
        flops=kernel.flops(m, n, o, case.itemsize),
        bytes_moved=kernel.bytes_moved(m, n, o, case.itemsize),
    )
    if (reason := kernel.unsupported(case) or absent(case.device)) is not None:
        outcome.status, outcome.reason = "unsupported", reason
    elif (reason := _too_much(planned, outcome, ceilings, longest_s)) is not None:
        outcome.status, outcome.reason = "infeasible", reason
    return outcome


def _too_much(
    planned: Planned, outcome: Outcome, ceilings: Ceilings | None, longest_s: float
) -> str | None:
    case = planned.case
    # the kernel's problem and the baseline's, and float64 copies for the oracle
    inputs = 2 * case.input_bytes + 3 * case.input_bytes * 8 // case.itemsize
    needed, free = outcome.predicted_peak_bytes + inputs, free_bytes(case.device)
    if needed > MEMORY_SHARE * free:
        return (
            f"needs {format_bytes(needed)}, {format_bytes(outcome.predicted_peak_bytes)} of it in "
            f"the call; {format_bytes(MEMORY_SHARE * free)} may be used"
        )
    least = ceilings.floor_s(case, outcome.flops, outcome.bytes_moved) if ceilings else 0.0
    if least > longest_s:
        return f"one call takes at least {format_time(least)}; the grid allows {longest_s:g} s"
    return None


def run_trial(planned: Planned, outcome: Outcome, ceilings: Ceilings, timer: Timer) -> None:
    """Check, time and weigh one case and fill its outcome.

    Args:
        planned: Kernel and case.
        outcome: As foretold; status, reason and measured columns are filled in.
        ceilings: What the case's device can do at best.
        timer: Times a callable that takes about so many seconds, by pytest-benchmark's fixture,
            and returns the median; None where timing is switched off.

    Raises:
        UnmeasuredError: If the case ends without a right result; it then has no measured column.
    """
    try:
        _measure(planned, outcome, ceilings, timer)
    except UnmeasuredError as end:
        outcome.status, outcome.reason = end.status, str(end)
        raise
    except Exception as error:
        outcome.status = "oom" if _is_out_of_memory(error) else "crashed"
        outcome.reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UnmeasuredError(outcome.status, outcome.reason) from error


def _measure(planned: Planned, outcome: Outcome, ceilings: Ceilings, timer: Timer) -> None:
    kernel, case = planned
    problem = Problem(case)
    call = kernel.bind(problem)
    about_s = warm_up(call, case.device)
    first = _require(check(kernel, problem, call))
    seconds = timer(call, about_s)
    problem.redraw(case.seed + OTHER_SEED)
    again = _require(check(kernel, problem, call), "on other inputs, after timing: ")
    if seconds is None:
        return
    outcome.max_rel_error = max(first.error, again.error)
    outcome.speedup = _speedup(kernel, problem, call, about_s)
    del problem, call
    outcome.peak_bytes = peak_bytes(kernel, Problem(case))
    outcome.floor_s = ceilings.floor_s(case, case.least_flops, case.least_bytes)
    outcome.efficiency = outcome.floor_s / seconds


def _require(result: Check, when: str = "") -> Check:
    if result.reason is not None:
        raise UnmeasuredError("wrong", when + result.reason)
    return result


def _speedup(kernel: Kernel, problem: Problem, call: Call, about_s: float) -> float:
    if kernel.name == kernel.baseline:
        return 1.0
    rival = get_kernel(kernel.baseline).bind(Problem(problem.case))
    return 1 / paired_ratio(call, rival, problem.case.device, f_seconds=about_s).ratio


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
