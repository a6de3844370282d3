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
from .models import LinearRegression
from .one_pass.bind import outputs_too_few, partial_sum_bytes
from .one_pass.codegen import LOSSES
from .one_pass.fit import losses_threads, trains_together
from .operations import FIT_EPOCHS, FIT_VALID_ROWS, bind_model, fit_flops, fit_rows
from .registry import Kernel, get_kernel, kernel
from .steps import one_pass_step


def sweep_flops(m: int, n: int, o: int, s: int) -> int:
    """Count the products of a fit that computes each of them once."""
    return fit_flops(m, n, o, 2 * n * o)


def _sum_bytes(m: int, n: int, o: int, s: int) -> int:
    """Hold the sums of threads that share rows, those of wide sweeps, and parameters.

    Where one call trains for many epochs those after each are held, once more while their losses
    are found; and always a copy of the model's.
    """
    own = (n * o + o) * s + partial_sum_bytes("train", m, n, o, s)
    if not trains_together(fit_rows(m), n, o, m, FIT_EPOCHS):
        return own + partial_sum_bytes("loss", FIT_VALID_ROWS, n, o, s)
    threads = losses_threads(FIT_VALID_ROWS, n, o)
    losses = partial_sum_bytes("losses", FIT_VALID_ROWS, n, o, s, threads)
    return own + LOSSES * (n * o + o) * s + losses


@kernel(
    operation="fit",
    flops=sweep_flops,
    workspace=_sum_bytes,
    devices=("cpu",),
    unsupported_reason=outputs_too_few,
)
def one_pass_fit(problem: Problem) -> Callable[[], Any]:
    """Train `LinearRegression(kernel="one_pass")`: all epochs are one call of compiled code.

    Reads X and Y once an epoch, those of validation once for all epochs in a second call, and
    materialises nothing of m numbers. Where an epoch takes long it is a call of its own.
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
