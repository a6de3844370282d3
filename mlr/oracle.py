"""Hold a kernel against the oracle: how near to its float64 result is near enough.

Errors are componentwise: |got − oracle| over the sum of the absolute products that the element was
summed from, so that neither cancellation nor the scale of the data enters. Summing m zero-mean
products in working precision leaves an error of about one unit roundoff u of that scale, whatever
m is; the worst of N elements lies within √(2 ln(2N/p)) of those with probability 1 − p
(Higham and Mary 2019, "A new approach to probabilistic rounding error analysis").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .case import DTYPES, OPERATIONS, Case, Problem, tensors_of
from .registry import Kernel

FAILURE_PROBABILITY = 1e-12
CHECKED_CALLS = 3  # what is wrong in a second step, or a third, shows in one at a small size
LARGE_FLOPS = 2e10  # of a call: it is checked once, or its oracle takes far longer than its timing


class Check(NamedTuple):
    """The outcome of holding one result against the oracle."""

    error: float
    tolerance: float
    reason: str | None

    @property
    def ok(self) -> bool:
        """Whether the result is right."""
        return self.reason is None


def checked_calls(case: Case) -> int:
    """Return how many calls of a case are held against as many of the oracle."""
    several = OPERATIONS[case.operation].stateful and case.least_flops < LARGE_FLOPS
    return CHECKED_CALLS if several else 1


def tolerance(case: Case) -> float:
    """Return the largest componentwise relative error that rounding explains.

    λ·u·d: u the unit roundoff of the dtype, λ = √(2 ln(2N/p)) over the N elements of the results,
    and d the operation's roundings one after another.
    """
    declared = OPERATIONS[case.operation]
    unit = torch.finfo(DTYPES[case.dtype]).eps / 2
    elements = declared.result_numbers(*case.sizes)
    spread = math.sqrt(2 * math.log(2 * elements / FAILURE_PROBABILITY))
    return spread * unit * declared.roundings(checked_calls(case))


def check(kernel: Kernel, problem: Problem, call: Callable[[], Any]) -> Check:
    """Call what will be timed and hold its result against the oracle.

    The result of a kernel that trains are the problem's parameters after `checked_calls` calls from
    the start; of any other, what the call returns.
    """
    case, declared, calls = problem.case, OPERATIONS[kernel.operation], checked_calls(problem.case)
    names = tuple(declared.results(*case.sizes))
    if declared.trains:
        problem.reset()
    for _ in range(calls):
        found = call()
    if declared.trains:
        found = problem.parameters()
    got = tensors_of(found) if isinstance(found, tuple | Tensor) else ()
    if len(got) != len(names):
        return _wrong(f"returned {type(found).__name__} instead of tensors ({', '.join(names)})")
    expected = declared.oracle(problem, calls)
    scale = declared.error_scale(problem, calls, expected)
    return _compare(case, names, got, expected, scale)


def _compare(
    case: Case,
    names: Sequence[str],
    got: Sequence[Any],
    expected: Sequence[Tensor],
    scale: Sequence[Tensor],
) -> Check:
    limit, worst = tolerance(case), 0.0
    for name, value, true, size in zip(names, got, expected, scale, strict=True):
        if not isinstance(value, Tensor) or value.shape != true.shape:
            came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            return _wrong(f"{name} must have shape {tuple(true.shape)}; got {came}", limit)
        if value.dtype != DTYPES[case.dtype] or value.device.type != true.device.type:
            return _wrong(f"{name} must be {case.dtype} on {true.device.type}; got "
                          f"{value.dtype} on {value.device.type}", limit)  # fmt: skip
        if not bool(torch.isfinite(value).all()):
            return _wrong(f"{name} holds NaN or infinity", limit)
        error = (value.double() - true).abs() / size.clamp_min(torch.finfo(torch.float64).tiny)
        worst = max(worst, float(error.max()))
    if worst > limit:
        return Check(worst, limit, f"error {worst:.2e} against the oracle, {limit:.2e} allowed")
    return Check(worst, limit, None)


def _wrong(reason: str, limit: float = math.nan) -> Check:
    return Check(math.inf, limit, reason)
