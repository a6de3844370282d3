"""The kernels of a training that are no model classes of their own; those are in `mlr.models`.

A fit kernel binds as a step kernel does: it takes a `Problem` and returns the call that trains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from . import dispatch
from .case import Case, Problem
from .models import LinearRegression, fit_flops
from .one_pass.bind import outputs_too_few, partial_sum_bytes
from .operations import FIT_VALID_ROWS, bind_model
from .registry import Kernel, get_kernel, kernel
from .steps import one_pass_step


def sweep_flops(m: int, n: int, o: int, s: int) -> int:
    """Count the products of a fit that computes each of them once."""
    return fit_flops(m, n, o, 2 * n * o)


def _sum_bytes(m: int, n: int, o: int, s: int) -> int:
    """Hold the sums of threads that share rows, and those of wide sweeps."""
    sizes = {"train": m, "loss": FIT_VALID_ROWS}
    return sum(partial_sum_bytes(name, rows, n, o, s) for name, rows in sizes.items())


@kernel(
    operation="fit",
    flops=sweep_flops,
    workspace=_sum_bytes,
    devices=("cpu",),
    unsupported_reason=outputs_too_few,
)
def one_pass_fit(problem: Problem) -> Callable[[], Any]:
    """Train `LinearRegression(kernel="one_pass")`: an epoch is one call of compiled code.

    Reads X and Y once an epoch, those of validation too, and materialises nothing of m numbers.
    """
    return bind_model(partial(LinearRegression, kernel="one_pass"), problem)


def _select(case: Case) -> Kernel:
    """Return what `LinearRegression(kernel="auto")` does on a case."""
    selected = dispatch.select_kernel(replace(case, operation="step"))
    swept = selected.function is one_pass_step
    return get_kernel("one_pass_fit" if swept else "LinearRegression")


@kernel(
    operation="fit",
    flops=sweep_flops,
    workspace=lambda m, n, o, s: 0,
    delegates_to=_select,
)
def auto_fit(problem: Problem) -> Callable[[], Any]:
    """Train `LinearRegression(kernel="auto")`, which takes what is fastest here."""
    return bind_model(partial(LinearRegression, kernel="auto"), problem)
