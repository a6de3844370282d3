"""What others take of the machine is seen, and what this process takes is not held against it."""

import subprocess
import sys
import time

import pytest

from bench.measure.system_load import MAX_OTHER_CPU, MAX_STEAL, LoadSnapshot

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
