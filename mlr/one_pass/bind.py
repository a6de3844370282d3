"""Call a compiled sweep on tensors: one thread, or several that share the rows.

The calls take raw addresses, a microsecond less than unpacking tensors; who binds one keeps its
tensors alive.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from .. import tuning
from ..case import Case, Gradient
from . import compile as compiler
from .codegen import MAX_PRODUCTS, Tiles, layout, needs_room
from .compile import Arguments, pack_arguments, unpack_integers
from .threads import run_in_threads

# Operations that are worth another thread where `python -m bench tune` has not measured it; on two
# virtual cores it found so many, a tenth of a millisecond.
PART_FLOPS = 2**23
# What the compiled code of TorchInductor allocates by: a third of what a call of torch's takes.
_allocate: Callable[..., Tensor] = getattr(
    torch._C._dynamo.guards, "_empty_strided_cpu", partial(torch.empty_strided, device="cpu")
)
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


def partial_sum_bytes(
    operation: str, m: int, n: int, o: int, itemsize: int, threads: int | None = None
) -> int:
    """Return the bytes of the sums of all threads, and of what else they have room for."""
    dtype = {4: "float32", 8: "float64"}[itemsize]
    laid_out = layout(m, n, o, dtype, compiler.target(), operation)
    threads = threads or thread_count(m, n, o)
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
    shape, strides, single, adjoining = (n, o), (o, 1), (o,), (1,)
    make: Callable[..., Gradient] = tuple.__new__  # a third of what the named tuple's own takes

    def call(x: Tensor, delta: Tensor) -> Gradient:
        if not (x.is_contiguous() and delta.is_contiguous()):
            x, delta = x.contiguous(), delta.contiguous()
        weight = _allocate(shape, strides, dtype)
        bias = _allocate(single, adjoining, dtype)
        found = make(Gradient, (weight, bias))
        if shared and thread_count(m, n, o) > 1:
            bind_sweep("gradient", x, delta, found)()
            return found
        to = bias.data_ptr()
        sums = x.new_empty(doubles, dtype=torch.float64) if doubles else None  # or on the stack
        room = to if sums is None else sums.data_ptr()
        run(x.data_ptr(), delta.data_ptr(), weight.data_ptr(), to, room, m, 1)
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
    epochs: int = 1,
    kept: Tensor | None = None,
) -> Callable[[], None]:
    """Return the call of a compiled sweep on tensors, all contiguous.

    Args:
        operation: As of `compile_kernel`.
        x: Inputs X (m, n).
        y: Targets Y (m, o), or Δ of a gradient.
        used: W (n, o) and b (o); of a gradient, the result; of `losses`, what is kept, twice.
        rate: η, in training 2η.
        threads: How many share the rows; None for what pays.
        batch: Rows of a mini-batch; all by default, and all where threads share them.
        loss: The address of the float64 number that a loss is added to, or of several.
        target: What training changes; W and b by default.
        epochs: How often training in one thread goes through the rows; each has a loss.
        kept: Where the parameters after each of them are put, (epochs, n + 1, o).
    """
    (m, n), o = x.shape, y.shape[1]
    batch = min(batch or m, m)
    code = compiler.compile_kernel(operation, batch, n, o, _NAMES[x.dtype])
    threads = threads or thread_count(m, n, o)
    doubles = threads * code.doubles if threads > 1 else code.call_doubles
    sums = _allocate((doubles,), (1,), torch.float64)
    held = (x, y, used, target, kept, sums)
    targets = [value.data_ptr() for value in target or used]
    rest = rate, batch, m * o, loss, *targets, epochs, 0 if kept is None else kept.data_ptr()
    places = [value.data_ptr() for value in (x, y, *used, sums)]
    if threads == 1:
        packed = pack_arguments(*places, m, 1, *rest)
        return partial(code.call, *unpack_integers(packed), held)
    widths = n * x.itemsize, o * y.itemsize, 0, 0, sums.nbytes // threads
    arguments = _arguments(places, widths, m, threads, rest)
    own, *others = (ctypes.addressof(one) for one in arguments)

    def call_in_threads(held: object = (held, arguments)) -> None:
        run_in_threads(code.sweep, own, others)
        code.finish(own)

    return call_in_threads


def _arguments(
    places: Sequence[int], widths: Sequence[int], m: int, threads: int, rest: Sequence[float | int]
) -> list[ctypes.Array[ctypes.c_int64]]:
    """Return the arguments of each thread, of which each has a part of the rows and of the sums.

    A width is how many bytes lie from one row to the next; of the sums, from one part to the next.
    """
    found = []
    for thread in range(threads):
        first, last = m * thread // threads, m * (thread + 1) // threads
        numbers = first, first, 0, 0, thread
        own = [place + width * number
               for place, width, number in zip(places, widths, numbers, strict=True)]  # fmt: skip
        packed = pack_arguments(*own, last - first, threads, *rest)
        found.append(Arguments.from_buffer_copy(packed))
    return found
