"""Cold calls: inputs apart in memory, evicted before each batch, every problem called in turn."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch

from bench.machine.devices import Device
from bench.measure import cold
from mlr import Case, Kernel, Problem, get_kernel

CASE = Case("step", "cpu", "float64", 1_000, 6, 3)


@pytest.fixture(autouse=True)
def binding_takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock go on by so many seconds whenever it is read, 1 ms at first."""

    def take(seconds: float) -> None:
        ticks = count()
        monkeypatch.setattr(Device, "clock", staticmethod(lambda: next(ticks) * seconds))

    take(0.001)
    return take


def kernel_of(call: Callable[[Problem], Any]) -> Kernel:
    return replace(get_kernel("one_pass_step"), function=lambda problem: lambda: call(problem))


def test_a_batch_calls_every_problem_and_evicts_every_input_before_the_timed_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    problem, kernel = Problem(CASE), kernel_of(lambda one: seen.append(one.x.data_ptr()))
    monkeypatch.setattr(cold, "evict", lambda tensors: seen.append([t.data_ptr() for t in tensors]))
    target = cold.ColdTarget(kernel, problem, kernel.bind(problem), 1e-4, 0.0)
    seen.clear()
    batch = target.time_batch()
    (place,) = [place for place, one in enumerate(seen) if isinstance(one, list)]
    before, evicted, timed = seen[:place], seen[place], seen[place + 1 :]
    assert before == timed
    assert len(set(timed)) == len(timed) == 10  # of 0.1 ms each, a batch of 1 ms
    assert target.calls == 2 * len(timed)
    assert {*timed} < {*evicted}
    assert len({*evicted}) >= 2 * len(timed)  # X and Y
    assert batch.seconds > 0


def test_problems_have_the_same_values_and_parameters_of_their_own() -> None:
    seen: list[Problem] = []
    problem = Problem(CASE)
    cold.ColdTarget(kernel_of(seen.append), problem, lambda: None, 1e-4, 0.0)
    assert len(seen) == 9
    for other in seen:
        assert torch.equal(other.x, problem.x)
        assert torch.equal(other.weight, problem.weight)
    assert len({one.weight.data_ptr() for one in (problem, *seen)}) == 10


def test_what_is_evicted_keeps_its_values() -> None:
    values = torch.arange(100_003, dtype=torch.float32)
    expected = values.clone()
    cold.evict([values, values[1:7]])
    assert torch.equal(values, expected)


@pytest.mark.parametrize(
    ("about_s", "first_call_s", "bind_s", "inputs", "count"),
    [
        (1e-6, 0.1, 0.0, 1_000, cold.MOST_PROBLEMS),
        (1e-6, 0.1, 0.0, 2.9, 3),  # bytes of all inputs are bounded
        (2e-4, 0.1, 0.0, 1_000, 5),
        (1.0, 0.1, 0.0, 1_000, 1),
        (1e-6, 3.0, 0.0, 1_000, 1),  # compiled for so long once, and not again
        (1e-6, 0.1, 0.2, 1_000, 2),
    ],
)
def test_short_calls_have_many_problems_and_large_or_slowly_bound_ones_have_few(
    about_s: float,
    first_call_s: float,
    bind_s: float,
    inputs: float,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
    binding_takes: Callable[[float], None],
) -> None:
    monkeypatch.setattr(cold, "MOST_BYTES", int(inputs * CASE.input_bytes))
    binding_takes(bind_s)
    problem, kernel = Problem(CASE), kernel_of(lambda _: None)
    target = cold.ColdTarget(kernel, problem, kernel.bind(problem), about_s, first_call_s)
    assert target.calls == 2 * count


def test_a_whole_training_is_not_made_cold() -> None:
    assert cold.can_evict(Problem(CASE))
    assert not cold.can_evict(Problem(replace(CASE, operation="fit")))
