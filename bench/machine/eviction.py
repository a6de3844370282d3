"""Eviction of memory from all caches of the processor: lines, and where their pages lie.

CLFLUSHOPT or CLFLUSH evicts a line on x86, and DC CIVAC on 64-bit ARM. They leave the address of
its page in the TLB, the cache of such addresses, from which memory is read up to 1.8 times as fast
as one that a program comes to. No program may evict from there, so others are put in: those of more
pages than it holds. LLVM makes the functions.
"""

import ctypes
import mmap
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache

import torch
from llvmlite import binding as llvm
from llvmlite import ir
from torch import Tensor

from mlr.one_pass.codegen.writer import INT, Argument, Writer
from mlr.one_pass.compile import Arguments, Function, load_functions, target
from mlr.one_pass.threads import run_in_threads

# Instruction of a line, and the fence after the last, by what Python calls the architecture.
_X86, _ARM = ("clflush ($0)", "mfence"), ("dc civac, $0", "dsb ish")
INSTRUCTIONS = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}
PAGES = 2**13  # twice what the largest TLB holds, of AMD's Zen 5


def evict(tensors: Sequence[Tensor]) -> None:
    """Write back and evict every cache line of the tensors' memory, and its pages' addresses.

    Lines leave all caches; addresses the TLB of each of the cores that torch's threads are on.
    """
    for tensor in tensors:
        memory = tensor.untyped_storage()
        place = Arguments(memory.data_ptr(), 0, 0, 0, 0, memory.nbytes(), 1, 0)
        _evict_lines()(ctypes.addressof(place))
    pages = ctypes.addressof(_pages()[0])
    run_in_threads(_read_pages(), pages, [pages] * (torch.get_num_threads() - 1))


@cache
def _evict_lines() -> Function:
    """Return the function that evicts from X on as many bytes as ROWS says."""
    instruction, fence = INSTRUCTIONS[platform.machine()]
    if llvm.get_host_cpu_features().get("clflushopt"):
        instruction = instruction.replace("clflush", "clflushopt")  # ten times as fast

    def write(to: Writer, line: ir.Value) -> None:
        to.build.asm(_of(line), instruction, "r,~{memory}", [line], side_effect=True)

    return _each("evict_lines", target().cache_line, write, fence)


@cache
def _read_pages() -> Function:
    """Return the function that reads a number of every page of memory, of ROWS bytes at X."""

    def write(to: Writer, page: ir.Value) -> None:
        number = to.build.load(page, typ=INT)
        to.build.asm(_of(number), "", "r", [number], side_effect=True)

    return _each("read_pages", mmap.PAGESIZE, write, "")


def _of(value: ir.Value) -> ir.FunctionType:
    return ir.FunctionType(ir.VoidType(), [value.type])


def _each(name: str, step: int, write: Callable[[Writer, ir.Value], None], end: str) -> Function:
    """Compile a function that does something with each so many bytes, and then one instruction."""
    module = ir.Module(name)
    to = Writer(module, name, "float64", target().cache_line)
    first, size = to.argument(Argument.X), to.argument(Argument.ROWS)
    with to.loop(0, size, step) as offset:
        write(to, to.gep(first, offset, ir.IntType(8)))
    to.build.asm(ir.FunctionType(ir.VoidType(), []), end, "~{memory}", [], side_effect=True)
    to.build.ret_void()
    llvm.initialize_native_asmparser()
    (function,) = load_functions(str(module), name)
    return function


@cache
def _pages() -> tuple[ctypes.Array[ctypes.c_int64], mmap.mmap]:
    """Return pages that are never written, which the system keeps as one of zeros, and where."""
    memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE, access=mmap.ACCESS_COPY)
    with suppress(AttributeError, OSError):  # Linux alone might take a few huge ones for them
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return Arguments(first, 0, 0, 0, 0, len(memory), 1, 0), memory
