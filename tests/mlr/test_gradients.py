"""Every gradient kernel against the oracle, its memory to the byte, its work to the operation."""

import math
from collections.abc import Callable
from itertools import cycle, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from bench.gate.worker import IN_PLACE
from bench.measure.memory import measure_memory
from mlr import KERNELS, Case, Gradient, Kernel, Problem, check, get_kernel
from mlr.operations import oracle_gradient

OURS = [k for k in KERNELS.values() if not k.peer]
GRADIENTS = [k for k in OURS if k.operation == "gradient" and "cpu" in k.devices]
STEPS = [k for k in OURS if k.operation == "step" and "cpu" in k.devices]
ON_CUDA = [k for k in OURS if k.operation != "fit" and "cuda" in k.devices]
FITS = [k for k in OURS if k.operation == "fit"]
DTYPES = ("float32", "float64")
ODD_SIZES = [
    *((1, 1, 1), (7, 1, 1), (1, 7, 1), (1, 1, 7), (2, 3, 5), (3, 11, 13)),
    *((5, 64, 2), (33, 6, 3), (100, 6, 3), (101, 13, 7)),
]
MEMORY_SIZES = [*ODD_SIZES, (64, 4, 8), (257, 31, 2), (1, 64, 64), (50, 50, 1)]
MANY_SIZES = [
    *((7, 1, 3), (7, 5, 1), (1, 5, 3), (2, 100, 1)),
    *product((64, 257), (4, 31), (2, 8)),
    *((1000, 6, 3), (997, 2, 2), (4096, 3, 1), (3, 200, 7), (128, 16, 16)),
    *((2, 1, 64), (512, 8, 4), (31, 37, 5)),
]

# Their work, or that of the kernel they delegate to, is not torch's to count.
COMPILED = ("one_pass", "one_pass_step", "auto", "auto_step", "one_pass_fit", "auto_fit")

aten = torch.ops.aten


def _out(*_: Any, out_shape: Any = None, **__: Any) -> int:
    return math.prod(out_shape)


def _in(shape: Any, *_: Any, **__: Any) -> int:
    return math.prod(shape)


# What torch's counter leaves out: also elementwise operations and sums, one for each element.
ELEMENTWISE: dict[Any, Callable[..., int]] = {
    **IN_PLACE,
    **{op: _out for op in (aten.add, aten.sub, aten.mul, aten.div)},
    **{op: _out for op in (aten.add_, aten.sub_, aten.mul_, aten.div_)},
    aten.sum: _in,
    aten.mse_loss: lambda a, *_, **__: 3 * math.prod(a),
    aten.mse_loss_backward: lambda _, a, *__, **___: 2 * math.prod(a),
}


def count_flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False, custom_mapping=ELEMENTWISE) as counter:
        call()
    return counter.get_total_flops()


def fits(
    kernel: Kernel, size: tuple[int, int, int], device: str = "cpu", dtype: str = "float64"
) -> bool:
    case = Case(kernel.operation, device, dtype, *size)
    return kernel.unsupported(case) is None and kernel.predicted_peak_bytes(case) < 2**28


@pytest.mark.parametrize(
    ("device", "kernel"),
    [
        *(pytest.param("cpu", k, id=k.name) for k in GRADIENTS + STEPS),
        *(pytest.param("cuda", k, id=f"{k.name}-cuda", marks=pytest.mark.cuda) for k in ON_CUDA),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_agrees_with_the_oracle(device: str, kernel: Kernel, dtype: str) -> None:
    for size in [size for size in ODD_SIZES if fits(kernel, size, device, dtype)]:
        problem = Problem(Case(kernel.operation, device, dtype, *size))
        assert check(kernel, problem, kernel.bind(problem)).reason is None, size


@pytest.mark.parametrize("kernel", GRADIENTS, ids=lambda k: k.name)
@settings(max_examples=10, deadline=None)
@given(m=st.integers(1, 40), n=st.integers(1, 12), o=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_agrees_with_the_oracle_anywhere(kernel: Kernel, m: int, n: int, o: int, seed: int) -> None:
    problem = Problem(Case("gradient", "cpu", "float64", m, n, o, seed=seed))
    assert check(kernel, problem, kernel.bind(problem)).reason is None


@pytest.mark.parametrize("kernel", GRADIENTS, ids=lambda k: k.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["transposed", "strided", "offset", "expanded"])
def test_takes_any_layout(kernel: Kernel, dtype: str, layout: str) -> None:
    m, n, o = 13, 5, 3
    problem = Problem(Case("gradient", "cpu", dtype, m, n, o))

    def laid(value: torch.Tensor) -> torch.Tensor:
        if layout == "transposed":
            return value.T.contiguous().T
        if layout == "strided":
            return torch.stack([value, value + 1], dim=-1)[..., 0]
        if layout == "offset":
            return torch.cat([value[:1], value])[1:]
        return value[:1].expand(m, -1)

    problem.x, problem.delta = laid(problem.x), laid(problem.delta)
    assert check(kernel, problem, kernel.bind(problem)).reason is None


def off_by(kernel: Kernel, size: tuple[int, int, int], dtype: str) -> int:
    case = Case(kernel.operation, "cpu", dtype, *size)
    kernel.bind(Problem(case))()  # one-off allocations of the library are not the call's
    return measure_memory(kernel, case).peak_bytes - kernel.predicted_peak_bytes(case)


@pytest.mark.parametrize("kernel", GRADIENTS + STEPS, ids=lambda k: k.name)
@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_peak_memory_is_the_formula_to_the_byte(kernel: Kernel, many: bool) -> None:
    sizes = [size for size in MEMORY_SIZES + MANY_SIZES * many if fits(kernel, size)]
    assert len(sizes) >= 12
    measured = product(sizes, DTYPES) if many else zip(sizes, cycle(DTYPES))
    assert {one: off for one in measured if (off := off_by(kernel, *one))} == {}


@pytest.mark.parametrize(
    "kernel", [k for k in GRADIENTS + STEPS if k.name not in COMPILED], ids=lambda k: k.name
)
def test_flops_are_what_torch_counts(kernel: Kernel) -> None:
    for m, n, o in ODD_SIZES:
        call = kernel.bind(Problem(Case(kernel.operation, "cpu", "float64", m, n, o)))
        call()
        counted, formula = count_flops(call), kernel.flops(m, n, o, 8)
        if min(m, n, o) > 1:
            assert counted == formula, (m, n, o)
        else:  # einsum drops a sum over one row, or a product with a one-element factor
            assert counted <= formula, (m, n, o)


@pytest.mark.parametrize("kernel", GRADIENTS + STEPS + FITS, ids=lambda k: k.name)
def test_no_formula_is_below_what_no_kernel_does_without(kernel: Kernel) -> None:
    """Else the roofline bound of the operation would be none of this kernel."""
    for m, n, o in [(33, 6, 3), (1_000, 6, 3), (100, 64, 16), *ODD_SIZES]:
        case = Case(kernel.operation, "cpu", "float64", m, n, o)
        if kernel.unsupported(case) is None:
            assert kernel.predicted_flops(case) >= case.least_flops, (m, n, o)
            assert kernel.predicted_bytes_moved(case) >= case.least_bytes, (m, n, o)


@pytest.mark.parametrize("kernel", FITS, ids=lambda k: k.name)
def test_a_fit_agrees_and_its_products_are_what_torch_counts(kernel: Kernel) -> None:
    for m, n, o in [(33, 6, 3), (5, 2, 4), (40, 16, 8)]:
        problem = Problem(Case("fit", "cpu", "float64", m, n, o))
        call = kernel.bind(problem)
        assert check(kernel, problem, call).reason is None, (m, n, o)
        if kernel.name not in COMPILED:
            with FlopCounterMode(display=False) as counter:
                call()
            assert counter.get_total_flops() == kernel.flops(m, n, o, 8), (m, n, o)


@pytest.mark.parametrize("kernel", FITS, ids=lambda k: k.name)
def test_the_memory_of_a_fit_is_predicted_but_for_a_few_parameters(kernel: Kernel) -> None:
    sizes = [(33, 6, 3), (5, 2, 4), (40, 16, 8)]
    for dtype, (m, n, o) in zip(["float64", "float32", "float64"], sizes, strict=True):
        case = Case("fit", "cpu", dtype, m, n, o)
        difference = measure_memory(kernel, case).peak_bytes - kernel.predicted_peak_bytes(case)
        assert abs(difference) <= 16 * (n * o + o) * case.itemsize, (m, n, o)


def test_the_oracle_is_xt_delta() -> None:
    problem = Problem(Case("gradient", "cpu", "float64", 50, 4, 3))
    got = oracle_gradient(problem)
    torch.testing.assert_close(got.weight, problem.x.T @ problem.delta, rtol=1e-12, atol=0)
    torch.testing.assert_close(got.bias, problem.delta.sum(0), rtol=1e-12, atol=0)


def _spoilt(change: Callable[[Gradient], Gradient]) -> Callable[..., Gradient]:
    matmul = get_kernel("matmul").function
    return lambda x, delta: change(matmul(x, delta))


def _one_element(gradient: Gradient) -> Gradient:
    weight = gradient.weight.clone()
    weight[-1, -1] *= 1.001
    return Gradient(weight, gradient.bias)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_one_element, "error"),
        (lambda g: Gradient(-g.weight, g.bias), "error"),
        (lambda g: Gradient(g.weight, g.bias * 1.01), "error"),
        (lambda g: Gradient(g.weight.T, g.bias), "shape"),
        (lambda g: Gradient(g.weight.half().float(), g.bias), "error"),
        (lambda g: Gradient(g.weight.half(), g.bias), "float16"),
        (lambda g: Gradient(g.weight.double(), g.bias), "float64"),
        (lambda g: Gradient(g.weight * math.nan, g.bias), "NaN"),
        (lambda g: Gradient(g.weight, g.bias / 0), "NaN or infinity"),
        (lambda g: g.weight, r"instead of tensors (weight, bias)"),
        (lambda g: Gradient(g.weight.tolist(), g.bias), "must be a plain tensor; got list"),
    ],
)
@pytest.mark.parametrize("size", [(33, 6, 3), (100_000, 6, 3)])
def test_a_wrong_gradient_is_caught(
    change: Callable[[Gradient], Gradient], reason: str, size: tuple[int, int, int]
) -> None:
    kernel = get_kernel("matmul")
    problem = Problem(Case("gradient", "cpu", "float32", *size))
    spoilt = _spoilt(change)
    result = check(kernel, problem, lambda: spoilt(problem.x, problem.delta))
    assert result.reason is not None
    assert reason in result.reason


def test_a_fused_update_loses_small_steps_in_float32() -> None:
    """Why `fused_addmm` sums the gradient by itself: see its docstring."""
    case = Case("step", "cpu", "float32", 1_000_000, 6, 3)
    kernel, problem = get_kernel("fused_addmm"), Problem(case)
    assert check(kernel, problem, kernel.bind(problem)).ok
    rate = 2 * problem.lr / problem.y.numel()

    def fully_fused() -> None:
        residual = torch.addmm(problem.bias, problem.x, problem.weight).sub_(problem.y)
        problem.weight.addmm_(problem.x.T, residual, alpha=-rate)
        problem.bias.sub_(residual.sum(0), alpha=rate)

    result = check(kernel, problem, fully_fused)
    if result.ok:
        pytest.skip("this machine's BLAS sums the product before it adds it to W")
    assert result.error > 10 * result.tolerance


@pytest.mark.cuda
@pytest.mark.parametrize("kernel", ON_CUDA, ids=lambda k: k.name)
def test_cuda_memory_is_the_formula_to_the_byte(kernel: Kernel) -> None:
    """But for two scalars that torch wraps at most: they lie on the host."""
    case = Case(kernel.operation, "cuda", "float64", 1000, 16, 8)
    if kernel.name != "jacrev" and kernel.unsupported(case) is None:
        over = measure_memory(kernel, case).peak_bytes - kernel.predicted_peak_bytes(case)
        assert -16 <= over <= 0
