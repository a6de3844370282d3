"""Hold a kernel against the oracle: how near to its float64 result is near enough.

Errors are componentwise: |got − oracle| over the sum of the absolute products that the element was
summed from, so that neither cancellation nor the scale of the data enters. Summing m zero-mean
products in working precision leaves an error of about one unit roundoff u of that scale, whatever
m is; the worst of N elements lies within √(2 ln(2N/p)) of those with probability 1 − p
(Higham and Mary 2019, "A new approach to probabilistic rounding error analysis").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .case import DTYPES, OPERATIONS, Case, Probe, Problem
from .registry import Kernel

FAILURE_PROBABILITY = 1e-12
CHECKED_CALLS = 3  # what is wrong in a second step, or a third, shows in one at a small size
SMALL_BATCH = 100  # of which no error of a row or a factor hides among the roundings of the sum
MOST_LOST = 0.1  # of a sum in which one number outweighs all others
LARGE_FLOPS = 2e10  # of a call: it is checked once, or its oracle takes far longer than its timing
ORDINARY = Probe("ordinary inputs", lambda problem: {})
# Bound to no result: a tensor can carry methods of its own, which compute when they are asked.
PLAIN = (Tensor, torch.nn.Parameter)
in_float64, copy = Tensor.double, Tensor.clone


class Check(NamedTuple):
    """The outcome of holding one result against the oracle."""

    error: float
    tolerance: float
    reason: str | None

    @property
    def ok(self) -> bool:
        """Whether the result is right."""
        return self.reason is None

    def on(self, inputs: str) -> Check:
        """Return the outcome with a reason that says on which inputs the result was wrong."""
        return self if self.ok else self._replace(reason=f"on {inputs}: {self.reason}")


def checked_calls(case: Case) -> int:
    """Return how many calls of a case are held against as many of the oracle."""
    several = OPERATIONS[case.operation].stateful and case.least_flops < LARGE_FLOPS
    return CHECKED_CALLS if several else 1


def tolerance(case: Case) -> float:
    """Return the largest componentwise relative error that rounding explains.

    λ·u·d: u the unit roundoff of the dtype, λ = √(2 ln(2N/p)) over the N elements of the results,
    and d the operation's roundings one after another.
    """
    return _tolerance(case, OPERATIONS[case.operation].roundings(checked_calls(case)))


def _tolerance(case: Case, roundings: float | int) -> float:
    elements = OPERATIONS[case.operation].result_numbers(*case.sizes)
    spread = math.sqrt(2 * math.log(2 * elements / FAILURE_PROBABILITY))
    return spread * _unit_roundoff(case) * roundings


def _unit_roundoff(case: Case) -> float:
    return torch.finfo(DTYPES[case.dtype]).eps / 2


def check(kernel: Kernel, problem: Problem, call: Callable[[], Any]) -> Check:
    """Call what will be timed and hold its result against the oracle.

    The result of a kernel that trains are the problem's parameters after `checked_calls` calls from
    the start; of any other, what the call returns.
    """
    case = problem.case
    return _check(kernel, problem, call, checked_calls(case), tolerance(case))


def check_on_other_inputs(
    kernel: Kernel, problem: Problem, call: Callable[[], Any], seed: int
) -> Check:
    """Hold a call that was right once against the oracle on other inputs, until it is wrong.

    In this order: the very same call on inputs of another seed, and on the probes of its operation;
    then a call bound for `SMALL_BATCH` rows of the same features and outputs, on ordinary inputs
    and on every probe. The small size is left out where the kernel does not take it; the probes at
    a larger one in float16, whose range a sum over many rows leaves, above or below. The error of
    the outcome is that on the inputs of the seed, which the problem holds again in the end.
    """
    problem.resample(seed)
    result = check(kernel, problem, call)
    if not result.ok:
        return result.on(f"other inputs (seed {seed})")
    return next((one for one in _probes(kernel, problem, call) if not one.ok), result)


def _probes(kernel: Kernel, problem: Problem, call: Callable[[], Any]) -> Iterator[Check]:
    probes = OPERATIONS[kernel.operation].probes
    at_full_size = [probe for probe in probes if probe.full_size]
    if at_full_size and problem.case.dtype != "float16":
        for probe in at_full_size:
            yield _probe(kernel, problem, call, probe)
        problem.resample(problem.seed)
    small = _small_problem(problem)
    if kernel.unsupported(small.case) is None:
        bound = kernel.bind(small)
        for probe in (ORDINARY, *probes):
            yield _probe(kernel, small, bound, probe)


def _small_problem(problem: Problem) -> Problem:
    small = Problem(replace(problem.case, batch=min(problem.case.batch, SMALL_BATCH)))
    small.seed = problem.seed
    if probe_lr := OPERATIONS[small.case.operation].probe_lr:
        small.lr = probe_lr(*small.case.sizes)
    return small


def _probe(kernel: Kernel, problem: Problem, call: Callable[[], Any], probe: Probe) -> Check:
    """Hold one call against the oracle on the inputs of a probe.

    The roundings of k products of one sign add up to √k (Higham and Mary), besides the operation's.
    """
    case = problem.case
    problem.set_inputs(probe.draw(problem))
    same_sign = probe.same_sign(case.batch, case.in_features)
    roundings = OPERATIONS[case.operation].roundings(1) + math.sqrt(same_sign)
    found = _check(kernel, problem, call, 1, _tolerance(case, roundings))
    return found.on(f"{probe.name} (seed {problem.seed}, {case.batch:,} rows)")


def check_result(problem: Problem, found: Any, *, one_outweighs: bool = False) -> Check:
    """Hold the result of a call that was made before against the oracle.

    The call's inputs, and where a training starts, are those that the problem holds now.

    Args:
        problem: The problem with these inputs.
        found: What the call returned.
        one_outweighs: Whether one number is larger than all others together. What is added to it
            afterwards may be lost each time, so that roundings of a sum do not cancel: of k terms
            the error is then k·u at most (Wilkinson), u the unit roundoff. Whoever has not seen the
            number is off by its whole size, far beyond `MOST_LOST`.
    """
    case, terms = problem.case, problem.case.batch + problem.case.in_features
    roundings = OPERATIONS[case.operation].roundings(1)
    limit = _tolerance(case, roundings + math.sqrt(terms))
    if one_outweighs:
        limit = max(limit, min(_unit_roundoff(case) * (roundings + terms), MOST_LOST))
    return _hold(problem, found, 1, limit)


def _check(
    kernel: Kernel, problem: Problem, call: Callable[[], Any], calls: int, limit: float
) -> Check:
    if OPERATIONS[kernel.operation].trains:
        problem.reset()
    for _ in range(calls):
        found = call()
    return _hold(problem, found, calls, limit)


def _hold(problem: Problem, found: Any, calls: int, limit: float) -> Check:
    case, declared = problem.case, OPERATIONS[problem.case.operation]
    names = tuple(declared.results(*case.sizes))
    if declared.trains:
        found = problem.parameters()
    held: tuple[Any, ...] = (found,) if isinstance(found, Tensor) else ()
    if isinstance(found, tuple):
        held = tuple(tuple.__iter__(found))  # what it holds, not what it says that it holds
    # As they are now: what a thread writes while the oracle computes comes too late.
    got = [copy(value) if type(value) in PLAIN else value for value in held]
    if len(got) != len(names):
        return _wrong(f"returned {type(found).__name__} instead of tensors ({', '.join(names)})")
    expected = declared.oracle(problem, calls)
    scale = declared.error_scale(problem, calls, expected)
    return _compare(case, names, got, expected, scale, limit)


def _compare(
    case: Case,
    names: Sequence[str],
    got: Sequence[Any],
    expected: Sequence[Tensor],
    scale: Sequence[Tensor],
    limit: float,
) -> Check:
    worst = 0.0
    for name, value, true, size in zip(names, got, expected, scale, strict=True):
        if type(value) not in PLAIN:
            return _wrong(f"{name} must be a plain tensor; got {type(value).__name__}", limit)
        if value.shape != true.shape:
            came, wanted = tuple(value.shape), tuple(true.shape)
            return _wrong(f"{name} must have shape {wanted}; got {came}", limit)
        if value.dtype != DTYPES[case.dtype] or value.device.type != true.device.type:
            return _wrong(f"{name} must be {case.dtype} on {true.device.type}; got "
                          f"{value.dtype} on {value.device.type}", limit)  # fmt: skip
        if not bool(torch.isfinite(value).all()):
            return _wrong(f"{name} holds NaN or infinity", limit)
        error = (in_float64(value) - true).abs() / size.clamp_min(torch.finfo(torch.float64).tiny)
        worst = max(worst, float(error.max()))
    if worst > limit:
        return Check(worst, limit, f"error {worst:.2e} against the oracle, {limit:.2e} allowed")
    return Check(worst, limit, None)


def _wrong(reason: str, limit: float = math.nan) -> Check:
    return Check(math.inf, limit, reason)
