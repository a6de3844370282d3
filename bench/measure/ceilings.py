"""What a device can do at best, as measured: operations, bandwidth by working set, one call."""

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch
from llvmlite import ir

from mlr.case import DTYPES
from mlr.one_pass.codegen.writer import SIZES, Argument, Writer, registers
from mlr.one_pass.compile import Arguments, load_functions, vector_bytes
from mlr.one_pass.threads import run_in_threads

from ..machine.devices import device_of
from ..store.schema import Ceilings
from .timing import seconds_per_call

BATCHES = 5
ROUNDS = 50_000  # of a call: a millisecond, beside which starting threads counts for little
_HELD = {32: 24, 16: 12}  # by the registers: sums in flight, enough for the latency of each


def measure_ceilings(device: str) -> Ceilings:
    """Measure what the device can do at best, in a few seconds.

    The cheapest call is on the CPU one of a foreign function, which a compiled kernel may be; a
    bandwidth the higher rate of a copy (read and write counted) and a sum (read); a rate of FLOPs
    that of a square product, or on the CPU that of multiply-adds on registers alone if higher.
    """
    probed = device_of(device)
    torch_call_s = seconds_per_call(torch.zeros(1, device=device).neg_, device)
    foreign = ctypes.pythonapi.Py_IsInitialized
    dispatch_s = seconds_per_call(foreign, device) if probed.is_host else torch_call_s
    rates = [
        [size, _bandwidth(device, size, torch_call_s)]
        for size in probed.working_sets
        if 2 * size < probed.free_bytes()
    ]
    flops = {}
    for dtype in ("float32", "float64"):
        flops[dtype] = max(_gemm_rate(device, dtype, size) for size in probed.gemm_sizes)
        if probed.is_host:
            bound = bind_multiply_adds(dtype)
            rate = bound.flops / seconds_per_call(bound.call, device)
            flops[dtype] = max(flops[dtype], rate)
    return Ceilings(dispatch_s=dispatch_s, bandwidth_bytes_per_s=rates, flops_per_s=flops)


def _bandwidth(device: str, working_set: int, torch_call_s: float) -> float:
    source = torch.rand(working_set // 8, dtype=torch.float64, device=device)
    read = seconds_per_call(source.sum, device, BATCHES)
    half = source[: len(source) // 2]
    target = torch.empty_like(half)
    copied = seconds_per_call(lambda: target.copy_(half), device, BATCHES)
    fastest = min(read, copied)
    return working_set / max(fastest - torch_call_s, fastest / 10)


def _gemm_rate(device: str, dtype: str, size: int) -> float:
    left = torch.randn(size, size, dtype=DTYPES[dtype], device=device)
    out = torch.empty_like(left)
    return 2 * size**3 / seconds_per_call(lambda: torch.mm(left, left, out=out), device, BATCHES)


class MultiplyAdds(NamedTuple):
    """A call of multiply-adds on registers alone, in all threads."""

    call: Callable[[], None]
    flops: int  # of a call
    totals: torch.Tensor  # what each thread has summed up, lane by lane


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
