"""What others take of the machine is seen, and what this process takes is not held against it."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from bench.machine.devices import Accelerator
from bench.measure.system_load import MAX_OTHER_CPU, MAX_STEAL, TICKS_S, LoadSnapshot

SPIN = "print(flush=True)\nwhile True: pass"


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_another_process_is_seen() -> None:
    other = subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()  # it has started
    try:
        before = LoadSnapshot("cpu")
        spin(0.5)
        seen = LoadSnapshot("cpu").delta(before)
    finally:
        other.kill()
        other.wait()
    assert seen["contended"]
    assert seen["other_cpu"] > 0.3 or (seen["steal"] or 0) > MAX_STEAL


def test_what_it_takes_itself_does_not_count() -> None:
    before = LoadSnapshot("cpu")
    before.busy, before.own, before.at = before.busy - 3.0, before.own - 3.0, before.at - 1.5
    assert LoadSnapshot("cpu").delta(before)["other_cpu"] < MAX_OTHER_CPU


@pytest.mark.parametrize(
    ("counted", "contended"),
    [
        ({}, False),
        ({"steal": None}, False),
        ({"steal": 0.5}, True),
        ({"busy": 0.5}, True),
    ],
)
def test_when_a_sample_is_contended(counted: dict[str, float | None], contended: bool) -> None:
    before, after = LoadSnapshot("cpu"), LoadSnapshot("cpu")
    vars(before).update(at=0.0, steal=0.0, busy=0.0, own=0.0)
    vars(after).update({"at": 1.0, "steal": 0.0, "busy": 0.0, "own": 0.0, **counted})
    seen = after.delta(before)
    assert seen["contended"] is contended
    assert (seen["steal"] is None) == (counted.get("steal", 0.0) is None)


@pytest.mark.parametrize(("earlier", "now", "both"), [(True, False, True), (False, False, False)])
def test_a_throttled_accelerator_is_seen_at_either_end(
    earlier: bool, now: bool, both: bool
) -> None:
    before, after = LoadSnapshot("cpu"), LoadSnapshot("cpu")
    before.device = {"gpu_throttled": earlier, "gpu_mhz": 1_410.0}
    after.device = {"gpu_throttled": now, "gpu_mhz": 1_980.0}
    seen = after.delta(before)
    assert (seen["gpu_throttled"], seen["gpu_mhz"]) == (both, 1_980.0)
    assert seen["contended"] or not both


def on_accelerator(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, Any], now: dict[str, Any], cores: int = 16
) -> tuple[LoadSnapshot, LoadSnapshot]:
    """Return snapshots one second apart in which an accelerator tells so."""
    told = iter([before, now])
    monkeypatch.setattr(Accelerator, "load", lambda self, busy: next(told))
    monkeypatch.setattr(psutil, "cpu_count", lambda: cores)
    snapshots = LoadSnapshot("cuda"), LoadSnapshot("cuda")
    for at, snapshot in enumerate(snapshots):
        vars(snapshot).update(at=float(at), steal=0.0, busy=0.0, own=0.0)
    return snapshots


QUIET = {"gpu_mhz": 1_980.0, "gpu_throttled": False, "gpu_throttled_s": 7.0, "gpu_processes": 0,
         "gpu_other_bytes": 600_000_000}  # fmt: skip


@pytest.mark.parametrize(
    ("differs", "throttled", "contended"),
    [
        ({}, False, False),
        ({"gpu_throttled_s": 7.005}, False, False),  # too short to move a time
        ({"gpu_throttled_s": 7.1}, True, True),  # while it was busy: idle at both ends
        ({"gpu_throttled": True}, True, True),
        ({"gpu_throttled": None, "gpu_throttled_s": None, "gpu_mhz": None}, False, False),
        ({"gpu_processes": 1}, False, True),
        ({"gpu_other_bytes": 2**33}, False, False),  # its own: nobody else computes there
        ({"gpu_processes": None}, False, False),
        ({"gpu_processes": None, "gpu_other_bytes": 2**33}, False, True),
    ],
)
def test_what_disturbs_a_sample_on_an_accelerator(
    differs: dict[str, Any], throttled: bool, contended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = on_accelerator(monkeypatch, QUIET, {**QUIET, **differs})
    seen = after.delta(before)
    assert (seen["gpu_throttled"], seen["contended"]) == (throttled, contended)


def test_an_accelerator_that_tells_nothing_is_taken_for_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = on_accelerator(monkeypatch, {"gpu_other_bytes": 0}, {"gpu_other_bytes": 0})
    seen = after.delta(before)
    assert (seen["gpu_throttled"], seen["gpu_throttled_s"], seen["contended"]) == (
        None,
        None,
        False,
    )


def test_the_seconds_of_throttling_are_those_of_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = on_accelerator(monkeypatch, QUIET, {**QUIET, "gpu_throttled_s": 7.25})
    assert after.delta(before)["gpu_throttled_s"] == 0.25


@pytest.mark.parametrize(
    ("cores", "steal", "other_cpu", "contended"),
    [
        (16, 0.0, 13.9, False),
        (16, 0.0, 14.1, True),  # less than two are left: one for the call, one for autograd
        (16, 7.0, 7.1, True),
        (16, 1.0, 0.0, False),
        (2, 0.0, 0.1, False),
        (2, 0.0, 0.2, True),  # as on the host
    ],
)
def test_others_on_the_processor_count_where_too_few_cores_are_left(
    cores: int, steal: float, other_cpu: float, contended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = on_accelerator(monkeypatch, QUIET, QUIET, cores)
    after.steal, after.busy = steal, other_cpu + TICKS_S
    assert after.delta(before)["contended"] is contended


def test_the_clock_is_asked_for_after_calls_that_take_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def load(self: Accelerator, busy: Callable[[], None]) -> dict[str, Any]:
        busy()
        return {}

    monkeypatch.setattr(Accelerator, "load", load)
    LoadSnapshot("cuda", lambda: calls.append(1), 1e-3)
    assert len(calls) == 20
    LoadSnapshot("cuda", lambda: calls.append(1), 1.0)
    assert len(calls) == 21
    LoadSnapshot("cpu", lambda: calls.append(1), 1.0)
    assert len(calls) == 21
