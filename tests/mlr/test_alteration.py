"""What is changed under a call that is being timed: the numbers, and nothing that tells of it."""

from random import Random

import numpy as np
import pytest
import torch

from mlr import KERNELS, Case, Gradient, Problem, check_result
from mlr.alteration import (
    continue_from_here,
    data_of,
    one_number_raised,
    resample_data,
    swap_numbers,
)

CASES = [Case(name, "cpu", "float64", 33, 6, 3) for name in ("gradient", "step", "fit")]
CHANGES = [
    lambda problem: swap_numbers(problem, Random(1)),
    lambda problem: resample_data(problem, 7),
]


def state(problem: Problem) -> list[tuple[int, int]]:
    tensors = [one for some in data_of(problem).values() for one in some]
    return [(one.data_ptr(), one._version) for one in tensors]


def values(problem: Problem) -> list[torch.Tensor]:
    return [one.clone() for some in data_of(problem).values() for one in some]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.operation)
@pytest.mark.parametrize("change", CHANGES, ids=["swap", "resample"])
def test_the_data_change_and_nothing_tells_of_it(case: Case, change) -> None:
    problem = Problem(case)
    before, numbers, seed = state(problem), values(problem), problem.seed
    trains = case.operation != "gradient"
    parameters = [one.clone() for one in problem.parameters()] if trains else []
    change(problem)
    assert state(problem) == before
    assert problem.seed == seed
    assert any(not a.equal(b) for a, b in zip(numbers, values(problem), strict=True))
    for one, held in zip(problem.parameters() if trains else (), parameters, strict=True):
        assert one.equal(held)


def test_a_swap_keeps_what_a_tensor_holds() -> None:
    problem = Problem(CASES[0])
    before = problem.x.flatten().sort().values
    for seed in range(20):
        swap_numbers(problem, Random(seed))
    assert problem.x.flatten().sort().values.equal(before)


def test_every_place_is_swapped_sooner_or_later() -> None:
    problem = Problem(CASES[0])
    held, chance = problem.x.clone(), Random(3)
    for _ in range(2_000):
        swap_numbers(problem, chance)
    assert (problem.x != held).float().mean() > 0.95


@pytest.mark.parametrize("m", [1, 33, 100_000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["matmul", "one_pass", "fused_addmm", "one_pass_step"])
def test_one_number_raised_changes_every_result_beyond_rounding(
    name: str, dtype: str, m: int
) -> None:
    kernel = KERNELS[name]
    problem = Problem(Case(kernel.operation, "cpu", dtype, m, 6, 3))
    call = kernel.bind(problem)
    for seed in range(8):
        before, stale = values(problem), call()
        continue_from_here(problem)
        with one_number_raised(problem, Random(seed)):
            # nothing was done since
            assert not check_result(problem, stale, one_outweighs=True).ok
            found = check_result(problem, call(), one_outweighs=True)
            assert found.ok, found
        for one, held in zip(before, values(problem), strict=True):
            assert one.equal(held)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sum_in_order_may_lose_what_follows_a_number_that_outweighs_all(dtype: str) -> None:
    """Of one sign and in order nothing cancels: an honest kernel that adds row after row."""
    problem = Problem(Case("gradient", "cpu", dtype, 100_000, 1, 1))
    problem.x.fill_(1.0)
    problem.delta.fill_(1.0)
    problem.delta[0] = 2.0 / torch.finfo(problem.x.dtype).eps  # all ones that are added are lost

    def summed(products: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.add.accumulate(products.numpy())[-1:].copy())

    weight, bias = summed((problem.x * problem.delta)[:, 0]), summed(problem.delta[:, 0])
    found = Gradient(weight.reshape(1, 1), bias)
    assert float(weight) == float(problem.delta[0])
    assert not check_result(problem, found).ok
    assert check_result(problem, found, one_outweighs=True).ok
    unseen = Gradient(torch.full_like(found.weight, 100_000), torch.full_like(bias, 100_000))
    assert not check_result(problem, unseen, one_outweighs=True).ok


def test_a_stateful_operation_goes_on_from_its_parameters() -> None:
    problem = Problem(CASES[1])
    call = KERNELS["fused_addmm"].bind(problem)
    for _ in range(5):
        call()
    weight = problem.parameters().weight.clone()
    continue_from_here(problem)
    assert problem.start.weight.equal(weight)
    call()
    assert check_result(problem, None).ok
    call()
    assert not check_result(problem, None).ok  # two steps are not one
