"""Cold calls: inputs apart in memory, evicted before each batch, every problem called in turn."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from bench.measure import cold
from mlr import Case, Problem, get_kernel

CASE = Case("step", "cpu", "float64", 1_000, 6, 3)


def recording(seen: list[Any]) -> Any:
    """Return a kernel whose calls are written down by the place of their inputs."""

    def bind(problem: Problem) -> Any:
        return lambda: seen.append(problem.x.data_ptr())

    return replace(get_kernel("one_pass_step"), function=bind)


def test_a_batch_calls_every_problem_and_evicts_every_input_before_the_timed_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    problem, kernel = Problem(CASE), recording(seen)
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


def test_what_is_evicted_keeps_its_values() -> None:
    values = torch.arange(100_003, dtype=torch.float32)
    expected = values.clone()
    cold.evict([values, values[1:7]])
    assert torch.equal(values, expected)


def test_every_line_is_evicted_by_an_instruction_for_it() -> None:
    text = cold.source("clflush ($0)", "mfence")
    assert 'asm sideeffect "clflush ($0)"' in text
    assert text.index("clflush") < text.index("mfence")


@pytest.mark.parametrize(
    ("about_s", "first_call_s", "bind_s", "count"),
    [
        (1e-6, 0.1, 0.0, cold.MOST_PROBLEMS),
        (2e-4, 0.1, 0.0, 5),
        (1.0, 0.1, 0.0, 1),
        (1e-6, 3.0, 0.0, 1),  # compiled for so long once, and not again
        (1e-6, 0.1, 0.2, 2),
    ],
)
def test_short_calls_have_many_problems_and_slowly_bound_ones_have_few(
    about_s: float, first_call_s: float, bind_s: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1_000))
    clock = staticmethod(lambda: next(ticks) * bind_s)
    monkeypatch.setattr(type(cold.device_of("cpu")), "clock", clock)
    kernel, problem = get_kernel("one_pass_step"), Problem(CASE)
    target = cold.ColdTarget(kernel, problem, kernel.bind(problem), about_s, first_call_s)
    assert target.calls == 2 * count


def test_problems_have_the_same_values_and_parameters_of_their_own() -> None:
    problem, bound = Problem(CASE), []
    kernel = replace(
        get_kernel("one_pass_step"), function=lambda one: bound.append(one) or (lambda: None)
    )
    cold.ColdTarget(kernel, problem, lambda: None, 1e-4, 0.0)
    assert len(bound) == 9
    for other in bound:
        assert torch.equal(other.x, problem.x)
        assert torch.equal(other.weight, problem.weight)
    assert len({one.weight.data_ptr() for one in (problem, *bound)}) == 10


def test_a_whole_training_and_another_device_are_not_made_cold() -> None:
    assert cold.can_evict(Problem(CASE))
    assert not cold.can_evict(Problem(replace(CASE, operation="fit")))


def test_the_inputs_of_all_problems_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "MOST_BYTES", 3 * CASE.input_bytes - 1)
    problem, kernel = Problem(CASE), get_kernel("one_pass_step")
    target = cold.ColdTarget(kernel, problem, kernel.bind(problem), 1e-6, 0.0)
    assert target.calls == 2 * 3
