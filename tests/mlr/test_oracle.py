"""How many steps the oracle takes, that one finds what is wrong, and what only probes find."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mlr import (
    KERNELS,
    Case,
    Gradient,
    Kernel,
    Problem,
    check,
    check_on_other_inputs,
    get_kernel,
    oracle,
)


def case(m: int = 50) -> Case:
    return Case("step", "cpu", "float64", m, 6, 3)


def test_a_step_that_takes_long_is_checked_once() -> None:
    assert oracle.checked_calls(case()) == 3
    assert oracle.checked_calls(Case("step", "cpu", "float32", 100_000, 1_024, 256)) == 1
    assert oracle.checked_calls(Case("step", "cpu", "float32", 10_000, 1_024, 256)) == 3


@pytest.mark.parametrize("large", [False, True])
def test_an_update_that_is_off_by_a_hair_is_found(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(oracle, "LARGE_FLOPS", 1.0)
    kernel, problem = get_kernel("fused_addmm"), Problem(case())
    step = kernel.bind(problem)
    assert check(kernel, problem, step).ok

    def wrong() -> None:
        before = problem.weight.clone()
        step()
        problem.weight.copy_(torch.lerp(before, problem.weight, 1 + 1e-9))

    assert check(kernel, problem, step).ok
    assert not check(kernel, problem, wrong).ok


def test_one_step_has_less_room_than_three(monkeypatch: pytest.MonkeyPatch) -> None:
    three = oracle.tolerance(case())
    monkeypatch.setattr(oracle, "LARGE_FLOPS", 1.0)
    assert oracle.tolerance(case()) < three


Step = Callable[[], None]


def exact(x: Tensor, delta: Tensor) -> Gradient:
    return Gradient(x.T @ delta, delta.sum(0))


def half(x: Tensor) -> Tensor:
    return x.half().float()


def all_but(rows: int) -> Callable[[Tensor, Tensor], Gradient]:
    return lambda x, delta: exact(x[:-rows], delta[:-rows])


def too_large(x: Tensor, delta: Tensor) -> Gradient:
    return Gradient(*(value * (1 + 1e-4) for value in exact(x, delta)))


def wrong_step(
    gradient: Callable[[Tensor, Tensor], Gradient],
    forward: Callable[[Tensor], Tensor] = lambda x: x,
) -> Callable[[Problem], Step]:
    """Return the binding of a step that is right below 1,000 rows, and from there on is not."""

    def bind(problem: Problem) -> Step:
        p, large = problem, problem.case.batch >= 1_000

        def step() -> None:
            x = forward(p.x) if large else p.x
            delta = torch.addmm(p.bias, x, p.weight).sub_(p.y).mul_(2 / p.y.numel())
            found = (gradient if large else exact)(p.x, delta)
            p.weight.sub_(found.weight, alpha=p.lr)
            p.bias.sub_(found.bias, alpha=p.lr)

        return step

    return bind


def first_rows() -> Callable[[Problem], Step]:
    """Return the binding of a step that divides by the rows that it was first bound for."""
    rows: list[int] = []

    def bind(problem: Problem) -> Step:
        rows.append(problem.case.batch)
        p, scale = problem, 2 / (rows[0] * problem.case.out_features)

        def step() -> None:
            found = exact(p.x, (p.x @ p.weight + p.bias - p.y) * scale)
            p.weight.sub_(found.weight, alpha=p.lr)
            p.bias.sub_(found.bias, alpha=p.lr)

        return step

    return bind


def centred(problem: Problem) -> Step:
    """Bind a step that takes its targets as being of mean zero, for W from 1,000 rows on."""
    p, large = problem, problem.case.batch >= 1_000

    def step() -> None:
        delta = (p.x @ p.weight + p.bias - p.y) * (2 / p.y.numel())
        mean = p.y.mean(0) * (2 / p.y.numel())
        p.weight.sub_(p.x.T @ (delta + mean if large else delta), alpha=p.lr)
        p.bias.sub_(delta.sum(0), alpha=p.lr)

    return step


def do_nothing(problem: Problem) -> Step:
    return lambda: None


def leave_small_steps_out(problem: Problem) -> Step:
    """Bind a step that is one only for the small size that every kernel is bound for besides."""
    return do_nothing(problem) if problem.case.batch > 100 else wrong_step(exact)(problem)


PROBED: dict[str, tuple[Callable[..., Any], int, str]] = {
    "reads X in float16": (wrong_step(lambda x, d: exact(half(x), d)), 300_000, "few rows"),
    "predicts from X in float16": (wrong_step(exact, half), 300_000, "few rows"),
    "ignores 30 rows": (wrong_step(all_but(30)), 1_000_000, "one product a row"),
    "ignores a row": (wrong_step(all_but(1)), 200_000, "one product a row"),
    "is 0.01 % too large": (wrong_step(too_large), 10_000, "one product a row"),
    "is right for a mean of zero": (centred, 300_000, "one product a row"),
    "a gradient is 0.01 % too large": (too_large, 300_000, "one product a row"),
    "is right for the rows first bound": (first_rows(), 1_000, ", batch 100)"),
}


def passes_ordinarily(kernel: Kernel, problem: Problem, call: Step) -> bool:
    """Say whether it is right on inputs of two seeds, which was all that was checked once."""
    first = check(kernel, problem, call).ok
    problem.resample(7)
    return first and check(kernel, problem, call).ok


@pytest.mark.parametrize("what", PROBED)
def test_what_ordinary_inputs_hide_a_probe_finds(what: str) -> None:
    function, batch, part = PROBED[what]
    name = "matmul" if what.startswith("a gradient") else "fused_addmm"
    kernel = replace(get_kernel(name), function=function)
    problem = Problem(Case(kernel.operation, "cpu", "float32", batch, 6, 3))
    call = kernel.bind(problem)
    assert passes_ordinarily(kernel, problem, call)
    found = check_on_other_inputs(kernel, problem, call, 5)
    assert part in str(found.reason)
    assert found.error > 1.5 * found.tolerance


@pytest.mark.parametrize(
    ("dtype", "batch"), [("bfloat16", 64), ("bfloat16", 1_000), ("float16", 1_000)]
)
def test_a_step_that_does_nothing_in_16_bits_is_found(dtype: str, batch: int) -> None:
    kernel = replace(get_kernel("fused_addmm"), function=do_nothing, dtypes=(dtype,))
    problem = Problem(Case("step", "cpu", dtype, batch, 6, 3))
    call = kernel.bind(problem)
    assert passes_ordinarily(kernel, problem, call)
    assert not check_on_other_inputs(kernel, problem, call, 5).ok


def test_a_step_that_does_nothing_to_many_rows_is_found_in_bfloat16() -> None:
    """It steps at the small size; in float16, which has no probes at a larger one, it passes."""
    problem = Problem(Case("step", "cpu", "bfloat16", 100_000, 6, 3))
    kernel = replace(
        get_kernel("fused_addmm"), function=leave_small_steps_out, dtypes=("bfloat16",)
    )
    found = check_on_other_inputs(kernel, problem, kernel.bind(problem), 5)
    assert "few rows" in str(found.reason)


TAKEN_IN_16_BITS = {
    *("matmul", "einsum", "autograd", "torch_nn"),
    *("matmul_update", "fused_addmm", "blocked", "kron_update"),
}


@pytest.mark.parametrize(
    "kernel",
    [pytest.param(one, id=one.name, marks=[pytest.mark.slow] * ("torch_compile" in one.name))
     for one in KERNELS.values()],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_an_honest_kernel_passes_every_probe(kernel: Kernel, dtype: str) -> None:
    if kernel.name in TAKEN_IN_16_BITS:
        kernel = replace(kernel, dtypes=("float32", "float64", "bfloat16", "float16"))
    sizes = [(33, 6, 3)]
    if not (kernel.peer or kernel.operation == "fit"):
        sizes += [(1, 1, 1), (7, 40, 9), (3_000, 16, 8)]
    for size in sizes:
        case = Case(kernel.operation, "cpu", dtype, *size)
        if kernel.unsupported(case) is None and kernel.predicted_peak_bytes(case) < 2**27:
            problem = Problem(case)
            found = check_on_other_inputs(kernel, problem, kernel.bind(problem), 3)
            assert found.ok, (size, found.reason)


def test_the_inputs_of_the_seed_are_left_in_the_end() -> None:
    kernel, problem = get_kernel("fused_addmm"), Problem(case())
    assert check_on_other_inputs(kernel, problem, kernel.bind(problem), 3).ok
    assert problem.x.equal(Problem(replace(case(), seed=3)).x)
    assert problem.weight.equal(problem.start.weight)


def test_a_size_that_a_kernel_does_not_take_is_left_out() -> None:
    def odd(case: Case) -> str | None:
        return "takes odd sizes only" if case.batch % 2 == 0 else None

    bound: list[int] = []

    def bind(problem: Problem) -> Step:
        bound.append(problem.case.batch)
        return wrong_step(exact)(problem)

    kernel = replace(get_kernel("fused_addmm"), function=bind, unsupported_reason=odd)
    for batch, expected in ((201, [201]), (51, [51, 51])):
        bound.clear()
        problem = Problem(case(batch))
        assert check_on_other_inputs(kernel, problem, kernel.bind(problem), 3).ok
        assert bound == expected
