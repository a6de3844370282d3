"""The memory of calls whose allocations are known."""

import math

import numpy as np
import pytest
import torch

from bench.measure.benchmark import memory_warnings
from bench.measure.memory import is_out_of_memory, measure_memory
from bench.plan.benchmark import Benchmark, predict
from mlr import Case, Kernel, Problem, get_kernel


def _kernel(function: object) -> Kernel:
    model = get_kernel("matmul")
    return Kernel("planted", "gradient", function, model.flops, model.bytes_moved,  # type: ignore[arg-type]
                  model.workspace, ("cpu", "cuda"), ("float64",))  # fmt: skip


@pytest.mark.parametrize("hidden", [1, 1_000, 2**30])
def test_memory_freed_within_the_call_is_seen_to_the_byte(hidden: int) -> None:
    matmul = get_kernel("matmul").function

    def allocates_and_frees(x: torch.Tensor, delta: torch.Tensor) -> object:
        torch.empty(hidden, dtype=torch.uint8)
        return matmul(x, delta)

    case = Case("gradient", "cpu", "float64", 10, 3, 2)
    outputs = (3 * 2 + 2) * 8
    measured = measure_memory(_kernel(allocates_and_frees), case).peak_bytes
    assert measured == max(hidden, outputs)


def test_memory_kept_from_call_to_call_counts() -> None:
    matmul, kept = get_kernel("matmul").function, []

    def leaks(x: torch.Tensor, delta: torch.Tensor) -> object:
        kept.append(torch.empty(1_000, dtype=torch.uint8))
        return matmul(x, delta)

    case = Case("gradient", "cpu", "float64", 10, 3, 2)
    assert measure_memory(_kernel(leaks), case).peak_bytes == 1_000 + (3 * 2 + 2) * 8


def test_a_buffer_made_when_binding_counts() -> None:
    fused = get_kernel("fused_addmm")

    def binds_a_buffer(problem: Problem) -> object:
        buffer = torch.empty(12_345, dtype=torch.uint8)
        step = fused.function(problem)
        return lambda: (step(), buffer)[0]

    planted = Kernel("planted", "step", binds_a_buffer, fused.flops, fused.bytes_moved,
                     fused.workspace, ("cpu",), ("float64",))  # fmt: skip
    case = Case("step", "cpu", "float64", 33, 6, 3)
    with_buffer, without = (measure_memory(one, case).peak_bytes for one in (planted, fused))
    assert with_buffer == without + 12_345


@pytest.mark.parametrize("reported", [1_234, None])
def test_of_a_library_that_allocates_outside_torch_its_own_account_counts(
    reported: int | None,
) -> None:
    fused = get_kernel("fused_addmm")

    def binds_a_library(problem: Problem) -> object:
        def step() -> None:
            np.ones(10**6)

        if reported is not None:
            vars(step)["peak_bytes"] = reported
        return step

    planted = Kernel("planted", "step", binds_a_library, fused.flops, fused.bytes_moved,
                     fused.workspace, ("cpu",), ("float64",),
                     allocates_outside_torch=True)  # fmt: skip
    case = Case("step", "cpu", "float64", 33, 6, 3)
    assert measure_memory(planted, case).peak_bytes == reported
    outcome = predict(Benchmark(planted, case), None, math.inf)
    memory = measure_memory(planted, case)
    warnings = " ".join(memory_warnings(case, memory, outcome.predicted_peak_bytes))
    assert ("not counted" in warnings) == (reported is None)


def test_inputs_are_not_counted() -> None:
    case = Case("gradient", "cpu", "float64", 10_000, 6, 3)
    assert measure_memory(get_kernel("matmul"), case).peak_bytes == (6 * 3 + 3) * 8


@pytest.mark.cuda
def test_cuda_memory_is_seen_to_the_block() -> None:
    matmul = get_kernel("matmul").function

    def allocates_and_frees(x: torch.Tensor, delta: torch.Tensor) -> object:
        torch.empty(2**20, dtype=torch.uint8, device="cuda")
        return matmul(x, delta)

    case = Case("gradient", "cuda", "float64", 10, 3, 2)
    assert 2**20 <= measure_memory(_kernel(allocates_and_frees), case).peak_bytes <= 2**20 + 2 * 512


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_which_errors_are_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
