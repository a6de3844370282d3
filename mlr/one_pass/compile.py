"""Compile what `codegen` writes for the machine at hand, once a process for each layout and dtype.

LLVM does it in 50 to 300 ms, out of the package llvmlite: no compiler is needed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, lru_cache
from struct import Struct
from typing import Any, NamedTuple

from ..tuning import processor
from . import python_calls
from .codegen import Argument, Layout, Source, Target, layout, needs_room
from .python_calls import Integers, make_function

Function = Callable[[int], None]  # of the address of `Arguments`
Arguments = ctypes.c_int64 * len(Argument)
pack_arguments = Struct("7qdqd5q").pack
unpack_integers = Struct(f"{len(Argument)}q").unpack
_KIND = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class CompiledKernel(NamedTuple):
    """A compiled sweep over the rows.

    Attributes:
        call: Sum over the rows and use the sums, in one thread, from the arguments as integers.
        sweep: Sum over the rows alone.
        finish: Use the sums of all threads alone.
        doubles: How many float64 numbers one of several threads needs room for, its sums first.
        call_doubles: How many `call` needs; 0 where it has room for them on the stack.
        source: LLVM's IR that it was compiled from.
    """

    call: Integers
    sweep: Function
    finish: Function
    doubles: int
    call_doubles: int
    source: str


@cache
def llvm() -> Any:
    """Return LLVM, loaded where it is the first call: a program may have no use for it."""
    from llvmlite import binding

    return binding


@cache
def target() -> Target:
    """Return what code is laid out for on this machine."""
    features = llvm().get_host_cpu_features()
    return Target.of(llvm().get_process_triple(), features, processor())


class Host(NamedTuple):
    """What compiles for this machine, and what holds the code: for as long as the process lives."""

    machine: Any
    engine: Any


@cache
def host() -> Host:
    """Return what compiles for this machine, made where it is the first call."""
    llvm().initialize_native_target()
    llvm().initialize_native_asmprinter()
    features = llvm().get_host_cpu_features().flatten()
    machine = target_machine(llvm().get_process_triple(), processor(), features, jit=True)
    return Host(machine, llvm().create_mcjit_compiler(llvm().parse_assembly(""), machine))


def target_machine(triple: str, cpu: str, features: str = "", *, jit: bool = False) -> Any:
    """Return what compiles for a processor, this or another, by LLVM's names."""
    if triple.startswith("x86_64"):
        features += ",-prefer-256-bit"  # or LLVM would halve the vectors that the source asks for
    found = llvm().Target.from_triple(triple)
    return found.create_target_machine(cpu=cpu, features=features, opt=3, jit=jit)


@lru_cache(maxsize=4_096)
def compile_kernel(operation: str, m: int, n: int, o: int, dtype: str) -> CompiledKernel:
    """Return the sweep for m rows of n features and o outputs, compiled where it is the first.

    Args:
        operation: `step`, `train`, `loss`, `losses` or `gradient`.
        m: Rows. All m of a layout share what is compiled.
        n: Features.
        o: Outputs.
        dtype: `float32` or `float64`.
    """
    return _compile(operation, layout(m, n, o, dtype, target(), operation), dtype)


@cache
def _compile(operation: str, laid_out: Layout, dtype: str) -> CompiledKernel:
    source = Source(operation, laid_out, dtype)
    text = source.text()
    names = (f"{part}_{source.name}" for part in ("call", "sweep", "finish"))
    call, *parts = _load(text, *names)
    sweep, finish = map(_KIND, parts)
    doubles = laid_out.doubles(operation)
    room = doubles if needs_room(laid_out) else 0
    return CompiledKernel(make_function(_through(), call), sweep, finish, doubles, room, text)


@cache
def _through() -> int:
    return _load(python_calls.source(), python_calls.NAME)[0]


def load_functions(text: str, *names: str) -> list[Function]:
    """Compile IR and return its functions of these names."""
    return [_KIND(address) for address in _load(text, *names)]


def _load(text: str, *names: str) -> list[int]:
    """Compile IR and return the addresses of its functions of these names."""
    module = llvm().parse_assembly(text)
    module.verify()
    machine, engine = host()
    optimise(module, machine)
    engine.add_module(module)
    engine.finalize_object()
    return [engine.get_function_address(name) for name in names]


def optimise(module: Any, machine: Any) -> None:
    """Run LLVM's passes over a module for a machine, in place."""
    # The source is unrolled and in vectors already: trying again would only take time.
    options = llvm().create_pipeline_tuning_options(speed_level=3)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    passes = llvm().create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
