"""Processors that are not here, for which LLVM compiles all the same, and the loops that result."""

import re
from functools import cache
from typing import NamedTuple

from llvmlite import binding as llvm

from mlr.one_pass.assembly import emit_assembly, inner_loops
from mlr.one_pass.codegen import APPLE, AVX, AVX512, NEON, SSE, Target
from mlr.one_pass.compile import target_machine


class Processor(NamedTuple):
    """A processor by LLVM's names, and what code is laid out for on it."""

    triple: str
    cpu: str
    target: Target


LINUX = "unknown-linux-gnu"
PROCESSORS = {
    "x86-64-v2": Processor(f"x86_64-{LINUX}", "x86-64-v2", SSE),
    "x86-64-v3": Processor(f"x86_64-{LINUX}", "x86-64-v3", AVX),
    "x86-64-v4": Processor(f"x86_64-{LINUX}", "x86-64-v4", AVX512),
    "apple-m1": Processor("arm64-apple-macosx", "apple-m1", APPLE),
    "neoverse-n1": Processor(f"aarch64-{LINUX}", "neoverse-n1", NEON),
    "neoverse-v1": Processor(f"aarch64-{LINUX}", "neoverse-v1", NEON),
}
_COMMENT = re.compile(r"\s*(?:# |## |// |; ).*")
_SPILL = re.compile(r"\b(?:Spill|Reload)\b")  # LLVM says so of each access to a spilled register
_CALL = re.compile(r"(?:call\w?|blr?)\s")


@cache
def machine(name: str) -> llvm.TargetMachine:
    """Return what compiles for a processor; its assembly has comments."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    found = target_machine(*PROCESSORS[name][:2])
    found.set_asm_verbosity(True)
    return found


class InnerLoops(NamedTuple):
    """The inner loops of a sweep that was compiled for a processor.

    Attributes:
        code: The whole assembly, without comments.
        spills: How many instructions of the loops store or load a register that found no place.
        calls: How many functions they call.
    """

    code: str
    spills: int
    calls: int


@cache
def compile_for(name: str, source: str) -> InnerLoops:
    """Compile a module's IR for a processor, by its name in `PROCESSORS`."""
    commented = emit_assembly(source, machine(name))
    lines = [line for loop in inner_loops(commented) for line in loop]
    spills = sum(_SPILL.search(line) is not None for line in lines)
    calls = sum(_CALL.match(line) is not None for line in lines)
    return InnerLoops(_COMMENT.sub("", commented), spills, calls)
