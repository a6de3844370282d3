"""Eviction of memory from all caches of the processor, a cache line at a time.

CLFLUSHOPT or CLFLUSH does it on x86, and DC CIVAC on 64-bit ARM; LLVM makes the function.
"""

import ctypes
import platform
from collections.abc import Sequence
from functools import cache

from llvmlite import binding as llvm
from llvmlite import ir
from torch import Tensor

from mlr.one_pass.codegen.writer import Argument, Writer
from mlr.one_pass.compile import Arguments, Function, load_functions, target

# Instruction of a line, and the fence after the last, by what Python calls the architecture.
_X86, _ARM = ("clflush ($0)", "mfence"), ("dc civac, $0", "dsb ish")
INSTRUCTIONS = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}


def evict(tensors: Sequence[Tensor]) -> None:
    """Write back and evict every cache line of the tensors' memory from all caches."""
    for tensor in tensors:
        memory = tensor.untyped_storage()
        place = Arguments(memory.data_ptr(), 0, 0, 0, 0, memory.nbytes(), 1, 0)
        _evictor()(ctypes.addressof(place))


@cache
def _evictor() -> Function:
    """Return the function that evicts from X on as many bytes as ROWS says."""
    instruction, fence = INSTRUCTIONS[platform.machine()]
    if llvm.get_host_cpu_features().get("clflushopt"):
        instruction = instruction.replace("clflush", "clflushopt")  # ten times as fast
    module, void = ir.Module("evict"), ir.VoidType()
    line_bytes = target().cache_line
    to = Writer(module, "evict", "float64", line_bytes)
    first, size = to.argument(Argument.X), to.argument(Argument.ROWS)
    of_a_line = ir.FunctionType(void, [first.type])
    with to.loop(0, size, line_bytes) as offset:
        line = to.gep(first, offset, ir.IntType(8))
        to.build.asm(of_a_line, instruction, "r,~{memory}", [line], side_effect=True)
    to.build.asm(ir.FunctionType(void, []), fence, "~{memory}", [], side_effect=True)
    to.build.ret_void()
    llvm.initialize_native_asmparser()
    (function,) = load_functions(str(module), "evict")
    return function
