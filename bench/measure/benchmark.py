"""One benchmark, a kernel on a case: verified, with its memory, and then timed, once a process."""

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

from torch import Tensor

from mlr import OPERATIONS, Case, Check, Kernel, Problem, check, check_on_other_inputs, get_kernel

from ..common.errors import in_one_line
from ..common.units import format_bytes
from ..machine.devices import Call, device_of
from ..plan.benchmark import Benchmark, Outcome, roofline_s
from ..store.schema import Ceilings
from .memory import is_out_of_memory, measure_memory
from .paired import PairedRatio, paired_ratio
from .side_effects import (
    ContractViolationError,
    detect_background_work,
    detect_result_caching,
    inputs_of,
    inputs_untouched,
    observe_side_effects,
    require_own_memory,
)
from .system_load import LoadSnapshot
from .timing import PhaseTimer, fastest_call, time_batch

REFRESHED_BYTES = 2**18  # inputs up to this size are drawn anew for every block; it takes 2 ms
PROCESS_SEED = 1_000_003  # apart from any seed a user gives; each process has inputs of its own
LONG_CALL_S = 0.5  # not called once more to see whether it works on after it returned


class Rounds(NamedTuple):
    """What pytest-benchmark's engine found: the median round in seconds, and their number."""

    median_s: float
    rounds: int


Timer = Callable[[Call, float], Rounds | None]


class Sample(SimpleNamespace):
    """The sample of one process: the columns that it measured of a benchmark."""

    median_s: float
    rounds: int

    def columns(self, number: int = 1) -> dict[str, Any]:
        """Return the sample of a process as plain JSON."""
        return {"process": number, **vars(self)}


class BenchmarkFailedError(Exception):
    """A benchmark that ends without a time: its status, and the reason in one line."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@contextmanager
def kept_reason(outcome: Outcome) -> Iterator[None]:
    """Put into the outcome what ends a benchmark, and raise it as `BenchmarkFailedError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, BenchmarkFailedError):
            outcome.status, outcome.reason = error.status, str(error)
            raise
        if isinstance(error, ContractViolationError):
            outcome.status, outcome.reason = "wrong", str(error)
        else:
            outcome.status = "oom" if is_out_of_memory(error) else "crashed"
            outcome.reason = in_one_line(error)
        raise BenchmarkFailedError(outcome.status, outcome.reason) from error


def verify(benchmark: Benchmark, outcome: Outcome, ceilings: Ceilings, phases: PhaseTimer) -> None:
    """Verify a benchmark and measure its memory; `BenchmarkFailedError` without a right result."""
    kernel, case = benchmark
    problem = Problem(case)
    with kept_reason(outcome):
        with phases.on("checking"):
            call = RecordingCall(kernel.bind(problem), case.device)
            outcome.max_rel_error = _check_twice(kernel, problem, call, outcome)
        with phases.on("warm_up"):
            if call.seconds < LONG_CALL_S:
                outcome.warnings += detect_background_work(call.call)
            outcome.warnings += detect_result_caching(problem, call.call, call.seconds)
        with phases.on("memory"):
            del problem, call
            _measure_memory(kernel, case, outcome)
    outcome.roofline_s = roofline_s(ceilings, case, case.least_flops, case.least_bytes)


class RecordingCall:
    """A call that keeps its last result, and the seconds of its fastest."""

    def __init__(self, call: Call, device: str) -> None:
        self.call, self.device = call, device
        self.result: Any = None
        self.seconds = math.inf

    def __call__(self) -> Any:
        """Call it, and return what it returned."""

        def once() -> None:
            self.result = self.call()

        self.result = None
        self.seconds = min(self.seconds, time_batch(once, 1, self.device).seconds)
        return self.result


def _check_twice(kernel: Kernel, problem: Problem, call: RecordingCall, outcome: Outcome) -> float:
    with inputs_untouched(problem):
        first, seen = observe_side_effects(lambda: check(kernel, problem, call))
    outcome.warnings += seen
    require_own_memory(problem, call.result)
    _require_right(first)
    before = call.result
    again = check_on_other_inputs(kernel, problem, call, secrets.randbelow(2**31))
    remembered = not again.ok and _are_equal(before, call.result)
    _require_right(again, "returns what it returned for the first inputs; " * remembered)
    return max(float(first.error), again.error)


def _are_equal(one: object, other: object) -> bool:
    if not (isinstance(one, tuple) and isinstance(other, tuple)):
        return False
    pairs = zip(one, other, strict=False)
    return all(isinstance(a, Tensor) and isinstance(b, Tensor) and a.equal(b) for a, b in pairs)


def _require_right(result: Check, when: str = "") -> None:
    if result.reason is not None:
        raise BenchmarkFailedError("wrong", when + result.reason)


def _measure_memory(kernel: Kernel, case: Case, outcome: Outcome) -> None:
    memory = measure_memory(kernel, Problem(case))
    outcome.peak_bytes, outcome.untracked_bytes = memory.peak_bytes, memory.untracked_bytes
    predicted = outcome.predicted_peak_bytes
    slack = device_of(case.device).formula_slack_bytes + predicted // 50
    if memory.peak_bytes > predicted + slack:
        outcome.warnings.append(
            f"holds {format_bytes(memory.peak_bytes)} at peak, its formula says "
            f"{format_bytes(predicted)}"
        )
    if memory.leak_bytes > 0 and not OPERATIONS[case.operation].iterative:
        outcome.warnings.append(f"leaks {format_bytes(memory.leak_bytes)} with every call")
    if memory.untracked_bytes > 0:
        outcome.warnings.append(
            f"holds about {format_bytes(memory.untracked_bytes)} or more outside torch, which its "
            "peak memory does not count"
        )


def measure_sample(
    benchmark: Benchmark, outcome: Outcome, timer: Timer, phases: PhaseTimer, number: int
) -> Sample | None:
    """Time a benchmark in this process, by itself and against its baseline, then check it.

    It has been verified before, here or in a process of its own. The check here, on inputs that
    were never timed, compares what was timed with the oracle: a wrong result carries no time but
    raises `BenchmarkFailedError`. The timer, pytest-benchmark's, returns None where it is off.
    """
    kernel, case = benchmark
    with kept_reason(outcome):
        before = LoadSnapshot(case.device)
        problem = Problem(case)
        problem.seed = case.seed + PROCESS_SEED * (number + 1)
        with phases.on("warm_up"):
            inputs_of(problem)  # drawn before the clock starts
            clock = device_of(case.device).clock
            start = clock()
            call = kernel.bind(problem)
            call()
            first_call_s = clock() - start
            about_s = fastest_call(call, case.device)
        with phases.on("timing"):
            measured = _time(kernel, problem, call, about_s, timer)
        load = LoadSnapshot(case.device).delta(before)
        with phases.on("checking"):
            problem.resample(problem.seed + 1)
            _require_right(check(kernel, problem, call), "on other inputs, after timing: ")
    return Sample(**measured, first_call_s=first_call_s, **load) if measured else None


def _time(
    kernel: Kernel, problem: Problem, call: Call, about_s: float, timer: Timer
) -> dict[str, Any]:
    rounds = timer(call, about_s)
    if rounds is None:
        return {}
    pair = _paired(kernel, problem, call, about_s)
    device = device_of(problem.case.device)
    by_device = device.device_time(call, rounds.median_s)
    return {
        **rounds._asdict(),
        "paired_s": pair.f_median_s if pair else None,
        "log_speedup": -pair.log_ratio if pair else None,
        "abba_blocks": len(pair.log_ratios) if pair else 0,
        "cpu_utilisation": pair.cpu_utilisation if pair and device.is_host else None,
        **(by_device._asdict() if by_device else {}),
    }


def _paired(kernel: Kernel, problem: Problem, call: Call, about_s: float) -> PairedRatio | None:
    if kernel.name == kernel.baseline:
        return None
    case, base = problem.case, problem.seed
    baseline = get_kernel(kernel.baseline).bind(problem.share_inputs())

    def refresh(block: int) -> None:
        problem.resample(base + block + 1)

    small = case.input_bytes <= REFRESHED_BYTES
    options = {"seed": base, "refresh": refresh if small else None}
    return paired_ratio(call, baseline, case.device, f_seconds=about_s, **options)
