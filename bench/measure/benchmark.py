"""One kernel on one case: foretold, examined (checks and memory), then timed, once a pass."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch

from mlr import Case, Check, Kernel, Problem, check, get_kernel

from ..common.errors import in_one_line
from ..common.units import format_bytes, format_time
from ..machine.info import absent, free_bytes
from ..plan.grid import Planned
from .ceilings import Ceilings
from .memory import is_out_of_memory, weigh
from .side_effects import (
    DeceitError,
    forks_counted,
    inputs_of,
    inputs_untouched,
    leave_if_forked,
    leaving,
    remembers,
    require_own_memory,
    watch,
    works_on,
)
from .system_load import Look
from .timing import (
    Call,
    DeviceTime,
    PairedRatio,
    Spent,
    clock_for,
    device_time,
    fastest_call,
    paired_ratio,
    time_slice,
)

MEMORY_SHARE = 0.85  # of what is free; the rest is for the interpreter and the page cache
REFRESHED_BYTES = 2**18  # inputs up to this size are drawn anew for every quad; it takes 2 ms
PASS_SEED = 1_000_003  # apart from any seed a user gives; each pass is timed on inputs of its own
# What a formula may leave out: scalars that torch wraps, and on CUDA a library's workspace.
FORMULA_SLACK = {"cpu": 4_096, "cuda": 2**26}

LONG_CALL_S = 0.5  # not called once more to see whether it works on after it returned


class Rounds(NamedTuple):
    """What pytest-benchmark's engine found: the median round in seconds, and their number."""

    median_s: float
    rounds: int


Timer = Callable[[Call, float], Rounds | None]


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
    role: str
    status: str
    reason: str | None
    predicted_peak_bytes: int
    flops: int
    bytes_moved: int
    max_rel_error: float | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    passes: int = 0
    peak_bytes: int | None = None
    floor_s: float | None = None
    efficiency: float | None = None
    contended_passes: int | None = None
    outside_torch_bytes: int | None = None
    device_hot_s: float | None = None
    device_cold_s: float | None = None
    launch_gap_s: float | None = None
    first_call_s: float | None = None
    suspicions: list[str] = field(default_factory=list)

    def columns(self) -> dict[str, Any]:
        """Return the columns as plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Take:
    """What one pass, a process of its own, measured of a case: see `schema.Take`."""

    median_s: float
    rounds: int
    paired_s: float | None
    log_speedup: float | None
    quads: int
    busy: float | None
    device: DeviceTime | None
    first_call_s: float
    noise: dict[str, Any]

    def columns(self, number: int) -> dict[str, Any]:
        """Return the take of a pass as plain JSON."""
        own = {name: getattr(self, name) for name in self.__slots__}
        device, noise = own.pop("device"), own.pop("noise")
        return {"pass": number, **own, **(device._asdict() if device else {}), **noise}


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
    refused = kernel.unsupported(case)  # whose formulas need not hold
    outcome = Outcome(
        stage=case.stage,
        kernel=kernel.name,
        baseline=kernel.baseline,
        device=case.device,
        dtype=case.dtype,
        batch=case.batch,
        in_features=case.in_features,
        out_features=case.out_features,
        role=kernel.role,
        status="ok",
        reason=None,
        predicted_peak_bytes=0 if refused else kernel.predicted_peak_bytes(case),
        flops=0 if refused else kernel.predicted_flops(case),
        bytes_moved=0 if refused else kernel.predicted_bytes_moved(case),
    )
    if (reason := refused or absent(case.device)) is not None:
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


@contextmanager
def kept_reason(outcome: Outcome) -> Iterator[None]:
    """Put into the outcome what ends a case, whatever it is.

    Raises:
        UnmeasuredError: If the case ends without a right result; it then has no measured column.
    """
    try:
        yield
    except UnmeasuredError as end:
        outcome.status, outcome.reason = end.status, str(end)
        raise
    except Exception as error:
        leave_if_forked()
        status = "oom" if is_out_of_memory(error) else "crashed"
        if isinstance(error, DeceitError):
            status, reason = "wrong", str(error)
        else:
            reason = in_one_line(error)
        outcome.status, outcome.reason = status, reason
        raise UnmeasuredError(status, reason) from error


def examine(planned: Planned, outcome: Outcome, ceilings: Ceilings, spent: Spent) -> None:
    """Hold a case against the oracle and against its promises, and weigh it; nothing is timed.

    Args:
        planned: Kernel and case.
        outcome: As foretold; the error, the memory and the suspicions are filled in.
        ceilings: What the case's device can do at best.
        spent: Takes the seconds it took.

    Raises:
        UnmeasuredError: If the case ends without a right result.
    """
    kernel, case = planned
    problem = Problem(case)
    with kept_reason(outcome):
        with spent.on("checking"):
            call = _Remembered(leaving(kernel.bind(problem)), case.device)
            about_s = _hold(kernel, problem, call, outcome)
        with spent.on("warm_up"):
            outcome.suspicions += works_on(call.call) if about_s < LONG_CALL_S else []
            outcome.suspicions += remembers(problem, call.call, about_s)
        with spent.on("memory"):
            del problem, call
            _weigh(kernel, case, outcome)
    outcome.floor_s = ceilings.floor_s(case, case.least_flops, case.least_bytes)


class _Remembered:
    """A call that keeps its last result, and the seconds of its fastest."""

    def __init__(self, call: Call, device: str) -> None:
        self.call = call
        self.device = device
        self.result: Any = None
        self.seconds = math.inf

    def __call__(self) -> Any:
        def once() -> None:
            self.result = self.call()

        self.result = None
        self.seconds = min(self.seconds, time_slice(once, 1, self.device).seconds)
        return self.result


def _hold(kernel: Kernel, problem: Problem, call: _Remembered, outcome: Outcome) -> float:
    with inputs_untouched(problem):
        first, seen = watch(lambda: check(kernel, problem, call))
    outcome.suspicions += seen
    require_own_memory(problem, call.result)
    _require(first)
    before = call.result
    seed = secrets.randbelow(2**31)
    problem.redraw(seed)
    again = check(kernel, problem, call)
    when = f"on other inputs (seed {seed}): "
    if not again.ok and _same(before, call.result):
        when += "returns what it returned for the first inputs; "
    _require(again, when)
    outcome.max_rel_error = max(first.error, again.error)
    return call.seconds


def _same(one: object, other: object) -> bool:
    if not (isinstance(one, tuple) and isinstance(other, tuple)):
        return False
    pairs = zip(one, other, strict=False)
    return all(
        isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.equal(b) for a, b in pairs
    )


def _weigh(kernel: Kernel, case: Case, outcome: Outcome) -> None:
    memory = weigh(kernel, Problem(case))
    outcome.peak_bytes = memory.peak_bytes
    outcome.outside_torch_bytes = memory.outside_bytes
    predicted = outcome.predicted_peak_bytes
    slack = FORMULA_SLACK[case.device.partition(":")[0]] + predicted // 50
    if memory.peak_bytes > predicted + slack:
        outcome.suspicions.append(
            f"holds {format_bytes(memory.peak_bytes)} at peak, its formula says "
            f"{format_bytes(predicted)}"
        )
    if memory.leak_bytes > 0 and case.stage != "fit":
        outcome.suspicions.append(f"leaks {format_bytes(memory.leak_bytes)} with every call")
    if memory.outside_bytes > 0:
        outcome.suspicions.append(
            f"holds about {format_bytes(memory.outside_bytes)} or more outside torch, which its "
            "peak memory does not count"
        )


def time_once(
    planned: Planned, outcome: Outcome, timer: Timer, spent: Spent, number: int
) -> Take | None:
    """Time a case in this process, by itself and against its stage's baseline, then check it.

    A case has been examined before, here or in a process of its own. The check here, on inputs that
    were never timed, holds what was timed against the oracle: a wrong result carries no time.

    Args:
        planned: Kernel and case.
        outcome: Its status and reason are filled in where the case ends without a time.
        timer: Times a callable that takes about so many seconds, by pytest-benchmark's fixture;
            returns None where timing is switched off.
        spent: Takes the seconds it took.
        number: The number of the pass; each draws inputs of its own.

    Raises:
        UnmeasuredError: If the case ends without a right result.
    """
    with kept_reason(outcome):
        return _time_once(planned, timer, spent, number)


def _time_once(planned: Planned, timer: Timer, spent: Spent, number: int) -> Take | None:
    kernel, case = planned
    look = Look(gpu=case.device.startswith("cuda"))
    problem = Problem(case)
    problem.seed = case.seed + PASS_SEED * (number + 1)
    with spent.on("warm_up"):
        inputs_of(problem)  # drawn before the clock starts
        clock = clock_for(case.device)
        with forks_counted() as forks:
            start = clock()
            call = kernel.bind(problem)
            leaving(call)()
            first_call_s = clock() - start
            about_s = fastest_call(leaving(call), case.device)
        if forks:  # what it forks would fork in turn, with every call that is timed
            call = leaving(call)
    with spent.on("timing"):
        rounds = timer(call, about_s)
        leave_if_forked()
        pair = _paired(kernel, problem, call, about_s) if rounds else None
        leave_if_forked()
        device = device_time(call, case.device, rounds.median_s) if rounds else None
    noise = Look(gpu=case.device.startswith("cuda")).since(look)
    with spent.on("checking"):
        problem.redraw(problem.seed + 1)
        _require(check(kernel, problem, call), "on other inputs, after timing: ")
    if rounds is None:
        return None
    return Take(
        median_s=rounds.median_s,
        rounds=rounds.rounds,
        paired_s=pair.f_median_s if pair else None,
        log_speedup=-pair.log_ratio if pair else None,
        quads=len(pair.log_ratios) if pair else 0,
        busy=pair.f_busy if pair and case.device == "cpu" else None,
        device=device,
        first_call_s=first_call_s,
        noise=noise.columns(),
    )


def _require(result: Check, when: str = "") -> None:
    if result.reason is not None:
        raise UnmeasuredError("wrong", when + result.reason)


def _paired(kernel: Kernel, problem: Problem, call: Call, about_s: float) -> PairedRatio | None:
    if kernel.name == kernel.baseline:
        return None
    case, base = problem.case, problem.seed
    rival = get_kernel(kernel.baseline).bind(problem.twin())

    def refresh(quad: int) -> None:
        problem.redraw(base + quad + 1)

    return paired_ratio(
        call,
        rival,
        case.device,
        f_seconds=about_s,
        seed=base,
        refresh=refresh if case.input_bytes <= REFRESHED_BYTES else None,
    )
