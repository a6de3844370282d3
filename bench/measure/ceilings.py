"""What a device can do at best, as measured: operations, bandwidth by working set, one call."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from llvmlite import ir

from mlr.case import DTYPES
from mlr.one_pass.codegen.writer import Argument, Writer
from mlr.one_pass.compile import Arguments, Function, load_functions, target
from mlr.one_pass.threads import run_in_threads

from ..machine.devices import Call, device_of
from ..store.schema import Ceilings
from .timing import seconds_per_call

ROUNDS = 50_000  # of a call: a millisecond, beside which starting threads counts for little
READ_BYTES = 2**27  # of a call, in each thread: half a millisecond where a cache is the fastest
COLD_BYTES = (2**24, 2**26)  # read after eviction, as few and as many as of cold calls
COLD_READS = 12
_SUMS = {32: 24, 16: 12}  # by the registers: sums in flight, enough for the latency of each


def measure_ceilings(device: str) -> Ceilings:
    """Measure what the device can do at best, in all of torch's threads.

    The cheapest call is that of `least_calls` of the device. A bandwidth is on the CPU that of a
    loop that reads a working set over and over, on other devices the highest one of a sum, a copy
    and a change in place (read and write counted), whose launches overlap. On the CPU memory that
    was evicted is read too, as it is before cold calls. A rate of FLOPs is that of a square
    product, or on the CPU that of multiply-adds on registers alone if higher. What does not fit the
    free memory twice is left out.
    """
    probed = device_of(device)
    dispatch_s = min(seconds_per_call(call, device) for call in probed.least_calls())
    peaks = {dtype: _peak_rate(device, dtype) for dtype in probed.dtypes}
    sizes = [size for size in probed.working_sets if 2 * size < probed.free_bytes()]
    memory = torch.ones(max(sizes, default=0) // 8, dtype=torch.float64, device=device)
    bandwidth = [[size, _read_rate(memory[: size // 8])] for size in sizes]
    return Ceilings(
        dispatch_s=dispatch_s,
        bandwidth_bytes_per_s=bandwidth,
        flops_per_s={dtype: peak for dtype, peak in peaks.items() if peak},
        cold_bytes_per_s=_cold_rate() if probed.is_host and probed.can_evict else None,
        last_cache_bytes=probed.cache_bytes()[-1],
    )


def _read_rate(memory: torch.Tensor) -> float:
    device, probes = str(memory.device), list[tuple[Call, int]]()
    if device_of(device).is_host:
        probes = [bind_reading(memory, ahead)[:2] for ahead in (False, True)]
    else:
        half, target = memory.chunk(2)
        probes = [(call, memory.nbytes) for call in (memory.sum, lambda: target.copy_(half))]
        probes.append((memory.neg_, 2 * memory.nbytes))
    return max(work / seconds_per_call(call, device) for call, work in probes)


def _cold_rate() -> float:
    """Return the highest rate of reading memory once whose lines and pages no cache holds."""
    host, rates = device_of("cpu"), []
    for size, ahead in product(COLD_BYTES, (False, True)):
        memory = torch.ones(size // 8, dtype=torch.float64)
        read, evict = bind_reading(memory, ahead, size), host.evictor([memory])
        for _ in range(COLD_READS):
            read.call()
            evict()
            start = host.clock()
            read.call()
            rates.append(read.work / (host.clock() - start))
    return max(rates)


def _peak_rate(device: str, dtype: str) -> float:
    """Return the highest rate of a dtype, or 0 where no probe fits the memory."""
    probed = device_of(device)
    usable = probed.free_bytes() // (4 * DTYPES[dtype].itemsize)  # two matrices, twice
    sizes = [size for size in probed.gemm_sizes if size**2 < usable]
    rates = [_gemm_rate(device, dtype, size) for size in sizes]
    if probed.is_host:
        bound = bind_multiply_adds(dtype)
        rates.append(bound.work / seconds_per_call(bound.call, device))
    return max(rates, default=0.0)


def _gemm_rate(device: str, dtype: str, size: int) -> float:
    left = torch.randn(size, size, dtype=DTYPES[dtype], device=device)
    out = torch.empty_like(left)
    return 2 * size**3 / seconds_per_call(lambda: torch.mm(left, left, out=out), device)


class Probe(NamedTuple):
    """A call of compiled code in all threads, each with work of its own."""

    call: Callable[[], None]
    work: int  # of a call: operations, or bytes read
    totals: torch.Tensor  # what each thread has summed up, lane by lane


def _bind(name: str, inputs: torch.Tensor, parts: Sequence[Sequence[int]], work: int) -> Probe:
    """Return the call with X, Y, ROWS and THREADS of each thread; X and Y point into `inputs`."""
    totals = inputs.new_empty(len(parts), target().vector_bytes // inputs.itemsize)
    arguments = [
        Arguments(x, y, 0, 0, own.data_ptr(), *counts)
        for own, (x, y, *counts) in zip(totals, parts, strict=True)
    ]
    code, own, *others = _compiled(name, inputs.dtype), *map(ctypes.addressof, arguments)

    def call(kept: object = (inputs, totals, arguments)) -> None:
        run_in_threads(code, own, others)

    return Probe(call, work, totals)


def bind_reading(memory: torch.Tensor, ahead: bool, least_bytes: int = READ_BYTES) -> Probe:
    """Return the call that reads numbers over and over, each thread a part of whole turns of them.

    What is left over is not read, and not counted. A loop that asks for memory ahead, as kernels
    do, reads it faster, and what is in a cache slower.
    """
    turn = _sums() * target().vector_bytes
    threads = min(torch.get_num_threads(), max(1, memory.nbytes // turn))
    size, first = memory.nbytes // threads // turn * turn, memory.data_ptr()
    passes = max(1, least_bytes // size)
    parts = [(first + part * size, first, size // turn, passes) for part in range(threads)]
    return _bind("read_ahead" if ahead else "read", memory, parts, passes * size * threads)


def bind_multiply_adds(dtype: str) -> Probe:
    """Return the call that no kernel can do more operations in a second than."""
    given, threads = torch.tensor([0.5, 1.0], dtype=DTYPES[dtype]), torch.get_num_threads()
    factor, addend = (given[place:].data_ptr() for place in (0, 1))
    flops = 2 * ROUNDS * _sums() * target().vector_bytes // given.itemsize
    return _bind("peak", given, [(factor, addend, ROUNDS, 1)] * threads, flops * threads)


def _sums() -> int:
    return _SUMS[target().registers]


@cache
def _compiled(name: str, dtype: torch.dtype) -> Function:
    """Compile a function that adds to many sums, so that none waits for itself.

    It goes THREADS times over ROWS turns of a loop: `peak` with s = s·a + b, where X and Y say
    where a and b lie, the others with s = s + the next numbers from X on. The total is put into
    SUMS, so that nothing may be left out.
    """
    named = str(dtype).removeprefix("torch.")
    module, lanes, count = ir.Module(name), target().vector_bytes // dtype.itemsize, _sums()
    line_bytes = target().cache_line
    to = Writer(module, f"{name}_{named}", named, line_bytes)
    x, y = to.argument(Argument.X), to.argument(Argument.Y)
    a, b = (to.broadcast(to.build.load(place, typ=to.item), lanes) for place in (x, y))
    sums = [to.alloca(lanes, 1) for _ in range(count)]
    for number, place in enumerate(sums):
        to.store(ir.Constant(to.vector(lanes), [float(number)] * lanes), place, 0)
    with to.loop(0, to.argument(Argument.THREADS)), to.loop(0, to.argument(Argument.ROWS)) as turn:
        if name == "read_ahead":
            lines = count * target().vector_bytes // line_bytes
            line = to.offset((turn, lines))
            asked = to.lines_ahead(line, lines, (x, line_bytes // dtype.itemsize))
            to.prefetch(*asked, cache=2)  # of which more come at once than to the first
        for number, place in enumerate(sums):
            value = to.load(place, 0, lanes)
            if name == "peak":
                value = to.multiply_add(value, a, b)
            else:
                index = to.offset((turn, count * lanes), (number, lanes))
                value = to.build.fadd(value, to.load(x, index, lanes))
            to.store(value, place, 0)
    total = to.zero(lanes)
    for place in sums:
        total = to.build.fadd(total, to.load(place, 0, lanes))
    to.store(total, to.argument(Argument.SUMS), 0)
    to.build.ret_void()
    (function,) = load_functions(str(module), f"{name}_{named}")
    return function
