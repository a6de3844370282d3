"""From the samples of several processes to the columns of a benchmark, and its warnings."""

import math
from typing import Any

import numpy as np
import pytest

from bench.run.aggregate import summarise
from bench.run.stopping import priors_by_threads, uncontended


def sample(number: int = 1, **changed: Any) -> dict[str, Any]:
    usual = {"process": number, "median_s": 1e-3, "rounds": 50, "paired_s": 1e-3}
    usual |= {"log_speedup": math.log(2), "abba_blocks": 6, "cpu_utilisation": 1.0}
    return usual | {"contended": False} | changed


OUTCOME: dict[str, Any] = {
    "status": "ok",
    "roofline_s": 1e-4,
    "roofline_cold_s": 2e-4,
    "warnings": [],
}


def test_an_interval_over_processes_is_no_narrower_for_many_rounds() -> None:
    """Rounds of one process are not independent: they must not count as samples."""
    samples = [sample(1), sample(2, log_speedup=math.log(2.2))]
    many = [one | {"rounds": 100_000, "abba_blocks": 1_000} for one in samples]
    few, more = (summarise(OUTCOME, some, None) for some in (samples, many))
    assert few["speedup_low"] == more["speedup_low"]
    assert few["speedup_high"] == more["speedup_high"]


def test_one_process_has_no_interval() -> None:
    found = summarise(OUTCOME, [sample()], None)
    assert found["speedup"] == pytest.approx(2)
    assert found["speedup_low"] is None
    assert found["processes"] == 1


def test_what_varies_more_with_more_threads_widens_no_interval_of_one_thread() -> None:
    random = np.random.default_rng(3)

    def varying(sd: float) -> list[dict[str, Any]]:
        return [sample(n, log_speedup=value) for n, value in enumerate(random.normal(0, sd, 5))]

    one, two = ({f"{sd}-{n}": varying(sd) for n in range(4)} for sd in (0.01, 0.3))
    threads = dict.fromkeys(one, 1) | dict.fromkeys(two, 2)
    both = priors_by_threads(one | two, threads)
    assert both[1] == priors_by_threads(one, dict.fromkeys(one, 1))[1]
    assert both[1] is not None
    assert both[2] is not None
    assert both[1].variance < both[2].variance / 100


def test_the_speedup_with_cold_inputs_has_an_interval_of_its_own() -> None:
    samples = [sample(n, log_speedup_cold=math.log(1.5) + n / 100, cold_s=n) for n in (1, 2, 3)]
    found = summarise(OUTCOME, samples, None)
    assert found["cold_s"] == 2
    assert found["speedup"] == pytest.approx(2)
    assert found["speedup_cold"] == pytest.approx(1.5 * math.exp(0.02))
    assert found["speedup_cold_low"] < 1.5
    assert found["speedup_cold_high"] > 1.5 * math.exp(0.03)
    assert "speedup_cold" not in summarise(OUTCOME, [sample()], None)


def test_a_burst_of_load_in_one_process_moves_a_ratio_less_than_its_interval() -> None:
    """In one process of five the kernel is hit by load: marked, it does not count."""
    random = np.random.default_rng(2)
    logs = random.normal(math.log(2), 0.02, 5)
    calm = [sample(i + 1, log_speedup=value) for i, value in enumerate(logs)]
    hit = [*calm[:4], sample(5, log_speedup=logs[4] - 0.5, contended=True)]
    unmarked = [*calm[:4], sample(5, log_speedup=logs[4] - 0.5)]
    undisturbed = summarise(OUTCOME, calm, None)["speedup"]
    for disturbed in (hit, unmarked):
        found = summarise(OUTCOME, disturbed, None)
        assert found["speedup_low"] <= undisturbed <= found["speedup_high"]
    assert summarise(OUTCOME, hit, None)["processes"] == 4
    assert len(uncontended(hit)) == 4


def test_what_was_disturbed_is_counted_where_it_does_not_count() -> None:
    """Two of five samples, taken again: neither is behind the numbers, and both are told."""
    samples = [sample(n, contended=n < 3) for n in range(1, 8)]
    found = summarise(OUTCOME, samples, None)
    assert (found["processes"], found["contended_processes"]) == (5, 2)


def test_where_all_is_contended_all_counts_and_is_said() -> None:
    samples = [sample(1, contended=True), sample(2, contended=True), sample(3)]
    assert len(uncontended(samples)) == 3
    assert summarise(OUTCOME, samples, None)["contended_processes"] == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"median_s": 5e-5, "paired_s": 5e-5}, "faster than the roofline bound"),
        ({"paired_s": 5e-5}, "faster than the roofline bound: 0.50"),  # which its rounds are not
        ({"cold_s": 1e-4}, "faster than the roofline bound of inputs from memory: 0.50"),
        ({"device_hot_s": 2e-3, "launch_gap_s": -1e-3}, "than the device is busy: 0.50 of it"),
        ({"rounds": 1}, "few rounds: 3"),
        ({"cpu_utilisation": 0.1}, "idle while timed: 10%"),
    ],
)
def test_what_is_doubtful_is_said(changed: dict[str, Any], said: str) -> None:
    samples = [sample(number) | changed for number in (1, 2, 3)]
    assert any(said in one for one in summarise(OUTCOME, samples, None)["warnings"])
    assert summarise(OUTCOME, [sample(1), sample(2), sample(3)], None)["warnings"] == []


def test_processes_that_differ_widen_the_interval_and_are_no_doubt_about_the_kernel() -> None:
    """Or a kernel that is a hundred times as fast wins no case on a restless machine."""
    apart = [sample(i, log_speedup=value) for i, value in enumerate((0.0, 0.5, 1.0), 1)]
    found = summarise(OUTCOME, apart, None)
    assert found["speedup_high"] > 2 * found["speedup_low"]
    assert found["warnings"] == []
