"""Call a compiled sweep on tensors: one thread, or several that share the rows.

The calls take raw addresses, a microsecond less than unpacking tensors; who binds one keeps its
tensors alive.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from .. import tuning
from ..case import Case, Gradient
from . import compile as compiler
from .codegen import MAX_PRODUCTS, Tiles, layout, needs_room
from .compile import Arguments, Function, pack_arguments, pack_few_arguments
from .threads import run_in_threads

# Operations that are worth another thread where `python -m bench tune` has not measured it; on two
# virtual cores it found so many, a tenth of a millisecond.
PART_FLOPS = 2**23
_NAMES = {torch.float32: "float32", torch.float64: "float64"}


def outputs_too_few(case: Case) -> str | None:
    """Say so if a case has too few outputs for so many features."""
    m, n, o = case.sizes
    laid_out = layout(m, n, o, case.dtype, compiler.target())
    if not isinstance(laid_out, Tiles) or 2 * o >= laid_out.lanes:
        return None
    return (
        f"where n·o is above {MAX_PRODUCTS:,} outputs fill at least half a vector of "
        f"{laid_out.lanes}; got n·o = {n * o:,} and o = {o}"
    )


def partial_sum_bytes(operation: str, m: int, n: int, o: int, itemsize: int) -> int:
    """Return the bytes of the sums of all threads, and of what else they have room for."""
    dtype = {4: "float32", 8: "float64"}[itemsize]
    laid_out = layout(m, n, o, dtype, compiler.target(), operation)
    threads = thread_count(m, n, o)
    if threads == 1 and not needs_room(laid_out):
        return 0
    return threads * 8 * laid_out.doubles(operation)


def thread_count(m: int, n: int, o: int) -> int:
    """Return how many threads share the rows: as many as there are where each has enough to do."""
    return max(1, min(torch.get_num_threads(), _threads_worth(m, n, o)))


def _threads_worth(m: int, n: int, o: int) -> int:
    return 4 * m * n * o // (tuning.current_table().part_flops or PART_FLOPS)


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
    return bind_sweep("step", x, y, Gradient(weight, bias), rate=rate, threads=threads)


@lru_cache(maxsize=4_096)
def prepare_gradient(
    x: torch.Size, delta: torch.Size, dtype: torch.dtype
) -> Callable[[Tensor, Tensor], Gradient]:
    """Return the call that returns XᵀΔ and 1ᵀΔ of tensors of these shapes and dtype.

    Where rows are few it takes as long as two allocations and one call of a foreign function do.
    """
    (m, n), o = x, delta[1]
    code = compiler.compile_kernel("gradient", m, n, o, _NAMES[dtype])
    run, doubles, shared = code.call, code.call_doubles, _threads_worth(m, n, o) > 1
    pack = pack_few_arguments
    make: Callable[..., Gradient] = tuple.__new__  # a third of what the named tuple's own takes

    def call(x: Tensor, delta: Tensor) -> Gradient:
        if not (x.is_contiguous() and delta.is_contiguous()):
            x, delta = x.contiguous(), delta.contiguous()
        weight, bias = x.new_empty(n, o), x.new_empty(o)
        found = make(Gradient, (weight, bias))
        places = x.data_ptr(), delta.data_ptr(), weight.data_ptr(), bias.data_ptr()
        if shared and thread_count(m, n, o) > 1:
            bind_sweep("gradient", x, delta, found)()
        elif doubles:
            sums = x.new_empty(doubles, dtype=torch.float64)
            run(pack(*places, sums.data_ptr(), m, 1, 0.0))
        else:
            run(pack(*places, 0, m, 1, 0.0))
        return found

    return call


def bind_sweep(
    operation: str,
    x: Tensor,
    y: Tensor,
    used: Gradient,
    *,
    rate: float | int = 0.0,
    threads: int | None = None,
    batch: int | None = None,
    loss: int = 0,
    target: Gradient | None = None,
) -> Callable[[], None]:
    """Return the call of a compiled sweep on tensors, all contiguous.

    Args:
        operation: As of `compile_kernel`.
        x: Inputs X (m, n).
        y: Targets Y (m, o), or Δ of a gradient.
        used: W (n, o) and b (o); of a gradient, the result.
        rate: η, in training 2η.
        threads: How many share the rows; None for what pays.
        batch: Rows of a mini-batch; all by default, and all where threads share them.
        loss: The address of the float64 number that a loss is added to.
        target: What training changes; W and b by default.
    """
    (m, n), o = x.shape, y.shape[1]
    batch = min(batch or m, m)
    code = compiler.compile_kernel(operation, batch, n, o, _NAMES[x.dtype])
    threads = threads or thread_count(m, n, o)
    doubles = threads * code.doubles if threads > 1 else code.call_doubles
    sums = torch.empty(doubles, dtype=torch.float64, device="cpu")
    kept = (x, y, used, target, sums)
    rest = rate, batch, m * o, loss, *(value.data_ptr() for value in target or used)
    arguments = _arguments(x, y, used, sums, threads, rest)
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


def _arguments(
    x: Tensor, y: Tensor, used: Gradient, sums: Tensor, threads: int, rest: tuple[float | int, ...]
) -> list[ctypes.Array[ctypes.c_int64]]:
    """Return the arguments of each thread, of which each has a part of the rows and of the sums."""
    m, part = len(x), sums.nbytes // threads
    places = [value.data_ptr() for value in (x, y, *used, sums)]
    widths = [x.shape[1] * x.itemsize, y.shape[1] * y.itemsize]  # bytes from one row to the next
    found = []
    for thread in range(threads):
        first, last = m * thread // threads, m * (thread + 1) // threads
        steps = *(first * width for width in widths), 0, 0, thread * part
        own = (place + step for place, step in zip(places, steps, strict=True))
        packed = pack_arguments(*own, last - first, threads, *rest)
        found.append(Arguments.from_buffer_copy(packed))
    return found
