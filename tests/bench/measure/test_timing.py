"""Warm-up, batches and the paired ratio, attacked with calls whose cost is known."""

import math
from collections.abc import Callable

import pytest
from fake_clock import FakeClock
from fake_stream import install_stream

from bench.machine.devices import DEVICES, Device
from bench.measure import timing
from bench.measure.ratio import LocalTarget, paired_ratio
from bench.measure.timing import BATCH_S, seconds_per_call, warm_up
from bench.run.plugin import benchmark_mark
from mlr import Case


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(Device, "clock", fake)
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


def test_a_batch_on_an_accelerator_is_as_long_as_calls_in_a_row_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By one call that is waited for it would be a third as long, and its end weigh more."""
    stream = install_stream(monkeypatch)
    stream.wait_s = 1e-5
    target = LocalTarget(lambda: stream.launch(1e-6), "cuda")
    assert target.about_s == pytest.approx(1.6e-5)
    assert target.repeats * target.time_batch().seconds == pytest.approx(BATCH_S, rel=0.1)


@pytest.mark.parametrize(("device", "timer"), [("cpu", None), ("cuda", DEVICES["cuda"].clock)])
def test_a_case_is_timed_by_its_devices_clock(device: str, timer: object) -> None:
    mark = benchmark_mark(Case("gradient", device, "float64", 10, 3, 2))
    assert mark.kwargs.get("timer") == timer
