"""The paired ratio, attacked with calls whose cost is known."""

import math
from collections.abc import Callable

import pytest
from fake_clock import FakeClock

from bench.machine.devices import CPU
from bench.measure.paired import paired_ratio


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(CPU, "clock", fake)
    return fake


def test_a_paired_ratio_is_the_ratio(clock: FakeClock) -> None:
    result = paired_ratio(clock.call(3e-4), clock.call(1e-4), "cpu", blocks=8, budget_s=60)
    assert math.exp(result.log_ratio) == pytest.approx(3, rel=1e-6)
    assert len(result.log_ratios) == 8


@pytest.mark.parametrize(
    ("factor", "blocks"),
    [
        (lambda now: 1 + now / 2, 30),  # it slows down steadily
        (lambda now: 4 if 0.06 < now < 0.10 else 1, 10),  # for a fifth of the time
    ],
)
def test_a_drift_and_a_burst_of_the_machine_cancel(
    clock: FakeClock, factor: Callable[[float], float], blocks: int
) -> None:
    """Either would show in two times measured one after the other."""

    def call(seconds: float) -> Callable[[], None]:
        return lambda: clock.call(seconds * factor(clock.now))()

    result = paired_ratio(call(2e-3), call(1e-3), "cpu", blocks=blocks, budget_s=60)
    assert clock.now > 0.1
    assert math.exp(result.log_ratio) == pytest.approx(2, rel=0.01)


def test_a_slow_call_is_not_repeated_beyond_its_budget(clock: FakeClock) -> None:
    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        clock.now += 5

    result = paired_ratio(slow, clock.call(1e-3), "cpu", budget_s=0.5)
    assert math.exp(result.log_ratio) == pytest.approx(5_000)
    assert len(calls) == 3  # two to warm up, one between two batches of the other


def test_inputs_are_drawn_anew_before_each_block(clock: FakeClock) -> None:
    seen: list[int] = []
    calls = clock.call(1e-3), clock.call(1e-3)
    paired_ratio(*calls, "cpu", blocks=4, budget_s=60, refresh=seen.append)
    assert seen == [0, 1, 2, 3]
