"""Warm-up and batches, attacked with calls whose cost is known."""

import pytest
from fake_clock import FakeClock

from bench.machine.devices import CPU, DEVICES
from bench.measure import timing
from bench.measure.timing import seconds_per_call, warm_up
from bench.run.plugin import marks_of
from mlr import Case


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(CPU, "clock", fake)
    return fake


def test_warm_up_ends_for_a_call_that_takes_no_time(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "MAX_REPEATS", 1_000)
    assert warm_up(lambda: None, "cpu") == 0
    assert seconds_per_call(lambda: None, "cpu") == 0


def test_a_slow_first_call_does_not_pass_for_the_usual_one(clock: FakeClock) -> None:
    """It loads libraries; batches planned by it would hold one call each, and be all noise."""
    calls = []

    def call() -> None:
        clock.now += 1e-5 if calls else 0.1
        calls.append(1)

    assert warm_up(call, "cpu") == pytest.approx(1e-5)
    assert len(calls) > 1_000


@pytest.mark.parametrize(("device", "timer"), [("cpu", None), ("cuda", DEVICES["cuda"].clock)])
def test_a_case_has_one_benchmark_mark_with_its_devices_clock(device: str, timer: object) -> None:
    """pytest-benchmark reads the closest mark alone: a second one would hide the timer."""
    marks = marks_of(Case("gradient", device, "float64", 10, 3, 2))
    (mark,) = (mark for mark in marks if mark.name == "benchmark")
    assert mark.kwargs.get("timer") == timer
