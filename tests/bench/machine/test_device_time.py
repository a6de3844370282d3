"""Device time: what the device is busy, and neither the host's launching nor its waiting."""

import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_stream import FakeCache, FakeStream, install_stream

from bench.machine.devices import Device, device_of
from bench.measure.timing import device_times, seconds_per_call
from mlr import Case, Problem, get_kernel

CALLS = [  # launches of a call, and the seconds that each keeps the device
    pytest.param(18, 2e-6, id="torch_nn"),
    pytest.param(5, 2e-6, id="fused_addmm"),
    pytest.param(1, 5e-6, id="short"),
    pytest.param(1, 200e-6, id="long"),
    pytest.param(1, 0.03, id="longest"),
    pytest.param(200, 5e-6, id="more-than-20-times-fit-the-queue"),
]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> FakeStream:
    return install_stream(monkeypatch)


def call_of(stream: FakeStream, launches: int, busy_s: float) -> Callable[[], None]:
    def call() -> None:
        for _ in range(launches):
            stream.launch(busy_s)

    return call


def seconds_between_plain_events(call: Callable[[], None]) -> float:
    """The way that counts the host's launching: events before and after a call, and no more."""
    pairs = []
    for _ in range(20):
        torch.accelerator.synchronize()
        pair: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        pair[0].record()
        call()
        pair[1].record()
        pairs.append(pair)
    torch.accelerator.synchronize()
    return statistics.median(start.elapsed_time(end) / 1_000 for start, end in pairs)


@pytest.mark.parametrize(("launches", "busy_s"), CALLS)
def test_device_time_is_what_the_device_is_busy(
    stream: FakeStream, launches: int, busy_s: float
) -> None:
    call = call_of(stream, launches, busy_s)
    wall_s = seconds_per_call(call, "cuda")
    found = device_times(call, "cuda", wall_s)
    assert found["device_hot_s"] == pytest.approx(launches * busy_s, rel=0.01)
    assert found["launch_gap_s"] == wall_s - found["device_hot_s"]
    assert found["launch_gap_s"] > -0.001 * wall_s


def test_plain_events_count_the_launching(stream: FakeStream) -> None:
    """Or the model would not tell the two ways apart."""
    call = call_of(stream, 18, 2e-6)
    assert seconds_between_plain_events(call) > 2 * 36e-6
    assert device_times(call, "cuda", 92e-6)["launch_gap_s"] == pytest.approx(56e-6, rel=0.01)


@pytest.mark.parametrize("hot_s", [2e-6, 50e-6])
def test_cold_inputs_are_read_from_memory_and_take_no_less(
    stream: FakeStream, monkeypatch: pytest.MonkeyPatch, hot_s: float
) -> None:
    cache = FakeCache(stream)
    cache.install(monkeypatch)
    calls = [lambda place=place: cache.call(place, hot_s, 3 * hot_s) for place in range(25)]
    evict = device_of("cuda").evictor([])
    found = device_times(calls[0], "cuda", 1e-4, calls, evict)
    assert found["device_hot_s"] == pytest.approx(hot_s, rel=0.02)
    assert found["device_cold_s"] == pytest.approx(3 * hot_s, rel=0.02)
    assert found["persisting_lines_reset"] in (True, False)


def test_a_call_that_waits_for_the_device_has_no_device_time(stream: FakeStream) -> None:
    def waiting() -> None:
        stream.launch(2e-5)
        stream.synchronize()

    assert device_times(waiting, "cuda", 3e-5) == {}
    assert stream.clock.now < 1  # what it took to find out


def test_work_on_a_stream_of_its_own_has_no_device_time(stream: FakeStream) -> None:
    def elsewhere() -> None:
        stream.clock.now += 2e-5  # launched and waited for there

    assert device_times(elsewhere, "cuda", 2e-5) == {}


def test_a_host_that_is_slow_behind_a_blocked_stream_gets_more_time(stream: FakeStream) -> None:
    def slow_when_blocked() -> None:
        is_blocked = stream.free_at > stream.clock.now + 3e-5
        stream.launch(2e-6, host_s=6e-5 if is_blocked else 5e-6)

    assert device_times(slow_when_blocked, "cuda", 5e-6) == {
        "device_hot_s": pytest.approx(2e-6, rel=0.02),
        "launch_gap_s": pytest.approx(3e-6, rel=0.02),
    }


def test_a_device_without_a_kernel_that_spins_has_no_device_time(
    stream: FakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.cuda, "_sleep")
    assert device_times(call_of(stream, 1, 1e-4), "cuda", 1e-4) == {}
    assert Device().device_time([lambda: None]) is None


@pytest.mark.cuda
def test_a_gpu_is_busy_for_less_than_many_launches_take() -> None:
    """The step by torch.nn is some 18 launches of a few microseconds each, and of 33 rows."""
    call = get_kernel("torch_nn").bind(Problem(Case("step", "cuda", "float32", 33, 6, 3)))
    wall_s = seconds_per_call(call, "cuda")
    found = device_times(call, "cuda", wall_s, [call], device_of("cuda").evictor([]))
    assert 0 < found["device_hot_s"] < 0.9 * wall_s
    assert found["persisting_lines_reset"] is (torch.version.hip is None)


@pytest.mark.cuda
def test_a_gpu_tells_no_time_of_a_call_that_waits_or_works_elsewhere() -> None:
    values, aside = torch.ones(10**6, device="cuda"), torch.cuda.Stream()

    def elsewhere() -> None:
        with torch.cuda.stream(aside):
            values.sin()
        aside.synchronize()

    assert device_of("cuda").device_time([values.sin] * 20) is not None
    assert device_of("cuda").device_time([lambda: values.sin().sum().item()] * 20) is None
    assert device_of("cuda").device_time([elsewhere] * 20) is None
