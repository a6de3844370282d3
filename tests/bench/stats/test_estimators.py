"""From passes to one case: the centre is robust, and the intervals hold what is true."""

import math
from typing import Any

import numpy as np
import pytest

from bench.stats.passes import common_prior, estimate, hodges_lehmann, quiet, summarise, suspicions


def take(number: int = 1, **changed: Any) -> dict[str, Any]:
    usual = {
        **{"pass": number, "median_s": 1e-3, "rounds": 50, "paired_s": 1e-3, "busy": 1.0},
        **{"log_speedup": math.log(2), "quads": 6, "contended": False},
    }
    return usual | changed


OUTCOME: dict[str, Any] = {"status": "ok", "floor_s": 1e-4, "suspicions": []}


def test_one_wild_process_in_five_moves_the_centre_little() -> None:
    """A ratio of 5.7 that was 14.8 in one process in ten."""
    logs = [math.log(value) for value in (5.6, 5.7, 5.75, 14.8, 5.65)]
    assert math.exp(hodges_lehmann(logs)) == pytest.approx(5.7, rel=0.02)
    assert math.exp(float(np.mean(logs))) > 6.5  # what a mean would have said
    with pytest.raises(ValueError, match="at least one"):
        hodges_lehmann([])


@pytest.mark.parametrize("passes", [2, 5])
@pytest.mark.parametrize("alike", [True, False])
def test_intervals_hold_the_truth(passes: int, alike: bool) -> None:
    """40 cases a run, whose passes vary by 2 % each, or by anything from 0.5 to 8 %."""
    random = np.random.default_rng(1)
    held = count = 0
    for _ in range(60):
        sds = np.full(40, 0.02) if alike else np.exp(random.normal(math.log(0.02), 0.7, 40))
        logs = [list(random.normal(0.3, sd, passes)) for sd in sds]
        prior = common_prior(logs)
        for values in logs:
            found = estimate(values, prior)
            assert found.low is not None
            assert found.high is not None
            held += found.low <= 0.3 <= found.high
            count += 1
    assert 0.92 <= held / count <= 0.985


def test_an_interval_over_passes_is_no_narrower_for_many_rounds() -> None:
    """Rounds of one process are not independent: they must not count as samples."""
    takes = [take(1), take(2, log_speedup=math.log(2.2))]
    many = [one | {"rounds": 100_000, "quads": 1_000} for one in takes]
    few, more = (summarise(OUTCOME, some, None) for some in (takes, many))
    assert few["speedup_low"] == more["speedup_low"]
    assert few["speedup_high"] == more["speedup_high"]


def test_one_pass_has_no_interval() -> None:
    found = summarise(OUTCOME, [take()], None)
    assert found["speedup"] == pytest.approx(2)
    assert found["speedup_low"] is None
    assert found["passes"] == 1


def test_a_burst_of_load_in_one_pass_moves_a_ratio_less_than_its_interval() -> None:
    """In one pass of five the kernel of two threads is hit by load: marked, it does not count."""
    random = np.random.default_rng(2)
    logs = random.normal(math.log(2), 0.02, 5)
    calm = [take(i + 1, log_speedup=value) for i, value in enumerate(logs)]
    hit = [*calm[:4], take(5, log_speedup=logs[4] - 0.5, contended=True)]
    unmarked = [*calm[:4], take(5, log_speedup=logs[4] - 0.5)]
    undisturbed = summarise(OUTCOME, calm, None)["speedup"]
    for disturbed in (hit, unmarked):
        found = summarise(OUTCOME, disturbed, None)
        assert found["speedup_low"] <= undisturbed <= found["speedup_high"]
    assert summarise(OUTCOME, hit, None)["passes"] == 4
    assert len(quiet(hit)) == 4


def test_where_all_is_contended_all_counts_and_is_said() -> None:
    takes = [take(1, contended=True), take(2, contended=True), take(3)]
    assert len(quiet(takes)) == 3
    assert summarise(OUTCOME, takes, None)["contended_passes"] == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"median_s": 5e-5, "paired_s": 5e-5}, "faster than the floor"),
        ({"rounds": 1}, "few rounds: 3"),
        ({"paired_s": 4e-4}, "two ways of timing disagree"),
        ({"busy": 0.1}, "idle while timed: 10%"),
    ],
)
def test_what_is_doubtful_is_said(changed: dict[str, Any], said: str) -> None:
    takes = [take(number) | changed for number in (1, 2, 3)]
    assert any(said in one for one in summarise(OUTCOME, takes, None)["suspicions"])
    assert summarise(OUTCOME, [take(1), take(2), take(3)], None)["suspicions"] == []


def test_passes_that_differ_are_said() -> None:
    takes = [take(i, median_s=m, paired_s=m) for i, m in enumerate((1e-3, 2e-3, 4e-3), 1)]
    assert any("its passes differ" in one for one in suspicions(takes, None, 1e-4))
    apart = [take(i, log_speedup=value) for i, value in enumerate((0.0, 0.5, 1.0), 1)]
    found = summarise(OUTCOME, apart, None)["suspicions"]
    assert any("speedup is uncertain" in one for one in found)
