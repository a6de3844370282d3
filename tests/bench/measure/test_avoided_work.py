"""What tells a kernel that leaves out its work from a machine that is busy: clocks are feigned."""

from types import SimpleNamespace
from typing import Any

import pytest
from fake_stream import install_stream

from bench.measure import avoided_work, timing
from bench.measure.avoided_work import MAX_TRIES, PLACES, require_one_time, require_work
from bench.measure.side_effects import WrongResultError
from bench.measure.timing import fastest_call, seconds_per_call
from mlr import KERNELS, Case, Problem


@pytest.fixture
def feigned(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of the next calls on changed inputs, one a try; all others take a second."""
    seconds: list[float] = []

    def time_batch(call: Any, repeats: int, device: str, kept: list[Any] | None = None) -> Any:
        found = call()
        if kept is None:
            return SimpleNamespace(seconds=1.0)
        kept.append(found)
        return SimpleNamespace(seconds=seconds.pop(0))

    monkeypatch.setattr(avoided_work, "time_batch", time_batch)
    monkeypatch.setattr(timing, "time_batch", time_batch)
    monkeypatch.setattr(avoided_work, "fastest_call", lambda *_: 1.0)
    return seconds


def bound(name: str = "matmul") -> tuple[Problem, Any]:
    problem = Problem(Case(KERNELS[name].operation, "cpu", "float64", 33, 6, 3))
    return problem, KERNELS[name].bind(problem)


@pytest.mark.parametrize("seconds", [[2.9], [9.0, 1.0], [9.0, 9.0, 2.9]])
def test_a_busy_machine_accuses_nobody(feigned: list[float], seconds: list[float]) -> None:
    feigned[:] = seconds
    require_work(*bound(), 1.0)
    assert feigned == []


def test_what_is_slower_each_time_keeps_results(feigned: list[float]) -> None:
    feigned[:] = [9.0] * MAX_TRIES
    with pytest.raises(WrongResultError, match=r"keeps results: 9\.0 times slower"):
        require_work(*bound(), 1.0)


@pytest.mark.parametrize("timed_s", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("name", ["matmul", "fused_addmm", "TorchLinearRegression"])
def test_a_result_that_stays_is_wrong_however_long_the_call(
    feigned: list[float], timed_s: float, name: str
) -> None:
    problem, call = bound(name)
    held = call()
    feigned[:] = [0.0]
    with pytest.raises(WrongResultError, match="on inputs that changed after timing"):
        require_work(problem, lambda: held, timed_s)
    feigned[:] = [0.0] * MAX_TRIES * PLACES
    require_work(problem, call, timed_s)


@pytest.mark.parametrize(
    ("taken", "alone_s", "said"),
    [
        ({"median_s": 1.0, "paired_s": 1.1}, 2.9, False),
        ({"median_s": 1.0, "cold_s": 0.3}, 1.0, True),
        ({}, 1.0, False),
    ],
)
def test_no_loop_is_far_faster_than_the_call_by_itself(
    monkeypatch: pytest.MonkeyPatch, taken: dict[str, float], alone_s: float, said: bool
) -> None:
    monkeypatch.setattr(avoided_work, "fastest_call", lambda *_: alone_s)
    if said:
        with pytest.raises(WrongResultError, match=r"is 3\.3 times faster while it is timed"):
            require_one_time(lambda: None, "cpu", taken, alone_s)
    else:
        require_one_time(lambda: None, "cpu", taken, alone_s)


def test_what_was_slow_once_is_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avoided_work, "fastest_call", lambda *_: 1.0)
    require_one_time(lambda: None, "cpu", {"median_s": 1.0}, 50.0)


def test_what_waiting_for_an_accelerator_costs_accuses_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = install_stream(monkeypatch)
    stream.wait_s = 1e-5

    def call() -> None:
        stream.launch(2e-6)

    in_a_row_s, alone_s = seconds_per_call(call, "cuda"), fastest_call(call, "cuda")
    assert alone_s > 3 * in_a_row_s
    require_one_time(call, "cuda", {"paired_s": in_a_row_s}, alone_s)
    with pytest.raises(WrongResultError, match="times faster while it is timed"):
        require_one_time(lambda: stream.launch(1e-4), "cuda", {"paired_s": in_a_row_s}, 1e-4)
