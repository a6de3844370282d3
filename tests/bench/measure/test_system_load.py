"""What others take of the machine is seen, and what this process takes is not held against it."""

import multiprocessing
import time

import pytest

from bench.measure import system_load as noise
from bench.measure.system_load import Look, Noise


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_another_process_is_seen() -> None:
    other = multiprocessing.get_context("spawn").Process(target=spin, args=(60.0,))
    other.start()
    try:
        time.sleep(3)
        before = Look(gpu=False)
        spin(1.0)
        seen = Look(gpu=False).since(before)
    finally:
        other.kill()
        other.join()
    assert seen.contended
    assert seen.others > 0.3 or (seen.steal or 0) > noise.MOST_STEAL


def test_what_it_takes_itself_does_not_count() -> None:
    before = Look(gpu=False)
    before.busy, before.own, before.at = before.busy - 3.0, before.own - 3.0, before.at - 1.5
    assert Look(gpu=False).since(before).others < noise.MOST_OTHERS


@pytest.mark.parametrize(
    ("steal", "others", "throttled", "contended"),
    [
        (0.0, 0.0, None, False),
        (None, 0.0, False, False),
        (0.5, 0.0, None, True),
        (0.0, 0.5, None, True),
        (0.0, 0.0, True, True),
    ],
)
def test_when_a_pass_is_contended(
    steal: float | None, others: float, throttled: bool | None, contended: bool
) -> None:
    seen = Noise(steal, others, 0.0, None, None, throttled)
    assert seen.contended is contended
    assert seen.columns()["contended"] is contended


def test_a_machine_without_nvml_says_nothing_of_its_gpu() -> None:
    noise._nvml.cache_clear()
    if noise._nvml() is None:
        assert noise._gpu_state() == (None, None)
