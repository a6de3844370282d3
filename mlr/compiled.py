"""Compile a sweep for the machine at hand, once a process for each layout and dtype, and call it.

LLVM does it in 50 to 300 ms, out of the package llvmlite: no compiler is needed. The calls take raw
addresses, a microsecond less than unpacking tensors; who binds one keeps its tensors alive.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from llvmlite import binding as llvm
from torch import Tensor

from . import rule
from .case import Case, Gradient
from .sweep import MOST_PRODUCTS, Layout, Slot, Source, Tiles, layout
from .sweep.peak import multiply_adds

Function = Callable[[int], None]
# Operations that are worth another thread where `python -m bench rule` has not measured it; on two
# virtual cores it found so many, a tenth of a millisecond.
PART_FLOPS = 2**23
_Slots = ctypes.c_int64 * len(Slot)
_NAMES = {torch.float32: "float32", torch.float64: "float64"}


class Sweep(NamedTuple):
    """A compiled sweep.

    Attributes:
        call: Sum over the rows and use the sums, from slots at an address.
        sweep: Sum over the rows alone.
        finish: Use the sums of all parts alone.
        doubles: How many float64 numbers one part has room for, its sums first.
        source: LLVM's IR that it was compiled from.
    """

    call: Function
    sweep: Function
    finish: Function
    doubles: int
    source: str


@cache
def vector_bytes() -> int:
    """Return how many bytes the vectors of this machine hold."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx") else 16


class _Host(NamedTuple):
    """What compiles for this machine, and what holds the code: for as long as the process lives."""

    machine: llvm.TargetMachine
    engine: llvm.ExecutionEngine


@cache
def _host() -> _Host:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    if platform.machine() in ("x86_64", "AMD64"):
        features += ",-prefer-256-bit"  # or LLVM would halve the vectors that the source asks for
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=rule.processor(), features=features, opt=3, jit=True)
    return _Host(machine, llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine))


@lru_cache(maxsize=4_096)
def compiled(stage: str, m: int, n: int, o: int, dtype: str) -> Sweep:
    """Return the sweep for m rows of n features and o outputs, compiled where it is the first.

    Args:
        stage: `step` or `gradient`.
        m: Rows. All m of a layout share what is compiled.
        n: Features.
        o: Outputs.
        dtype: `float32` or `float64`.
    """
    return _compiled(stage, layout(m, n, o, dtype, vector_bytes()), dtype)


@cache
def _compiled(stage: str, laid_out: Layout, dtype: str) -> Sweep:
    written = Source(stage, laid_out, dtype)
    text = written.text()
    names = (f"{part}_{written.name}" for part in ("call", "sweep", "finish"))
    call, sweep, finish = _loaded(text, *names)
    return Sweep(call, sweep, finish, laid_out.doubles(stage), text)


def _loaded(text: str, *names: str) -> list[Function]:
    """Compile IR and return its functions of these names."""
    module = llvm.parse_assembly(text)
    module.verify()
    # The source is unrolled and in vectors already: trying again would only take time.
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    machine, engine = _host()
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine.add_module(module)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    return [kind(engine.get_function_address(name)) for name in names]


def too_lean(case: Case) -> str | None:
    """Say so if a case has too many features for so few outputs."""
    laid_out = layout(*case.sizes, case.dtype, vector_bytes())
    _, n, o = case.sizes
    if not isinstance(laid_out, Tiles) or 2 * o >= laid_out.lanes:
        return None
    return (
        f"where n·o is above {MOST_PRODUCTS:,} outputs fill at least half a vector of "
        f"{laid_out.lanes}; got n·o = {n * o:,} and o = {o}"
    )


def part_bytes(stage: str, m: int, n: int, o: int, itemsize: int) -> int:
    """Return the bytes that the sums of all parts take, and what else the parts have room for."""
    dtype = {4: "float32", 8: "float64"}[itemsize]
    return parts_of(m, n, o) * 8 * layout(m, n, o, dtype, vector_bytes()).doubles(stage)


def parts_of(m: int, n: int, o: int) -> int:
    """Return into how many parts the rows are cut: one a thread, where each has enough to do."""
    worth_a_part = rule.current().part_flops or PART_FLOPS
    return max(1, min(torch.get_num_threads(), 4 * m * n * o // worth_a_part))


def bind_step(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, rate: float, parts: int | None = None
) -> Callable[[], None]:
    """Return the call that makes one step, W −= η·XᵀR and b −= η·1ᵀR, in place.

    Shapes: x (m, n), y (m, o), weight (n, o), bias (o); all contiguous, float32 or float64.

    Args:
        x: Inputs.
        y: Targets.
        weight: Changed by each step.
        bias: Changed by each step.
        rate: η.
        parts: Into how many the rows are cut, a thread for each; None for what pays.
    """
    return _bind("step", x, y, Gradient(weight, bias), rate, parts)


def gradient(x: Tensor, delta: Tensor) -> Gradient:
    """Return XᵀΔ and 1ᵀΔ. Shapes: x (m, n), delta (m, o)."""
    (m, n), o = x.shape, delta.shape[1]
    x, delta = x.contiguous(), delta.contiguous()
    found = Gradient(x.new_empty(n, o), x.new_empty(o))
    if parts_of(m, n, o) > 1:
        _bind("gradient", x, delta, found, 0.0, None)()
        return found
    code = compiled("gradient", m, n, o, _NAMES[x.dtype])
    sums = torch.empty(code.doubles, dtype=torch.float64)
    places = (value.data_ptr() for value in (x, delta, *found, sums))
    slots = _Slots(*places, m, 1)
    code.call(ctypes.addressof(slots))
    return found


def _bind(
    stage: str, x: Tensor, y: Tensor, used: Gradient, rate: float, parts: int | None
) -> Callable[[], None]:
    (m, n), o = x.shape, y.shape[1]
    code = compiled(stage, m, n, o, _NAMES[x.dtype])
    parts = parts or parts_of(m, n, o)
    sums = torch.empty(parts * code.doubles, dtype=torch.float64)
    kept = (x, y, used, sums)
    given = [value.data_ptr() for value in (x, y, *used, sums)]
    rows = [n * x.itemsize, o * x.itemsize, 0, 0]  # bytes from one row to the next
    slots = []
    for part in range(parts):
        first, last = m * part // parts, m * (part + 1) // parts
        steps = *(first * width for width in rows), part * code.doubles * sums.itemsize
        places = (base + step for base, step in zip(given, steps, strict=True))
        slots.append(_Slots(*places, last - first, parts))
        ctypes.c_double.from_buffer(slots[-1], 8 * Slot.RATE).value = rate
    own, *others = (ctypes.addressof(one) for one in slots)
    if not others:

        def call(code: Function = code.call, own: int = own, kept: object = (kept, slots)) -> None:
            code(own)

        return call

    def call_in_parts(kept: object = (kept, slots)) -> None:
        _side_by_side(code.sweep, own, others)
        code.finish(own)

    return call_in_parts


class MultiplyAdds(NamedTuple):
    """A call of multiply-adds on registers alone, in all threads.

    Attributes:
        call: Do them.
        operations: How many a call does.
        totals: What each thread has summed up, lane by lane.
    """

    call: Callable[[], None]
    operations: int
    totals: Tensor


def bind_multiply_adds(dtype: str) -> MultiplyAdds:
    """Return the call that no kernel can do more operations in a second than; see `sweep.peak`."""
    text, operations = multiply_adds(dtype, vector_bytes())
    (code,) = _loaded(text, f"peak_{dtype}_{vector_bytes()}")
    given = torch.tensor([0.5, 1.0], dtype=getattr(torch, dtype))
    threads = torch.get_num_threads()
    totals = given.new_empty(threads, vector_bytes() // given.itemsize)
    factor, addend = (given[place:].data_ptr() for place in (0, 1))
    slots = [_Slots(factor, addend, 0, 0, one.data_ptr()) for one in totals]
    own, *others = (ctypes.addressof(one) for one in slots)

    def call(kept: object = (given, totals, slots)) -> None:
        _side_by_side(code, own, others)

    return MultiplyAdds(call, operations * threads, totals)


def _side_by_side(code: Function, own: int, others: list[int]) -> None:
    """Call a function in this thread, and in another for each of the others."""
    helpers = _helpers(os.getpid(), len(others)) if others else None
    waiting = [helpers.submit(code, other) for other in others] if helpers else []
    code(own)
    for one in waiting:
        one.result()


@cache
def _helpers(process: int, count: int) -> ThreadPoolExecutor:
    """Return threads that stay for as long as the process: a fork has none of its parent's."""
    return ThreadPoolExecutor(count, thread_name_prefix="mlr-sweep")
