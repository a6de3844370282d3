"""Calls timed on inputs that no cache of the processor holds: cold, beside the usual hot ones.

A call that is repeated finds its inputs in a cache as far as they fit; a mini-batch of a training
comes from memory. Here a kernel is bound to several problems whose inputs lie apart. Before each
batch every cache line of these inputs is evicted, by CLFLUSHOPT or CLFLUSH on x86 and by DC CIVAC
on 64-bit ARM; then the call of each problem is timed once, in a row. Parameters and code stay where
the calls before left them.
"""

import ctypes
import platform
from copy import deepcopy
from functools import cache

from llvmlite import binding as llvm
from llvmlite import ir
from torch import Tensor

from mlr import OPERATIONS, Kernel, Problem
from mlr.one_pass.codegen.writer import CACHE_LINE, Argument, Writer
from mlr.one_pass.compile import Arguments, Function, load_functions

from ..machine.devices import Call, device_of
from .side_effects import inputs_of
from .timing import TimedBatch, first_call, repeats_of, time_batch

MOST_PROBLEMS = 64
MOST_BYTES = 2**27  # of the inputs of all problems
BIND_S = 0.01  # binding one more problem and its first call: beyond it no further one is bound
COMPILED_S = 0.5  # a first call that took so long is not made for another problem

# Instruction of a line, and the fence after the last, by what Python calls the architecture.
_X86, _ARM = ("clflush ($0)", "mfence"), ("dc civac, $0", "dsb ish")
_EVICT = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}


class ColdTarget:
    """A kernel on several problems, made ready for batches that begin with cold inputs.

    See `paired.TimedTarget`. As many calls as a batch times are made before it and not timed. A
    kernel that is bound and called first for long, as by a compiler, has few problems.
    """

    def __init__(
        self, kernel: Kernel, problem: Problem, call: Call, about_s: float, first_call_s: float
    ) -> None:
        self._device, self._targets, problems = problem.case.device, [call], [problem]
        held = sum(tensor.untyped_storage().nbytes() for _, tensor in inputs_of(problem))
        count = min(MOST_PROBLEMS, repeats_of(about_s), 1 + MOST_BYTES // held)
        spent_s = first_call_s - COMPILED_S  # what was compiled for one may serve all others
        while len(self._targets) < count and spent_s < BIND_S:
            problems.append(deepcopy(problem.share_inputs()))  # the same values, apart in memory
            target, spent_s = first_call(kernel.bind, problems[-1])
            self._targets.append(target)
        self._inputs = [tensor for one in problems for _, tensor in inputs_of(one)]
        self.about_s, self.calls = about_s, 2 * len(self._targets)

    def time_batch(self) -> TimedBatch:
        """Call on every problem once, evict all inputs, and time the same calls again."""
        self._call_all()
        evict(self._inputs)
        batch, count = time_batch(self._call_all, 1, self._device), len(self._targets)
        return TimedBatch(batch.seconds / count, batch.cpu_seconds / count)

    def _call_all(self) -> None:
        for call in self._targets:
            call()


def can_evict(problem: Problem) -> bool:
    """Say whether inputs of this problem can be made cold: tensors, on a processor known here."""
    return (
        platform.machine() in _EVICT
        and device_of(problem.case.device).is_host
        and not OPERATIONS[problem.case.operation].iterative
    )


def evict(tensors: list[Tensor]) -> None:
    """Write back and evict every cache line of the tensors' memory from all caches."""
    for tensor in tensors:
        memory = tensor.untyped_storage()
        place = Arguments(memory.data_ptr(), 0, 0, 0, 0, memory.nbytes(), 1, 0)
        _evictor()(ctypes.addressof(place))


@cache
def _evictor() -> Function:
    """Return the function that evicts from X on as many bytes as ROWS says."""
    instruction, fence = _EVICT[platform.machine()]
    if llvm.get_host_cpu_features().get("clflushopt"):
        instruction = instruction.replace("clflush", "clflushopt")  # ten times as fast
    module, void = ir.Module("evict"), ir.VoidType()
    to = Writer(module, "evict", "float64")
    first, size = to.argument(Argument.X), to.argument(Argument.ROWS)
    of_a_line = ir.FunctionType(void, [first.type])
    with to.loop(0, size, CACHE_LINE) as offset:
        line = to.gep(first, offset, ir.IntType(8))
        to.build.asm(of_a_line, instruction, "r,~{memory}", [line], side_effect=True)
    to.build.asm(ir.FunctionType(void, []), fence, "~{memory}", [], side_effect=True)
    to.build.ret_void()
    llvm.initialize_native_asmparser()
    (function,) = load_functions(str(module), "evict")
    return function
