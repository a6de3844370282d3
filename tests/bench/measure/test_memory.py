"""The memory of calls whose allocations are known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.measure.benchmark import memory_warnings
from bench.measure.memory import Memory, measure_memory
from bench.plan.benchmark import Benchmark, predict
from mlr import Case, Problem, get_kernel
from mlr.checks import is_out_of_memory

GRADIENT = Case("gradient", "cpu", "float64", 10, 3, 2)
STEP = Case("step", "cpu", "float64", 33, 6, 3)
RESULT_BYTES = (3 * 2 + 2) * 8


def measure_allocating(case: Case, freed: int, kept: int) -> Memory:
    """Measure a gradient that also allocates so many bytes, and frees or keeps them."""
    matmul, held = get_kernel("matmul"), []

    def allocate(x: torch.Tensor, delta: torch.Tensor) -> object:
        torch.empty(freed, dtype=torch.uint8, device=case.device)
        held.append(torch.empty(kept, dtype=torch.uint8, device=case.device))
        return matmul.function(x, delta)

    return measure_memory(replace(matmul, function=allocate), case)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize(("freed", "kept"), [(0, 0), (1, 0), (1_000, 0), (2**30, 0), (0, 1_000)])
def test_memory_beside_the_inputs_is_seen_to_the_byte(freed: int, kept: int, device: str) -> None:
    measured = measure_allocating(replace(GRADIENT, device=device), freed, kept)
    assert (measured.peak_bytes, measured.leak_bytes) == (max(freed, kept + RESULT_BYTES), kept)


def test_a_buffer_made_when_binding_counts() -> None:
    fused = get_kernel("fused_addmm")

    def bind_a_buffer(problem: Problem) -> object:
        buffer = torch.empty(12_345, dtype=torch.uint8)
        step = fused.function(problem)
        return lambda: (step(), buffer)[0]

    with_buffer = measure_memory(replace(fused, function=bind_a_buffer), STEP).peak_bytes
    assert with_buffer == measure_memory(fused, STEP).peak_bytes + 12_345


@pytest.mark.parametrize("reported", [1_234, None])
def test_of_a_library_that_allocates_outside_torch_its_own_account_counts(
    reported: int | None,
) -> None:
    def bind_a_library(problem: Problem) -> object:
        def step() -> None:
            np.ones(10**6)

        if reported is not None:
            vars(step)["peak_bytes"] = reported
        return step

    changed: dict[str, Any] = {"function": bind_a_library, "allocates_outside_torch": True}
    planted = replace(get_kernel("fused_addmm"), **changed)
    memory = measure_memory(planted, STEP)
    assert memory.peak_bytes == reported
    predicted = predict(Benchmark(planted, STEP), None, math.inf).predicted_peak_bytes
    warnings = " ".join(memory_warnings(STEP, memory, predicted))
    assert ("not counted" in warnings) == (reported is None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (torch.cuda.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (torch.cuda.AcceleratorError("CUDA error: misaligned address"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_which_errors_are_a_lack_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_jax_says_it_in_its_own_way() -> None:
    from jax.errors import JaxRuntimeError  # not above: JAX takes a second to be imported

    error = JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
    assert is_out_of_memory(error)
