"""Compile a sweep for the machine at hand, once a process for each n, o and dtype, and call it.

LLVM does it in 50 to 300 ms, out of the package llvmlite: no compiler is needed. The calls take raw
addresses, a microsecond less than unpacking tensors; who binds one keeps its tensors alive.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import torch
from llvmlite import binding as llvm
from torch import Tensor

from . import rule
from .case import Case, Gradient
from .sweep import MOST_PRODUCTS, Slot, Source, layout

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
        sums: How many float64 numbers the sums of one part are.
        source: LLVM's IR that it was compiled from.
    """

    call: Function
    sweep: Function
    finish: Function
    sums: int
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


@cache
def compiled(stage: str, n: int, o: int, dtype: str) -> Sweep:
    """Return the sweep for n features and o outputs, compiled on its first use in a process.

    Args:
        stage: `step` or `gradient`.
        n: Features.
        o: Outputs.
        dtype: `float32` or `float64`.
    """
    written = Source(stage, n, o, dtype, vector_bytes())
    text = written.text()
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
    call, sweep, finish = (
        kind(engine.get_function_address(f"{part}_{written.name}"))
        for part in ("call", "sweep", "finish")
    )
    return Sweep(call, sweep, finish, written.layout.sums, text)


def too_wide(case: Case) -> str | None:
    """Say so if a case has more features and outputs than a sweep is written for."""
    products = layout(case.in_features, case.out_features, case.dtype, vector_bytes()).weight_sums
    if products <= MOST_PRODUCTS:
        return None
    return (
        f"a sweep holds W in the first cache: n·o, padded, is at most {MOST_PRODUCTS:,}; got "
        f"{products:,}"
    )


def sums_bytes(n: int, o: int, itemsize: int) -> int:
    """Return the bytes that the sums of one part take."""
    dtype = {4: "float32", 8: "float64"}[itemsize]
    return 8 * layout(n, o, dtype, vector_bytes()).sums


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
    code = compiled("gradient", n, o, _NAMES[x.dtype])
    sums = torch.empty(code.sums, dtype=torch.float64)
    places = (value.data_ptr() for value in (x, delta, *found, sums))
    slots = _Slots(*places, m, 1)
    code.call(ctypes.addressof(slots))
    return found


def _bind(
    stage: str, x: Tensor, y: Tensor, used: Gradient, rate: float, parts: int | None
) -> Callable[[], None]:
    (m, n), o = x.shape, y.shape[1]
    code = compiled(stage, n, o, _NAMES[x.dtype])
    parts = parts or parts_of(m, n, o)
    sums = torch.empty(parts * code.sums, dtype=torch.float64)
    kept = (x, y, used, sums)
    given = [value.data_ptr() for value in (x, y, *used, sums)]
    rows = [n * x.itemsize, o * x.itemsize, 0, 0]  # bytes from one row to the next
    slots = []
    for part in range(parts):
        first, last = m * part // parts, m * (part + 1) // parts
        steps = *(first * width for width in rows), part * code.sums * sums.itemsize
        places = (base + step for base, step in zip(given, steps, strict=True))
        slots.append(_Slots(*places, last - first, parts))
        ctypes.c_double.from_buffer(slots[-1], 8 * Slot.RATE).value = rate
    own, *others = (ctypes.addressof(one) for one in slots)
    if not others:

        def call(code: Function = code.call, own: int = own, kept: object = (kept, slots)) -> None:
            code(own)

        return call

    def call_in_parts(kept: object = (kept, slots)) -> None:
        helpers = _helpers(os.getpid(), len(others))
        waiting = [helpers.submit(code.sweep, other) for other in others]
        code.sweep(own)
        for one in waiting:
            one.result()
        code.finish(own)

    return call_in_parts


@cache
def _helpers(process: int, count: int) -> ThreadPoolExecutor:
    """Return threads that stay for as long as the process: a fork has none of its parent's."""
    return ThreadPoolExecutor(count, thread_name_prefix="mlr-sweep")
