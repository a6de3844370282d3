"""The machine code of a sweep: as assembly text, and counted.

What a change of `codegen` costs shows here without a clock, and without its noise.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from ..case import Case
from . import compile as compiler

_READ = ("x86_64", "amd64", "aarch64", "arm64")
_LABEL = re.compile(r"(\.?L\w+):")
_MULTIPLY_ADD = re.compile(r"v?fn?m(ad|sub|sb|l[as])")  # vfmadd231ps of x86, fmla of AArch64
# The stack pointer, and the registers that LLVM may copy it to at a function's start.
_STACK_POINTERS = ("%rsp", "sp")
_FRAME = re.compile(r"mov\w?\s+%rsp, (%rb[px])$|(?:mov|add)\s+(x19|x29), sp\b", re.MULTILINE)
# 8(%rax,%rcx) of x86, [x0, #8] of AArch64; the base register is its group.
_MEMORY = re.compile(r"[(\[](%?[a-z]\w*|,)[^()\[\]]*[)\]]")
_NO_ACCESS = ("lea", "prefetch", "prfm", "nop", "call", "jmp")  # these only take an address
_DESTINATION = re.compile(r"\)(\s*\{%k\d\})?$")  # of x86, where it is memory


class Instructions(NamedTuple):
    """How many instructions the inner loops hold, those with no other loop inside.

    Attributes:
        inner_loops: How many such loops there are.
        loop_loads: Those that read memory, to load it or to compute with it.
        loop_stores: Those that write memory.
        loop_stack_accesses: The loads and stores of them that are relative to the stack: of
            registers that had to be spilled, and of small arrays.
        loop_multiply_adds: Those that round a·b + c once, of a number or a vector.
    """

    inner_loops: int
    loop_loads: int
    loop_stores: int
    loop_stack_accesses: int
    loop_multiply_adds: int


def case_assembly(case: Case) -> str:
    """Return the assembly of the sweep that a case of a gradient or a step compiles here.

    It is empty for a processor whose assembly `count_instructions` does not read.
    """
    if platform.machine().lower() not in _READ:
        return ""
    code = compiler.compile_kernel(case.operation, *case.sizes, case.dtype)
    return emit_assembly(code.source, compiler.host().machine)


@cache
def emit_assembly(text: str, machine: Any) -> str:
    """Return the assembly of the function `sweep_…` of a module's IR, for any machine."""
    module = compiler.llvm().parse_assembly(text)
    for function in module.functions:
        if not function.is_declaration and not function.name.startswith("sweep_"):
            function.linkage = "internal"  # nothing calls it, so that it is left out
    compiler.optimise(module, machine)
    assembly: str = machine.emit_assembly(module)
    return assembly


def count_instructions(assembly: str) -> Instructions:
    """Count the instructions of all inner loops in assembly for x86-64 (AT&T syntax) or AArch64.

    >>> tuple(count_instructions('''
    ... .L1:
    ...     vmovups (%rax), %ymm0
    ...     vfmadd213ps 32(%rsp), %ymm1, %ymm0
    ...     vmovups %ymm0, (%rax)
    ...     jne .L1
    ... '''))
    (1, 2, 1, 1, 1)
    """
    frame = {register for found in _FRAME.findall(assembly) for register in found}
    stack = frame.union(_STACK_POINTERS) - {""}
    loops = list(inner_loops(assembly))
    loads = stores = stack_accesses = multiply_adds = 0
    for line in (line for loop in loops for line in loop):
        loaded, stored = _accesses(line)
        loads += loaded
        stores += stored
        memory = _MEMORY.search(line)
        stack_accesses += bool((loaded or stored) and memory and memory[1] in stack)
        multiply_adds += bool(_MULTIPLY_ADD.match(line))
    return Instructions(len(loops), loads, stores, stack_accesses, multiply_adds)


def inner_loops(assembly: str) -> Iterator[list[str]]:
    """Yield the instructions of each loop that no other is inside of.

    A loop reaches from a label to the last branch back to it.
    """
    lines: list[str] = []
    places: dict[str, int] = {}
    ends: dict[int, int] = {}  # of loops, by their starts
    for line in (line.strip() for line in assembly.splitlines()):
        if label := _LABEL.match(line):
            places[label[1]] = len(lines)
        elif line and line[0].isalpha():
            target = re.split(r"[\s,]+", line)[-1]
            if target in places:
                ends[places[target]] = len(lines)
            lines.append(line)
    for start, end in sorted(ends.items()):
        if not any(start < other <= end for other in ends):
            yield lines[start : end + 1]


def _accesses(line: str) -> tuple[bool, bool]:
    """Say whether an instruction reads memory, and whether it writes to it."""
    if _MEMORY.search(line) is None or line.startswith(_NO_ACCESS):
        return False, False
    if "[" in line:  # AArch64 loads and stores by instructions that do nothing else
        return line.startswith("ld"), line.startswith("st")
    if _DESTINATION.search(line) is None or line.startswith(("cmp", "test")):
        return True, False
    return not line.startswith(("mov", "v", "set")), True
