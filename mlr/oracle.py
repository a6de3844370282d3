"""Hold a kernel against the oracle: how near to its float64 result is near enough.

Where an operation has a scale of errors, they are componentwise: |got − oracle| over the sum of the
absolute products that the element was summed from, so that neither cancellation nor the scale of
the data enters. Summing m zero-mean products in working precision leaves an error of about one unit
roundoff u of that scale, whatever m is; the worst of N elements lies within √(2 ln(2N/p)) of those
with probability 1 − p (Higham and Mary 2019, "A new approach to probabilistic rounding error
analysis").

Where it has none, errors are relative to the largest element of a result, and a kernel may be off
by four times as much as the baseline on the same inputs, and a few roundings more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .case import DTYPES, Case, Problem
from .declaration import OPERATIONS, Probe
from .registry import Kernel, baseline_of

FAILURE_PROBABILITY = 1e-12
CHECKED_CALLS = 3  # what is wrong in a second step, or a third, shows in one at a small size
MOST_LOST = 0.1  # of a sum in which one number outweighs all others
# Where no bound is known a kernel may be off by so many of the baseline's errors, and roundoffs.
TIMES_BASELINE, UNITS_BESIDE = 4, 8
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
    several = OPERATIONS[case.operation].stateful and (case.least_flops or 0) < LARGE_FLOPS
    return CHECKED_CALLS if several else 1


def tolerance(case: Case) -> float:
    """Return the largest componentwise relative error that rounding explains.

    λ·u·d: u the unit roundoff of the dtype, λ = √(2 ln(2N/p)) over the N elements of the results,
    and d the operation's roundings one after another. Of use where it has a scale of errors.
    """
    declared = OPERATIONS[case.operation]
    elements = declared.result_numbers(*case.sizes) or 1
    return _tolerance(case, declared.roundings(checked_calls(case)), elements)


def _tolerance(case: Case, roundings: float | int, elements: int) -> float:
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
    calls = checked_calls(case)
    return _check(kernel, problem, call, calls, OPERATIONS[case.operation].roundings(calls))


def check_on_other_inputs(
    kernel: Kernel, problem: Problem, call: Callable[[], Any], seed: int
) -> Check:
    """Hold a call that was right once against the oracle on other inputs, until it is wrong.

    In this order: the very same call on inputs of another seed, and on the probes of its operation;
    then a call bound for few rows, the least that is declared of the first axis, of otherwise the
    same sizes, on ordinary inputs and on every probe. The small size is left out where the kernel
    does not take it; the probes at a larger one in float16, whose range a sum over many rows
    leaves, above or below. The error of the outcome is that on the inputs of the seed, which the
    problem holds again in the end.
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
    declared, (first, *others) = OPERATIONS[problem.case.operation], problem.case.sizes
    few = min(first, declared.least_sizes[0])
    small = Problem(replace(problem.case, sizes=(few, *others)))
    small.seed = problem.seed
    if declared.probe_lr:
        small.lr = declared.probe_lr(*small.case.sizes)
    return small


def _probe(kernel: Kernel, problem: Problem, call: Callable[[], Any], probe: Probe) -> Check:
    """Hold one call against the oracle on the inputs of a probe.

    The roundings of k products of one sign add up to √k (Higham and Mary), besides the operation's.
    """
    case = problem.case
    problem.set_inputs(probe.draw(problem))
    same_sign = probe.same_sign(*case.sizes)
    roundings = OPERATIONS[case.operation].roundings(1) + math.sqrt(same_sign)
    found = _check(kernel, problem, call, 1, roundings)
    (axis, size), *_ = case.by_axis.items()
    return found.on(f"{probe.name} (seed {problem.seed}, {axis} {size:,})")


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
    declared = OPERATIONS[problem.case.operation]
    terms, roundings = declared.terms(*problem.case.sizes), declared.roundings(1)
    least = 0.0
    if one_outweighs:
        least = min(_unit_roundoff(problem.case) * (roundings + terms), MOST_LOST)
    return _hold(problem, found, 1, roundings + math.sqrt(terms), least)


def _check(
    kernel: Kernel, problem: Problem, call: Callable[[], Any], calls: int, roundings: float | int
) -> Check:
    if OPERATIONS[kernel.operation].trains:
        problem.reset()
    for _ in range(calls):
        found = call()
    return _hold(problem, found, calls, roundings)


def _hold(
    problem: Problem, found: Any, calls: int, roundings: float | int, least: float = 0.0
) -> Check:
    """Compare a result with the oracle's; `least` is an error that is let pass in any case."""
    case, declared = problem.case, OPERATIONS[problem.case.operation]
    got = _copied(problem.parameters() if declared.trains else found)
    expected = declared.oracle(problem, calls)
    names = tuple(declared.results(*case.sizes) or numbered(expected))
    if len(got) != len(names):
        return _wrong(f"returned {type(found).__name__} instead of tensors ({', '.join(names)})")
    if declared.error_scale is None:
        scale: Sequence[Tensor] = [value.abs().max() for value in expected]
        limits = _baseline_limits(problem, calls, expected, scale)
    else:
        scale = declared.error_scale(problem, calls, expected)
        elements = sum(value.numel() for value in expected)
        limits = [max(least, _tolerance(case, roundings, elements))] * len(names)
    return _compare(case, names, got, expected, scale, limits)


def numbered(results: Sequence[Any]) -> tuple[str, ...]:
    """Return names for results that have none: `result`, or `result 1`, `result 2`."""
    several = (f"result {number}" for number in range(1, len(results) + 1))
    return ("result",) if len(results) == 1 else tuple(several)


def _copied(found: Any) -> list[Any]:
    """Return results as they are now: what a thread writes while the oracle computes is too late.

    A tuple is taken for what it holds, and not for what it says that it holds.
    """
    held: tuple[Any, ...] = (found,) if isinstance(found, Tensor) else ()
    if isinstance(found, tuple):
        held = tuple(tuple.__iter__(found))
    return [copy(value) if type(value) in PLAIN else value for value in held]


def _baseline_limits(
    problem: Problem, calls: int, expected: Sequence[Tensor], scale: Sequence[Tensor]
) -> list[float]:
    """Return how far each result may be off, by how far the baseline is on the very same inputs.

    At most √u, u the unit roundoff: a baseline that is wrong allows nothing. In float64 the oracle
    rounds as well, and a baseline that computes as it does is off by nothing: a few roundings are
    then those of a sum of as many terms as the operation's, which grow with their root.
    """
    case = problem.case
    unit, baseline = _unit_roundoff(case), baseline_of(case.operation)
    beside = UNITS_BESIDE * unit
    if case.dtype == "float64":
        beside *= math.sqrt(OPERATIONS[case.operation].terms(*case.sizes))
    errors = [0.0] * len(expected)
    if baseline.unsupported(problem.case) is None:
        if problem.reference is None:  # bound once: its inputs are those of the problem
            theirs = problem.share_inputs()
            problem.reference = theirs, baseline.bind(theirs)
        theirs, call = problem.reference
        if OPERATIONS[problem.case.operation].trains:
            theirs.reset()
        for _ in range(calls):
            found = call()
        got = _copied(theirs.parameters() if OPERATIONS[problem.case.operation].trains else found)
        errors = [_error(*each) for each in zip(got, expected, scale, strict=False)]
    return [min(TIMES_BASELINE * error + beside, math.sqrt(unit)) for error in errors]


def _error(value: Tensor, true: Tensor, scale: Tensor) -> float:
    """Return the largest error, relative to a scale; infinity for numbers that are none."""
    apart = (in_float64(value) - true).abs() / scale.clamp_min(torch.finfo(torch.float64).tiny)
    worst = float(apart.max())
    return worst if worst == worst else math.inf


def _compare(
    case: Case,
    names: Sequence[str],
    got: Sequence[Any],
    expected: Sequence[Tensor],
    scale: Sequence[Tensor],
    limits: Sequence[float],
) -> Check:
    """Return the error that is the largest by its limit, or what else is wrong with a result."""
    worst = Check(0.0, limits[0], None)
    for name, value, true, size, limit in zip(names, got, expected, scale, limits, strict=True):
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
        error = _error(value, true, size)
        if error * worst.tolerance >= worst.error * limit:
            worst = Check(error, limit, None)
    if worst.error > worst.tolerance:
        said = f"error {worst.error:.2e} against the oracle, {worst.tolerance:.2e} allowed"
        return worst._replace(reason=said)
    return worst


def _wrong(reason: str, limit: float = math.nan) -> Check:
    return Check(math.inf, limit, reason)
