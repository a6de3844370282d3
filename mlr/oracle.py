"""The oracle: what torch.nn computes in float64 on the same inputs, and how near is near enough.

Errors are componentwise: |got − oracle| over the sum of the absolute products that the element was
summed from, so that neither cancellation nor the scale of the data enters. Summing m zero-mean
products in working precision leaves an error of about one unit roundoff u of that scale, whatever
m is; the worst of N elements lies within √(2 ln(2N/p)) of those with probability 1 − p
(Higham and Mary 2019, "A new approach to probabilistic rounding error analysis").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .case import DTYPES, FIT_EPOCHS, Case, Gradient, Problem
from .registry import Kernel

FAILURE_PROBABILITY = 1e-12
CHECKED_STEPS = 3  # what is wrong in a second step, or a third, shows in one at a small size
LARGE_FLOPS = 2e10  # of a step: it is checked once, or its oracle takes far longer than its timing


class Check(NamedTuple):
    """The outcome of holding one result against the oracle."""

    error: float
    tolerance: float
    reason: str | None

    @property
    def ok(self) -> bool:
        """Whether the result is right."""
        return self.reason is None


def checked_steps(case: Case) -> int:
    """Return how many steps of a case are held against as many of the oracle."""
    return CHECKED_STEPS if case.least_flops < LARGE_FLOPS else 1


def tolerance(case: Case) -> float:
    """Return the largest componentwise relative error that rounding explains.

    λ·u·d: u the unit roundoff of the dtype, λ = √(2 ln(2N/p)) over the N = n·o + o elements, and d
    the roundings one after another: 2 for a gradient (product, sum); 6 more for an update
    (prediction, residual, scale, product, sum, subtraction), times √k for k updates, whose errors
    are independent and add in squares.
    """
    _, n, o = case.sizes
    unit = torch.finfo(DTYPES[case.dtype]).eps / 2
    spread = math.sqrt(2 * math.log(2 * (n * o + o) / FAILURE_PROBABILITY))
    updates = {"gradient": 0, "step": checked_steps(case), "fit": 4 * FIT_EPOCHS}[case.stage]
    return spread * unit * (2 + 6 * math.sqrt(updates))


def oracle_gradient(x: Tensor, delta: Tensor) -> Gradient:
    """Return the gradient by `nn.Linear` and autograd in float64.

    Shapes: x (m, n), delta (m, o); weight (n, o), bias (o).
    """
    x, delta = x.double(), delta.double()
    layer = nn.utils.skip_init(
        nn.Linear, x.shape[1], delta.shape[1], device=x.device, dtype=x.dtype
    )
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    layer(x).backward(delta)
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    return Gradient(layer.weight.grad.T, layer.bias.grad)


def oracle_steps(problem: Problem, steps: int) -> Gradient:
    """Return weight (n, o) and bias (o) after SGD steps by torch.nn in float64."""
    return _train(problem, problem.x, problem.y, problem.case.batch, steps)


def oracle_fit(problem: Problem) -> Gradient:
    """Return weight (n, o) and bias (o) after the fit stage's training by torch.nn in float64."""
    data = problem.dataset
    return _train(problem, data.x_train, data.y_train, problem.case.batch, FIT_EPOCHS)


def _train(problem: Problem, x: Tensor, y: Tensor, batch: int, epochs: int) -> Gradient:
    x, y = x.double(), y.double()
    layer, loss = problem.linear(torch.float64), nn.MSELoss()
    optimiser = torch.optim.SGD(layer.parameters(), lr=problem.lr)
    for _ in range(epochs):
        for rows, targets in zip(x.split(batch), y.split(batch), strict=True):
            optimiser.zero_grad()
            loss(layer(rows), targets).backward()
            optimiser.step()
    return Gradient(layer.weight.detach().T, layer.bias.detach())


def check(kernel: Kernel, problem: Problem, call: Callable[[], Any]) -> Check:
    """Call what will be timed and hold its result against the oracle.

    A gradient kernel's result is what it returns; a step kernel's, the problem's parameters after
    `checked_steps` calls from the start; a fit kernel's, the parameters after one call.
    """
    case = problem.case
    if case.stage == "gradient":
        got = call()
        if not (isinstance(got, tuple) and len(got) == 2):
            return _wrong(f"returned {type(got).__name__} instead of Gradient(weight, bias)")
        return _compare(case, Gradient(*got), oracle_gradient(problem.x, problem.delta),
                        _gradient_scale(problem.x, problem.delta))  # fmt: skip
    problem.reset()
    steps = checked_steps(case) if case.stage == "step" else 1
    for _ in range(steps):
        call()
    got = problem.parameters()
    if case.stage == "step":
        return _compare(case, got, oracle_steps(problem, steps), _step_scale(problem, steps))
    expected = oracle_fit(problem)
    scale = Gradient(expected.weight.abs().max(), expected.bias.abs().max())
    return _compare(case, got, expected, scale)


def _gradient_scale(x: Tensor, delta: Tensor) -> Gradient:
    x, delta = x.double().abs(), delta.double().abs()
    return Gradient(x.T @ delta, delta.sum(0))


def _step_scale(problem: Problem, steps: int) -> Gradient:
    start = Gradient(*(value.double().abs() for value in problem.start))
    x, y = problem.x.double().abs(), problem.y.double().abs()
    delta = (x @ start.weight + start.bias + y) * (2 / y.numel())
    change = _gradient_scale(x, delta)
    return Gradient(*(a + steps * problem.lr * b
                      for a, b in zip(start, change, strict=True)))  # fmt: skip


def _compare(case: Case, got: Gradient, expected: Gradient, scale: Gradient) -> Check:
    limit, worst = tolerance(case), 0.0
    for name, value, true, size in zip(Gradient._fields, got, expected, scale, strict=True):
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
