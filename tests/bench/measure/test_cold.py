"""Cold calls: inputs apart in memory, evicted before each batch, every problem called in turn."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch
from fake_stream import FakeCache, install_stream

from bench.machine import eviction
from bench.machine.devices import DEVICES, Accelerator, Device
from bench.measure import cold
from bench.measure.timing import device_times
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

    def evict(tensors: list[torch.Tensor]) -> None:
        seen.append([tensor.data_ptr() for tensor in tensors])

    monkeypatch.setattr(eviction, "evict", evict)
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
    made: list[Problem] = []
    problem, kernel = Problem(CASE), kernel_of(made.append)
    target = cold.ColdTarget(kernel, problem, kernel.bind(problem), about_s, first_call_s)
    made.clear()
    target.time_batch()
    assert len(made) == target.calls == (1 if about_s == 1.0 else 2) * count


@pytest.mark.parametrize(
    ("cache", "about_s", "count"),
    [
        (2**20, 2e-5, 1 + 3 * 2**20 // CASE.input_bytes),
        (2**20, 1e-3, 1 + 2**20 // CASE.input_bytes),  # it would take long: as many as there were
        (2**30, 2e-5, 1 + cold.DISPLACING_BYTES // (100 * CASE.input_bytes)),  # but a large cache
        (2**30, 9e-3, 1),
    ],
)
def test_problems_of_short_calls_take_the_place_of_page_tables_in_the_last_cache(
    cache: int, about_s: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = replace(CASE, batch=100_000) if cache == 2**30 else CASE
    monkeypatch.setattr(Device, "cache_bytes", lambda self: [cache])
    monkeypatch.setattr(cold, "MOST_BYTES", 2**20)
    monkeypatch.setattr(cold, "BIND_S", 1.0)
    monkeypatch.setattr(cold, "repeats_of", lambda _: 1_000_000)
    problem, kernel = Problem(case), kernel_of(lambda _: None)
    target = cold.ColdTarget(kernel, problem, kernel.bind(problem), about_s, 0.0)
    assert len(target.targets) == count


def test_an_accelerator_has_cold_inputs_by_the_same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, problem = install_stream(monkeypatch, torch.cpu), Problem(CASE)
    cache = FakeCache(stream)
    cache.install(monkeypatch)
    monkeypatch.setitem(DEVICES, "cpu", Accelerator("cpu"))  # so that the problem can be drawn
    kernel = kernel_of(lambda one: cache.call(one.x.data_ptr(), 1e-5, 4e-5))
    call = kernel.bind(problem)
    assert cold.can_evict(problem)
    target = cold.ColdTarget(kernel, problem, call, 1e-5, 0.0)
    assert target.time_batch().seconds == pytest.approx(4e-5, rel=0.02)
    found = device_times(call, "cpu", 1.1e-5, target.targets, target.evict)
    assert found["device_hot_s"] == pytest.approx(1e-5, rel=0.01)
    assert found["device_cold_s"] == pytest.approx(4e-5, rel=0.01)
    assert found["launch_gap_s"] == pytest.approx(1e-6, rel=0.1)


def test_a_whole_training_is_not_made_cold() -> None:
    assert cold.can_evict(Problem(CASE))
    assert not cold.can_evict(Problem(replace(CASE, operation="fit")))
