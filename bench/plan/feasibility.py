"""What a benchmark should cost, and whether it can be attempted on this machine at all."""

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from mlr import Case

from ..common.units import format_bytes, format_time
from ..machine.devices import device_of, unavailable_reason
from ..store.schema import Ceilings
from .benchmark import Benchmark

MEMORY_SHARE = 0.85  # of what is free; the rest is for the interpreter and the page cache


class Outcome(SimpleNamespace):
    """What became of a benchmark: what was planned, its status, and what was measured so far.

    Its names are those of a run file's columns, of which `store` alone lists which there are.
    """

    status: str
    reason: str | None
    predicted_peak_bytes: int
    flops: int
    bytes_moved: int
    warnings: list[str]

    def columns(self) -> dict[str, Any]:
        """Return them as plain JSON."""
        return dict(vars(self))


def roofline_s(ceilings: Ceilings, case: Case, flops: int, bytes_moved: int) -> float:
    """Return the roofline bound: the least seconds the device needs for so much work.

    max(FLOPs ÷ peak, bytes ÷ bandwidth, one dispatch). The bandwidth is the highest measured at a
    working set of that size or a larger one, so that the time is a lower bound.
    """
    rates = ceilings.bandwidth_bytes_per_s
    fitting = [rate for size, rate in rates if size >= bytes_moved] or [rates[-1][1]]
    peak = ceilings.flops_per_s.get(case.dtype, max(ceilings.flops_per_s.values()))
    return max(flops / peak, bytes_moved / max(fitting), ceilings.dispatch_s or 0.0)


def predict(benchmark: Benchmark, ceilings: Ceilings | None, longest_s: float) -> Outcome:
    """Predict what a benchmark costs, and whether it can be attempted at all.

    The status is `unsupported` or `infeasible`, each with its reason, or `ok` for one to measure.
    """
    kernel, case = benchmark
    refused = kernel.unsupported(case)  # whose formulas need not hold
    outcome = Outcome(
        **{name: value for name, value in asdict(case).items() if name != "seed"},
        kernel=kernel.name,
        baseline=kernel.baseline,
        role=kernel.role,
        status="ok",
        reason=None,
        predicted_peak_bytes=0 if refused else kernel.predicted_peak_bytes(case),
        flops=0 if refused else kernel.predicted_flops(case),
        bytes_moved=0 if refused else kernel.predicted_bytes_moved(case),
        warnings=[],
    )
    if (reason := refused or unavailable_reason(case.device)) is not None:
        outcome.status, outcome.reason = "unsupported", reason
    elif (reason := _too_much(case, outcome, ceilings, longest_s)) is not None:
        outcome.status, outcome.reason = "infeasible", reason
    return outcome


def _too_much(
    case: Case, outcome: Outcome, ceilings: Ceilings | None, longest_s: float
) -> str | None:
    # the kernel's problem and the baseline's, and float64 copies for the oracle
    inputs = 2 * case.input_bytes + 3 * case.input_bytes * 8 // case.itemsize
    needed = outcome.predicted_peak_bytes + inputs
    usable = MEMORY_SHARE * device_of(case.device).free_bytes()
    if needed > usable:
        return (
            f"needs {format_bytes(needed)}, {format_bytes(outcome.predicted_peak_bytes)} of it in "
            f"the call; {format_bytes(usable)} may be used"
        )
    least = roofline_s(ceilings, case, outcome.flops, outcome.bytes_moved) if ceilings else 0.0
    if least > longest_s:
        return f"one call takes at least {format_time(least)}; the grid allows {longest_s:g} s"
    return None
