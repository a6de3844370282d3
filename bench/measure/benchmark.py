"""One benchmark, a kernel on a case: verified, with its memory, and then timed, once a process."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlr import OPERATIONS, Case, Kernel, Problem, baseline_of, check, check_on_other_inputs
from mlr.checks import is_out_of_memory
from mlr.originals import ReplacedError, nothing_replaced

from ..common.errors import in_one_line
from ..common.units import format_bytes
from ..machine.devices import Call, device_of
from ..plan.benchmark import Benchmark, Outcome
from ..store.schema import Ceilings
from . import side_effects
from .avoided_work import (
    LONG_CALL_S,
    SHORT_CALL_S,
    require_one_time,
    require_right_result,
    require_work,
)
from .cold import ColdTarget, can_evict
from .fresh_inputs import refresher
from .memory import Memory, measure_memory
from .ratio import interleave, paired_ratio
from .side_effects import WrongResultError, require_right
from .system_load import LoadSnapshot
from .timing import PhaseTimer, RecordingCall, device_times, fastest_call, first_call

PROCESS_SEED = 1_000_003  # apart from any seed a user gives; each process has inputs of its own
# Of a sample, hot and cold. On a restless machine the median of so many was good to 1.5 to 3 %, and
# processes differed by 5 %: more processes tell more than more blocks.
BLOCKS = 10
Sample = dict[str, Any]  # the columns that one process measured of a benchmark
# Of a call, and about how long it takes: the columns median_s and rounds; none where it is off.
Timer = Callable[[Call, float], dict[str, Any]]


@contextmanager
def kept_reason(outcome: Outcome) -> Iterator[None]:
    """End a benchmark where an exception is raised, which becomes its status and the reason."""
    try:
        with nothing_replaced():
            yield
            device_of(outcome.device).clock()  # what still runs there fails here, and not later
    except (WrongResultError, ReplacedError) as error:
        outcome.status, outcome.reason = "wrong", str(error)
    except Exception as error:
        outcome.status = "oom" if is_out_of_memory(error) else "crashed"
        outcome.reason = in_one_line(error)


def verify(benchmark: Benchmark, outcome: Outcome, ceilings: Ceilings, phases: PhaseTimer) -> None:
    """Verify a benchmark and measure its memory, within `kept_reason`."""
    kernel, case, _ = benchmark
    problem = Problem(case)
    with phases.on("checking"):
        call = RecordingCall(kernel.bind(problem), case.device)
        outcome.max_rel_error = _check_twice(kernel, problem, call, outcome)
    with phases.on("warm_up"):
        if call.seconds < LONG_CALL_S:
            side_effects.require_no_background_work(call.call)
            require_work(problem, call.call, call.seconds)
    with phases.on("memory"):
        del problem, call
        memory = measure_memory(kernel, case)
    outcome.peak_bytes, outcome.untracked_bytes = memory.peak_bytes, memory.untracked_bytes
    outcome.warnings += memory_warnings(case, memory, outcome.predicted_peak_bytes)
    flops, moved, inputs = case.least_flops, case.least_bytes, case.input_bytes
    if flops is not None and moved is not None and inputs is not None:  # else there is no bound
        found = ceilings.roofline(case.dtype, flops, moved, inputs)
        outcome.roofline_s, outcome.roofline_cold_s, _ = found


def _check_twice(kernel: Kernel, problem: Problem, call: RecordingCall, outcome: Outcome) -> float:
    with side_effects.inputs_untouched(problem):
        first, seen = side_effects.observe_side_effects(lambda: check(kernel, problem, call))
    outcome.warnings += seen
    side_effects.require_own_memory(problem, call.results[0])
    require_right(first)
    again = check_on_other_inputs(kernel, problem, call, secrets.randbelow(2**31))
    require_right(again)
    return max(float(first.error), again.error)


def memory_warnings(case: Case, memory: Memory, predicted: int | None) -> Iterator[str]:
    """Say in words what is doubtful about the memory of a call, whose formula predicts a peak."""
    slack = device_of(case.device).formula_slack_bytes + (predicted or 0) // 50
    peak, leak, untracked = (format_bytes(count or 0) for count in memory)
    if memory.peak_bytes is None:
        yield "its library does not say how much memory it holds: not counted"
    elif predicted is not None and memory.peak_bytes > predicted + slack:
        yield f"holds {peak} at peak, its formula says {format_bytes(predicted)}"
    if memory.leak_bytes > 0 and not OPERATIONS[case.operation].iterative:
        yield f"leaks {leak} with every call"
    if memory.untracked_bytes > 0:
        yield (
            f"holds about {untracked} or more outside torch, which its peak memory does not count"
        )


def measure_sample(benchmark: Benchmark, timer: Timer, phases: PhaseTimer, number: int) -> Sample:
    """Time a benchmark in this process, by itself and against its baseline, then check it.

    It has been verified before, here or in a process of its own: probes, side effects, background
    work and memory are not looked at again. What tells of a kernel that avoids the work is asked in
    every process, for a kernel may know in which it is: the results right after each timing, and
    the check here, on inputs that were never timed, which compares what was timed with the oracle.
    A wrong result carries no time but raises `WrongResultError`. Where the timer is off there is no
    sample.
    """
    kernel, case, _ = benchmark
    before = LoadSnapshot(case.device)
    problem = Problem(case)
    problem.seed = case.seed + PROCESS_SEED * (number + 1)
    with phases.on("warm_up"):
        side_effects.inputs_of(problem)  # drawn before the clock starts
        call, first_call_s = first_call(kernel.bind, problem)
        about_s = fastest_call(call, case.device)
    measured = _time(kernel, problem, call, about_s, first_call_s, timer, phases)
    load = LoadSnapshot(case.device, call, about_s).delta(before)
    with phases.on("checking"):
        require_one_time(call, case.device, measured, about_s)
        if about_s < LONG_CALL_S:
            problem.resample(problem.seed + 1)
            require_right(check(kernel, problem, call), "on other inputs, after timing: ")
    if not measured:
        return {}
    return {"process": number, **measured, "first_call_s": first_call_s, **load}


def _time(
    kernel: Kernel,
    problem: Problem,
    call: Call,
    about_s: float,
    first_call_s: float,
    timer: Timer,
    phases: PhaseTimer,
) -> Sample:
    device, is_baseline = device_of(problem.case.device), kernel.name == kernel.baseline
    with phases.on("timing"):
        if not (sample := timer(call, about_s)):
            return {}
    if about_s < SHORT_CALL_S:
        with phases.on("checking"):
            require_right_result(problem, call, sample["median_s"])
    with phases.on("timing"):
        baseline, theirs = baseline_of(kernel.operation), problem.share_inputs()
        base_call = baseline.bind(theirs)
        options: dict[str, Any] = {"seed": problem.seed, "blocks": BLOCKS}
        pair = paired_ratio(
            call, base_call, device.name, f_seconds=about_s, refresh=refresher(problem), **options
        )
        sample |= {
            "paired_s": pair.f_median_s,
            "log_speedup": None if is_baseline else -pair.log_ratio,
            "abba_blocks": len(pair.log_ratios),
            "cpu_utilisation": pair.cpu_utilisation if device.is_host else None,
        }
    with phases.on("checking"):
        require_work(problem, call, min(sample["median_s"], pair.f_median_s))
    with phases.on("timing"):
        cold_calls: tuple[Any, ...] = ()
        if can_evict(problem):
            own = ColdTarget(kernel, problem, call, pair.f_median_s, first_call_s)
            base = ColdTarget(baseline, theirs, base_call, pair.g_median_s, 0.0)
            cold = interleave(own, base, **options)
            sample["cold_s"] = cold.f_median_s
            sample["log_speedup_cold"] = None if is_baseline else -cold.log_ratio
            cold_calls = own.targets, own.evict
        return sample | device_times(call, device.name, pair.f_median_s, *cold_calls)
