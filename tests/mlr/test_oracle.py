"""How many steps the oracle takes, and that one is enough to find out what is wrong."""

import pytest
import torch

from mlr import Case, Problem, check, get_kernel, oracle


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
