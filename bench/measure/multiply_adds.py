"""What a processor can do at best, for comparison: multiply-adds on registers, and nothing else."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch
from llvmlite import ir
from torch import Tensor

from mlr.one_pass.bind import run_in_threads
from mlr.one_pass.codegen.writer import SIZES, Argument, Writer, registers
from mlr.one_pass.compile import Arguments, load_functions, vector_bytes

ROUNDS = 50_000  # of a call: a millisecond, beside which starting threads counts for little
_HELD = {32: 24, 16: 12}  # by the registers: sums in flight, enough for the latency of each


class MultiplyAdds(NamedTuple):
    """A call of multiply-adds on registers alone, in all threads.

    Attributes:
        call: Do them.
        flops: How many operations a call does.
        totals: What each thread has summed up, lane by lane.
    """

    call: Callable[[], None]
    flops: int
    totals: Tensor


def bind_multiply_adds(dtype: str) -> MultiplyAdds:
    """Return the call that no kernel can do more operations in a second than."""
    text, flops = write_multiply_adds(dtype, vector_bytes())
    (code,) = load_functions(text, f"peak_{dtype}_{vector_bytes()}")
    given = torch.tensor([0.5, 1.0], dtype=getattr(torch, dtype))
    threads = torch.get_num_threads()
    totals = given.new_empty(threads, vector_bytes() // given.itemsize)
    factor, addend = (given[place:].data_ptr() for place in (0, 1))
    arguments = [Arguments(factor, addend, 0, 0, one.data_ptr()) for one in totals]
    own, *others = (ctypes.addressof(one) for one in arguments)

    def call(kept: object = (given, totals, arguments)) -> None:
        run_in_threads(code, own, others)

    return MultiplyAdds(call, flops * threads, totals)


def write_multiply_adds(dtype: str, vector_bytes: int) -> tuple[str, int]:
    """Return the IR of a function `peak_…` that adds up products, and the operations of a call.

    s = s·a + b for many sums s at once, so that none waits for itself. The arguments X and Y say
    where a and b lie; a number is put into SUMS, so that nothing may be left out.

    Args:
        dtype: `float32` or `float64`.
        vector_bytes: What the machine's vectors hold.
    """
    module = ir.Module("peak")
    to = Writer(module, f"peak_{dtype}_{vector_bytes}", dtype)
    lanes, held = vector_bytes // SIZES[dtype], _HELD[registers(vector_bytes)]
    factor, addend = (
        to.broadcast(to.build.load(to.argument(which), typ=to.item), lanes)
        for which in (Argument.X, Argument.Y)
    )
    sums = [to.alloca(lanes, 1) for _ in range(held)]
    for number, place in enumerate(sums):
        to.store(ir.Constant(to.vector(lanes), [float(number)] * lanes), place, 0)
    with to.loop(0, ROUNDS):
        for place in sums:
            to.store(to.multiply_add(to.load(place, 0, lanes), factor, addend), place, 0)
    total = to.zero(lanes)
    for place in sums:
        total = to.build.fadd(total, to.load(place, 0, lanes))
    to.store(total, to.argument(Argument.SUMS), 0)
    to.build.ret_void()
    return str(module), 2 * lanes * held * ROUNDS
