"""Call a compiled sweep on tensors: one thread, or several that share the rows.

The calls take raw addresses, a microsecond less than unpacking tensors; who binds one keeps its
tensors alive.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from .. import tuning
from ..case import Case, Gradient
from . import compile as compiler
from .codegen import MAX_PRODUCTS, Argument, Tiles, layout
from .compile import Arguments, Function
from .threads import run_in_threads

# Operations that are worth another thread where `python -m bench tune` has not measured it; on two
# virtual cores it found so many, a tenth of a millisecond.
PART_FLOPS = 2**23
_NAMES = {torch.float32: "float32", torch.float64: "float64"}


def outputs_too_few(case: Case) -> str | None:
    """Say so if a case has too few outputs for so many features."""
    laid_out = layout(*case.sizes, case.dtype, compiler.vector_bytes())
    _, n, o = case.sizes
    if not isinstance(laid_out, Tiles) or 2 * o >= laid_out.lanes:
        return None
    return (
        f"where n·o is above {MAX_PRODUCTS:,} outputs fill at least half a vector of "
        f"{laid_out.lanes}; got n·o = {n * o:,} and o = {o}"
    )


def partial_sum_bytes(operation: str, m: int, n: int, o: int, itemsize: int) -> int:
    """Return the bytes of the sums of all threads, and of what else they have room for."""
    dtype = {4: "float32", 8: "float64"}[itemsize]
    doubles = layout(m, n, o, dtype, compiler.vector_bytes()).doubles(operation)
    return thread_count(m, n, o) * 8 * doubles


def thread_count(m: int, n: int, o: int) -> int:
    """Return how many threads share the rows: as many as there are where each has enough to do."""
    worth_a_thread = tuning.current_table().part_flops or PART_FLOPS
    return max(1, min(torch.get_num_threads(), 4 * m * n * o // worth_a_thread))


def bind_step(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, rate: float, threads: int | None = None
) -> Callable[[], None]:
    """Return the call that makes one step, W −= η·XᵀR and b −= η·1ᵀR, in place.

    The sums lie in memory of the call's own: it must not be made by two threads at once.

    Shapes: x (m, n), y (m, o), weight (n, o), bias (o); all contiguous, float32 or float64.

    Args:
        x: Inputs.
        y: Targets.
        weight: Changed by each step.
        bias: Changed by each step.
        rate: η.
        threads: How many share the rows; None for what pays.
    """
    return _bind("step", x, y, Gradient(weight, bias), rate, threads)


def gradient(x: Tensor, delta: Tensor) -> Gradient:
    """Return XᵀΔ and 1ᵀΔ. Shapes: x (m, n), delta (m, o)."""
    (m, n), o = x.shape, delta.shape[1]
    x, delta = x.contiguous(), delta.contiguous()
    found = Gradient(x.new_empty(n, o), x.new_empty(o))
    if thread_count(m, n, o) > 1:
        _bind("gradient", x, delta, found, 0.0, None)()
        return found
    code = compiler.compile_kernel("gradient", m, n, o, _NAMES[x.dtype])
    sums = torch.empty(code.doubles, dtype=torch.float64)
    places = (value.data_ptr() for value in (x, delta, *found, sums))
    arguments = Arguments(*places, m, 1)
    code.call(ctypes.addressof(arguments))
    return found


def _bind(
    operation: str, x: Tensor, y: Tensor, used: Gradient, rate: float, threads: int | None
) -> Callable[[], None]:
    (m, n), o = x.shape, y.shape[1]
    code = compiler.compile_kernel(operation, m, n, o, _NAMES[x.dtype])
    threads = threads or thread_count(m, n, o)
    sums = torch.empty(threads * code.doubles, dtype=torch.float64)
    kept = (x, y, used, sums)
    given = [value.data_ptr() for value in (x, y, *used, sums)]
    rows = [n * x.itemsize, o * x.itemsize, 0, 0]  # bytes from one row to the next
    arguments = []
    for thread in range(threads):
        first, last = m * thread // threads, m * (thread + 1) // threads
        steps = *(first * width for width in rows), thread * code.doubles * sums.itemsize
        places = (base + step for base, step in zip(given, steps, strict=True))
        arguments.append(Arguments(*places, last - first, threads))
        ctypes.c_double.from_buffer(arguments[-1], 8 * Argument.RATE).value = rate
    own, *others = (ctypes.addressof(one) for one in arguments)
    if not others:

        def call(
            code: Function = code.call, own: int = own, kept: object = (kept, arguments)
        ) -> None:
            code(own)

        return call

    def call_in_threads(kept: object = (kept, arguments)) -> None:
        run_in_threads(code.sweep, own, others)
        code.finish(own)

    return call_in_threads
