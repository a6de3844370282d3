"""The primitives of measuring, attacked with calls whose cost is known."""

import math

import pytest
import torch

from bench.measure import timing as measure
from bench.measure.memory import peak_bytes
from bench.measure.timing import clock_for, cuda_clock, paired_ratio, seconds_per_call, warm_up
from bench.run.plugin import marks_of
from mlr import Case, Kernel, Problem, get_kernel


class FakeClock:
    """Time that passes only when a call says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(measure, "clock_for", lambda device: fake)
    monkeypatch.setattr(measure, "perf_counter", fake)
    return fake


def test_a_paired_ratio_is_the_ratio(clock: FakeClock) -> None:
    def passes(seconds: float) -> object:
        def call() -> None:
            clock.now += seconds

        return call

    result = paired_ratio(passes(3e-4), passes(1e-4), "cpu", quads=8, budget_s=60)  # type: ignore[arg-type]
    assert result.ratio == pytest.approx(3, rel=1e-6)
    assert len(result.log_ratios) == 8


def test_a_drift_of_the_machine_cancels(clock: FakeClock) -> None:
    """A machine that slows down steadily would show in two times taken one after the other."""

    def passes(seconds: float) -> object:
        def call() -> None:
            clock.now += seconds * (1 + clock.now / 2)

        return call

    result = paired_ratio(passes(2e-3), passes(1e-3), "cpu", quads=30, budget_s=60)  # type: ignore[arg-type]
    assert clock.now > 0.4
    assert result.ratio == pytest.approx(2, rel=0.01)


def test_a_slow_call_is_not_repeated_beyond_its_budget(clock: FakeClock) -> None:
    calls = {"slow": 0, "fast": 0}

    def slow() -> None:
        calls["slow"] += 1
        clock.now += 5

    def fast() -> None:
        calls["fast"] += 1
        clock.now += 1e-3

    assert paired_ratio(slow, fast, "cpu", budget_s=0.5).ratio == pytest.approx(5_000)
    assert calls["slow"] == 3  # two to warm up, one between two slices of the other


def test_warm_up_ends_for_a_call_that_takes_no_time(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "MAX_REPEATS", 1_000)
    assert warm_up(lambda: None, "cpu") == 0
    assert seconds_per_call(lambda: None, "cpu") == 0


def test_a_slow_first_call_does_not_pass_for_the_usual_one(clock: FakeClock) -> None:
    """It loads libraries; slices planned by it would hold one call each, and be all noise."""
    calls = []

    def call() -> None:
        clock.now += 1e-5 if calls else 0.1
        calls.append(1)

    assert warm_up(call, "cpu") == pytest.approx(1e-5)
    assert len(calls) > 1_000


def test_the_cuda_clock_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(1))
    clock_for("cuda")()
    assert waited == [1]
    clock_for("cpu")()
    assert waited == [1]


@pytest.mark.parametrize(("device", "timer"), [("cpu", None), ("cuda", cuda_clock)])
def test_a_case_has_one_benchmark_mark_with_its_devices_clock(device: str, timer: object) -> None:
    """pytest-benchmark reads the closest mark alone: a second one would hide the timer."""
    marks = marks_of(Case("gradient", device, "float64", 10, 3, 2))
    (mark,) = (mark for mark in marks if mark.name == "benchmark")
    assert mark.kwargs.get("timer") is timer


def _kernel(function: object) -> Kernel:
    model = get_kernel("matmul")
    return Kernel("planted", "gradient", function, model.flops, model.bytes_moved,  # type: ignore[arg-type]
                  model.workspace, ("cpu", "cuda"), ("float64",))  # fmt: skip


@pytest.mark.parametrize("hidden", [1, 1_000, 2**30])
def test_memory_freed_within_the_call_is_seen_to_the_byte(hidden: int) -> None:
    matmul = get_kernel("matmul").function

    def allocates_and_frees(x: torch.Tensor, delta: torch.Tensor) -> object:
        torch.empty(hidden, dtype=torch.uint8)
        return matmul(x, delta)

    case = Case("gradient", "cpu", "float64", 10, 3, 2)
    outputs = (3 * 2 + 2) * 8
    measured = peak_bytes(_kernel(allocates_and_frees), Problem(case))
    assert measured == max(hidden, outputs)


def test_memory_kept_from_call_to_call_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul, kept = get_kernel("matmul").function, []

    def leaks(x: torch.Tensor, delta: torch.Tensor) -> object:
        kept.append(torch.empty(1_000, dtype=torch.uint8))
        return matmul(x, delta)

    case = Case("gradient", "cpu", "float64", 10, 3, 2)
    assert peak_bytes(_kernel(leaks), Problem(case)) == 1_000 + (3 * 2 + 2) * 8


def test_a_buffer_made_when_binding_counts() -> None:
    fused = get_kernel("fused_addmm")

    def binds_a_buffer(problem: Problem) -> object:
        buffer = torch.empty(12_345, dtype=torch.uint8)
        step = fused.function(problem)
        return lambda: (step(), buffer)[0]

    planted = Kernel("planted", "step", binds_a_buffer, fused.flops, fused.bytes_moved,
                     fused.workspace, ("cpu",), ("float64",))  # fmt: skip
    case = Case("step", "cpu", "float64", 33, 6, 3)
    assert peak_bytes(planted, Problem(case)) == peak_bytes(fused, Problem(case)) + 12_345


def test_inputs_are_not_counted() -> None:
    case = Case("gradient", "cpu", "float64", 10_000, 6, 3)
    assert peak_bytes(get_kernel("matmul"), Problem(case)) == (6 * 3 + 3) * 8
    assert math.prod((10_000, 6)) * 8 > 1_000


@pytest.mark.cuda
def test_cuda_memory_is_seen_to_the_block() -> None:
    matmul = get_kernel("matmul").function

    def allocates_and_frees(x: torch.Tensor, delta: torch.Tensor) -> object:
        torch.empty(2**20, dtype=torch.uint8, device="cuda")
        return matmul(x, delta)

    case = Case("gradient", "cuda", "float64", 10, 3, 2)
    assert 2**20 <= peak_bytes(_kernel(allocates_and_frees), Problem(case)) <= 2**20 + 2 * 512


class FakeDevice:
    """A stream that runs behind the host: a launch is cheap, the work is paid on waiting."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.free_at = 0.0

    def launch(self, seconds: float) -> None:
        self.clock.now += 1e-6
        self.free_at = max(self.free_at, self.clock.now) + seconds

    def synchronize(self) -> None:
        self.clock.now = max(self.clock.now, self.free_at)


class FakeEvent:
    device: FakeDevice

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = max(self.device.free_at, self.device.clock.now)

    def elapsed_time(self, end: "FakeEvent") -> float:
        return (end.at - self.at) * 1_000


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    fake = FakeDevice(FakeClock())
    monkeypatch.setattr(measure, "perf_counter", fake.clock)
    monkeypatch.setattr(torch.cuda, "synchronize", fake.synchronize)
    monkeypatch.setattr(torch.cuda, "Event", type("Event", (FakeEvent,), {"device": fake}))
    return fake


def test_a_call_that_returns_before_its_work_is_done_is_timed_whole(device: FakeDevice) -> None:
    def asynchronous() -> None:
        device.launch(1e-3)

    start = device.clock.now
    asynchronous()
    assert device.clock.now - start < 1e-5  # what a clock that does not wait would have said
    device.synchronize()
    assert seconds_per_call(asynchronous, "cuda") == pytest.approx(1e-3, rel=0.01)
    slow = paired_ratio(asynchronous, lambda: device.launch(5e-4), "cuda", quads=4, budget_s=60)
    assert slow.ratio == pytest.approx(2, rel=0.02)


def test_device_time_is_told_from_launching_and_a_cold_cache_from_a_hot_one(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"hot": True}

    class Flush:
        def zero_(self) -> None:
            cache["hot"] = False

    def call() -> None:
        device.launch(1e-4 if cache["hot"] else 3e-4)
        cache["hot"] = True

    properties = type("Properties", (), {"L2_cache_size": 2**20})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch, "empty", lambda *shape, **kinds: Flush())
    found = measure.device_time(call, "cuda", wall_s=1.5e-4)
    assert found is not None
    assert found.device_hot_s == pytest.approx(1e-4, rel=0.02)
    assert found.device_cold_s == pytest.approx(3e-4, rel=0.02)
    assert found.launch_gap_s == pytest.approx(5e-5, rel=0.05)
    assert measure.device_time(call, "cpu", wall_s=1.5e-4) is None


def test_inputs_are_drawn_anew_before_each_quad(clock: FakeClock) -> None:
    seen: list[int] = []

    def call() -> None:
        clock.now += 1e-3

    def other() -> None:
        clock.now += 1e-3

    paired_ratio(call, other, "cpu", quads=4, budget_s=60, refresh=seen.append)
    assert seen == [0, 1, 2, 3]


def test_a_burst_within_a_pass_moves_its_ratio_little(clock: FakeClock) -> None:
    """Everything is four times slower for a fifth of the time."""

    def passes(seconds: float) -> object:
        def call() -> None:
            burst = 0.06 < clock.now < 0.10
            clock.now += seconds * (4 if burst else 1)

        return call

    found = paired_ratio(passes(2e-3), passes(1e-3), "cpu", quads=10, budget_s=60)  # type: ignore[arg-type]
    assert found.ratio == pytest.approx(2, rel=0.01)
