"""Assembly of generated code, counted: by hand, and as LLVM writes it for two processors."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cpu_targets import PROCESSORS, compile_for

from mlr import Case, get_kernel, kernel
from mlr.one_pass.assembly import Instructions, count_instructions
from mlr.one_pass.codegen import (
    AVX512,
    Layout,
    OutputVectorised,
    RowVectorised,
    Source,
    Target,
    Tiles,
)
from mlr.one_pass.codegen.writer import DOUBLE, Argument, Writer

MACHINES = ["x86-64-v3", "x86-64-v4", "neoverse-n1", "apple-m1"]
LAYOUTS: dict[str, Callable[[Target], Layout]] = {
    "outputs": lambda target: OutputVectorised.of(6, 3, "float64", target),
    "tiles": lambda target: Tiles.of(256, 64, "float64", target),
}
X86 = """
sweep:
    pushq %rbp
    movq %rsp, %rbp
    movq %rsp, %rbx
    movq 8(%rdi), %rcx
.LBB0_1:
    vmovups (%rdi), %ymm9
.LBB0_2:
    leaq 8(%rsi,%rcx), %rax
    prefetcht0 4096(%rsi)
    vmovups (%rsi,%rcx), %ymm0
    vfmadd231ps 32(%rsi){1to8}, %ymm0, %ymm1
    vfnmadd213pd %ymm0, %ymm1, %ymm2
    vmovaps -64(%rbp), %ymm3
    vmovaps %ymm3, 96(%rsp)
    vmovups 8(,%rcx,8), %ymm4
    vmovups %zmm5, (%rdi) {%k1}
    addq $1, (%rbx)
    cmpq (%rsi), %rax
    vaddps %ymm0, %ymm1, %ymm1
    je .LBB0_9
    jne .LBB0_2
    jne .LBB0_1
.LBB0_9:
    vmovups 8(%rsp), %ymm0
    retq
"""
AARCH64 = """
sweep:
    stp x29, x30, [sp, #-16]!
    add x29, sp, #16
LBB0_1:
    ldp q0, q1, [x0]
LBB0_2:
    prfm pldl1keep, [x4, #4080]
    ldr q0, [x1], #16
    ldp s12, s13, [sp, #8]
    ld1 { v29.s }[0], [x29]
    ldur q3, [x19, #-8]
    fmla v27.4s, v11.4s, v12.s[0]
    fmadd d0, d1, d2, d3
    fadd v0.4s, v0.4s, v1.4s
    str q0, [x2, x3]
    stp q0, q1, [x29, #-32]
    cbz x9, LBB0_9
    b.lt LBB0_2
    b LBB0_1
LBB0_9:
    ret
"""


class TwoPasses(Source):
    """A sweep that reads all rows once more than it need, with the same result."""

    def _write_sweep(self, to: Writer) -> object:
        sums = to.argument(Argument.SUMS)
        self.layout.write(to, self.operation)
        with to.loop(0, self.layout.sums) as index:
            to.build.store(DOUBLE(0.0), to.gep(sums, index, DOUBLE))
        return super()._write_sweep(to)


def count(source: Source, name: str) -> Instructions:
    return count_instructions(compile_for(name, source.text()).code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, Instructions(1, 6, 3, 3, 2)),
        (X86.replace("movq %rsp, %rbx", ""), Instructions(1, 6, 3, 2, 2)),
        (AARCH64, Instructions(1, 4, 2, 3, 2)),
        (AARCH64.replace("add x29, sp", "mov x19, sp"), Instructions(1, 4, 2, 2, 2)),
        ("sweep:\n    vmovups (%rdi), %ymm0\n    retq\n", Instructions(0, 0, 0, 0, 0)),
    ],
)
def test_instructions_of_the_inner_loop_alone_are_counted(
    text: str, expected: Instructions
) -> None:
    assert count_instructions(text) == expected


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("operation", ["step", "gradient"])
def test_one_more_pass_is_told_from_unchanged_code(name: str, kind: str, operation: str) -> None:
    laid_out = LAYOUTS[kind](PROCESSORS[name].target)
    usual = count(Source(operation, laid_out, "float64"), name)
    assert usual == count(Source(operation, replace(laid_out), "float64"), name)
    assert usual.loop_multiply_adds > 0
    assert usual.loop_loads > 0
    twice = count(TwoPasses(operation, laid_out, "float64"), name)
    assert twice.inner_loops > usual.inner_loops
    assert twice.loop_multiply_adds >= 2 * usual.loop_multiply_adds


@pytest.mark.parametrize("name", MACHINES)
def test_fewer_rows_together_are_told_and_load_more_for_a_multiply_add(name: str) -> None:
    laid_out = OutputVectorised.of(16, 8, "float32", PROCESSORS[name].target)
    many, few = (
        count(Source("step", replace(laid_out, rows=rows), "float32"), name)
        for rows in (laid_out.rows, 1)
    )
    assert few.loop_multiply_adds < many.loop_multiply_adds
    assert few.loop_loads / few.loop_multiply_adds > many.loop_loads / many.loop_multiply_adds


@pytest.mark.parametrize("name", MACHINES)
def test_more_rows_than_there_are_registers_are_seen_on_the_stack(name: str) -> None:
    laid_out = OutputVectorised.of(6, 3, "float32", PROCESSORS[name].target)
    usual, crowded = (
        count(Source("step", replace(laid_out, rows=rows), "float32"), name).loop_stack_accesses
        for rows in (laid_out.rows, 32)
    )
    assert crowded > usual + 16


def test_multiply_adds_are_those_of_the_formula() -> None:
    """One row and one feature a vector of outputs: n for the residual, and n for the sums."""
    laid_out = OutputVectorised(5, 4, 4, 1, 1, rows=1)
    found = count(Source("step", laid_out, "float64"), "x86-64-v3")
    assert found.loop_multiply_adds == 2 * (5 + 5)  # the loop's own row, and one at the end


@pytest.mark.parametrize("name", ["one_pass", "one_pass_step", "auto", "auto_step"])
def test_kernels_that_are_generated_say_what_as(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = get_kernel(name).operation
    case = Case(operation, "cpu", "float64", 33, 6, 3)
    text = get_kernel(name).generated_assembly(case)
    assert text is not None
    assert f"sweep_{operation}_float64_6x3" in text
    assert "finish_" not in text
    assert get_kernel("matmul").generated_assembly(case) is None
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert get_kernel(name).generated_assembly(case) == ""


def test_a_users_kernel_may_say_what_it_generates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlr.registry.KERNELS", {})

    @kernel(
        operation="gradient",
        flops=lambda m, n, o, s: 0,
        workspace=lambda m, n, o, s: 0,
        assembly=lambda case: AARCH64 * case.out_features,
    )
    def mine(x: object, delta: object) -> None: ...

    text = get_kernel("mine").generated_assembly(Case("gradient", "cpu", "float64", 33, 6, 3))
    assert text == 3 * AARCH64


def test_rows_in_lanes_are_counted_too() -> None:
    laid_out = RowVectorised.of(10_000, 6, 3, "float32", AVX512)
    assert laid_out is not None
    source = Source("step", laid_out, "float32")
    assert count(source, "x86-64-v4").loop_multiply_adds >= 2 * 6 * 3
